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
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.chosen import Part
from keras_npbatch.plan.shard import Shard, even_locate, even_part
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.order import MAX_ROWS, Available, Listed, Order, Rows, WholeData
from keras_npbatch.samplers.sampler import Sampler
from keras_npbatch.samplers.shuffle import Shuffle

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
    sampler: Sampler = field(default_factory=Shuffle)
    """Which rows an epoch has, and in which order."""
    remainder: Remainder = "keep"
    """What happens to `num_samples % batch_size`: a short last batch, none, a padded one, or
    batches whose sizes differ by at most one."""
    shard: Shard = field(default_factory=Shard)
    """The part of each global batch that this process reads; `rows` and `span` give this part."""
    skip: int = 0
    """Samples at the beginning of an epoch that are in no batch. Above 0, this plans the rest of an
    epoch that began with batches of another size."""
    selection: Part | None = None
    """Which rows of the data the samples are, if they are a part of a split."""
    order_size: int = 0
    """The global batch size for which the orders are made, if it differs: an epoch began with it,
    and this plans the rest."""
    _orders: OrderedDict[int, Order] = field(
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
        if hasattr(self.num_samples, "__len__") and not isinstance(self.num_samples, str):
            raise InvalidArgumentError(
                f"num_samples is {describe(self.num_samples)}; expected how many samples there "
                "are. Write its length: num_samples=len(...)."
            )
        num_samples = whole_number("num_samples", self.num_samples, least=1, most=MAX_ROWS)
        batch_size = whole_number("batch_size", self.batch_size, least=1, most=MAX_ROWS)
        seed = rng.check_seed(self.seed)
        if not isinstance(self.remainder, str) or self.remainder not in get_args(Remainder):
            raise InvalidArgumentError(
                f"remainder is {describe(self.remainder)}; expected one of "
                f"{', '.join(map(repr, get_args(Remainder)))}."
            )
        shard = Shard.of(self.shard)
        if batch_size * shard.count > MAX_ROWS:
            raise InvalidArgumentError(
                f"batch_size is {batch_size} for each of {shard.count} shards; expected at most "
                "2**62 samples in all of them."
            )
        for name, value in (
            ("num_samples", num_samples),
            ("batch_size", batch_size),
            ("seed", seed),
            ("shard", shard),
        ):
            object.__setattr__(self, name, value)
        size = self.epoch_size
        skip = whole_number("skip", self.skip, least=0, most=size - 1)
        object.__setattr__(self, "skip", skip)
        if self.remainder == "drop" and size - skip < self.global_batch_size:
            of_all = f" for each of {shard.count} shards" if shard.count > 1 else ""
            raise InvalidArgumentError(
                f"remainder='drop' leaves no batch: num_samples={size - skip} is less than "
                f"batch_size={batch_size}{of_all}. Use a smaller batch_size, or remainder='keep'."
            )

    def __reduce__(self) -> Any:
        # Kept orders are not sent: they are made again where they are needed.
        return type(self), tuple(getattr(self, each.name) for each in fields(self) if each.init)

    @property
    def num_rows(self) -> int:
        """Rows in the whole data, also if this plan is for a part of a split."""
        return self.num_samples if self.selection is None else self.selection.num_rows

    @property
    def shuffle(self) -> bool:
        """Whether epochs are in another order than that of the data."""
        return not isinstance(self.sampler, InOrder)

    @cached_property
    def available(self) -> Available:
        """The rows that the sampler chooses from."""
        return WholeData(self.num_samples) if self.selection is None else self.selection

    @cached_property
    def epoch_size(self) -> int:
        """Samples in an epoch of all processes together, before `remainder` drops or adds any."""
        return self.sampler.num_samples(self.available)

    @cached_property
    def global_batch_size(self) -> int:
        """Samples in a full batch of all processes together."""
        return self.batch_size * self.shard.count

    @cached_property
    def num_batches(self) -> int:
        """Batches in an epoch, at least 1; the same for every shard."""
        full, rest = divmod(self.epoch_size - self.skip, self.global_batch_size)
        return full if self.remainder == "drop" or not rest else full + 1

    @property
    def pads(self) -> bool:
        """Whether a batch has added rows: with `remainder="pad"`, and a last batch to fill up."""
        rest = (self.epoch_size - self.skip) % self.global_batch_size
        return self.remainder == "pad" and rest > 0

    def global_span(self, step: int) -> tuple[int, int]:
        """The positions `start..stop-1` of the order that all shards together read at `step`."""
        if self.remainder == "spread":
            return even_part(step, self.num_batches, self.skip, self.epoch_size)
        start = self.skip + step * self.global_batch_size
        return start, min(start + self.global_batch_size, self.epoch_size)

    def span(self, step: int) -> tuple[int, int]:
        """The positions `start..stop-1` of the order that batch `step` holds."""
        start, stop = self.global_span(step)
        return self.shard.part(start, stop) if self.shard.count > 1 else (start, stop)

    def rows(self, epoch: int, step: int) -> Rows:
        """The rows of a batch, in the order of the batch, without padding.

        Args:
            epoch: from 0 up.
            step: from 0 to `num_batches - 1`.

        Returns:
            int64 array of shape `(samples in the batch,)`; read-only.
        """
        return self.order(epoch).rows(*self.span(step))

    def times(self, epoch: int, start: int, stop: int) -> Rows:
        """How often the row at each of these positions came before in the epoch.

        Zeros, unless the sampler repeats rows.
        """
        if not self.sampler.repeats:
            return np.zeros(stop - start, np.int64)
        return self.order(epoch).times(start, stop)

    def global_rows(self, epoch: int, step: int) -> Rows:
        """The rows of the batches of all shards at a step; the arguments are those of `rows`."""
        return self.order(epoch).rows(*self.global_span(step))

    def locate(self, row: int, epoch: int) -> list[tuple[int, int]]:
        """All places of a row in an epoch: `(step, position in the batch)`, the inverse of `rows`.

        Empty if the row is dropped or skipped, or belongs to another shard or another part of a
        split. At most one, unless the sampler repeats rows.

        Args:
            row: from 0 to `num_rows - 1`.
            epoch: from 0 up.
        """
        return [
            (step, position)
            for step, shard, position in self.locate_shards(row, epoch)
            if shard == self.shard.index
        ]

    def locate_shards(self, row: int, epoch: int) -> list[tuple[int, int, int]]:
        """All places of a row, on any shard: `(step, index of the shard, position in its batch)`.

        Empty if it is dropped or skipped, or belongs to another part of a split. The arguments are
        those of `locate`.
        """
        row = whole_number("row", row, least=0, most=self.num_rows - 1)
        if self.numbers(np.array([row], np.int64))[0] < 0:
            return []
        places = [self._place(int(position)) for position in self.order(epoch).places(row)]
        return [place for place in places if place is not None]

    def _place(self, position: int) -> tuple[int, int, int] | None:
        if position < self.skip:
            return None
        if self.remainder == "spread":
            left = self.epoch_size - self.skip
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

    def of_part(self, selection: Part) -> Plan:
        """The plan of a part of the data."""
        try:
            return replace(self, num_samples=selection.num_samples, selection=selection, skip=0)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{selection.names[-1]}: {error}") from None

    def numbers(self, rows: Rows) -> Rows:
        """The number of each row among the samples, from 0 up in the order of the data.

        A row of the whole data is its own number; a row of another part of a split has -1.
        """
        return rows if self.selection is None else self.selection.numbers(rows)

    @property
    def draws_long(self) -> bool:
        """Whether drawing an epoch's order takes longer than starting a thread for it."""
        return self.sampler.draws_long(self.available)

    def order(self, epoch: int) -> Order:
        """The order of an epoch; the last few are kept."""
        # Two threads may both make an epoch's order: they make the same one, so there is no lock.
        order = self._orders.get(epoch)
        if order is None:
            size = self.order_size or self.global_batch_size
            drawn = self.sampler.order(self.available, size, self.seed, epoch)
            order = drawn if isinstance(drawn, Order) else Listed(drawn)
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
        return replace(self, sampler=InOrder(), remainder=remainder)
