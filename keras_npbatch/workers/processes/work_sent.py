"""How batches are made, as bytes for a worker that already has the dataset.

    sent = WorkSent(core.plan)
    sent.dump(work)                  # in the parent, the same bytes for the same work
    load(data, core.plan)            # in a worker

A task is sent for each batch, so it must be small: a sampler with labels, or the rows of a fold,
may be large. Both came with the dataset; in a task they are only named.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from keras_npbatch.batches.work import Work
from keras_npbatch.plan.plan import Plan

__all__ = ["WorkSent", "load"]

_NAMES = ("sampler", "selection")
"""Fields of the plan that are named instead of sent."""


class WorkSent:
    """Work as bytes; the last one is kept.

    Args:
        plan: that of the dataset that workers have.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last: tuple[Work, bytes] | None = None

    def dump(self, work: Work) -> bytes:
        """The bytes that `load` takes."""
        last = self._last
        if last is None or last[0] is not work:
            file = io.BytesIO()
            _Pickler(file, self._plan).dump(work)
            last = self._last = work, file.getvalue()
        return last[1]


def load(data: bytes, plan: Plan) -> Work:
    """The work in these bytes.

    Args:
        data: what `WorkSent.dump` returned.
        plan: that of the dataset of the worker.
    """
    work: Work = _Unpickler(io.BytesIO(data), plan).load()
    return work


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, plan: Plan) -> None:
        super().__init__(file, protocol=5)
        self._named = [
            (getattr(plan, name), name) for name in _NAMES if getattr(plan, name) is not None
        ]

    def persistent_id(self, obj: Any) -> str | None:
        """The name of an object that a worker has."""
        return next((name for value, name in self._named if value is obj), None)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, plan: Plan) -> None:
        super().__init__(file)
        self._plan = plan

    def persistent_load(self, pid: str) -> Any:
        """The object of a name."""
        return getattr(self._plan, pid)
