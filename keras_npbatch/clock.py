"""Which batch of a dataset comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from keras_npbatch.plan import Plan

__all__ = ["Clock", "Place"]


class Place(NamedTuple):
    """A batch: where a pass begins, or has come to."""

    epoch: int = 0
    """Its epoch, counted from 0."""
    step: int = 0
    """Its step in that epoch, or in what is left of it."""
    skip: int = 0
    """Samples of the epoch that come before step 0, read before it was resumed with batches of
    another size: by another number of processes."""

    def plan(self, plan: Plan) -> Plan:
        """The plan that counts such steps, from that of whole epochs."""
        return replace(plan, skip=self.skip) if self.skip else plan


@dataclass(slots=True)
class Clock:
    """Where the next pass over one dataset begins, shared by all who walk over it."""

    epoch: int = 0
    """The epoch that comes next, counted from 0."""
    step: int = 0
    """Its first step: 0, unless it was resumed in its middle."""
    skip: int = 0
    """Samples of it that were read before, in batches of another size; see `Place`."""
    times_set: int = 0
    """How often the user has set it; a session that sees a new number follows the clock."""
    reached: Place | None = None
    """The place after the batches that an iteration has delivered, if that is farther."""

    @property
    def place(self) -> Place:
        """Where the next pass begins."""
        return Place(self.epoch, self.step, self.skip)

    def set(self, epoch: int, step: int = 0, skip: int = 0) -> None:
        """The user's word."""
        self.move_to(epoch, step, skip)
        self.times_set += 1

    def reach(self, place: Place, times_set: int) -> None:
        """An iteration that began when the user had set it so often has come to a place."""
        if times_set == self.times_set and place.epoch >= self.epoch:
            self.reached = place

    def deliver(self, epoch: int, times_set: int) -> None:
        """It has delivered the epoch: the next one comes.

        Unless the user has said since which, or another iteration is ahead.
        """
        if times_set == self.times_set:
            self.move_to(max(self.epoch, epoch + 1))

    def move_to(self, epoch: int, step: int = 0, skip: int = 0) -> None:
        """The next pass begins there."""
        self.epoch, self.step, self.skip, self.reached = epoch, step, skip, None
