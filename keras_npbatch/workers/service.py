"""`Service`: what a dataset offers to those who serve Keras and `tf.data`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from keras_npbatch.batches.parts import Training
from keras_npbatch.batches.summary import Summarise
from keras_npbatch.plan.clock import Clock
from keras_npbatch.plan.plan import Plan
from keras_npbatch.tree import Tree

__all__ = ["Service", "Stream"]


class Stream(Protocol):
    """Batches in order, which can be ended early."""

    def __iter__(self) -> Iterator[Tree]: ...

    def __next__(self) -> Tree: ...

    @property
    def ready(self) -> int:
        """Batches that need not be waited for."""

    def close(self) -> None:
        """Forget the rest; safe to call twice, also from another thread."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a dataset offers to sessions."""

    dataset: Any
    """The object that Keras was given."""
    plan: Plan
    """The plan of its shuffled epochs."""
    clock: Clock
    """The epoch, shared by all who train."""
    endless: bool
    """Whether one epoch follows the other without an end."""
    described: Callable[[], dict[str, Any]]
    """What must be the same on all processes that train together."""
    stream: Callable[[Plan, int, Training, bool, int, Summarise | None], Stream]
    """`stream(plan, epoch, training, follows, first, summarise)`: an epoch of batches from step
    `first` on, through the dataset's executor; `follows` tells whether the next epoch will be
    asked for. With `summarise` they are `Summed`."""
    iteration: Callable[[Plan, int, int, bool], Stream]
    """`iteration(plan, epoch, first, training)`: the same for a caller other than Keras."""
