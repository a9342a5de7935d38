"""`JoinedChunks`: chunks whose columns lie one after the other, so that a batch is taken at once.

    joined = JoinedChunks(starts)
    found = joined.find(rows)                    # None: they are not all in chunks that are joined
    found.columns["age"].take(found.at, 0)

A batch of a group of blocks has rows of all its chunks. To take them chunk by chunk is a call of
NumPy for each chunk and each column, some of them for a single row. So the columns of a group are
joined once, and then each batch takes a single call for each column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows

__all__ = ["Found", "JoinedChunks"]

_KEPT = 3
"""Groups: threads are in two, and may begin a third."""

Columns = dict[Any, npt.NDArray[Any]]


class Found(NamedTuple):
    """Where rows are."""

    columns: Columns
    """Of some joined chunks."""
    at: Rows
    """The place of each row there."""


class JoinedChunks:
    """The last few groups of chunks that were joined.

    Args:
        starts: the first row of each chunk, and the number of all rows.
    """

    def __init__(self, starts: Rows) -> None:
        self._starts = starts
        self.forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"_starts": self._starts}  # a worker process joins its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.forget()

    def forget(self) -> None:
        """Keep nothing."""
        self._groups: tuple[tuple[Rows, Columns], ...] = ()
        self._last: tuple[Rows, Found] | None = None

    def find(self, rows: Rows) -> Found | None:
        """Where these rows are, if one group has them all."""
        last = self._last
        if last is not None and _are_same(rows, last[0]):
            return last[1]
        groups = self._groups
        if not groups or not len(rows):
            return None
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for shifts, columns in groups:
            of_rows = shifts[numbers]
            if of_rows.min() >= 0:
                found = Found(columns, rows - self._starts[numbers] + of_rows)
                self._last = (rows if not rows.flags.writeable else rows.copy()), found
                return found
        return None

    def has_any(self, numbers: Rows) -> bool:
        """Whether a group has one of these chunks."""
        return any((shifts[numbers] >= 0).any() for shifts, _ in self._groups)

    def drop(self, is_kept: Callable[[int], bool]) -> None:
        """Forget the groups of which no chunk is kept."""
        self._last = None
        self._groups = tuple(
            (shifts, columns)
            for shifts, columns in self._groups
            if any(map(is_kept, np.flatnonzero(shifts >= 0).tolist()))
        )

    def join(self, chunks: Mapping[int, Columns]) -> dict[int, Columns]:
        """Join the columns of some chunks.

        Returns:
            The same chunks as views of what has been joined.
        """
        names = list(next(iter(chunks.values())))
        columns = {
            name: np.concatenate([chunk[name] for chunk in chunks.values()]) for name in names
        }
        shifts = np.full(len(self._starts) - 1, -1, np.int64)
        views, begin = {}, 0
        for number in chunks:
            end = begin + int(self._starts[number + 1] - self._starts[number])
            shifts[number] = begin
            views[number] = {name: columns[name][begin:end] for name in names}
            begin = end
        self._groups = ((shifts, columns), *self._groups)[:_KEPT]
        return views


def _are_same(rows: Rows, others: Rows) -> bool:
    """Whether two arrays have the same rows. What is written to is compared by its values."""
    return (rows is others and not rows.flags.writeable) or np.array_equal(rows, others)
