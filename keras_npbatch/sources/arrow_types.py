"""What NumPy makes of the types of Arrow, and arrays of Arrow as NumPy has them.

layout_of(pa.list_(pa.float32(), 3), "x")      # dtype float32, shape (3,)
view_of(array)                                 # the memory of the array itself
converted(array, layout, fill)                 # a new array, also of bits, texts and nulls
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.filled import UNFILLED
from keras_npbatch.sources.tables import refuse_lists

__all__ = [
    "Layout",
    "converted",
    "has_nulls",
    "is_list",
    "layout_of",
    "list_sizes",
    "null_rows",
    "view_of",
]


@dataclass(frozen=True, slots=True)
class Layout:
    """A column of Arrow as NumPy has it."""

    dtype: np.dtype[Any]
    """The dtype; of the codes for a dictionary."""
    shape: tuple[int, ...] = ()
    """The shape of a row."""
    is_dictionary: bool = False
    objects: type = object
    """The type of what is in an array of objects."""


_TEXTS = ("string", "large_string", "string_view")
_BYTES = ("binary", "large_binary", "binary_view")


def layout_of(kind: Any, path: str, sizes: tuple[int, ...] = ()) -> Layout:
    """The layout of a type of Arrow.

    Args:
        kind: the type.
        path: of the leaf, for messages.
        sizes: how long the lists are whose type does not say it, the outermost first.

    Raises:
        InvalidDataError: if NumPy has no dtype for it; the message says what to write.
    """
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        inner = layout_of(kind.storage_type, path, sizes)
        if not hasattr(kind, "permutation"):
            return inner
        order = list(kind.permutation or ())
        if order != list(range(len(order))):
            raise InvalidDataError(
                f"{path} has tensors whose dimensions are permuted; expected them in their order. "
                "Pass its storage: `column.cast(column.type.storage_type)`."
            )
        return Layout(inner.dtype, tuple(kind.shape))
    if types.is_dictionary(kind):
        return Layout(np.dtype(kind.index_type.to_pandas_dtype()), is_dictionary=True)
    if is_list(kind):
        size = getattr(kind, "list_size", None)
        if size is None:
            size, sizes = (sizes or (0,))[0], sizes[1:]
        inner = layout_of(kind.value_type, path, sizes)
        if not inner.is_dictionary:
            return Layout(inner.dtype, (size, *inner.shape), objects=inner.objects)
    if str(kind) in _TEXTS:
        return Layout(np.dtype(object), objects=str)
    if str(kind) in _BYTES or (types.is_fixed_size_binary(kind) and not types.is_decimal(kind)):
        return Layout(np.dtype(object), objects=bytes)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return Layout(np.dtype(kind.to_pandas_dtype()))
    if types.is_date(kind):
        return Layout(np.dtype("datetime64[D]" if types.is_date32(kind) else "datetime64[ms]"))
    if types.is_timestamp(kind):
        return Layout(np.dtype(f"datetime64[{kind.unit}]"))
    if types.is_duration(kind):
        return Layout(np.dtype(f"timedelta64[{kind.unit}]"))
    raise InvalidDataError(
        f"{path} is a column of Arrow's type {kind}; expected numbers, dates, texts, categories or "
        f"lists of them. {_how_to_cast(kind)}"
    )


def _how_to_cast(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return "Cast it to numbers: `column.cast('float64')`."
    if pa.types.is_time(kind):
        return f"Cast it to numbers: `column.cast('int{kind.bit_width}')`."
    if pa.types.is_struct(kind):
        return (
            "Pass its fields as columns of their own (`table.flatten()`), or decode it by rows in "
            "a `BatchDataset`."
        )
    if pa.types.is_null(kind):
        return (
            "All its values are missing: leave the column out, or make numbers of them, "
            "`column.cast('float64').fill_null(0)`."
        )
    return "Read it by rows in a `BatchDataset`."


def is_list(kind: Any) -> bool:
    """Whether it is a type of lists, of a fixed length or of any."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def list_sizes(chunks: list[Any], path: str) -> tuple[int, ...]:
    """How long the lists are whose type does not say it, the outermost first.

    Raises:
        InvalidDataError: if their lengths differ.
    """
    chunks = [_stored(chunk) for chunk in chunks]
    if not chunks or not is_list(chunks[0].type):
        return ()
    inner = [chunk.flatten() for chunk in chunks]  # without what is in lists that are null
    if hasattr(chunks[0].type, "list_size"):
        return list_sizes(inner, path)
    found: set[int] = set()
    for chunk in chunks:
        lengths = np.diff(np.asarray(chunk.offsets))
        if chunk.null_count:
            lengths = lengths[np.asarray(chunk.is_valid())]
        found.update(np.unique(lengths).tolist())
    if len(found) > 1:
        refuse_lists(path, min(found), max(found))
    return (min(found, default=0), *list_sizes(inner, path))


def _stored(array: Any) -> Any:
    """The array that an extension array keeps its values in."""
    while hasattr(array, "storage"):
        array = array.storage
    return array


def view_of(array: Any, layout: Layout) -> npt.NDArray[Any] | None:
    """The values in the memory of the array itself; None if they have to be converted.

    For a dictionary these are the codes of this array. There must be no nulls.
    """
    import pyarrow as pa

    shape = (len(array), *layout.shape)
    array = _stored(array)
    while is_list(array.type):
        array = _stored(array.flatten())
    kind = array.type
    if pa.types.is_dictionary(kind):
        return view_of(array.indices, layout)
    is_plain = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    is_time = pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_date64(kind)
    if not is_plain and not is_time:
        return None
    dtype = layout.dtype if is_time else np.dtype(kind.to_pandas_dtype())
    if len(array) == 0:
        return np.empty(shape, dtype)
    found = np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]
    return found.reshape(shape)


def converted(array: Any, layout: Layout, fill: Any, path: str) -> npt.NDArray[Any]:
    """A new array of the values; of a dictionary, the codes of this array, -1 for null.

    Args:
        array: of Arrow, with few rows: it is copied.
        layout: its layout.
        fill: what is put in place of a null, or `UNFILLED` if there are none.
        path: of the leaf, for messages.
    """
    import pyarrow as pa

    array = _stored(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return np.asarray(array.indices.cast("int64").fill_null(-1))
    missing = np.asarray(array.is_null()) if array.null_count else None
    if is_list(kind):
        return _lists(array, layout, fill, missing, path)
    if layout.dtype.hasobject:
        if "view" in str(kind):  # which `to_numpy` does not know
            objects = np.array([*array.to_pylist(), None], object)[:-1]
        else:
            objects = np.array(array.to_numpy(zero_copy_only=False))
        return _filled(objects, fill, missing)
    if pa.types.is_temporal(kind):
        array = array.cast("int32" if kind.bit_width == 32 else "int64")
    if array.null_count:
        array = array.fill_null(False if pa.types.is_boolean(kind) else 0)
    found = np.array(array.to_numpy(zero_copy_only=False))
    if found.dtype != layout.dtype:  # whole numbers become dates
        found = found.astype(layout.dtype)
    return _filled(found, fill, missing)


def _filled(
    values: npt.NDArray[Any], fill: Any, missing: npt.NDArray[np.bool_] | None
) -> npt.NDArray[Any]:
    if missing is not None and fill is not UNFILLED:
        values[missing] = fill
    return values


def _lists(
    array: Any, layout: Layout, fill: Any, missing: npt.NDArray[np.bool_] | None, path: str
) -> npt.NDArray[Any]:
    """An axis for the lists."""
    flat = array.flatten()  # without what is in lists that are null
    if not hasattr(array.type, "list_size"):
        lengths = np.diff(np.asarray(array.offsets))
        lengths = lengths if missing is None else lengths[~missing]
        if (lengths != layout.shape[0]).any():
            refuse_lists(path, min(*lengths, layout.shape[0]), max(*lengths, layout.shape[0]))
    # The lists of a tensor are flat, whatever its shape is.
    shape = layout.shape[1:] if is_list(_stored(flat).type) else ()
    inner = Layout(layout.dtype, shape, objects=layout.objects)
    of_lists = converted(flat, inner, fill, path)
    if missing is None:
        return of_lists.reshape(len(array), *layout.shape)
    out = np.empty((len(array), *layout.shape), layout.dtype)
    out[~missing] = of_lists.reshape(int((~missing).sum()), *layout.shape)
    return _filled(out, fill, missing)


def has_nulls(array: Any) -> bool:
    """Whether an array, a list in it or its dictionary has a null."""
    array = _stored(array)
    if array.null_count or getattr(getattr(array, "dictionary", None), "null_count", 0):
        return True
    return is_list(array.type) and has_nulls(array.flatten())


def null_rows(array: Any) -> npt.NDArray[np.intp]:
    """The rows of an array that have no value, or lists with a null in them."""
    import pyarrow as pa

    if not has_nulls(array):
        return _NONE
    array = _stored(array)
    if pa.types.is_dictionary(array.type) and array.dictionary.null_count:
        array = array.dictionary_decode()
    missing = np.flatnonzero(np.asarray(array.is_null())) if array.null_count else _NONE
    if not is_list(array.type):
        return missing
    inside = null_rows(array.flatten())  # without what is in lists that are null
    if not len(inside):
        return missing
    if hasattr(array.type, "list_size"):
        lengths = np.full(len(array), array.type.list_size)
    else:
        lengths = np.diff(np.asarray(array.offsets))
    lengths[missing] = 0
    return np.union1d(missing, np.searchsorted(np.cumsum(lengths), inside, side="right"))


_NONE = np.empty(0, np.intp)
