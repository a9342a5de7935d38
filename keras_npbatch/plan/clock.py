"""Which batch of a dataset comes next."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from keras_npbatch.plan.plan import Plan

__all__ = ["Clock", "Place"]


class Place(NamedTuple):
    """The position of a batch: where a pass begins, or how far it has come."""

    epoch: int = 0
    """The epoch, counted from 0."""
    step: int = 0
    """The step in that epoch, or in the rest of it."""
    skip: int = 0
    """Samples of the epoch before step 0. They were read before the epoch was resumed with batches
    of another size, as by another number of processes."""
    in_order: bool = False
    """Whether `fit(shuffle=False)` read the earlier batches of the epoch in the order of the data;
    then so is the rest. It means nothing for a whole epoch."""
    order_size: int = 0
    """The global batch size for which the order of the epoch was made, if that decides the order
    and is not the current one; else 0."""

    @property
    def is_rest(self) -> bool:
        """Whether part of the epoch comes before it."""
        return bool(self.step or self.skip)

    def plan(self, plan: Plan) -> Plan:
        """The plan whose steps this place counts, made from the plan of whole epochs."""
        if self.in_order:
            plan = plan.in_data_order()
        if not self.skip:
            return plan
        return replace(plan, skip=self.skip, order_size=self.order_size)


@dataclass(slots=True)
class Clock:
    """Where the next pass over a dataset begins; all its passes share one clock."""

    epoch: int = 0
    """The epoch that comes next, counted from 0."""
    step: int = 0
    """Its first step: 0, unless it is resumed in the middle."""
    skip: int = 0
    """Samples of it that were read earlier, in batches of another size; see `Place`."""
    order_size: int = 0
    """See `Place`."""
    times_set: int = 0
    """How often the user has set the clock; a session that sees a new number follows it."""
    reached: Place | None = None
    """The place after the batches that an iteration has delivered, if it is further on."""
    _turns: list[int] = field(default_factory=list)
    """The epochs at which the order changes: to that of the data, then back to the dataset's own,
    and so on."""

    def copy(self) -> Clock:
        """A separate clock at the same place, for a dataset with no pass under way."""
        return Clock(self.epoch, self.step, self.skip, self.order_size, _turns=self._turns.copy())

    @property
    def place(self) -> Place:
        """Where the next pass begins."""
        in_order = bool(self.step or self.skip) and self.is_in_order(self.epoch)
        return Place(self.epoch, self.step, self.skip, in_order, self.order_size)

    def is_in_order(self, epoch: int) -> bool:
        """Whether an epoch was last read in the order of the data, by `fit(shuffle=False)`.

        Otherwise the epoch has the dataset's own order.
        """
        return bisect_right(self._turns, epoch) % 2 == 1

    def begin_pass(self, epoch: int, in_order: bool) -> None:
        """Note that a pass begins, and in which order it reads its epoch."""
        self.reached = None
        self.mark(epoch, in_order)

    def mark(self, epoch: int, in_order: bool) -> None:
        """Note in which order an epoch is read; those after it have the dataset's own."""
        del self._turns[bisect_left(self._turns, epoch) :]
        is_in_order = len(self._turns) % 2 == 1
        if is_in_order != in_order:
            self._turns.append(epoch)
        if in_order:
            self._turns.append(epoch + 1)

    def set(self, place: Place) -> None:
        """Set the position for the user: `set_epoch`, `load_state_dict`."""
        self.move_to(place)
        self.times_set += 1

    def reach(self, place: Place, times_set: int) -> None:
        """Note how far an iteration has come.

        Ignored if the user has set the clock since the iteration began (`times_set`), or if the
        clock is at a later epoch.
        """
        if times_set == self.times_set and place.epoch >= self.epoch:
            self.reached = place

    def deliver(self, epoch: int, times_set: int) -> None:
        """Move on to the next epoch, after an iteration has delivered this one.

        Ignored if the user has set the clock since. Never moves back if another iteration is ahead.
        """
        if times_set == self.times_set:
            self.move_to(Place(max(self.epoch, epoch + 1)))

    def move_to(self, place: Place) -> None:
        """Let the next pass begin at this position."""
        self.epoch, self.step, self.skip, in_order, self.order_size = place
        self.reached = None
        if place.is_rest:
            self.begin_pass(place.epoch, in_order)
