"""Hypothesis strategies that several tests share: dtypes, arrays, row numbers, nests, plans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from keras_npbatch.plan import Plan, Remainder

__all__ = [
    "ALL_DTYPES",
    "PLAIN_DTYPES",
    "Pair",
    "arrays",
    "assert_same_array",
    "filled",
    "laid_out",
    "nests",
    "plans",
    "row_numbers",
]

# --- dtypes ------------------------------------------------------------------------------------

PLAIN_DTYPES = [
    *map(np.dtype, ["bool", "int8", "int16", "int32", "int64"]),
    *map(np.dtype, ["uint8", "uint16", "uint32", "uint64"]),
    *map(np.dtype, ["float16", "float32", "float64", "longdouble"]),
    *map(np.dtype, ["complex64", "complex128", "clongdouble"]),
    *map(np.dtype, ["datetime64[D]", "datetime64[ns]", "timedelta64[s]", "timedelta64[us]"]),
    # Texts of a fixed length: stacked into a shorter one they would be cut off.
    *map(np.dtype, ["S1", "S7", "U1", "U5", "V3"]),
]
"""Fixed-size dtypes of one value each."""

_SWAPPED_DTYPES = [
    dtype.newbyteorder()
    for dtype in PLAIN_DTYPES
    if dtype.itemsize > 1 and dtype.kind in "iufcmMU" and dtype.newbyteorder() != dtype
]
_STRUCTURED_DTYPES = [
    # Packed: the second field starts at an odd address.
    np.dtype([("flag", "i1"), ("value", "f8")]),
    # Aligned: bytes between the fields that hold nothing, and must not be compared.
    np.dtype([("flag", "i1"), ("value", "f8")], align=True),
    # Fields in fields, with a shape of their own.
    np.dtype([("at", [("x", "<f4"), ("y", ">f4")]), ("name", "U3"), ("pixels", "u1", (2, 2))]),
    # A field of Python objects: the whole must be treated as objects.
    np.dtype([("number", "i4"), ("thing", "O")]),
]
_REFERRING_DTYPES = [np.dtype(object)]
if hasattr(np.dtypes, "StringDType"):  # NumPy 2
    _REFERRING_DTYPES.append(np.dtypes.StringDType())

ALL_DTYPES = PLAIN_DTYPES + _SWAPPED_DTYPES + _STRUCTURED_DTYPES + _REFERRING_DTYPES
"""One of each kind that NumPy has."""

# --- arrays ------------------------------------------------------------------------------------


def filled(shape: tuple[int, ...], dtype: np.dtype[Any], seed: int = 0) -> npt.NDArray[Any]:
    """A C-contiguous array of values that tell rows apart, special values among them."""
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
        array[...] /= 3  # of a longdouble the bits that no float64 has
        array[rng.random(shape) < 0.1] = np.nan
        array[rng.random(shape) < 0.1] = -0.0
        array[rng.random(shape) < 0.1] = np.inf
    elif dtype.kind in "mM":
        array[...] = rng.integers(-(2**40), 2**40, shape).astype(dtype)
        array[rng.random(shape) < 0.1] = "NaT"
    elif dtype.kind in "SUT":
        # Lengths differ, up to what the dtype holds; for StringDType far beyond its inline 15.
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
    # The layout of what pandas and MATLAB give: rows are scattered.
    "fortran",
    # Every second row, every second feature: strides that no `reshape` can hide.
    "strided",
    # Backwards: the first row is at the end of the memory.
    "negative",
    # One row in memory, many in the shape: strides of 0.
    "broadcast",
    # One field of packed records: rows apart, at odd addresses.
    "packed",
    # Contiguous, at an odd address: an array in the middle of a file.
    "unaligned",
    # What an mmap_mode="r" gives: writing into it must not even be tried.
    "read-only",
)


def laid_out(array: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """An array of the same rows (of the first row for "broadcast") in another layout."""
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
        if array.dtype.hasobject:  # objects can't be: NumPy would not make it
            return array.copy()
        packed = np.zeros(array.shape, np.dtype([("odd", "i1"), ("it", array.dtype)]))
        packed["it"] = array
        return packed["it"]
    assert layout == "read-only", layout
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


@st.composite
def arrays(draw: st.DrawFn, dtypes: Iterable[np.dtype[Any]] = tuple(ALL_DTYPES)) -> Any:
    """Arrays of 1 to 4 dimensions and at least one row, in any layout."""
    dtype = draw(st.sampled_from(list(dtypes)))
    # A dimension of 0: samples without features, whose strides and pointers mean nothing.
    features = draw(st.lists(st.integers(0, 4), max_size=3))
    shape = (draw(st.integers(1, 9)), *features)
    array = filled(shape, dtype, draw(st.integers(0, 2**16)))
    return laid_out(array, draw(st.sampled_from(LAYOUTS)))


def assert_same_array(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Same type, dtype, shape and values: to the bit, wherever bits have a meaning."""
    assert type(actual) is np.ndarray
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.names is not None:
        for name in expected.dtype.names:
            assert_same_array(np.asarray(actual[name]), np.asarray(expected[name]))
    elif expected.dtype.kind in "OTV":
        assert actual.tolist() == expected.tolist()
    elif expected.dtype.char in "gG":  # of 16 bytes 10 are used
        np.testing.assert_array_equal(actual, expected, strict=True)
        np.testing.assert_array_equal(np.signbit(actual.real), np.signbit(expected.real))
    else:
        assert actual.tobytes() == expected.tobytes()


# --- row numbers -------------------------------------------------------------------------------


def row_numbers(num_rows: int) -> st.SearchStrategy[npt.NDArray[np.int64]]:
    """What `Source.read` may be asked for: any rows that are there, in any order."""
    any_row = st.integers(0, num_rows - 1)
    return st.one_of(
        st.lists(any_row, max_size=2 * num_rows + 3),  # some twice, more than there are, none
        st.permutations(range(num_rows)),
        st.sets(any_row).map(sorted),  # increasing: what needs no putting back
        st.sets(any_row).map(lambda rows: sorted(rows, reverse=True)),
        # A run: a source might answer with a view of its own memory.
        st.tuples(any_row, any_row).map(lambda ends: list(range(min(ends), max(ends) + 1))),
    ).map(lambda rows: np.array(rows, np.int64))


# --- nests -------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A nest of the user's own."""

    left: Any
    right: Any


def nests(leaf: st.SearchStrategy[Any], *, with_none: bool = True) -> st.SearchStrategy[Any]:
    """Nestings of dict, list, tuple and namedtuple around at least one leaf."""
    # None is structure: a nest rebuilt from its leaves alone would lose it.
    others = st.none() if with_none else st.nothing()
    keys = st.sampled_from(["image", "age", 0, 1])

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        filler = inner | others
        return st.one_of(
            st.tuples(inner),  # of one: easily taken for the leaf itself
            st.tuples(filler, inner),  # as long as (x, y)
            st.tuples(inner, filler, filler),
            st.lists(inner, min_size=1, max_size=3),  # a list is nesting, not a batch of rows
            # Keys out of order, and of types that can't be compared.
            st.dictionaries(keys, inner, min_size=1, max_size=3),
            st.builds(Pair, inner, filler),  # rebuilt as `Pair(list)` it would fail
        )

    return st.recursive(leaf, nest, max_leaves=5)


# --- plans -------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn, max_samples: int = 40) -> Plan:
    """Small plans of every kind."""
    num_samples = draw(st.integers(1, max_samples))
    remainder = draw(st.sampled_from(get_args(Remainder)))
    # Larger than the data: one short batch, which `drop` refuses.
    most = num_samples if remainder == "drop" else num_samples + 3
    return Plan(
        num_samples=num_samples,
        batch_size=draw(st.integers(1, most)),
        seed=draw(st.integers(0, 3) | st.integers(0, 2**70)),
        shuffle=draw(st.booleans()),
        remainder=remainder,
    )
