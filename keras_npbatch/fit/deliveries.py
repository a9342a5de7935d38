"""What Keras was handed, batch by batch, for callbacks that watch.

    watch = Watch()
    session.watches.append(watch)       # from now on, until the session ends
    ...                                 # Keras takes batches, trains on them
    for delivery in watch.trained(1):   # the batch of the step that has just ended
        delivery.epoch, delivery.step, delivery.rows

Handed over is not yet trained on: on accelerators Keras reads a batch ahead, and with
`steps_per_execution` it takes several at once. So deliveries wait here until a callback is told
that their step is over. Without a watch, nothing is recorded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from keras_npbatch.batches.parts import ClassWeight
from keras_npbatch.batches.summary import Summarise
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.permutation import Rows
from keras_npbatch.plan.plan import Plan
from keras_npbatch.tree import Tree

__all__ = ["Delivery", "Watch"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch that Keras was handed."""

    walk: int
    """Counts the iterators of Keras within a session; what one has read ahead, another drops."""
    plan: Plan
    """Which rows are in which batch."""
    place: Place
    """Where it is in the data."""
    first: int
    """The step that the pass began with: 0, unless it was resumed."""
    batch: Tree
    """The batch, its leaves as they left the dataset."""
    summary: Any
    """What the maker of the batch has computed from it, if a watch asked for that."""
    waited_s: float
    """Seconds from being asked for the batch to having it; 0 if it was ready."""
    ready: int
    """Batches that were ready when it was asked for, this one too."""
    class_weight: ClassWeight | None = None
    """That of `fit(class_weight=...)`."""

    @property
    def epoch(self) -> int:
        """The epoch of the data."""
        return self.place.epoch

    @property
    def step(self) -> int:
        """The step in that epoch."""
        return self.place.step

    @property
    def rows(self) -> Rows:
        """The samples in the batch; padding is not in it."""
        return self.plan.rows(self.epoch, self.step)

    @property
    def is_last(self) -> bool:
        """Whether it is the last batch of its epoch."""
        return self.step == self.plan.num_batches - 1


class Watch:
    """The deliveries of one session that no step has ended with yet.

    Args:
        summarise: what is to be computed from each batch, by the worker that makes it. All
            watches of a session that ask for anything must ask for the same.
    """

    def __init__(self, summarise: Summarise | None = None) -> None:
        self.summarise = summarise
        self._waiting: deque[Delivery] = deque()

    def deliver(self, delivery: Delivery) -> None:
        """Called by the session."""
        if self._waiting and self._waiting[-1].walk != delivery.walk:
            self._waiting.clear()  # read ahead by an iterator that Keras has dropped since
        self._waiting.append(delivery)

    def trained(self, steps: int) -> list[Delivery]:
        """The deliveries of so many further steps, in order; fewer at the end of the data."""
        return [self._waiting.popleft() for _ in range(min(steps, len(self._waiting)))]
