"""`Layout`: where the rows of a cache lie, and what a sample is.

    structure, leaves = sample_of(found, num_rows=8)       # from the first batch
    layout = Layout.of(structure, leaves, memory, start, num_rows, most_rows)
    layout.arrays[0][layout.places(rows)]

Which rows are kept is a function of their number: if there is room for a third, every third row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optree

from keras_npbatch.batches.slots import ALIGNMENT_BYTES
from keras_npbatch.errors import InvalidBatchError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import is_raw
from keras_npbatch.tree import Tree, flatten, leaves_with_paths

__all__ = ["ALIKE", "Layout", "Leaf", "room_for", "rows_at", "sample_of"]

ALIKE = (
    "expected samples that are alike, since cache= keeps them one by one. A sample must not depend "
    "on which others are in its batch: pad to one length, or leave cache out."
)
_MOST = np.iinfo(np.int64).max


class Leaf(NamedTuple):
    """One array of a sample."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        """Of a row."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows lie."""

    structure: optree.PyTreeSpec
    leaves: tuple[Leaf, ...]
    num_rows: int
    """Of the data."""
    most_rows: int
    """Rows that there is room for."""
    marks: npt.NDArray[Any]
    """One for each row; 0 for rows that are not kept."""
    starts: tuple[int, ...]
    """Where each leaf begins in the memory."""
    arrays: tuple[npt.NDArray[Any], ...]
    """Of each leaf, of shape `(most_rows, *shape)`."""

    @classmethod
    def of(
        cls,
        structure: optree.PyTreeSpec,
        leaves: tuple[Leaf, ...],
        memory: npt.NDArray[np.uint8],
        start: int,
        num_rows: int,
        most_rows: int,
        mark: npt.DTypeLike = np.uint8,
    ) -> Layout:
        """The rows in a memory, from a byte on: first the marks, then each leaf."""
        end = start + most_rows * np.dtype(mark).itemsize
        marks, starts, arrays = memory[start:end].view(mark), [], []
        for leaf in leaves:
            start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            end = start + most_rows * leaf.num_bytes
            starts.append(start)
            arrays.append(np.ndarray((most_rows, *leaf.shape), leaf.dtype, memory[start:end]))
        return cls(structure, leaves, num_rows, most_rows, marks, tuple(starts), tuple(arrays))

    @property
    def row_bytes(self) -> int:
        """Bytes of a sample."""
        return sum(leaf.num_bytes for leaf in self.leaves)

    def places(self, rows: Rows) -> Rows:
        """Where each row is kept; -1 for those that never are."""
        if self.most_rows == self.num_rows:
            return rows
        first, after = rows * self.most_rows // self.num_rows, (rows + 1) * self.most_rows
        return np.where(after // self.num_rows > first, first, -1)

    def checked(self, found: Tree, num_rows: int) -> list[npt.NDArray[Any]]:
        """The arrays of a batch, which must be like those of the first.

        Raises:
            InvalidBatchError: if they are not.
        """
        arrays, structure = flatten(found)
        if structure != self.structure:
            raise InvalidBatchError(
                f"load(rows) returned {describe(found)}, nested in another way than before; {ALIKE}"
            )
        for (path, leaf), kind in zip(
            leaves_with_paths(found, "load(rows)"), self.leaves, strict=True
        ):
            expected = (num_rows, *kind.shape)
            is_alike = type(leaf) is np.ndarray and leaf.dtype == kind.dtype
            if not is_alike or leaf.shape != expected:
                raise InvalidBatchError(
                    f"{path} is {describe(leaf)}, and those before had shape {expected} and dtype "
                    f"{kind.dtype}; {ALIKE}"
                )
        return arrays


def sample_of(found: Tree, num_rows: int) -> tuple[optree.PyTreeSpec, tuple[Leaf, ...]]:
    """What a sample is, from a batch.

    Raises:
        InvalidBatchError: if a leaf is not an array that can be kept row by row.
    """
    leaves, structure = flatten(found)
    for (path, leaf), _ in zip(leaves_with_paths(found, "load(rows)"), leaves, strict=True):
        is_array = type(leaf) is np.ndarray and leaf.ndim and is_raw(leaf.dtype)
        if not is_array or len(leaf) != num_rows:
            raise InvalidBatchError(
                f"{path} is {describe(leaf)}; expected a NumPy array of numbers or text with "
                f"{num_rows} rows, since cache= keeps it row by row. Convert it "
                "(`np.asarray`), or leave cache out."
            )
    return structure, tuple(Leaf(leaf.shape[1:], leaf.dtype) for leaf in leaves)


def room_for(leaves: tuple[Leaf, ...], mark_bytes: int, num_rows: int, most_bytes: int) -> int:
    """How many of the rows there is room for.

    Of extremely many rows fewer are kept, so that `places` stays within 64 bits.
    """
    of_row = mark_bytes + sum(leaf.num_bytes for leaf in leaves)
    room = most_bytes - ALIGNMENT_BYTES * (1 + len(leaves))
    return min(num_rows, max(0, room) // of_row, _MOST // num_rows)


def rows_at(places: Rows, num_rows: int, most_rows: int) -> Rows:
    """Which row is kept at each place, as `Layout.places` has it."""
    return -(-(places + 1) * num_rows // most_rows) - 1
