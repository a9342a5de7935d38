"""polars DataFrames and Series as sources.

Numbers are read from the memory of polars itself; for everything else, polars gathers the rows of a
batch. No pyarrow is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.columns import Codes, StackedColumns
from keras_npbatch.sources.filled import UNFILLED, checked_value, columns_filled, unwrapped
from keras_npbatch.sources.pieces import joined_arrays
from keras_npbatch.sources.source import Empty, Source, is_raw
from keras_npbatch.sources.tables import OTHERS_FILLED, refuse_lists, refuse_null_rows

__all__ = ["PolarsColumn", "polars_columns", "polars_source"]


class PolarsColumn:
    """A polars Series with values that have to be converted.

    Args:
        series: the column.
        path: of the leaf, for messages.
        value: what is read in place of a null.
    """

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, series: Any, path: str, value: Any) -> None:
        self._series = series
        self._codes: Codes | None = None
        self._lookup: npt.NDArray[Any] | None = None
        lists: tuple[int, ...] = ()
        if series.dtype == _polars().Categorical or series.dtype == _polars().Enum:
            self._codes, self._lookup = _codes_of(series, value, path)
            dtype, fill = self._codes.dtype, self._codes.fill
        else:
            lists = _list_shape(series, path)
            inner = _innermost(series.dtype)
            dtype = _dtype_of(inner, path)
            of = bytes if inner == _polars().Binary else str
            fill = checked_value(value, dtype, path, of)
        self.shape: tuple[int, ...] = (len(series), *lists)
        self.dtype = dtype
        self._fill = fill
        if fill is UNFILLED:
            self._refuse_nulls(path)

    @property
    def categories(self) -> list[Any] | None:
        """The categories, in the order of their codes."""
        return None if self._codes is None else self._codes.categories

    def _refuse_nulls(self, path: str) -> None:
        series, size = self._series, 1
        while True:
            if series.null_count():
                rows = series.is_null().arg_true().to_numpy() // size
                refuse_null_rows(path, rows, OTHERS_FILLED)
            if not _is_list(series.dtype):
                return
            level = len(self.shape) - _depth(series.dtype)
            size *= self.shape[level]
            series = series.explode() if size else series.head(0).explode()

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Gather the rows, and convert them."""
        shape = (len(rows), *self.shape[1:])
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        if not out.size:  # from which polars before 1.10 can't gather
            return out
        gathered = self._series.gather(rows)
        if self._lookup is not None:
            gathered = gathered.to_physical()
        self._put(gathered, out)
        return out

    def _put(self, gathered: Any, out: npt.NDArray[Any]) -> None:
        if not out.size:
            return
        missing = gathered.is_null().to_numpy() if gathered.null_count() else None
        if _is_list(gathered.dtype):
            if missing is not None:
                gathered = gathered.drop_nulls()
            inner = gathered.explode()
            shape = (len(gathered), *out.shape[1:])
            if missing is None:
                self._put(inner, out.reshape(-1, *out.shape[2:]))
                return
            flat = np.empty((len(inner), *out.shape[2:]), out.dtype)
            self._put(inner, flat)
            out[~missing], out[missing] = flat.reshape(shape), self._fill
            return
        if missing is not None and out.dtype.kind != "O":
            gathered = gathered.to_physical().fill_null(False if out.dtype.kind == "b" else 0)
        found = gathered.to_numpy()
        if self._lookup is not None:
            found = self._lookup[found]
        out[...] = found.astype(out.dtype, copy=False)
        if missing is not None:
            out[missing] = self._fill


def _polars() -> Any:
    import polars

    return polars


def _is_list(dtype: Any) -> bool:
    return bool(dtype == _polars().List or dtype == _polars().Array)


def _innermost(dtype: Any) -> Any:
    while _is_list(dtype):
        dtype = dtype.inner
    return dtype


def _depth(dtype: Any) -> int:
    depth = 0
    while _is_list(dtype):
        dtype, depth = dtype.inner, depth + 1
    return depth


def _list_shape(series: Any, path: str) -> tuple[int, ...]:
    """The lengths of the lists, the outermost first."""
    shape: list[int] = []
    while _is_list(series.dtype):
        series = series.drop_nulls()
        if series.dtype == _polars().Array:
            shape.append(int(series.dtype.shape[0]))
        else:
            lengths = series.list.len()
            least, most = lengths.min() or 0, lengths.max() or 0
            if least != most:
                refuse_lists(path, least, most)
            shape.append(int(most))
        series = series.explode() if shape[-1] else series.head(0).explode()
    return tuple(shape)


def _dtype_of(kind: Any, path: str) -> np.dtype[Any]:
    pl = _polars()
    if kind in (pl.String, pl.Binary, pl.Object):
        return np.dtype(object)
    if kind == pl.Boolean:
        return np.dtype(bool)
    if kind == pl.Date:
        return np.dtype("datetime64[D]")
    if kind in (pl.Datetime, pl.Duration):
        name = "datetime64" if kind == pl.Datetime else "timedelta64"
        return np.dtype(f"{name}[{kind.time_unit}]")
    if kind.is_numeric() and hasattr(np, str(kind).lower()):
        return np.dtype(str(kind).lower())
    line = "Read it by rows in a `BatchDataset`."
    if kind.is_numeric():  # decimals, and whole numbers of 128 bits
        line = "Cast it to numbers: `column.cast(polars.Float64)`."
    elif kind == pl.Null:
        line = "All its values are missing: leave the column out, or write `column.fill_null(0)`."
    elif kind == pl.Struct:
        line = "Pass its fields as columns of their own: `frame.unnest(name)`."
    elif kind == pl.Time:
        line = "Cast it to numbers: `column.cast(polars.Int64)`."
    raise InvalidDataError(
        f"{path} is a column of polars' type {kind}; expected numbers, dates, texts, categories or "
        f"lists of them. {line}"
    )


def _codes_of(series: Any, value: Any, path: str) -> tuple[Codes, npt.NDArray[Any]]:
    """The codes, and the code of each number that polars has for a category."""
    if series.dtype == _polars().Enum:
        names = series.dtype.categories.to_list()
        physical = np.arange(len(names))
    else:  # the numbers of polars depend on what the process has seen before
        found = series.unique(maintain_order=True).drop_nulls()
        names, physical = found.cast(_polars().String).to_list(), found.to_physical().to_numpy()
    dtype = np.min_scalar_type(-max(len(names), 1))  # int8 for up to 128, as pandas has it
    codes = Codes(names, dtype, value, path)
    lookup = np.zeros(int(physical.max(initial=0)) + 1, codes.dtype)
    lookup[physical] = np.arange(len(names))
    return codes, lookup


def polars_columns(leaf: Any, path: str) -> dict[str, Any] | None:
    """The columns of a polars DataFrame, unless it makes a matrix; else None."""
    frame, value = unwrapped(leaf)
    if not _is_frame(frame) or _is_matrix(frame):
        return None
    if not frame.width:
        raise InvalidDataError(f"{path} is a DataFrame with no columns; expected at least one.")
    return columns_filled(dict(zip(frame.columns, frame.get_columns(), strict=True)), value, path)


def polars_source(leaf: Any, path: str) -> Source | None:
    """The source of a polars DataFrame of numbers of one type, or of a Series; else None."""
    data, value = unwrapped(leaf)
    if type(data).__module__.partition(".")[0] != "polars":
        return None
    if _is_frame(data):
        if not _is_matrix(data):
            return None
        columns = dict(zip(data.columns, data.get_columns(), strict=True))
        return StackedColumns(
            [
                _column(*unwrapped(column), f"column {name!r} of {path}")
                for name, column in columns_filled(columns, value, path).items()
            ]
        )
    return _column(data, value, path) if hasattr(data, "get_chunks") else None


def _is_frame(data: Any) -> bool:
    is_polars = type(data).__module__.partition(".")[0] == "polars"
    return is_polars and hasattr(data, "get_columns")


def _is_matrix(frame: Any) -> bool:
    kinds = set(frame.dtypes)
    are_numbers = all(kind.is_numeric() or kind == _polars().Boolean for kind in kinds)
    return are_numbers and len(kinds) == 1


def _column(series: Any, value: Any, path: str) -> Source:
    inner = _innermost(series.dtype)
    is_viewed = inner.is_numeric() or inner in (_polars().Datetime, _polars().Duration)
    if is_viewed and _depth(series.dtype) == 0 and not series.null_count() and len(series):
        dtype = _dtype_of(inner, path)
        checked_value(value, dtype, path)
        chunks = [chunk for chunk in series.get_chunks() if len(chunk)]
        return joined_arrays([chunk.to_numpy(allow_copy=False) for chunk in chunks], path)
    return PolarsColumn(series, path, value)
