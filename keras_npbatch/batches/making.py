"""Which batch this thread is making right now.

While a worker makes batch (epoch, step), the user's `load` or `__getitem__` may ask its dataset for
`self.epoch` or `self.rows(index)`. The answer must fit that batch, not the epoch that training
happens to be in. So the maker notes what it is making, for its own thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from keras_npbatch.plan.plan import Plan

__all__ = ["Making", "making", "now_making"]


class Making(NamedTuple):
    """A batch that is being made."""

    owner: Any
    """The core of the dataset it belongs to."""
    plan: Plan
    """The plan it follows."""
    epoch: int
    """Its epoch."""
    step: int
    """Its step."""
    numbers: Any = None
    """The `Generators` of its samples, if they are some of those of another dataset's batch."""


_now: ContextVar[Making | None] = ContextVar("keras_npbatch_making", default=None)


@contextmanager
def making(batch: Making) -> Iterator[None]:
    """Within this context, `now_making(batch.owner)` is this batch, in this thread."""
    token = _now.set(batch)
    try:
        yield
    finally:
        _now.reset(token)


def now_making(owner: Any) -> Making | None:
    """The batch of `owner` that is being made in this thread, or None."""
    batch = _now.get()
    return batch if batch is not None and batch.owner is owner else None
