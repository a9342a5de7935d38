"""Which batch of a dataset comes next."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from keras_npbatch.plan.plan import Plan

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
    in_order: bool = False
    """Whether the batches before it, of the same epoch, were read in the order of the data by
    `fit(shuffle=False)`: then so is the rest. Of a whole epoch it says nothing."""

    @property
    def is_rest(self) -> bool:
        """Whether a part of the epoch comes before it."""
        return bool(self.step or self.skip)

    def plan(self, plan: Plan) -> Plan:
        """The plan that counts such steps, from that of whole epochs."""
        if self.in_order:
            plan = plan.in_data_order()
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
    _turns: list[int] = field(default_factory=list)
    """The epochs from which on the order is another than before them: that of the data, then the
    dataset's own again, and so on."""

    def copy(self) -> Clock:
        """One of its own at the same place, for a dataset that nothing is under way with."""
        return Clock(self.epoch, self.step, self.skip, _turns=self._turns.copy())

    @property
    def place(self) -> Place:
        """Where the next pass begins."""
        place = Place(self.epoch, self.step, self.skip)
        return place._replace(in_order=place.is_rest and self.is_in_order(self.epoch))

    def is_in_order(self, epoch: int) -> bool:
        """Whether an epoch was last read in the order of the data, by `fit(shuffle=False)`.

        Else it has the dataset's own order.
        """
        return bisect_right(self._turns, epoch) % 2 == 1

    def begin_pass(self, epoch: int, in_order: bool) -> None:
        """Note in which order an epoch is read now; those after it have the dataset's own."""
        self.reached = None
        del self._turns[bisect_left(self._turns, epoch) :]
        is_in_order = len(self._turns) % 2 == 1
        if is_in_order != in_order:
            self._turns.append(epoch)
        if in_order:
            self._turns.append(epoch + 1)

    def set(self, epoch: int, step: int = 0, skip: int = 0, in_order: bool = False) -> None:
        """The user's word."""
        self.move_to(epoch, step, skip, in_order)
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

    def move_to(self, epoch: int, step: int = 0, skip: int = 0, in_order: bool = False) -> None:
        """The next pass begins there."""
        self.epoch, self.step, self.skip, self.reached = epoch, step, skip, None
        if step or skip:
            self.begin_pass(epoch, in_order)
