"""Sequences of any length, from every form in which they come, without a copy.

    found = sequences_of([np.array([3, 1]), np.array([4])])
    found.lengths                      # [2, 1]
    found.parts[found.which[1]]        # the array in which the time steps of row 1 lie

A row is a span of time steps in one of several arrays: in its own array if the data are a list, in
the only array if they are values with offsets, in that of its chunk if they are a column of Arrow,
in that of its row group if they are one of Parquet.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError, describe, describe_rows
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import is_mapped, plain_array
from keras_npbatch.sources.arrow_lists import parts_of
from keras_npbatch.sources.huggingface_lists import lists_of
from keras_npbatch.sources.parquet import Parquet
from keras_npbatch.sources.parquet_lists import StoredLists, lists_in
from keras_npbatch.sources.source import is_raw

__all__ = ["Sequences", "sequences_of", "sequences_of_list"]

_Array = npt.NDArray[Any]

_EXPECTED = (
    "expected a list of arrays, an object array of them, (values, offsets), a column of lists of "
    "a table, or a tf.RaggedTensor"
)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows of any length, each a span of time steps in an array."""

    parts: Sequence[_Array]
    """The arrays, each of shape `(time_steps, *inner_shape)`."""
    which: Rows | None
    """The array that each row is in; None if there is one array."""
    starts: Rows
    """The first time step of each row in its array."""
    lengths: Rows
    """How many time steps each row has, at least 1."""
    dtype: np.dtype[Any]
    """The dtype of them all."""
    is_in_memory: bool
    """Whether none is a memory map, judging by the first one and the types of the others."""
    are_whole: bool = False
    """Whether each row is all of its array."""

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The shape of a time step."""
        return self.parts[0].shape[1:] if self.stored is None else self.stored.inner_shape

    @property
    def stored(self) -> StoredLists | None:
        """The arrays, if they are row groups, which are decoded when they are needed."""
        return self.parts if isinstance(self.parts, StoredLists) else None

    def flat(self) -> Sequences:
        """The same in one array, if they are many arrays in memory: to be sent as one."""
        if self.which is None or not self.is_in_memory:
            return self
        spans = zip(self.which.tolist(), self.starts.tolist(), self.lengths.tolist(), strict=True)
        values = np.concatenate([self.parts[at][begin : begin + n] for at, begin, n in spans])
        ends = np.cumsum(self.lengths)
        return Sequences([values], None, ends - self.lengths, self.lengths, self.dtype, True)


def sequences_of(data: Any) -> Sequences:
    """The sequences in `data`, in any of the forms that `Ragged` takes.

    Raises:
        InvalidDataError: for anything else, or rows without a time step or of unequal inner shapes
            or dtypes; the message names the row.
    """
    package = type(data).__module__.partition(".")[0]
    mapped = lists_of(data)
    if package == "polars" and hasattr(data, "to_arrow"):
        data, package = data.to_arrow(), "pyarrow"
    elif package == "pandas" and hasattr(data, "to_numpy"):
        array_of = getattr(data, "array", data)  # an array of pandas itself is a column too
        if type(array_of.dtype).__name__ == "ArrowDtype":
            data, package = array_of.__arrow_array__(), "pyarrow"
        else:
            data = data.to_numpy()
    if mapped is not None:
        parts, which, starts, lengths, is_in_memory = mapped
        found = Sequences(parts, which, starts, lengths, parts[0].dtype, is_in_memory)
    elif isinstance(data, Parquet):
        stored, which, starts, lengths = lists_in(data)
        found = Sequences(stored, which, starts, lengths, stored.dtype, False)
    elif package == "pyarrow" and hasattr(data, "type"):
        parts, which, starts, lengths = parts_of(data)
        found = Sequences(parts, which, starts, lengths, parts[0].dtype, True)
    elif package == "tensorflow" and hasattr(data, "row_splits"):
        found = _of_tensorflow(data)
    elif isinstance(data, tuple) and len(data) == 2:
        found = _of_offsets(*data)
    elif isinstance(data, list | np.ndarray):
        found = sequences_of_list(data, "Ragged")
    else:
        raise InvalidDataError(f"data of Ragged is {describe(data)}; {_EXPECTED}.")
    _refuse_empty(found.lengths, "Ragged")
    if not is_raw(found.dtype):
        _refuse_dtype("data of Ragged", found.dtype)
    return found


def _refuse_dtype(what: str, dtype: np.dtype[Any]) -> NoReturn:
    raise InvalidDataError(
        f"{what} has time steps of dtype {dtype}; expected numbers, booleans, dates or strings of "
        "a fixed size. Convert them: `[np.asarray(row, 'int32') for row in data]`."
    )


def _refuse_empty(lengths: Rows, name: str) -> None:
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise InvalidDataError(
            f"data of {name} has no time step in rows {describe_rows(empty)}; expected at least "
            "one in each. Leave these rows out, or give each one time step of the pad_value: the "
            "padded row is the same."
        )


# -------------------------------------------------------------------- one array for each row


def sequences_of_list(data: list[Any] | _Array, name: str) -> Sequences:
    """The sequences in a list or an object array.

    Args:
        data: an array, or a list of numbers, for each row.
        name: what the data are called, for messages.

    Raises:
        InvalidDataError: for anything else; the message names the row.
    """
    rows = _listed(data, name)
    if not rows:
        raise InvalidDataError(f"data of {name} has 0 rows; expected at least one sequence.")
    kinds = set(map(type, rows))
    if kinds <= {list, tuple}:
        flat = _of_numbers(rows, name)
        if flat is not None:
            return flat
    if not kinds <= {np.ndarray, np.memmap}:
        rows = [_row(row, number, name) for number, row in enumerate(rows)]
    axes = set(map(attrgetter("ndim"), rows))
    if 0 in axes:
        number = next(number for number, row in enumerate(rows) if row.ndim == 0)
        raise InvalidDataError(
            f"row {number} of {name} is {describe(rows[number].item())}; expected an array of "
            "shape (time_steps, *inner_shape) for each row."
        )
    lengths = _lengths(rows, name)
    dtype = _one_dtype(rows, name)
    if axes != {1}:
        _check_inner(rows, name)
    which, starts = np.arange(len(rows), dtype=np.int64), np.broadcast_to(np.int64(0), len(rows))
    is_in_memory = np.memmap not in kinds and not is_mapped(rows[0])
    return Sequences(rows, which, starts, lengths, dtype, is_in_memory, are_whole=True)


def _listed(data: list[Any] | _Array, name: str) -> list[Any]:
    if isinstance(data, list):
        return list(data)  # rows that are appended later are not seen
    if isinstance(data, np.ma.MaskedArray) or data.ndim == 0:
        raise InvalidDataError(f"data of {name} is {describe(data)}; {_EXPECTED}.")
    if data.dtype.hasobject and data.ndim > 1:
        raise InvalidDataError(
            f"data of {name} is {describe(data)}; expected shape (num_rows,). NumPy made one array "
            "of rows that are equally long: give a list of arrays."
        )
    return list(data)


def _row(row: Any, number: int, name: str) -> _Array:
    found = plain_array(row, f"row {number} of {name}")
    if found is not None:
        return found
    if isinstance(row, str | bytes):
        raise InvalidDataError(
            f"row {number} of {name} is a text; expected an array of numbers. Turn texts into "
            "tokens first; as an array of texts they need no padding."
        )
    try:
        return np.asarray(row)
    except ValueError:  # lists of different lengths within a row
        raise InvalidDataError(
            f"row {number} of {name} is {describe(row)}, of which NumPy makes no array; expected "
            "time steps of one shape."
        ) from None


def _lengths(rows: Sequence[Any], name: str) -> Rows:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    _refuse_empty(lengths, name)
    return lengths


def _of_numbers(rows: list[Any], name: str) -> Sequences | None:
    """Of lists of Python's numbers: in one new array, since lists are not arrays; else None."""
    lengths = _lengths(rows, name)
    first = rows[0][0]
    if not isinstance(first, int | float) or isinstance(first, bool | np.generic):
        return None
    values: array[Any]
    try:
        try:
            values = array("q", chain.from_iterable(rows))
        except TypeError:
            values = array("d", chain.from_iterable(rows))
    except (TypeError, OverflowError):
        return None
    flat = np.frombuffer(values, values.typecode)
    return Sequences([flat], None, np.cumsum(lengths) - lengths, lengths, flat.dtype, True)


def _one_dtype(rows: Sequence[_Array], name: str) -> np.dtype[Any]:
    dtypes = set(map(attrgetter("dtype"), rows))
    first: np.dtype[Any] = rows[0].dtype
    if not all(map(is_raw, dtypes)):
        number = next(number for number, row in enumerate(rows) if not is_raw(row.dtype))
        _refuse_dtype(f"row {number} of {name}", rows[number].dtype)
    if len(dtypes) == 1:
        return first
    if {dtype.kind for dtype in dtypes} in ({"U"}, {"S"}):
        return np.result_type(*dtypes)
    number = next(number for number, row in enumerate(rows) if row.dtype != first)
    raise InvalidDataError(
        f"row {number} of {name} has dtype {rows[number].dtype}, and row 0 {first}; expected one "
        "dtype. Convert them: `[np.asarray(row, 'float32') for row in data]`."
    )


def _check_inner(rows: Sequence[_Array], name: str) -> None:
    first = rows[0].shape[1:]
    number = next((number for number, row in enumerate(rows) if row.shape[1:] != first), None)
    if number is not None:
        raise InvalidDataError(
            f"row {number} of {name} has time steps of shape {rows[number].shape[1:]}, and row 0 "
            f"of shape {first}; expected one shape: only the first axis of a row may differ. Pad "
            "the others, or put the longest axis first."
        )


# -------------------------------------------------------------------- one array for all


def _of_offsets(values: Any, offsets: Any) -> Sequences:
    given = plain_array(values, "values of Ragged")
    if given is None or given.ndim == 0:
        raise InvalidDataError(
            f"values of Ragged are {describe(values)}; expected an array or memory map of shape "
            "(time_steps, *inner_shape), and offsets beside it: (values, offsets). Give rows as a "
            "list, not as a tuple."
        )
    ends = plain_array(offsets, "offsets of Ragged")
    if ends is None:
        ends = np.asarray(offsets)
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or len(ends) < 2:
        raise InvalidDataError(
            f"offsets of Ragged are {describe(offsets)}; expected whole numbers of shape "
            f"(num_rows + 1,): row i is values[offsets[i]:offsets[i + 1]]. {_HOW_TO_OFFSETS}"
        )
    ends = ends.astype(np.int64)
    lengths = np.diff(ends)
    if (ends[0], ends[-1]) != (0, len(given)):
        raise InvalidDataError(
            f"offsets of Ragged go from {ends[0]} to {ends[-1]}; expected 0 to {len(given)}, the "
            f"number of values: others would be in no row. {_HOW_TO_OFFSETS}"
        )
    if (lengths < 0).any():
        row = int((lengths < 0).argmax())
        raise InvalidDataError(
            f"offsets of Ragged fall from {ends[row]} to {ends[row + 1]} at row {row}; expected "
            f"rising ones. {_HOW_TO_OFFSETS}"
        )
    return Sequences([given], None, ends[:-1], lengths, given.dtype, not is_mapped(given))


_HOW_TO_OFFSETS = "Of lengths they are `np.concatenate([[0], np.cumsum(lengths)])`."


def _of_tensorflow(data: Any) -> Sequences:
    if data.ragged_rank != 1:
        raise InvalidDataError(
            f"data of Ragged is a RaggedTensor of shape {tuple(data.shape)}; expected one ragged "
            "axis, the second: time steps of one shape. Make the others dense: "
            "`data.with_values(data.values.to_tensor())`."
        )
    return _of_offsets(np.asarray(data.flat_values), np.asarray(data.row_splits))
