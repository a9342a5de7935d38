"""Samples, one after the other, into the arrays of a batch.

    collating = Collating(rows, np.empty, "load_sample(row)")
    for row in rows:
        collating.add(({"image": read(row), "age": 31}, "cat"))
    collating.batch()      # ({"image": (n, 64, 64, 3) uint8, "age": (n,) int64}, (n,) object)

A sample is `x`, `(x, y)` or `(x, y, sample_weight)`, each a leaf or a nesting of leaves. A leaf is
an array, a number, a string, a list of Python's numbers or strings (other lists are nestings), or
what NumPy takes as an array: a tensor on the CPU, a picture. All samples of a batch have one
nesting, and each leaf one shape and dtype: a dtype that fits all of them would depend on which
samples are in a batch together. Leaves that are padded may differ in length.

Each sample is written into its place as soon as it is there. So a loader may fill one buffer again
and again, and only one sample is held besides the batch. (If leaves are padded, copies are held
until the longest is known.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import optree

from keras_npbatch.batches.pad import Collation
from keras_npbatch.batches.parts import Parts, unpack
from keras_npbatch.errors import InvalidBatchError, describe
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree

__all__ = ["Collating", "note_row"]

_OBJECT = np.dtype(object)
_NUMBERS = {
    bool: np.dtype(np.bool_),
    int: np.dtype(np.int64),
    float: np.dtype(np.float64),
    complex: np.dtype(np.complex128),
}
"""The dtypes of Python's numbers, on every platform."""
_PLAIN = (str, bytes, *_NUMBERS)
_LEAST, _MOST = -(2**63), 2**63 - 1


class Collating:
    """The arrays of a batch, which samples are written into one by one.

    Args:
        rows: the row of each sample, for messages.
        empty: allocates arrays: `empty(shape, dtype)`, for dtypes without Python objects.
        returned_by: what returned the samples, for messages.
        collation: which leaves are padded, if any.
    """

    def __init__(
        self,
        rows: Sequence[int],
        empty: Empty,
        returned_by: str,
        collation: Collation | None = None,
    ) -> None:
        self._rows, self._empty, self._returned_by = rows, empty, returned_by
        self._collation, self._count = collation, 0
        self._structure: optree.PyTreeSpec | None = None
        self._columns: list[_Arrays | _Values | _Sequences] = []
        self._kinds: list[type] = []
        """The types of the leaves of the first sample."""
        self._flat: type | None = None
        """The type of the first sample, if it is a leaf, or a tuple or dict of leaves."""
        self._keys: list[Any] = []
        """The keys or indices of these leaves."""

    def add(self, sample: Tree) -> None:
        """Write the sample of the next row.

        Raises:
            InvalidBatchError: if it is not a sample, or differs from the first one in nesting,
                shape or dtype; the message names the row and the leaf.
        """
        if self._structure is None:
            self._begin(sample)
        number = self._count
        for column, leaf in zip(self._columns, self._leaves(sample), strict=True):
            if not column.take(number, leaf):
                self._refuse(sample)
        self._count = number + 1

    def batch(self) -> Tree:
        """The batch, once each row has its sample; this object then no longer refers to it."""
        assert self._structure is not None
        columns, self._columns = self._columns, []
        return self._structure.unflatten([column.given() for column in columns])

    def _begin(self, sample: Tree) -> None:
        _parts(sample, self._returned_by)
        paths, found, self._structure = optree.tree_flatten_with_path(
            sample, is_leaf=_is_plain_list
        )
        self._kinds = [type(leaf) for leaf in found]
        collation = self._collation
        for path, kind, leaf in zip(paths, self._kinds, found, strict=True):
            value = _as_array(leaf)
            if value is None:
                self._refuse(sample)
            if collation is not None and value.ndim:
                how = collation.of(path, type(sample))
                if how is not None:
                    pad = partial(collation.leaf, how, path=path, kind=type(sample))
                    self._columns.append(_Sequences(value, partial(pad, empty=self._empty)))
                    continue
            column = _Values if kind in _PLAIN else _Arrays
            self._columns.append(column(kind, value, len(self._rows), self._empty))
        if collation is not None and not any(isinstance(c, _Sequences) for c in self._columns):
            collation.refuse(sample, self._returned_by, "an array of at least one axis")
        if list in self._kinds:  # the next one may be a nesting
            return
        is_flat = type(sample) in (tuple, dict) and len(found) == len(sample)
        if paths == [()] or (is_flat and all(len(path) == 1 for path in paths)):
            self._flat, self._keys = type(sample), [path[0] for path in paths if path]

    def _leaves(self, sample: Tree) -> Sequence[Any]:
        # Without optree if possible; see `tree`.
        kind = type(sample)
        if kind is self._flat:
            found: Sequence[Any] = (sample,)
            if kind is tuple:
                found = sample
            elif kind is dict:
                found = list(map(sample.get, self._keys)) if len(sample) == len(self._keys) else ()
            if self._kinds == list(map(type, found)):
                return found
        found, structure = _flatten(sample)
        if structure != self._structure:
            self._refuse_structure(sample, structure)
        return found

    # ---------------------------------------------------------------- refusals

    def _refuse(self, sample: Tree) -> NoReturn:
        """Name the leaf that is not an array, or differs from that of the first sample."""
        for number, (path, leaf) in enumerate(_with_paths(sample, self._returned_by)):
            value = _as_array(leaf)
            came = f"{self._returned_by} returned {describe(leaf)} for {path} of row {self._row}"
            if value is None:
                raise InvalidBatchError(
                    f"{came}; expected an array, a number or a string, or a nesting of dicts and "
                    f"tuples of them. {_remedy(leaf)}"
                )
            if self._count == 0:
                continue
            first = self._columns[number]
            expected = f"{came}, but for row {self._rows[0]} one of "
            if not _fits(value.shape, first.shape):
                raise InvalidBatchError(
                    f"{expected}shape {first.shape}; expected one shape for all samples of a "
                    "batch. Pad, crop or resize them to one."
                )
            if value.dtype != first.dtype:
                raise InvalidBatchError(
                    f"{expected}dtype {first.dtype}; expected one dtype for all samples. Convert "
                    "them to one, such as np.asarray(value, 'float32')."
                )
        raise AssertionError("all leaves are as expected")

    def _refuse_structure(self, sample: Tree, structure: optree.PyTreeSpec) -> NoReturn:
        _parts(sample, self._returned_by)
        raise InvalidBatchError(
            f"{self._returned_by} returned {_told(structure)} for row {self._row}, and "
            f"{_told(self._structure)} for row {self._rows[0]}; expected the same parts and names "
            "for each sample. If a value is missing, return one that stands for it, such as 0, and "
            "a mask or a weight."
        )

    @property
    def _row(self) -> int:
        return self._rows[self._count]


class _Arrays:
    """A leaf whose samples are written into an array.

    Args:
        kind: the type of the first sample.
        first: the first sample as an array.
        num_rows: how many samples there will be.
        empty: allocates the array.
    """

    def __init__(self, kind: type, first: npt.NDArray[Any], num_rows: int, empty: Empty) -> None:
        self.shape, self.dtype = first.shape, first.dtype
        self._are_objects = self.dtype.hasobject
        make = np.empty if self._are_objects else empty
        self._array: Any = make((num_rows, *self.shape), self.dtype)

    def take(self, number: int, leaf: Any) -> bool:
        """Write a sample; False if its shape or dtype differs from that of the first."""
        is_ready = type(leaf) is np.ndarray and leaf.dtype == self.dtype
        value = leaf if is_ready else _as_array(leaf)
        if value is None or value.shape != self.shape:
            return False
        if not is_ready and value.dtype != self.dtype:
            return False
        if self._are_objects:  # without the dots, an array of no axes would be an object itself
            self._array[number, ...] = value
        else:
            self._array[number] = value
        return True

    def given(self) -> npt.NDArray[Any]:
        """The array; this object then no longer refers to it."""
        array: npt.NDArray[Any] = self._array
        self._array = None
        return array


class _Sequences:
    """A leaf whose samples may differ in length: they are copied, and padded in the end.

    Args:
        first: the first sample as an array.
        pad: makes the leaf of the batch.
    """

    def __init__(self, first: npt.NDArray[Any], pad: Callable[[list[Any]], Tree]) -> None:
        self.shape: tuple[int | None, ...] = (None, *first.shape[1:])
        self.dtype, self._pad = first.dtype, pad
        self._samples: list[npt.NDArray[Any]] = []

    def take(self, number: int, leaf: Any) -> bool:
        """Keep a copy of a sample; False if its inner shape or dtype is not that of the first."""
        value = _as_array(leaf)
        if value is None or value.dtype != self.dtype or not _fits(value.shape, self.shape):
            return False
        self._samples.append(np.array(value))
        return True

    def given(self) -> Tree:
        """The samples, padded."""
        samples, self._samples = self._samples, []
        return self._pad(samples)


class _Values:
    """A leaf whose samples are Python's numbers or texts, which can be kept: they can't change.

    The arguments are those of `_Arrays`.
    """

    shape = ()

    def __init__(self, kind: type, first: npt.NDArray[Any], num_rows: int, empty: Empty) -> None:
        self.dtype, self._kind = first.dtype, kind
        self._values: list[Any] = []

    def take(self, number: int, leaf: Any) -> bool:
        """Keep a sample; False if its shape or dtype differs from that of the first."""
        is_ready = type(leaf) is self._kind
        if is_ready:
            if self._kind is int and not _LEAST <= leaf <= _MOST:
                return False
        else:
            value = _as_array(leaf)
            if value is None or value.dtype != self.dtype or value.shape:
                return False
            leaf = value[()]
        self._values.append(leaf)
        return True

    def given(self) -> npt.NDArray[Any]:
        """The array of the samples."""
        array = np.empty(len(self._values), self.dtype)
        array[:] = self._values
        return array


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether it is the expected shape, with any size where that has None."""
    if len(shape) != len(expected):
        return False
    return all(size in (None, own) for own, size in zip(shape, expected, strict=True))


def note_row(error: Exception, row: int) -> None:
    """Add a note with the row of the sample in which an exception was raised."""
    error.add_note(f"keras_npbatch: raised for row {row}")


def _flatten(sample: Tree) -> tuple[list[Any], optree.PyTreeSpec]:
    return optree.tree_flatten(sample, is_leaf=_is_plain_list)


def _parts(sample: Tree, returned_by: str) -> Parts:
    return Parts(sample) if _is_plain_list(sample) else unpack(sample, returned_by)


def _with_paths(sample: Tree, returned_by: str) -> list[tuple[str, Any]]:
    found = []
    for name, part in zip(Parts._fields, _parts(sample, returned_by), strict=True):
        paths, of_part, _ = optree.tree_flatten_with_path(part, is_leaf=_is_plain_list)
        for path, leaf in zip(paths, of_part, strict=True):
            found.append((name + "".join(f"[{key!r}]" for key in path), leaf))
    return found


def _is_plain_list(value: Any) -> bool:
    """Whether it is a list of Python's numbers or strings, or of such: an array, not a nesting."""
    if type(value) is not list:
        return False
    return all(
        type(item) in _PLAIN or isinstance(item, IntEnum) or _is_plain_list(item) for item in value
    )


def _as_array(leaf: Any) -> npt.NDArray[Any] | None:
    """A leaf as an array or a scalar of NumPy; texts as objects, of any length. None if neither.

    Strings of NumPy would have the length of the longest in the batch, and lose zeros at the end:
    the bytes of a file would change.
    """
    kind = type(leaf)
    if kind is np.ndarray:
        return _with_objects(leaf)
    dtype = _NUMBERS.get(kind)
    if dtype is not None:
        try:
            return np.array(leaf, dtype)
        except OverflowError:  # a whole number of more than 64 bits
            return None
    if isinstance(leaf, IntEnum):
        return _as_array(int(leaf))
    if isinstance(leaf, str | bytes):
        text = np.empty((), object)
        text[()] = str(leaf) if isinstance(leaf, str) else bytes(leaf)  # not one of NumPy's
        return text
    if kind is list:
        return _as_array_of_list(leaf)
    if not hasattr(leaf, "__array__") and not hasattr(leaf, "__array_interface__"):
        return None
    try:
        # Torch's own method takes half as long.
        array = leaf.numpy() if kind.__module__ == "torch" else np.asarray(leaf)
    except Exception:  # noqa: BLE001  # whatever a tensor on a GPU, or with a gradient, raises
        return None
    return None if np.ma.is_masked(leaf) else _with_objects(array)


def _with_objects(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(object) if array.dtype.kind in "UST" else array


def _as_array_of_list(items: list[Any]) -> npt.NDArray[Any] | None:
    try:
        array = np.asarray(items)
    except (OverflowError, ValueError):  # lists of different lengths in it
        return None
    if array.dtype.kind not in "USO":
        return array
    texts = np.array(items, object)  # NumPy makes text of numbers next to text
    return texts if all(isinstance(text, str | bytes) for text in texts.flat) else None


def _remedy(leaf: Any) -> str:
    if isinstance(leaf, Mapping):
        return "Return a plain dict: dict(sample)."
    if callable(getattr(leaf, "toarray", None)):
        return "Make it dense: .toarray()."
    if callable(getattr(leaf, "detach", None)):
        return "Make an array of it: tensor.detach().cpu().numpy(), of a dtype that NumPy has."
    if type(leaf) is list:
        return "Lists in a list need one length: pad them."
    if isinstance(leaf, np.ma.MaskedArray):
        return "Fill what is masked, .filled(value), and return the mask as another leaf."
    if isinstance(leaf, int):
        return "Whole numbers have at most 64 bits."
    return "Convert it, or leave it out."


def _told(structure: Any) -> str:
    return repr(structure).removeprefix("PyTreeSpec(").removesuffix(")").split(", namespace")[0]
