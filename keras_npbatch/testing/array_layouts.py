"""Arrays of every NumPy dtype and memory layout, with values that distinguish rows.

array = filled((9, 4), np.dtype("float32"))     # including NaN, infinities and -0.0
laid_out(array, "negative")                     # the same rows, backwards in memory
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ALL_DTYPES", "LAYOUTS", "PLAIN_DTYPES", "filled", "laid_out"]

PLAIN_DTYPES = [
    *map(np.dtype, ["bool", "int8", "int16", "int32", "int64"]),
    *map(np.dtype, ["uint8", "uint16", "uint32", "uint64"]),
    *map(np.dtype, ["float16", "float32", "float64", "longdouble"]),
    *map(np.dtype, ["complex64", "complex128", "clongdouble"]),
    *map(np.dtype, ["datetime64[D]", "datetime64[ns]", "timedelta64[s]", "timedelta64[us]"]),
    # Strings of a fixed length: stacking them into a shorter dtype would truncate them.
    *map(np.dtype, ["S1", "S7", "U1", "U5", "V3"]),
]
"""Dtypes of a fixed size with a single value per element."""

_SWAPPED_DTYPES = [
    dtype.newbyteorder()
    for dtype in PLAIN_DTYPES
    if dtype.itemsize > 1 and dtype.kind in "iufcmMU" and dtype.newbyteorder() != dtype
]
_STRUCTURED_DTYPES = [
    # Packed: the second field starts at an odd address.
    np.dtype([("flag", "i1"), ("value", "f8")]),
    # Aligned: the bytes between the fields hold nothing and must not be compared.
    np.dtype([("flag", "i1"), ("value", "f8")], align=True),
    # Nested fields, and a field with its own shape.
    np.dtype([("at", [("x", "<f4"), ("y", ">f4")]), ("name", "U3"), ("pixels", "u1", (2, 2))]),
    # A field of Python objects: the whole array must be treated as objects.
    np.dtype([("number", "i4"), ("thing", "O")]),
]
_REFERRING_DTYPES = [np.dtype(object)]
if hasattr(np.dtypes, "StringDType"):  # NumPy 2
    _REFERRING_DTYPES.append(np.dtypes.StringDType())

ALL_DTYPES = PLAIN_DTYPES + _SWAPPED_DTYPES + _STRUCTURED_DTYPES + _REFERRING_DTYPES
"""One dtype of each kind that NumPy has."""


def filled(shape: tuple[int, ...], dtype: np.dtype[Any], seed: int = 0) -> npt.NDArray[Any]:
    """A C-contiguous array of values that distinguish rows, including special values."""
    rng = np.random.default_rng(seed)
    array = np.zeros(shape, dtype)
    if dtype.names is not None:
        for number, name in enumerate(dtype.names):
            field = array[name]
            field[...] = filled(field.shape, field.dtype, seed + number + 1)
    elif dtype.kind == "b":
        array[...] = rng.integers(0, 2, shape)
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array[...] = rng.integers(limits.min, limits.max, shape, dtype.newbyteorder("="), True)
    elif dtype.kind in "fc":
        array[...] = rng.standard_normal(shape)
        if dtype.kind == "c":
            array[...] += 1j * rng.standard_normal(shape)
        array[...] /= 3  # sets the bits of a longdouble that a float64 lacks
        array[rng.random(shape) < 0.1] = np.nan
        array[rng.random(shape) < 0.1] = -0.0
        array[rng.random(shape) < 0.1] = np.inf
    elif dtype.kind in "mM":
        array[...] = rng.integers(-(2**40), 2**40, shape).astype(dtype)
        array[rng.random(shape) < 0.1] = "NaT"
    elif dtype.kind in "SUT":
        # Lengths up to what the dtype holds; for StringDType far more than the 15 it keeps inline.
        longest = 40 if dtype.kind == "T" else dtype.itemsize // (4 if dtype.kind == "U" else 1)
        letters = "abcß漢" if dtype.kind != "S" else "abc"
        texts = [
            "".join(rng.choice(list(letters), rng.integers(0, longest + 1)))
            for _ in range(array.size)
        ]
        array[...] = np.array(texts or [""], dtype)[: array.size].reshape(shape)
    elif dtype.kind == "O":
        things = np.empty(array.size, object)
        for number in range(array.size):
            things[number] = (number, {"seed": seed}) if number % 2 else f"thing {number}"
        array[...] = things.reshape(shape)
    else:
        assert dtype.kind == "V", dtype
        array = np.frombuffer(bytearray(rng.bytes(array.nbytes)), np.uint8)
        array = array.view(dtype).reshape(shape) if array.size else np.zeros(shape, dtype)
    return array


LAYOUTS = (
    "contiguous",
    # The layout of arrays from pandas and MATLAB: rows are scattered.
    "fortran",
    # Every second row, every second feature: strides that no `reshape` can hide.
    "strided",
    # Backwards: the first row is at the end of the memory.
    "negative",
    # One row in memory, many in the shape: strides of 0.
    "broadcast",
    # One field of packed records: gaps between rows, odd addresses.
    "packed",
    # Contiguous, at an odd address: like an array in the middle of a file.
    "unaligned",
    # As with mmap_mode="r": writing to it must not even be tried.
    "read-only",
)


def laid_out(array: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """An array of the same rows (for "broadcast", of the first row only) in another layout."""
    if layout == "contiguous":
        return array.copy()
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.repeat(array, 2, axis=0)
        if array.ndim > 1:
            wide = np.repeat(wide, 2, axis=-1)[..., ::2]
        return wide[::2]
    if layout == "negative":
        return array[::-1].copy()[::-1]
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape)
    if layout == "unaligned" and not array.dtype.hasobject and array.nbytes:
        memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
        memory[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        return memory.view(array.dtype).reshape(array.shape)
    if layout in ("packed", "unaligned"):
        if array.dtype.hasobject:  # NumPy can't make unaligned arrays of objects
            return array.copy()
        packed = np.zeros(array.shape, np.dtype([("odd", "i1"), ("it", array.dtype)]))
        packed["it"] = array
        return packed["it"]
    assert layout == "read-only", layout
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen
