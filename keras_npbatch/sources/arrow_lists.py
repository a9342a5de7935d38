"""A column of lists of Arrow as arrays: views of its memory, with where each row is in them.

parts, which, starts, lengths = parts_of(pyarrow.array([[3, 1], [4]]))
parts[0][starts[1] :][: lengths[1]]      # [4]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError, describe_rows
from keras_npbatch.samplers.order import Rows

__all__ = ["parts_of"]

_Array = npt.NDArray[Any]


def parts_of(
    data: Any, chosen: Rows | None = None, first: int = 0
) -> tuple[list[_Array], Rows | None, Rows, Rows]:
    """The arrays of a column of lists, and for each row its array, first time step and length.

    Args:
        data: an array or chunked array of Arrow.
        chosen: the rows that will be read; None: all.
        first: what the first row is called in messages.

    Raises:
        InvalidDataError: if it has no list of numbers in each row.
    """
    chunks = list(getattr(data, "chunks", [data]))
    chunks = [chunk for chunk in chunks if len(chunk)]
    if not chunks:
        raise InvalidDataError("data of Ragged has 0 rows; expected at least one sequence.")
    spans = [_spans(chunk, data.type) for chunk in chunks]
    _refuse_missing(data, chosen, first)
    lengths = np.concatenate([stops - starts for starts, stops in spans])
    parts = []
    for chunk, (starts, stops) in zip(chunks, spans, strict=True):
        parts.append(_values(chunk, first, int(starts[0]), stops))
        first += len(chunk)
    sizes = [len(chunk) for chunk in chunks]
    which = None if len(parts) == 1 else np.repeat(np.arange(len(parts)), sizes)
    starts = np.concatenate([starts - starts[0] for starts, _ in spans])
    return parts, which, starts, lengths


def _refuse_missing(data: Any, chosen: Rows | None, first: int) -> None:
    if not data.null_count:
        return
    rows = np.flatnonzero(np.asarray(data.is_null()))
    rows = rows + first if chosen is None else np.flatnonzero(np.isin(chosen, rows))
    if len(rows):
        raise InvalidDataError(
            f"data of Ragged has no list in rows {describe_rows(rows)}; expected one in each. "
            "Leave these rows out, or give each one time step of the pad_value: the padded row is "
            "the same."
        )


def _spans(chunk: Any, kind: Any) -> tuple[Rows, Rows]:
    """Where each row begins in `chunk.values`, and where it ends."""
    name = type(kind).__name__
    if name == "FixedSizeListType":
        size = kind.list_size
        starts = (chunk.offset + np.arange(len(chunk), dtype=np.int64)) * size
        return starts, starts + size
    if name not in ("ListType", "LargeListType"):
        raise InvalidDataError(
            f"data of Ragged is a column of Arrow of type {kind}; expected a list of numbers in "
            "each row: `pyarrow.list_(pyarrow.int32())`. A column of numbers is no sequence; cast "
            "a list view to a list."
        )
    ends = np.asarray(chunk.offsets).astype(np.int64)
    return ends[:-1], ends[1:]


def _values(chunk: Any, first: int, begin: int, stops: Rows) -> _Array:
    """The time steps of all rows of a chunk as an array, a view where Arrow has one.

    Args:
        chunk: an array of lists.
        first: the number of its first row.
        begin: where this row begins in `chunk.values`.
        stops: where each row ends there.
    """
    steps, inner = int(stops[-1]) - begin, list[int]()
    values = chunk.values.slice(begin, steps)
    while True:
        if values.null_count:
            at = int(np.flatnonzero(np.asarray(values.is_null()))[0]) // math.prod(inner)
            row = first + int(np.searchsorted(stops, begin + at, "right"))
            raise InvalidDataError(
                f"row {row} of Ragged has a time step without a value; expected a value in each. "
                "Fill them, or leave these rows out."
            )
        if type(values.type).__name__ != "FixedSizeListType":
            break
        size = values.type.list_size
        values = values.values.slice(values.offset * size, len(values) * size)
        inner.append(size)
    if hasattr(values.type, "value_type"):
        raise InvalidDataError(
            f"data of Ragged is a column of Arrow of type {chunk.type}; expected time steps of one "
            "shape: numbers, or lists of a fixed size (`pyarrow.list_(kind, size)`)."
        )
    found = np.asarray(values.to_numpy(zero_copy_only=False))  # only booleans have to be unpacked
    return found.reshape(steps, *inner)
