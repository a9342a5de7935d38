"""The plan of every epoch: which rows are in which batch, without any data.

    plan = Plan(num_samples=10, batch_size=4, seed=0)
    plan.num_batches            # 3
    plan.rows(epoch=0, step=2)  # the last two rows of epoch 0, as int64
    plan.locate(row=7, epoch=0) # (step, position): the inverse

A step is a span of positions, and an epoch's order says which rows are there. Everything else in
the library asks the plan, so every sample comes exactly once by construction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan import permutation as orders
from keras_npbatch.plan.shard import Shard, even_locate, even_part
from keras_npbatch.plan.split import Selected, Selection

__all__ = ["Kind", "Plan", "Remainder"]

Kind: TypeAlias = Literal["fit", "evaluate", "predict"]
"""What batches are for."""

Remainder: TypeAlias = Literal["keep", "drop", "pad", "spread"]

_ORDERS_KEPT = 3
"""Epochs whose order is kept: the current one, the next one (workers need it early), another."""


@dataclass(frozen=True)
class Plan:
    """Which rows are in which batch: a function of `(epoch, step)`.

    Raises:
        InvalidArgumentError: for an invalid value, or one that leaves no batch.
    """

    num_samples: int
    """Samples in the data, or in the part of a split, from 1 to 2**62."""
    batch_size: int = 32
    """Samples in a full batch of one process."""
    seed: int = 0
    """The seed of every epoch's order."""
    shuffle: bool = True
    """A new permutation each epoch, or the order of the data."""
    remainder: Remainder = "keep"
    """What happens to `num_samples % batch_size`: a short last batch, none, a padded one, or
    batches whose sizes differ by at most one."""
    shard: Shard = field(default_factory=Shard)
    """The part of each global batch that this process reads; `rows` and `span` give this part."""
    skip: int = 0
    """Samples at the beginning of an epoch that are in no batch. Above 0, this plans the rest of an
    epoch that began with batches of another size."""
    selection: Selection | None = None
    """Which rows of the data the samples are, if they are a part of a split."""
    _orders: OrderedDict[int, orders.Order] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        is_number = isinstance(self.num_samples, int | np.integer)
        # To NumPy a timedelta64 is an integer, which must not be compared with a plain number.
        is_number = is_number and not isinstance(self.num_samples, np.timedelta64)
        if is_number and self.num_samples == 0:
            raise InvalidArgumentError(
                "num_samples is 0: there is nothing to make a batch of. Check how the data "
                "was selected."
            )
        num_samples = whole_number("num_samples", self.num_samples, least=1, most=orders.MAX_ROWS)
        batch_size = whole_number("batch_size", self.batch_size, least=1, most=orders.MAX_ROWS)
        seed = rng.check_seed(self.seed)
        if not isinstance(self.shuffle, bool | np.bool_):
            raise InvalidArgumentError(
                f"shuffle is {describe(self.shuffle)}; expected True (a new permutation each "
                "epoch) or False (the order of the data)."
            )
        if not isinstance(self.remainder, str) or self.remainder not in get_args(Remainder):
            raise InvalidArgumentError(
                f"remainder is {describe(self.remainder)}; expected one of "
                f"{', '.join(map(repr, get_args(Remainder)))}."
            )
        shard = Shard.of(self.shard)
        if batch_size * shard.count > orders.MAX_ROWS:
            raise InvalidArgumentError(
                f"batch_size is {batch_size} for each of {shard.count} shards; expected at most "
                "2**62 samples in all of them."
            )
        skip = whole_number("skip", self.skip, least=0, most=num_samples - 1)
        if self.remainder == "drop" and num_samples - skip < batch_size * shard.count:
            of_all = f" for each of {shard.count} shards" if shard.count > 1 else ""
            raise InvalidArgumentError(
                f"remainder='drop' leaves no batch: num_samples={num_samples - skip} is less than "
                f"batch_size={batch_size}{of_all}. Use a smaller batch_size, or remainder='keep'."
            )
        for name, value in (
            ("num_samples", num_samples),
            ("batch_size", batch_size),
            ("seed", seed),
            ("shuffle", bool(self.shuffle)),
            ("shard", shard),
            ("skip", skip),
        ):
            object.__setattr__(self, name, value)

    def __reduce__(self) -> Any:
        # Kept orders are not sent: they are made again where they are needed.
        return type(self), tuple(getattr(self, each.name) for each in fields(self) if each.init)

    @property
    def num_rows(self) -> int:
        """Rows in the whole data, also if this plan is for a part of a split."""
        return self.num_samples if self.selection is None else self.selection.num_rows

    @cached_property
    def global_batch_size(self) -> int:
        """Samples in a full batch of all processes together."""
        return self.batch_size * self.shard.count

    @cached_property
    def num_batches(self) -> int:
        """Batches in an epoch, at least 1; the same for every shard."""
        full, rest = divmod(self.num_samples - self.skip, self.global_batch_size)
        return full if self.remainder == "drop" or not rest else full + 1

    @property
    def pads(self) -> bool:
        """Whether a batch has added rows: with `remainder="pad"`, and a last batch to fill up."""
        rest = (self.num_samples - self.skip) % self.global_batch_size
        return self.remainder == "pad" and rest > 0

    def global_span(self, step: int) -> tuple[int, int]:
        """The positions `start..stop-1` of the order that all shards together read at `step`."""
        if self.remainder == "spread":
            return even_part(step, self.num_batches, self.skip, self.num_samples)
        start = self.skip + step * self.global_batch_size
        return start, min(start + self.global_batch_size, self.num_samples)

    def span(self, step: int) -> tuple[int, int]:
        """The positions `start..stop-1` of the order that batch `step` holds."""
        start, stop = self.global_span(step)
        return self.shard.part(start, stop) if self.shard.count > 1 else (start, stop)

    def rows(self, epoch: int, step: int) -> orders.Rows:
        """The rows of a batch, in the order of the batch, without padding.

        Args:
            epoch: from 0 up.
            step: from 0 to `num_batches - 1`.

        Returns:
            int64 array of shape `(samples in the batch,)`; read-only.
        """
        return self.order(epoch).rows(*self.span(step))

    def locate(self, row: int, epoch: int) -> tuple[int, int] | None:
        """Where a row is in an epoch: `(step, position in the batch)`, the inverse of `rows`.

        None if the row is dropped or skipped, or belongs to another shard or another part of a
        split.

        Args:
            row: from 0 to `num_rows - 1`.
            epoch: from 0 up.
        """
        found = self.locate_shard(row, epoch)
        if found is None or found[1] != self.shard.index:
            return None
        return found[0], found[2]

    def locate_shard(self, row: int, epoch: int) -> tuple[int, int, int] | None:
        """Where a row is, on any shard: `(step, index of the shard, position in its batch)`.

        None if it is dropped or skipped, or belongs to another part of a split. The arguments are
        those of `locate`.
        """
        asked = np.array([whole_number("row", row, least=0, most=self.num_rows - 1)], np.int64)
        if self.numbers(asked)[0] < 0:
            return None
        position = int(self.order(epoch).positions(asked)[0])
        if position < self.skip:
            return None
        if self.remainder == "spread":
            left = self.num_samples - self.skip
            step, _ = even_locate(self.num_batches, position - self.skip, left)
        else:
            step = (position - self.skip) // self.global_batch_size
            if step >= self.num_batches:
                return None
        start, stop = self.global_span(step)
        return step, *self.shard.locate(position - start, stop - start)

    def sizes(self, step: int) -> tuple[int, int]:
        """Samples in the smallest and in the largest shard's batch of a step, without padding."""
        start, stop = self.global_span(step)
        size, larger = divmod(stop - start, self.shard.count)
        return size, size + (larger > 0)

    def of_shard(self, shard: Any) -> Plan:
        """The plan of another process that trains together with this one.

        Args:
            shard: its index; or a `Shard` of any count that divides the global batch.

        Raises:
            InvalidArgumentError: for a shard that does not exist.
        """
        if isinstance(shard, int | np.integer) and not isinstance(shard, bool):
            most = self.shard.count - 1
            index = whole_number("shard", shard, least=0, most=most)
            return replace(self, shard=Shard(index, self.shard.count))
        shard = Shard.of(shard)
        batch_size, rest = divmod(self.global_batch_size, shard.count)
        if rest:
            raise InvalidArgumentError(
                f"shard is {shard}; expected a count that divides the global batch of "
                f"{self.global_batch_size} samples ({self.batch_size} for each of "
                f"{self.shard.count})."
            )
        return replace(self, shard=shard, batch_size=batch_size)

    def split(self, fractions: Sequence[float], seed: int) -> list[Plan]:
        """The plans of disjoint parts of the samples; see `Selection.split`."""
        whole = Selection(self.num_samples) if self.selection is None else self.selection
        plans = []
        for part in whole.split(fractions, seed):
            try:
                plan = replace(self, num_samples=part.num_samples, selection=part, skip=0)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"{part.names[-1]}: {error}") from None
            plans.append(plan)
        return plans

    def numbers(self, rows: orders.Rows) -> orders.Rows:
        """The number of each row among the samples, from 0 up in the order of the data.

        A row of the whole data is its own number; a row of another part of a split has -1.
        """
        return rows if self.selection is None else self.selection.numbers(rows)

    def order(self, epoch: int) -> orders.Order:
        """The order of an epoch; the last few are kept."""
        order = self._order_of_samples(epoch)
        return order if self.selection is None else Selected(order, self.selection)

    @property
    def draws_long(self) -> bool:
        """Whether drawing an epoch's order takes longer than starting a thread for it."""
        return self.shuffle and orders.draws_long(self.num_samples)

    def _order_of_samples(self, epoch: int) -> orders.Order:
        if not self.shuffle:
            return orders.DataOrder()
        # Two threads may both make an epoch's order: they make the same one, so there is no lock.
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

    def for_call(self, call: Literal["evaluate", "predict"]) -> Plan:
        """The plan of `evaluate` or `predict` on one device: in the order of the data.

        `evaluate` needs no padding if no other process needs batches of the same size.
        """
        is_alone = self.remainder == "pad" and self.shard.count == 1
        return self.in_data_order(every_row=call == "predict" or is_alone)

    def in_data_order(self, *, every_row: bool = False) -> Plan:
        """The same plan without shuffling; with `every_row`, nothing is dropped or padded."""
        remainder = self.remainder
        if every_row and remainder in ("drop", "pad"):
            remainder = "keep"
        return replace(self, shuffle=False, remainder=remainder)
