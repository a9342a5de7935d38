"""Records which batches Keras was given, for callbacks that watch.

    watch = Watch()
    session.watches.append(watch)       # from now on, until the session ends
    ...                                 # Keras takes batches, trains on them
    for delivery in watch.trained(1):   # the batch of the step that has just ended
        delivery.epoch, delivery.step, delivery.rows

A batch that Keras has taken is not yet trained on: on accelerators Keras reads one batch ahead, and
with `steps_per_execution` it takes several at once. So deliveries wait here until Keras tells a
callback that their step has ended. Without a watch, nothing is recorded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.summary import Summarise
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree

__all__ = ["Delivery", "Watch"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch that Keras was given."""

    walk: int
    """The number of Keras's iterator in the session; a new one drops what another read ahead."""
    plan: Plan
    """Which rows are in which batch."""
    place: Place
    """The place of the batch in the data."""
    first: int
    """The step with which the pass began: 0, unless it was resumed."""
    batch: Tree
    """The batch, with its leaves as they left the dataset."""
    summary: Any
    """What the worker that made the batch computed from it, if a watch asked for that."""
    waited_s: float
    """Seconds from the request for the batch until it was available; 0 if it was ready."""
    ready: int
    """The number of batches that were ready at the request, including this one."""
    class_weight: ClassWeight | None = None
    """The weights of `fit(class_weight=...)`."""
    set_aside: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    """The rows that could not be read, one for each place in the batch that weighs nothing."""

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
        """The rows of the batch, without padding and without those that are set aside."""
        rows = self.plan.rows(self.epoch, self.step)
        return rows[~np.isin(rows, self.set_aside)] if len(self.set_aside) else rows

    @property
    def is_last(self) -> bool:
        """Whether it is the last batch of its epoch."""
        return self.step == self.plan.num_batches - 1


class Watch:
    """The deliveries of one session whose step has not ended yet.

    Args:
        summarise: what the worker that makes a batch computes from it. All watches of a session
            that set this must set the same.
    """

    def __init__(self, summarise: Summarise | None = None) -> None:
        self.summarise = summarise
        self._waiting: deque[Delivery] = deque()

    def deliver(self, delivery: Delivery) -> None:
        """Record a delivery; the session calls this."""
        if self._waiting and self._waiting[-1].walk != delivery.walk:
            self._waiting.clear()  # read ahead by an iterator that Keras has since dropped
        self._waiting.append(delivery)

    def trained(self, steps: int) -> list[Delivery]:
        """Take the deliveries of the next `steps` steps, in order; fewer at the end of the data."""
        return [self._waiting.popleft() for _ in range(min(steps, len(self._waiting)))]
