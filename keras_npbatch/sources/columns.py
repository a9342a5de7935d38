"""Columns: several as one matrix, and the codes of categories."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.filled import UNFILLED, checked_value
from keras_npbatch.sources.source import Empty, Source, is_raw

__all__ = ["Codes", "StackedColumns"]


class StackedColumns:
    """Columns side by side, as a matrix of shape `(rows, columns)`.

    Args:
        columns: sources of shape `(rows,)` or `(rows, 1)`, in memory.
        dtype: of the matrix; None: the one that all columns have.
    """

    chunk_rows: int | None = None

    def __init__(self, columns: Sequence[Source], dtype: np.dtype[Any] | None = None) -> None:
        self._columns = list(columns)
        self.shape: tuple[int, ...] = (columns[0].shape[0], len(columns))
        self.dtype = columns[0].dtype if dtype is None else dtype
        self.is_in_memory = all(column.is_in_memory for column in columns)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the rows of each column."""
        shape = (len(rows), len(self._columns))
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        for number, column in enumerate(self._columns):
            out[:, number] = column.read(rows, np.empty).reshape(len(rows))
        return out


class Codes:
    """The codes of categories: 0 for the first, and so on.

    Args:
        categories: the categories, in their order.
        dtype: of the codes as they are stored.
        value: what is read in place of a missing one: one of the categories, or a new one.
        path: of the leaf, for messages.
    """

    def __init__(
        self, categories: Sequence[Any], dtype: np.dtype[Any], value: Any, path: str
    ) -> None:
        self.categories = list(categories)
        of = type(self.categories[0]) if self.categories else object
        value = checked_value(value, np.dtype(object), path, of, self.categories)
        self.fill: Any = UNFILLED
        """The code of what is read in place of a missing category."""
        if value is not UNFILLED:
            if value not in self.categories:
                self.categories.append(value)
            self.fill = self.categories.index(value)
        largest = np.min_scalar_type(max(len(self.categories) - 1, 0))
        fits = len(self.categories) - 1 <= np.iinfo(dtype).max
        self.dtype = np.dtype(dtype) if fits else np.promote_types(dtype, largest)

    def of(self, values: Sequence[Hashable]) -> npt.NDArray[Any]:
        """The code of each of these categories; -1 for None."""
        numbers = {category: code for code, category in enumerate(self.categories)}
        return np.array([-1 if value is None else numbers[value] for value in values], np.int64)
