"""Arrow's tables, arrays and chunked arrays as sources.

    source = arrow_source(table["age"], "x['age']")

Numbers and lists of numbers of one length are read from the memory of Arrow itself. Of bits, texts
and columns with nulls the rows of a batch are taken and converted. A dictionary is read as its
codes. Nothing converts a column as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrow_types import (
    Layout,
    converted,
    has_nulls,
    layout_of,
    list_sizes,
    null_rows,
    view_of,
)
from keras_npbatch.sources.columns import Codes, StackedColumns
from keras_npbatch.sources.filled import UNFILLED, checked_value, columns_filled, unwrapped
from keras_npbatch.sources.pieces import by_piece, joined_arrays, starts_of
from keras_npbatch.sources.source import Empty, Source, is_raw
from keras_npbatch.sources.tables import OTHERS_FILLED, refuse_null_rows

__all__ = [
    "ArrowColumn",
    "are_numbers_of_one_type",
    "arrow_columns",
    "arrow_source",
    "categories_in",
    "chunks_of",
    "column_source",
    "refuse_nulls_of",
]


class ArrowColumn:
    """A column of Arrow with values that have to be converted.

    Args:
        chunks: arrays of Arrow, one after the other.
        layout: what they are for NumPy.
        fill: what is read in place of a null, or `UNFILLED` if there are none.
        path: of the leaf, for messages.
        codes: the categories of a dictionary.
    """

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(
        self, chunks: list[Any], layout: Layout, fill: Any, path: str, codes: Codes | None = None
    ) -> None:
        chunks = [chunk for chunk in chunks if len(chunk)]
        self._starts = starts_of([len(chunk) for chunk in chunks])
        self._layout, self._fill, self._path, self._codes = layout, fill, path, codes
        self.shape = (int(self._starts[-1]), *layout.shape)
        self.dtype = layout.dtype if codes is None else codes.dtype
        self._parts = [_Part(chunk, layout, codes) for chunk in chunks]

    @property
    def categories(self) -> list[Any] | None:
        """The categories of a dictionary, in the order of their codes."""
        return None if self._codes is None else self._codes.categories

    def fill(self, out: npt.NDArray[Any]) -> None:
        """Put all rows into an array, which may be a column of a matrix."""
        for part, begin, end in zip(self._parts, self._starts, self._starts[1:], strict=False):
            if part.view is not None and part.lookup is None:
                out[begin:end] = part.view
            else:
                out[begin:end] = self.read(np.arange(begin, end), np.empty)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Take the rows of each chunk, and convert them."""
        shape = (len(rows), *self.shape[1:])
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        if len(self._parts) == 1:
            view, lookup = self._parts[0].view, self._parts[0].lookup
            if view is not None and lookup is None and view.dtype == out.dtype:
                return view.take(rows, 0, out, "clip")
        for number, at, inside in by_piece(rows, self._starts):
            part = self._parts[number]
            if part.view is not None:
                found = part.view[inside]
            else:
                taken = _take(part.chunk, inside)
                found = converted(taken, self._layout, self._fill, self._path)
            if part.lookup is not None:
                found = part.lookup[found]
            out[at] = found
        return out


class _Part:
    """One chunk: its values as an array, if it has one, and the new code of each of its codes."""

    def __init__(self, chunk: Any, layout: Layout, codes: Codes | None) -> None:
        self.view = None if has_nulls(chunk) else view_of(chunk, layout)
        # The array is kept only if it is needed: then a worker process gets no more than that.
        self.chunk = chunk if self.view is None else None
        self.lookup: npt.NDArray[Any] | None = None
        if codes is not None:
            lookup = codes.of([*chunk.dictionary.to_pylist(), None])  # the last one is that of -1
            fill = 0 if codes.fill is UNFILLED else codes.fill
            self.lookup = np.where(lookup < 0, fill, lookup).astype(codes.dtype)


def _take(chunk: Any, rows: Rows) -> Any:
    import pyarrow as pa

    if "view" in str(chunk.type):  # no kernel takes from views of texts
        return pa.array([chunk[row].as_py() for row in rows.tolist()], chunk.type)
    return chunk.take(pa.array(rows))


def chunks_of(column: Any) -> list[Any]:
    """The arrays that a column of Arrow is made of."""
    return column.chunks if hasattr(column, "chunks") else [column]


def categories_in(chunks: list[Any]) -> list[Any]:
    """The categories of all dictionaries, in the order in which they come."""
    found: dict[Any, None] = {}
    seen = None
    for chunk in chunks:
        if seen is None or not chunk.dictionary.equals(seen):
            seen = chunk.dictionary
            found.update(dict.fromkeys(seen.to_pylist()))
    found.pop(None, None)
    return list(found)


def column_source(
    chunks: list[Any], kind: Any, path: str, value: Any = UNFILLED, chosen: Rows | None = None
) -> Source:
    """The source of a column of Arrow.

    Args:
        chunks: arrays of Arrow, one after the other.
        kind: their type.
        path: of the leaf, for messages.
        value: what is read in place of a null.
        chosen: the rows that will be asked for; None: any.

    Raises:
        InvalidDataError: for a type that NumPy has nothing for, or a null that is not filled.
    """
    layout = layout_of(kind, path, list_sizes(chunks, path))
    codes = None
    if layout.is_dictionary:
        codes = Codes(categories_in(chunks), layout.dtype, value, path)
        fill = codes.fill
    else:
        fill = checked_value(value, layout.dtype, path, layout.objects)
    if fill is UNFILLED:
        refuse_nulls_of(chunks, path, chosen)
    if not layout.is_dictionary and layout.dtype.kind != "O":
        chunks = [chunk for chunk in chunks if len(chunk)] or chunks[:1]
        if not any(has_nulls(chunk) for chunk in chunks):
            views = [view_of(chunk, layout) for chunk in chunks]
            arrays = [view for view in views if view is not None]
            if arrays and len(arrays) == len(views):
                return joined_arrays(arrays, path)
    return ArrowColumn(chunks, layout, fill, path, codes)


def refuse_nulls_of(
    chunks: list[Any], path: str, chosen: Rows | None = None, first: int = 0
) -> None:
    """Refuse nulls, also those inside lists, and in dictionaries.

    Args:
        chunks: arrays of Arrow, one after the other.
        path: of the leaf, for messages.
        chosen: the rows that will be asked for; None: any.
        first: what the first row is called in the message.

    Raises:
        InvalidDataError: naming the first row without a value.
    """
    if not any(map(has_nulls, chunks)):
        return
    starts = starts_of([len(chunk) for chunk in chunks])
    found = [null_rows(chunk) + start for chunk, start in zip(chunks, starts, strict=False)]
    rows = np.concatenate([np.empty(0, np.int64), *found])
    if chosen is not None and len(rows):
        rows = np.flatnonzero(np.isin(chosen, rows))
    refuse_null_rows(path, rows + first, OTHERS_FILLED)


def is_arrow(leaf: Any) -> bool:
    """Whether it is an object of pyarrow."""
    return type(leaf).__module__.partition(".")[0] == "pyarrow"


def _columns_of(table: Any, path: str) -> dict[str, Any]:
    """The columns of a table of Arrow by their names.

    Raises:
        InvalidDataError: if there is none, or two have one name.
    """
    names = table.column_names
    if len(set(names)) < len(names) or not names:
        twice = next((name for name in names if names.count(name) > 1), None)
        told = "no columns" if twice is None else f"two columns {twice!r}"
        raise InvalidDataError(
            f"{path} is a table with {told}; expected columns of different names. Choose some: "
            "`table.select([...])`, or rename them."
        )
    return {name: table.column(name) for name in names}


def _is_table(leaf: Any) -> bool:
    return is_arrow(leaf) and hasattr(leaf, "column_names") and hasattr(leaf, "num_rows")


def arrow_columns(leaf: Any, path: str) -> dict[str, Any] | None:
    """The columns of a table of Arrow, unless it makes a matrix; else None."""
    table, value = unwrapped(leaf)
    if not _is_table(table):
        return None
    columns = _columns_of(table, path)
    if are_numbers_of_one_type(table.schema.types):
        return None
    return columns_filled(columns, value, path)


def are_numbers_of_one_type(kinds: Iterable[Any]) -> bool:
    """Whether columns of these types make a matrix."""
    import pyarrow as pa

    types = pa.types
    found = set(kinds)
    are_numbers = all(
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        for kind in found
    )
    return are_numbers and len(found) == 1


def arrow_source(leaf: Any, path: str) -> Source | None:
    """The source of a table of numbers, an array or a chunked array of Arrow; else None."""
    data, value = unwrapped(leaf)
    if not is_arrow(data):
        return None
    if _is_table(data):
        if not are_numbers_of_one_type(data.schema.types):
            return None
        columns = columns_filled(_columns_of(data, path), value, path)
        return StackedColumns(
            [_column(column, f"column {name!r} of {path}") for name, column in columns.items()]
        )
    if hasattr(data, "type") and hasattr(data, "null_count"):
        return _column(leaf, path)
    return None


def _column(leaf: Any, path: str) -> Source:
    data, value = unwrapped(leaf)
    return column_source(chunks_of(data), data.type, path, value)
