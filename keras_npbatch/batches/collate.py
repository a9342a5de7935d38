"""Samples, one after the other, into the arrays of a batch.

    collating = Collating(rows, np.empty, "load_sample(row)")
    for row in rows:
        collating.add(({"image": read(row), "age": 31}, "cat"))
    collating.batch()      # ({"image": (n, 64, 64, 3) uint8, "age": (n,) int64}, (n,) object)

A sample is `x`, `(x, y)` or `(x, y, sample_weight)`, each a leaf or a nesting of leaves. A leaf is
an array, a number, a string, a list of Python's numbers or strings (other lists are nestings), or
what NumPy takes as an array: a tensor on the CPU, a picture. All samples of a batch have one
nesting, and each leaf one shape and dtype: a dtype that fits all of them would depend on which
samples are in a batch together.

Each sample is written into its place as soon as it is there. So it may be a buffer that is filled
again for the next one, and no more than one is held besides the batch.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import optree

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


class Collating:
    """The arrays of a batch, which samples are written into one by one.

    Args:
        rows: the row of each sample, for messages.
        empty: allocates arrays: `empty(shape, dtype)`, for dtypes without Python objects.
        told_by: what returned the samples, for messages.
    """

    def __init__(self, rows: Sequence[int], empty: Empty, told_by: str) -> None:
        self._rows, self._empty, self._told_by = rows, empty, told_by
        self._count = 0
        self._structure: optree.PyTreeSpec | None = None
        self._arrays: list[npt.NDArray[Any]] = []
        self._kinds: list[type] = []
        """The types in the first sample, if it is a flat tuple of leaves other than lists."""

    def add(self, sample: Tree) -> None:
        """Write the sample of the next row.

        Raises:
            InvalidBatchError: if it is no sample, or differs from the first one in nesting, shape
                or dtype; the message names the row and the leaf.
        """
        if self._structure is None:
            self._begin(sample)
        number = self._count
        found = self._leaves(sample)
        for array, leaf in zip(self._arrays, found, strict=True):
            value = _as_array(leaf)
            if value is None or value.dtype != array.dtype or value.shape != array.shape[1:]:
                self._refuse(sample)
            array[number, ...] = value  # without the dots, an object would be the array itself
        self._count = number + 1

    def batch(self) -> Tree:
        """The batch, once each row has its sample; this object then has no part in it."""
        assert self._structure is not None
        arrays, self._arrays = self._arrays, []
        return self._structure.unflatten(arrays)

    def _begin(self, sample: Tree) -> None:
        _parts(sample, self._told_by)
        found, self._structure = _flatten(sample)
        arrays = [_as_array(leaf) for leaf in found]
        for value in arrays:
            if value is None:
                self._refuse(sample)
            shape = len(self._rows), *value.shape
            make = np.empty if value.dtype.hasobject else self._empty
            self._arrays.append(make(shape, value.dtype))
        is_flat = type(sample) is tuple and len(found) == len(sample)
        if is_flat and all(map(operator.is_, found, sample)) and list not in map(type, found):
            self._kinds = [type(leaf) for leaf in found]

    def _leaves(self, sample: Tree) -> Sequence[Any]:
        # Without optree if possible; see `tree`.
        if type(sample) is tuple and self._kinds == [type(leaf) for leaf in sample]:
            return sample
        found, structure = _flatten(sample)
        if structure != self._structure:
            self._refuse_structure(sample, structure)
        return found

    # ---------------------------------------------------------------- refusals

    def _refuse(self, sample: Tree) -> NoReturn:
        """Name the leaf that is none, or differs from that of the first sample."""
        for number, (path, leaf) in enumerate(_with_paths(sample, self._told_by)):
            value = _as_array(leaf)
            came = f"{self._told_by} returned {describe(leaf)} for {path} of row {self._row}"
            if value is None:
                raise InvalidBatchError(
                    f"{came}; expected an array, a number or a string, or a nesting of dicts and "
                    f"tuples of them. {_remedy(leaf)}"
                )
            if self._count == 0:
                continue
            first = self._arrays[number]
            expected = f"{came}, but for row {self._rows[0]} one of "
            if value.shape != first.shape[1:]:
                raise InvalidBatchError(
                    f"{expected}shape {first.shape[1:]}; expected one shape for all samples of a "
                    "batch. Pad, crop or resize them to one."
                )
            if value.dtype != first.dtype:
                raise InvalidBatchError(
                    f"{expected}dtype {first.dtype}; expected one dtype for all samples. Convert "
                    "them to one, such as np.asarray(value, 'float32')."
                )
        raise AssertionError("all leaves are as expected")

    def _refuse_structure(self, sample: Tree, structure: optree.PyTreeSpec) -> NoReturn:
        _parts(sample, self._told_by)
        raise InvalidBatchError(
            f"{self._told_by} returned {_told(structure)} for row {self._row}, and "
            f"{_told(self._structure)} for row {self._rows[0]}; expected the same parts and names "
            "for each sample. If a value is missing, return one that stands for it, such as 0, and "
            "a mask or a weight."
        )

    @property
    def _row(self) -> int:
        return self._rows[self._count]


def note_row(error: Exception, row: int) -> None:
    """Add a note with the row of the sample in which an exception was raised."""
    error.add_note(f"keras_npbatch: raised for row {row}")


def _flatten(sample: Tree) -> tuple[list[Any], optree.PyTreeSpec]:
    return optree.tree_flatten(sample, is_leaf=_is_plain_list)


def _parts(sample: Tree, told_by: str) -> Parts:
    return Parts(sample) if _is_plain_list(sample) else unpack(sample, told_by)


def _with_paths(sample: Tree, told_by: str) -> list[tuple[str, Any]]:
    found = []
    for name, part in zip(Parts._fields, _parts(sample, told_by), strict=True):
        paths, of_part, _ = optree.tree_flatten_with_path(part, is_leaf=_is_plain_list)
        for path, leaf in zip(paths, of_part, strict=True):
            found.append((name + "".join(f"[{key!r}]" for key in path), leaf))
    return found


def _is_plain_list(value: Any) -> bool:
    """Whether it is a list of Python's numbers or strings, or of such: an array, no nesting."""
    if type(value) is not list:
        return False
    return all(type(item) in _PLAIN or _is_plain_list(item) for item in value)


def _as_array(leaf: Any) -> npt.NDArray[Any] | None:
    """A leaf as an array or a scalar of NumPy; texts as objects, of any length. None: it is none.

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
    if isinstance(leaf, str | bytes):
        text = np.empty((), object)
        text[()] = str(leaf) if isinstance(leaf, str) else bytes(leaf)  # not one of NumPy's
        return text
    if kind is list:
        return _as_array_of_list(leaf)
    if not hasattr(leaf, "__array__") and not hasattr(leaf, "__array_interface__"):
        return None
    try:
        array = np.asarray(leaf)
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
    texts = np.array(items, object)  # NumPy makes text of numbers beside text
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
