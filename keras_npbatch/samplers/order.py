"""`Order`: which row stands at which position of one epoch, with random access.

    order = sampler.order(WholeData(10), global_batch_size=4, seed=0, epoch=3)
    order.rows(4, 8)          # the rows at positions 4 to 7
    order.places(7)           # the positions of row 7: the inverse

`Available` is what a sampler may choose from: all rows of the data, or those of a part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "MAX_ROWS",
    "Available",
    "DataOrder",
    "Listed",
    "Order",
    "Pieces",
    "Rows",
    "Translated",
    "WholeData",
    "every_row",
    "translated",
]

Rows: TypeAlias = npt.NDArray[np.int64]

MAX_ROWS = 2**62
"""The largest number of samples: sums of two halves still fit 64 bits."""


class Available(Protocol):
    """The rows that a sampler may choose from, numbered from 0 up in the order of the data."""

    @property
    def num_samples(self) -> int:
        """How many there are."""

    @property
    def num_rows(self) -> int:
        """Rows in the whole data: row numbers are below it."""

    def rows(self, numbers: Rows) -> Rows:
        """The rows with these numbers; rows rise with numbers."""

    def numbers(self, rows: Rows) -> Rows:
        """The inverse of `rows`; -1 for a row that is not available."""

    def below(self, rows: Rows) -> Rows:
        """How many available rows are below each of these numbers, from 0 to `num_rows`."""


class WholeData:
    """All rows of the data: each is its own number."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = self.num_samples = num_rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WholeData) and other.num_rows == self.num_rows

    def __hash__(self) -> int:
        return hash(self.num_rows)

    def rows(self, numbers: Rows) -> Rows:
        """The rows with these numbers."""
        return numbers

    def numbers(self, rows: Rows) -> Rows:
        """The numbers of these rows."""
        return rows

    def below(self, rows: Rows) -> Rows:
        """How many rows are below each of these numbers."""
        return rows


def every_row(available: Available) -> Rows:
    """Every available row, increasing."""
    return available.rows(np.arange(available.num_samples, dtype=np.int64))


class Order(ABC):
    """Which row stands at which position of one epoch.

    Methods may be called from several threads at once. The arrays they return must never be
    written to: they may be views of what the order keeps.
    """

    @abstractmethod
    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`, with `0 <= start <= stop <= n`."""

    @abstractmethod
    def positions(self, rows: Rows) -> Rows:
        """A position of each of `rows`; -1 for a row that the epoch does not have."""

    def places(self, row: int) -> Rows:
        """Every position of one row, increasing; none if the epoch does not have it."""
        found = self.positions(np.array([row], np.int64))
        return found[found >= 0]

    def group(self, position: int) -> tuple[int, int] | None:
        """The positions whose rows are shuffled together with this one's; None: any, or none."""
        return None

    def times(self, start: int, stop: int) -> Rows:
        """How often the row at each of these positions came before in the epoch."""
        rows = self.rows(start, stop)
        found = np.empty(len(rows), np.int64)
        for row in np.unique(rows).tolist():
            here = np.flatnonzero(rows == row)
            found[here] = np.searchsorted(self.places(row), here + start)
        return found


class DataOrder(Order):
    """The order of the data itself: the row at position `p` is `p`."""

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`."""
        return np.arange(start, stop, dtype=np.int64)

    def positions(self, rows: Rows) -> Rows:
        """The position of each of `rows`."""
        return rows


class Listed(Order):
    """An order that is kept as an array, in which a row may stand any number of times."""

    def __init__(self, rows: Rows) -> None:
        rows.flags.writeable = False
        self._rows = rows
        self._times: Rows | None = None

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`; a read-only view."""
        return self._rows[start:stop]

    def positions(self, rows: Rows) -> Rows:
        """The first position of each of `rows`."""
        return np.array([next(iter(self.places(row).tolist()), -1) for row in rows], np.int64)

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        return np.flatnonzero(self._rows == row)

    def times(self, start: int, stop: int) -> Rows:
        """How often the row at each of these positions came before."""
        if self._times is None:  # racing threads make the same one
            by_row = np.argsort(self._rows, kind="stable")
            rows = self._rows[by_row]
            numbers = np.arange(len(rows))
            firsts = np.concatenate([[True], rows[1:] != rows[:-1]])
            times = np.empty(len(rows), np.int64)
            times[by_row] = numbers - np.maximum.accumulate(np.where(firsts, numbers, 0))
            self._times = times
        return self._times[start:stop]


class Pieces(Order):
    """An order that is computed in pieces of adjacent positions; the last few are kept.

    Args:
        num_positions: positions in the epoch.
        size: positions in a piece; the last one may be shorter.
    """

    pieces_kept = 8
    """How many pieces are kept."""

    def __init__(self, num_positions: int, size: int) -> None:
        self.num_positions, self.size = num_positions, size
        self._pieces: OrderedDict[int, Rows] = OrderedDict()

    @abstractmethod
    def make(self, start: int, stop: int) -> Rows:
        """The rows of one piece: a new int64 array."""

    def index(self, position: int) -> int:
        """The number of the piece that a position is in."""
        return position // self.size

    def span(self, index: int) -> tuple[int, int]:
        """The first position of a piece, and the one after the last."""
        start = index * self.size
        return start, min(start + self.size, self.num_positions)

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`, cut from pieces."""
        if start >= stop:
            return np.empty(0, np.int64)
        parts = []
        for index in range(self.index(start), self.index(stop - 1) + 1):
            first = self.span(index)[0]
            parts.append(self.piece(index)[max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def piece(self, index: int) -> Rows:
        """The rows of a piece, read-only."""
        # Racing threads may make a piece twice or drop one early. Both cost only time, since a
        # piece is a function of its index, so there is no lock.
        found = self._pieces.get(index)
        if found is None:
            found = self.make(*self.span(index))
            found.flags.writeable = False
            self._pieces[index] = found
            while len(self._pieces) > self.pieces_kept:
                try:
                    self._pieces.popitem(last=False)
                except KeyError:
                    break
        return found


class Translated(Order):
    """An order of numbers from 0 up as the order of the rows that have these numbers."""

    def __init__(self, order: Order, available: Available) -> None:
        self._order, self._available = order, available

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`."""
        return self._available.rows(self._order.rows(start, stop))

    def positions(self, rows: Rows) -> Rows:
        """A position of each of `rows`; -1 for one that is not available."""
        numbers = self._available.numbers(rows)
        is_there = numbers >= 0
        found = np.full(len(rows), -1, np.int64)
        found[is_there] = self._order.positions(numbers[is_there])
        return found

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        number = int(self._available.numbers(np.array([row], np.int64))[0])
        return np.empty(0, np.int64) if number < 0 else self._order.places(number)

    def group(self, position: int) -> tuple[int, int] | None:
        """The positions whose rows are shuffled together with this one's."""
        return self._order.group(position)

    def times(self, start: int, stop: int) -> Rows:
        """How often the row at each of these positions came before."""
        return self._order.times(start, stop)


def translated(order: Order, available: Available) -> Order:
    """An order of numbers as an order of the rows that are available."""
    return order if isinstance(available, WholeData) else Translated(order, available)
