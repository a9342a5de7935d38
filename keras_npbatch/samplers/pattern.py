"""`Pattern`: classes in the same proportion all the way; `Spread`: rows in such a pattern.

In any prefix of t positions, each class comes `t * share` times, give or take less than one. That
such a sequence exists for any shares is the "chairman assignment problem" (R. Tijdeman, Discrete
Mathematics 32, 1980, pages 323 to 330). It holds exactly if the j-th row of a class with share s
stands at a position from `floor((j - 1) / s) + 1` to `ceil(j / s)`. All rows find a place if each
position takes, of the rows that may stand there, the one whose last position comes first (G.
Steiner and S. Yeomans, "Level schedules for mixed-model, just-in-time processes", Management
Science 39, 1993).

The sequence of classes is made once, up to where it is asked for, in a third of a microsecond a
position; to resume late in an epoch of ten million rows takes that long once. Each epoch changes it
by exchanging neighbours where both bounds allow it.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush, heappushpop
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.samplers.given import smallest_integers
from keras_npbatch.samplers.order import Pieces, Rows

__all__ = ["Members", "Pattern", "Spread"]

_PIECE = 2**15
"""Positions in a piece: many, since NumPy's functions cost as much for few."""
_EXCHANGED = 8192
"""Positions that one generator exchanges: an even number, since it exchanges them in pairs."""


class Members(Protocol):
    """Which rows the members of each class are, in the order in which they come."""

    def rows(self, classes: npt.NDArray[np.int64], which: Rows) -> Rows:
        """The rows of some members: `which` counts those of its class from 0 up, and rises."""

    def places(self, row: int) -> tuple[int, Rows]:
        """The class of a row, and which of its members it is: each time that it comes."""


class Pattern:
    """The class of each position, each within one of its share in any prefix.

    Args:
        counts: rows of each class, all above 0.
    """

    def __init__(self, counts: npt.NDArray[np.int64]) -> None:
        self.counts, self.total = counts, int(counts.sum())
        is_wide = self.total * max(int(counts.max()), len(counts)) >= 2**62
        self.exact: npt.NDArray[Any] = counts.astype(object) if is_wide else counts
        """The counts, as Python's integers if their products may have more than 64 bits."""
        self._lock = threading.Lock()
        self._dtype = smallest_integers(np.array([len(counts)])).dtype
        self._pieces: list[tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]] = []
        """The classes of each piece; and, as bits, which classes are ahead of their share after it.
        The share is rounded down, and each class is within one of it."""
        self._ready: tuple[int, list[int]] = (0, [])
        """The piece that comes next; and a heap of the rows that might come before it and did not,
        each as (last position) * (number of classes) + class."""

    def piece(self, index: int) -> npt.NDArray[Any]:
        """The classes of the positions of one piece."""
        self._extend(index)
        return self._pieces[index][0]

    def before(self, index: int) -> npt.NDArray[np.int64]:
        """How many rows of each class come before a piece."""
        if index == 0:
            return np.zeros(len(self.counts), np.int64)
        self._extend(index - 1)
        bits = np.unpackbits(self._pieces[index - 1][1], count=len(self.counts))
        position = min(index * _PIECE, self.total)
        return self._shares(position) + bits

    def piece_of(self, index: int, which: int) -> int:
        """The piece with the row `which` of a class, from 0 up."""
        # It stands between these two positions.
        first = which * self.total // int(self.counts[index])
        last = -(-(which + 1) * self.total // int(self.counts[index])) - 1
        number = first // _PIECE
        while number < last // _PIECE and self.before(number + 1)[index] <= which:
            number += 1
        return number

    def bounds(
        self, classes: npt.NDArray[np.int64], which: Rows
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The first and the last position, from 1 up, at which rows of classes may stand."""
        counts = self.exact[classes]
        which = which.astype(counts.dtype)
        first, last = which * self.total // counts + 1, -(-(which + 1) * self.total // counts)
        return first.astype(np.int64), last.astype(np.int64)

    def _shares(self, position: int) -> npt.NDArray[np.int64]:
        """The share of each class in the first positions, rounded down."""
        found: npt.NDArray[np.int64] = (position * self.exact // self.total).astype(np.int64)
        return found

    def _extend(self, index: int) -> None:
        if index < len(self._pieces):
            return
        with self._lock:
            # Ctrl-C may come anywhere: a piece that was made without its heap is made again.
            del self._pieces[self._ready[0] :]
            while index >= len(self._pieces):
                found, ready = self._next()
                before = self.before(len(self._pieces))
                after = before + np.bincount(found, minlength=len(self.counts))
                position = min((len(self._pieces) + 1) * _PIECE, self.total)
                self._pieces.append((found, np.packbits(after > self._shares(position))))
                self._ready = len(self._pieces), ready

    def _next(self) -> tuple[npt.NDArray[Any], list[int]]:
        number, ready = self._ready
        ready, start = ready.copy(), number * _PIECE
        stop = min(start + _PIECE, self.total)
        # The rows whose first position is in this piece. Two rows of a class may wait together: the
        # one that comes first has the earlier last position.
        begins, ends = (
            (-(-position * self.exact // self.total)).astype(np.int64) for position in (start, stop)
        )
        new = ends - begins
        classes = np.repeat(np.arange(len(new)), new)
        first, last = self.bounds(classes, _counted(new) + np.repeat(begins, new))
        first -= start + 1
        rows = last.astype(self.exact.dtype) * len(new) + classes
        coming = iter(rows[np.argsort(first.astype(np.uint16), kind="stable")].tolist())
        found = []
        for number_of_new in np.bincount(first, minlength=stop - start).tolist():
            for _ in range(number_of_new - 1):
                heappush(ready, next(coming))
            found.append(heappushpop(ready, next(coming)) if number_of_new else heappop(ready))
        return (np.array(found, rows.dtype) % len(new)).astype(self._dtype), ready


def _counted(runs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, 1, 2, ... for each run, one run after the other."""
    return np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)


class Spread(Pieces):
    """The members of each class, spread by the pattern."""

    pieces_kept = 4

    def __init__(self, pattern: Pattern, members: Members, seed: int, epoch: int) -> None:
        super().__init__(pattern.total, _PIECE)
        self._pattern, self._members = pattern, members
        self._seed, self._epoch = seed, epoch

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one piece."""
        index = start // _PIECE
        found = self._pattern.piece(index)
        by_class = np.argsort(found, kind="stable")  # small integers are sorted by counting
        classes = found.astype(np.int64)
        # Of each class, the rows from the first that has not come before this piece.
        runs = np.bincount(classes, minlength=len(self._pattern.counts))
        grouped = np.repeat(np.arange(len(runs)), runs)
        numbers = _counted(runs) + np.repeat(self._pattern.before(index), runs)
        which, rows = np.empty((2, len(classes)), np.int64)
        which[by_class] = numbers
        rows[by_class] = self._members.rows(grouped, numbers)
        for begin in range(0, len(rows), _EXCHANGED):
            end = begin + _EXCHANGED
            self._exchange(start + begin, classes[begin:end], which[begin:end], rows[begin:end])
        return rows

    def _exchange(
        self, start: int, classes: npt.NDArray[np.int64], which: Rows, rows: Rows
    ) -> None:
        """Exchange neighbours at random where both may stand in the other's place."""
        generator = rng.generator(self._seed, rng.Purpose.SAMPLER, self._epoch, start)
        # What `Pattern.bounds` says, without a division: the row may stand one position later if
        # the lead is above -total, one earlier if it is below -count. Rows of one class never may.
        counts, total = self._pattern.exact[classes], self._pattern.total
        positions = np.arange(start + 1, start + len(rows) + 1)
        lead = which.astype(counts.dtype) * total - positions * counts
        for offset in (0, 1):
            left, right = slice(offset, len(rows) - 1, 2), slice(offset + 1, None, 2)
            wanted = generator.integers(0, 2, len(rows[left]), dtype=np.uint8) == 1
            allowed = (lead[left] > -total) & (lead[right] < -counts[right])
            at = np.flatnonzero(wanted & allowed) * 2 + offset
            lead[at], lead[at + 1] = lead[at + 1] + counts[at + 1], lead[at] - counts[at]
            for values in (counts, rows):
                values[at], values[at + 1] = values[at + 1], values[at]

    def positions(self, rows: Rows) -> Rows:
        """The first position of each of `rows`."""
        return np.array([next(iter(self.places(row).tolist()), -1) for row in rows], np.int64)

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        index, which = self._members.places(row)
        pieces = sorted({self._pattern.piece_of(index, each) for each in which.tolist()})
        found = [np.flatnonzero(self.piece(piece) == row) + piece * _PIECE for piece in pieces]
        return np.concatenate([np.empty(0, np.int64), *found])
