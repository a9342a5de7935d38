"""`Pattern`: classes in the same proportion all the way; `Spread`: rows in such a pattern.

In any prefix of t positions, each class comes `t * share` times, give or take less than one. That
such a sequence exists for any shares is the "chairman assignment problem" (R. Tijdeman, Discrete
Mathematics 32, 1980, pages 323 to 330). It holds exactly if the j-th row of a class with share s
stands at a position from `floor((j - 1) / s) + 1` to `ceil(j / s)`, and taking, at each position,
of the rows that may come the one that must come first finds a place for all (G. Steiner and S.
Yeomans, "Level schedules for mixed-model, just-in-time processes", Management Science 39, 1993).

The sequence of classes is made once, as far as it is asked for, in two microseconds a position; to
resume late in an epoch of ten million rows takes that long once. Each epoch changes it by
exchanging neighbours where both bounds allow it.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.samplers.given import smallest_integers
from keras_npbatch.samplers.order import Pieces, Rows

__all__ = ["Members", "Pattern", "Spread"]

_Heap: TypeAlias = list[tuple[int, int, int]]

_PIECE = 8192
"""Positions in a piece: an even number, since neighbours are exchanged in pairs."""


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
        self._lock = threading.Lock()
        self._dtype = smallest_integers(np.array([len(counts)])).dtype
        self._pieces: list[tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]] = []
        """The classes of each piece; and, as bits, which classes are ahead of their share after it,
        rounded down: each is within one of it."""
        waiting = [(1, index, 1) for index in range(len(counts))]
        self._heaps: tuple[int, _Heap, _Heap] = (0, [], waiting)
        """The piece that comes next; the classes whose next row may come, (last position, class,
        which row); and the others, (first position, class, which row)."""

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
        found: npt.NDArray[np.int64] = position * self.counts // self.total + bits
        return found

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
        counts = self.counts[classes]
        return which * self.total // counts + 1, -(-(which + 1) * self.total // counts)

    def _extend(self, index: int) -> None:
        if index < len(self._pieces):
            return
        with self._lock:
            # Ctrl-C may come anywhere: a piece that was made without its heaps is made again.
            del self._pieces[self._heaps[0] :]
            while index >= len(self._pieces):
                found, ready, waiting = self._next()
                before = self.before(len(self._pieces))
                after = before + np.bincount(found, minlength=len(self.counts))
                position = min((len(self._pieces) + 1) * _PIECE, self.total)
                is_ahead = after > position * self.counts // self.total
                self._pieces.append((found, np.packbits(is_ahead)))
                self._heaps = len(self._pieces), ready, waiting

    def _next(self) -> tuple[npt.NDArray[Any], _Heap, _Heap]:
        number, ready, waiting = self._heaps
        ready, waiting, total = ready.copy(), waiting.copy(), self.total
        counts = self.counts.tolist()
        start = number * _PIECE
        stop = min(start + _PIECE, total)
        found = []
        for position in range(start + 1, stop + 1):
            while waiting and waiting[0][0] <= position:
                _, index, which = heappop(waiting)
                heappush(ready, (-(-which * total // counts[index]), index, which))
            _, index, which = heappop(ready)
            found.append(index)
            if which < (count := counts[index]):
                first = which * total // count + 1
                if first <= position + 1:
                    heappush(ready, (-(-(which + 1) * total // count), index, which + 1))
                else:
                    heappush(waiting, (first, index, which + 1))
        return np.array(found, self._dtype), ready, waiting


class Spread(Pieces):
    """The members of each class, spread by the pattern."""

    def __init__(self, pattern: Pattern, members: Members, seed: int, epoch: int) -> None:
        super().__init__(pattern.total, _PIECE)
        self._pattern, self._members = pattern, members
        self._seed, self._epoch = seed, epoch

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one piece."""
        index = start // _PIECE
        classes = self._pattern.piece(index).astype(np.int64)
        by_class = np.argsort(classes, kind="stable")
        grouped = classes[by_class]
        # Of each class, the rows from the first that has not come before this piece.
        begins = np.flatnonzero(np.diff(grouped, prepend=-1))
        runs = np.diff([*begins.tolist(), len(grouped)])
        numbers = np.arange(len(grouped)) - np.repeat(begins, runs)
        numbers += self._pattern.before(index)[grouped]
        which, rows = np.empty((2, len(classes)), np.int64)
        which[by_class] = numbers
        rows[by_class] = self._members.rows(grouped, numbers)
        self._exchange(start, classes, which, rows)
        return rows

    def _exchange(
        self, start: int, classes: npt.NDArray[np.int64], which: Rows, rows: Rows
    ) -> None:
        """Exchange neighbours at random where both may stand in the other's place."""
        generator = rng.generator(self._seed, rng.Purpose.SAMPLER, self._epoch, start)
        first, last = self._pattern.bounds(classes, which)
        for offset in (0, 1):
            left = np.arange(offset, len(rows) - 1, 2)
            wanted = generator.integers(0, 2, len(left), dtype=np.uint8) == 1
            position = start + left + 1
            allowed = (last[left] > position) & (first[left + 1] <= position)
            left = left[wanted & allowed & (classes[left] != classes[left + 1])]
            for values in (classes, first, last, rows):
                values[left], values[left + 1] = values[left + 1], values[left].copy()

    def positions(self, rows: Rows) -> Rows:
        """The first position of each of `rows`."""
        return np.array([next(iter(self.places(row).tolist()), -1) for row in rows], np.int64)

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        index, which = self._members.places(row)
        pieces = sorted({self._pattern.piece_of(index, each) for each in which.tolist()})
        found = [np.flatnonzero(self.piece(piece) == row) + piece * _PIECE for piece in pieces]
        return np.concatenate([np.empty(0, np.int64), *found])
