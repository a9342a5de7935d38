"""`Sampler`: which rows an epoch has, and in which order. One of the four seams of this library.

    class Reversed(Sampler):
        def order(self, rows, global_batch_size, seed, epoch):
            return every_row(rows)[::-1]

A sampler **must** give an order that is a function of its arguments alone, the same in every
process; the same number of samples in each epoch; and only rows that are available.

It **may** leave rows out, repeat rows, and depend on the batch size. It may keep tables: 8 bytes a
row where labels or weights have to be looked at, none otherwise.

It **must never** change once it is made: a dataset, its parts and its worker processes share it,
and a saved state names it by `identity`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from keras_npbatch.arguments import whole_number
from keras_npbatch.samplers.given import check_length
from keras_npbatch.samplers.mixing import Mixing, mixing_of
from keras_npbatch.samplers.order import (
    MAX_ROWS,
    Available,
    Order,
    Rows,
    WholeData,
    every_row,
)

__all__ = ["GivenSampler", "Sampler", "TableSampler"]

_TABLES_KEPT = 4
"""Tables of a sampler that are kept: one for each dataset or part of a split that uses it."""

_Table = TypeVar("_Table")


class Sampler(ABC):
    """Which rows an epoch has, and in which order: the base class of all samplers.

    Write `order` for a sampler of your own; everything else has a default. If an epoch of yours has
    rows more than once, or not at all, also write `repeats = True`. Row numbers are those of
    the whole data, also for a part of a split. An array given to a sampler (labels, weights,
    lengths) has a value for each row of the whole data.

    Example:

    ```python
    class OddThenEven(keras_npbatch.samplers.Sampler):
        def order(self, rows, global_batch_size, seed, epoch):
            of_data = keras_npbatch.samplers.every_row(rows)
            mixed = np.random.default_rng((seed, epoch)).permutation(of_data)
            return mixed[np.argsort(mixed % 2 == 0, kind="stable")]

    train = keras_npbatch.ArrayDataset(x, y, sampler=OddThenEven())
    ```
    """

    repeats = False
    """Whether an epoch may have a row more than once, or not at all."""
    uses_batch_size = False
    """Whether the order depends on the batch size."""

    cuts_batches = False
    """Whether it decides which rows are in a batch together, so that full batches must be equal."""

    @abstractmethod
    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order | Rows:
        """The order of one epoch.

        Args:
            rows: the rows there are: all of the data, or those of a part of a split.
            global_batch_size: samples in a full batch of all processes that train together.
            seed: the seed of the dataset.
            epoch: from 0 up.

        Returns:
            An `Order`, or an int64 array of shape `(samples in an epoch,)` of row numbers.
        """

    def num_samples(self, rows: Available) -> int:
        """Samples in an epoch, the same in each; by default each row once."""
        return rows.num_samples

    def draws_long(self, rows: Available) -> bool:
        """Whether making an order takes longer than starting a thread for it."""
        return False

    def checked(self, num_rows: int, chunk_rows: int | None) -> Sampler:
        """This sampler for data that it suits.

        Args:
            num_rows: rows in the whole data.
            chunk_rows: rows that the storage of the data reads together, if it reads in chunks.

        Raises:
            InvalidArgumentError: if it does not suit them.
        """
        return self

    def along(self, chunk_starts: Rows) -> Sampler:
        """This sampler for data in chunks of different sizes.

        Args:
            chunk_starts: the first row of each chunk, and the number of all rows.
        """
        return self

    @property
    def identity(self) -> str:
        """The sampler and all that decides its orders, in words: equal words mean equal orders."""
        return type(self).__name__

    def lengths_of(self, rows: Rows) -> Rows | None:
        """The length of each row, if the sampler knows it: then padding is reported."""
        return None

    def padding_waste(self, rows: Rows) -> float | None:
        """The part of a batch that is padding if it is padded to its longest sample, 0 to 1."""
        lengths = self.lengths_of(rows)
        if lengths is None:
            return None
        padded = len(lengths) * int(lengths.max(initial=0))
        return 1 - int(lengths.sum()) / padded if padded else 0.0

    def describe(
        self, num_rows: int, *, batch_size: int = 32, sample_bytes: int | None = None
    ) -> Mixing:
        """How well epochs are mixed, and what they read and hold; `print` it.

        Args:
            num_rows: rows in the data, from 1 up.
            batch_size: samples in a full batch.
            sample_bytes: the size of a sample, for the figures in bytes.
        """
        num_rows = whole_number("num_rows", num_rows, least=1, most=MAX_ROWS)
        sampler, rows = self.checked(num_rows, None), WholeData(num_rows)
        order = sampler.order(rows, batch_size, 0, 0)
        blocks = sampler.blocks_held
        return mixing_of(
            order.rows if isinstance(order, Order) else lambda start, stop: order[start:stop],
            num_rows,
            sampler.num_samples(rows),
            # Those of two groups, since a batch may end one and begin the next.
            held_rows=None if blocks is None else min(num_rows, blocks[0] * 2 * blocks[1]),
            sample_bytes=sample_bytes,
        )

    @property
    def blocks_held(self) -> tuple[int, int] | None:
        """If an epoch reads blocks of adjacent rows: rows of a block, and blocks held at once."""
        return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sampler):
            return NotImplemented
        return type(other) is type(self) and other.identity == self.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        return self.identity


class TableSampler(Sampler):
    """A sampler that keeps tables, one for each set of available rows."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Any, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # Tables are not sent: they are made again where they are needed.
        return {name: value for name, value in vars(self).items() if name != "_tables"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._tables = OrderedDict()

    def table(self, rows: Available, make: Callable[[Rows | slice], _Table]) -> _Table:
        """The table for these rows: `make(rows)`, kept."""
        # Two threads may both make a table: they make the same one, so there is no lock.
        found: _Table | None = self._tables.get(rows)
        if found is None:
            whole = isinstance(rows, WholeData)
            found = make(slice(None) if whole else every_row(rows))
            self._tables[rows] = found
            while len(self._tables) > _TABLES_KEPT:
                try:
                    self._tables.popitem(last=False)
                except KeyError:
                    break
        return found


class GivenSampler(TableSampler):
    """A sampler that was given a value for each row of the data.

    Args:
        what: what it was given, for messages, such as "labels of Balanced".
        num_given: how many values.
        identity: the sampler and all that decides its orders, in words.
    """

    def __init__(self, what: str, num_given: int, identity: str) -> None:
        super().__init__()
        self._what, self._num_given, self._identity = what, num_given, identity

    @property
    def identity(self) -> str:
        """The sampler and what it was given, in words."""
        return self._identity

    def checked(self, num_rows: int, chunk_rows: int | None) -> Sampler:
        """This sampler, if it has a value for each row."""
        check_length(self._num_given, num_rows, self._what)
        return self
