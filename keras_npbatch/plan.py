"""The plan of every epoch: which rows are in which batch, without any data.

    plan = Plan(num_samples=10, batch_size=4, seed=0)
    plan.num_batches            # 3
    plan.rows(epoch=0, step=2)  # the last two rows of epoch 0, as int64
    plan.locate(row=7, epoch=0) # (step, position): the inverse

A step is a span of positions, and an epoch's order says which rows stand there. Everything else
in the library asks the plan, so that coverage and no duplication hold by construction.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from keras_npbatch import order as orders
from keras_npbatch import rng
from keras_npbatch.errors import InvalidArgumentError, told

__all__ = ["Plan", "Remainder", "whole_number"]

Remainder: TypeAlias = Literal["keep", "drop", "pad", "spread"]

_ORDERS_KEPT = 3
"""Epochs whose order is kept: the current, the next that workers prepare, one looked up."""


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """`value` as an int; refuses what is no whole number between `least` and `most`."""
    number: int | None
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bound = f"from {least} up" if most is None else f"from {least} to {most}"
        raise InvalidArgumentError(f"{name} is {told(value)}; expected a whole number {bound}.")
    return number


@dataclass(frozen=True)
class Plan:
    """Which rows are in which batch: a function of `(epoch, step)`.

    Raises:
        InvalidArgumentError: for a value that makes no sense, or one that leaves no batch.
    """

    num_samples: int
    """Samples in the data, from 1 to 2**62."""
    batch_size: int = 32
    """Samples in a full batch."""
    seed: int = 0
    """The seed of every epoch's order."""
    shuffle: bool = True
    """A new permutation each epoch, or the order of the data."""
    remainder: Remainder = "keep"
    """What happens to `num_samples % batch_size`: a short last batch, none, a padded one, or
    batches whose sizes differ by at most one."""
    _orders: OrderedDict[int, orders.Order] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if isinstance(self.num_samples, int | np.integer) and self.num_samples == 0:
            raise InvalidArgumentError(
                "num_samples is 0: there is nothing to make a batch of. Check how the data "
                "was selected."
            )
        num_samples = whole_number("num_samples", self.num_samples, least=1, most=orders.MAX_ROWS)
        batch_size = whole_number("batch_size", self.batch_size, least=1, most=orders.MAX_ROWS)
        seed = rng.check_seed(self.seed)
        if not isinstance(self.shuffle, bool | np.bool_):
            raise InvalidArgumentError(
                f"shuffle is {told(self.shuffle)}; expected True (a new permutation each epoch) "
                "or False (the order of the data)."
            )
        if not isinstance(self.remainder, str) or self.remainder not in get_args(Remainder):
            raise InvalidArgumentError(
                f"remainder is {told(self.remainder)}; expected one of "
                f"{', '.join(map(repr, get_args(Remainder)))}."
            )
        if self.remainder == "drop" and num_samples < batch_size:
            raise InvalidArgumentError(
                f"remainder='drop' leaves no batch: num_samples={num_samples} is less than "
                f"batch_size={batch_size}. Use a smaller batch_size, or remainder='keep'."
            )
        for name, value in (
            ("num_samples", num_samples),
            ("batch_size", batch_size),
            ("seed", seed),
            ("shuffle", bool(self.shuffle)),
        ):
            object.__setattr__(self, name, value)

    def __reduce__(self) -> Any:
        # Kept orders stay behind: they are made again where they are needed.
        return Plan, (
            self.num_samples,
            self.batch_size,
            self.seed,
            self.shuffle,
            self.remainder,
        )

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, at least 1."""
        full, rest = divmod(self.num_samples, self.batch_size)
        return full if self.remainder == "drop" or not rest else full + 1

    def span(self, step: int) -> tuple[int, int]:
        """The positions `start..stop-1` of the order that batch `step` holds."""
        if self.remainder == "spread":
            size, larger = divmod(self.num_samples, self.num_batches)
            start = step * size + min(step, larger)
            return start, start + size + (step < larger)
        start = step * self.batch_size
        return start, min(start + self.batch_size, self.num_samples)

    def rows(self, epoch: int, step: int) -> orders.Rows:
        """The rows in a batch, in their order in it; padding is not in it.

        Args:
            epoch: from 0 up.
            step: from 0 to `num_batches - 1`.

        Returns:
            int64 array of shape `(samples in the batch,)`; read-only.
        """
        return self.order(epoch).rows(*self.span(step))

    def locate(self, row: int, epoch: int) -> tuple[int, int] | None:
        """Where a row is in an epoch: `(step, position in the batch)`; None if it is dropped.

        Args:
            row: from 0 to `num_samples - 1`.
            epoch: from 0 up.
        """
        row = whole_number("row", row, least=0, most=self.num_samples - 1)
        position = int(self.order(epoch).positions(np.array([row], np.int64))[0])
        if self.remainder != "spread":
            step, within = divmod(position, self.batch_size)
            return (step, within) if step < self.num_batches else None
        size, larger = divmod(self.num_samples, self.num_batches)
        in_larger = larger * (size + 1)
        if position < in_larger:
            return divmod(position, size + 1)
        step, within = divmod(position - in_larger, size)
        return larger + step, within

    def order(self, epoch: int) -> orders.Order:
        """The order of an epoch; the last few are kept."""
        if not self.shuffle:
            return orders.DataOrder()
        # Threads may both make an epoch's order: they make the same one, so there is no lock.
        order = self._orders.get(epoch)
        if order is None:
            order = orders.shuffled(self.num_samples, seed=self.seed, epoch=epoch)
            self._orders[epoch] = order
            while len(self._orders) > _ORDERS_KEPT:
                try:
                    self._orders.popitem(last=False)
                except KeyError:
                    break
        return order

    def in_data_order(self, *, every_row: bool = False) -> Plan:
        """The same plan without shuffling; with `every_row`, nothing is dropped or padded."""
        remainder = self.remainder
        if every_row and remainder in ("drop", "pad"):
            remainder = "keep"
        return replace(self, shuffle=False, remainder=remainder)
