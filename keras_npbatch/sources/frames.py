"""pandas DataFrames and Series as sources.

A DataFrame is one matrix of one dtype, a Series a column of shape `(rows, 1)`, as Keras has them. A
Series of categories is read as its codes; in a DataFrame, where the other columns are values,
categories are values too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrow import chunks_of, column_source
from keras_npbatch.sources.columns import Codes, StackedColumns
from keras_npbatch.sources.filled import UNFILLED, checked_value, columns_filled, unwrapped
from keras_npbatch.sources.source import Empty, Source, is_raw
from keras_npbatch.sources.tables import refuse_nulls

__all__ = ["ExtensionColumn", "FrameRows", "frame_source"]


class FrameRows:
    """A DataFrame; pandas selects the rows and converts the columns to one dtype."""

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.shape = tuple(frame.shape)
        self.dtype = _common(
            [
                # Values are not missing, and then the first one has the NumPy dtype of all.
                dtype if isinstance(dtype, np.dtype) else frame.iloc[:1, number].to_numpy().dtype
                for number, dtype in enumerate(frame.dtypes)
            ]
        )

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Select the rows by position."""
        found = self._frame.iloc[rows].to_numpy(dtype=self.dtype)
        if not is_raw(self.dtype):
            return np.array(found, order="C")
        out = empty(found.shape, self.dtype)
        out[...] = found
        return out


class ExtensionColumn:
    """An array of pandas with a dtype of pandas' own, or with values to fill; as a column.

    Args:
        data: a Series, or an `ExtensionArray`.
        path: of the leaf, for messages.
        value: what is read in place of a missing value.
        coded: whether categories are read as their codes.
    """

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, data: Any, path: str, value: Any, coded: bool = True) -> None:
        array = getattr(data, "array", data)
        self._array, self._codes = array, None
        self.shape: tuple[int, ...] = (len(array), 1)
        kind = array.dtype
        of = getattr(kind, "type", object)  # str for texts
        of = object if issubclass(of, np.generic) else of
        if hasattr(array, "codes"):
            self._codes = Codes(array.categories.tolist(), array.codes.dtype, value, path)
            self.dtype, self._fill = self._codes.dtype, self._codes.fill
            if not coded:
                self._codes, of = None, object
                self.dtype = array.categories.to_numpy().dtype
        elif getattr(kind, "tz", None) is not None:
            self.dtype = np.dtype(f"datetime64[{kind.unit}]")  # in UTC
        else:
            self.dtype = np.dtype(getattr(kind, "numpy_dtype", array[:0].to_numpy().dtype))
        if self._codes is None:
            self._fill = checked_value(value, self.dtype, path, of)
        if self._fill is UNFILLED:
            refuse_nulls(data, path)

    @property
    def categories(self) -> list[Any] | None:
        """The categories, in the order of their codes."""
        return None if self._codes is None else self._codes.categories

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Take the rows, and convert them."""
        shape = (len(rows), 1)
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        if self._codes is not None:
            codes = self._array.codes[rows]
            fill = 0 if self._fill is UNFILLED else self._fill
            out[:, 0] = np.where(codes < 0, fill, codes)
            return out
        taken = self._array.take(rows)
        missing = np.asarray(taken.isna()) if self._fill is not UNFILLED else None
        if missing is not None and missing.any():
            out[missing, 0] = self._fill
            out[~missing, 0] = taken[~missing].to_numpy(dtype=self.dtype)
        else:
            out[:, 0] = taken.to_numpy(dtype=self.dtype)
        return out


class _AsColumn:
    """A source of shape `(rows,)` as a column of shape `(rows, 1)`."""

    chunk_rows: int | None = None

    def __init__(self, source: Source) -> None:
        self._source = source
        self.shape: tuple[int, ...] = (source.shape[0], 1)
        self.dtype = source.dtype
        self.is_in_memory = source.is_in_memory
        self.categories = getattr(source, "categories", None)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the rows, and add the dimension."""
        return self._source.read(rows, empty)[:, np.newaxis]


def _common(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype of a matrix of columns of these dtypes."""
    kinds = set(dtypes)
    are_numbers = all(dtype.kind in "biufc" for dtype in kinds)
    if len(kinds) == 1 or (kinds and are_numbers):
        return np.result_type(*kinds)
    return np.dtype(object)  # the only dtype for dates and numbers together


def frame_source(leaf: Any, path: str) -> Source | None:
    """The source of a DataFrame, or of a Series of a dtype of pandas' own; else None."""
    data, value = unwrapped(leaf)
    if type(data).__module__.partition(".")[0] != "pandas" or not hasattr(data, "to_numpy"):
        return None
    if data.ndim == 1:
        is_plain = isinstance(data.dtype, np.dtype) and value is UNFILLED
        return None if is_plain else _column(data, path, value)
    if value is UNFILLED:
        return FrameRows(data)
    numbered: dict[Any, Any] = {number: data.iloc[:, number] for number in range(data.shape[1])}
    if isinstance(value, Mapping):
        columns_filled(dict.fromkeys(data.columns), value, path)  # it names columns that there are
        value = {n: value[name] for n, name in enumerate(data.columns) if name in value}
    columns = []
    for number, column in columns_filled(numbered, value, path).items():  # names may repeat
        series, fill = unwrapped(column)
        name = f"column {data.columns[number]!r} of {path}"
        columns.append(ExtensionColumn(series, name, fill, coded=False))
    return StackedColumns(columns, _common([column.dtype for column in columns]))


def _column(data: Any, path: str, value: Any) -> Source:
    array = getattr(data, "array", data)  # an array of pandas itself is a leaf too
    kept_by = getattr(array.dtype, "storage", None)  # of texts
    if type(array.dtype).__name__ == "ArrowDtype" or kept_by == "pyarrow":
        stored = array.__arrow_array__()
        source = column_source(chunks_of(stored), stored.type, path, value)
        return source if len(source.shape) > 1 else _AsColumn(source)
    return ExtensionColumn(data, path, value)
