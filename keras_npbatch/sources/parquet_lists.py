"""A column of lists of Parquet files: the time steps of each row group, decoded when needed.

lists, which, starts, lengths = lists_in(Parquet("texts/")["tokens"])
lists[which[7]][starts[7] :][: lengths[7]]      # the time steps of row 7

The files don't say how long rows are, so the column is read once when the source is made, row group
by row group. The lengths are kept, and as much of the decoded time steps as of any column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrow_lists import parts_of
from keras_npbatch.sources.chunks import ChunkRows
from keras_npbatch.sources.parquet import Parquet, column_of
from keras_npbatch.sources.progress import counted
from keras_npbatch.sources.row_groups import RowGroups

__all__ = ["StoredLists", "lists_in"]

_Array = npt.NDArray[Any]


class StoredLists(ChunkRows, Sequence[_Array]):
    """The time steps of each row group.

    Args:
        groups: the row groups.
        name: of the column.
        first: the time steps of the first row group.
    """

    def __init__(self, groups: RowGroups, name: str, first: _Array) -> None:
        super().__init__(groups.starts, first.shape[1:], first.dtype, pieces=groups.pieces)
        self._groups, self._name = groups, name
        self.inner_shape = first.shape[1:]
        """The shape of a time step."""

    def decode(self, number: int) -> _Array:
        """The time steps of all rows of a row group."""
        return _decoded(self._groups, self._name, number)[0]

    def pick(self, chunk: _Array, rows: Rows) -> _Array:
        """Refused: rows of several lengths are not an array until they are padded."""
        raise TypeError("rows of several lengths are read by `Ragged`")

    def __len__(self) -> int:
        return len(self._groups.starts) - 1

    def __getitem__(self, number: Any) -> Any:
        return self._stock.get(int(number), self.decode)


def lists_in(data: Parquet) -> tuple[StoredLists, Rows, Rows, Rows]:
    """The time steps of each row group, and for each row its group, first time step and length.

    Raises:
        InvalidDataError: if it is not a column with a list of numbers in each row.
    """
    found = column_of(data)
    if found is None:
        raise InvalidDataError(
            f"data of Ragged is {data!r}; expected one column of lists: data[{data.columns[0]!r}]."
        )
    groups, name = found
    sizes = np.diff(groups.starts)
    if not len(sizes):
        raise InvalidDataError("data of Ragged has 0 rows; expected at least one sequence.")
    lengths: list[Rows] = []
    first: _Array | None = None
    with counted(range(len(sizes)), f"reading the lengths of {name}") as numbers:
        for number in numbers:
            values, of_rows = _decoded(groups, name, number)
            first = values[:0].copy() if first is None else first
            lengths.append(of_rows)
    assert first is not None
    starts = [np.cumsum(each) - each for each in lengths]
    which = np.repeat(np.arange(len(sizes)), sizes)
    return StoredLists(groups, name, first), which, np.concatenate(starts), np.concatenate(lengths)


def _decoded(groups: RowGroups, name: str, number: int) -> tuple[_Array, Rows]:
    """The time steps of a row group, one row after the other, and the length of each row."""
    column = groups.read(number, [name]).column(name)
    parts, _, _, lengths = parts_of(column, first=int(groups.starts[number]))
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), lengths
