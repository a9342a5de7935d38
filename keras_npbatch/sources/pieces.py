"""Rows that lie in several pieces: which are in which, and arrays joined without a copy.

for number, at, inside in by_piece(rows, starts):
    out[at] = pieces[number][inside]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import array_source
from keras_npbatch.sources.source import Empty, Source

__all__ = ["JoinedArrays", "Pieces", "by_piece", "joined_arrays", "starts_of"]


def starts_of(lengths: Sequence[int]) -> Rows:
    """The first row of each piece, and the number of all rows."""
    return np.cumsum([0, *lengths], dtype=np.int64)


def by_piece(rows: Rows, starts: Rows) -> Iterator[tuple[int, Any, Rows]]:
    """For each piece with some of the rows: its number, where they go, and their places in it.

    Args:
        rows: row numbers, in any order.
        starts: the first row of each piece, and the number of all rows; no piece is empty.
    """
    if len(rows) == 0:
        return
    which = np.searchsorted(starts, rows, side="right") - 1
    if (which == which[0]).all():
        yield int(which[0]), slice(None), rows - starts[which[0]]
        return
    order = np.argsort(which, kind="stable")
    inside = (rows - starts[which])[order]
    sorted_pieces = which[order]
    edges = [0, *(np.flatnonzero(np.diff(sorted_pieces)) + 1).tolist(), len(rows)]
    for begin, end in pairwise(edges):
        yield int(sorted_pieces[begin]), order[begin:end], inside[begin:end]


class Pieces:
    """Pieces that several columns have in common: what `by_piece` finds is kept for the others.

    Args:
        starts: the first row of each piece, and the number of all rows; no piece is empty.
    """

    def __init__(self, starts: Rows) -> None:
        self.starts = starts
        lengths = np.diff(starts)
        self._length = int(lengths.max(initial=1))
        self._are_equal = bool((lengths[:-1] == self._length).all())
        self._last: tuple[Rows, list[tuple[int, Any, Rows]]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_last": None}

    def numbers(self, rows: Rows) -> Rows:
        """The number of the piece that each of the rows is in."""
        if self._are_equal:  # a twentieth of the time
            return rows // self._length
        return np.searchsorted(self.starts, rows, side="right") - 1

    def of(self, rows: Rows) -> list[tuple[int, Any, Rows]]:
        """What `by_piece` gives, for these rows of these pieces."""
        last = self._last
        if last is not None and np.array_equal(last[0], rows):
            return last[1]
        found = list(by_piece(rows, self.starts))
        self._last = rows.copy(), found
        return found


class JoinedArrays:
    """Arrays of one dtype and one shape of a row, one after the other; none is empty."""

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, arrays: Sequence[npt.NDArray[Any]]) -> None:
        self._arrays = list(arrays)
        self._starts = starts_of([len(array) for array in arrays])
        self.shape = (int(self._starts[-1]), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Gather the rows of each array."""
        out = empty((len(rows), *self.shape[1:]), self.dtype)
        if not len(rows):
            return out
        # Not `by_piece`: of a thousand small arrays, a batch has a row or two of each, and then
        # what is done for each of them is what takes the time.
        order = np.argsort(rows, kind="stable")
        increasing = rows[order]
        which = np.searchsorted(self._starts, increasing, side="right") - 1
        increasing = increasing - self._starts[which]
        edges = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(rows)]
        found = out if len(edges) == 2 and _is_in_order(order) else np.empty_like(out)
        for begin, end in pairwise(edges):
            array = self._arrays[which[begin]]
            array.take(increasing[begin:end], 0, found[begin:end], "clip")
        if found is not out:
            out[order] = found
        return out


def _is_in_order(order: npt.NDArray[np.intp]) -> bool:
    return bool((np.diff(order) == 1).all())


def joined_arrays(arrays: Sequence[npt.NDArray[Any]], path: str) -> Source:
    """One source for arrays of numbers that lie one after the other."""
    if len(arrays) == 1:
        source = array_source(arrays[0], path)
        assert source is not None
        return source
    return JoinedArrays(arrays)
