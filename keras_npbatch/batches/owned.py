"""A batch owns its memory: nothing else can reach it, so nothing else can change it.

    batch = owned([load(rows)], np.empty)

`load` may return a view of the data, a batch that it caches, or a buffer that it refills for the
next batch, while this one still waits in a queue or is about to be changed by a transform. Whatever
something else can still reach is copied; what `load` has just made is passed on without a copy.

Reference counts decide. Nothing else can reach an array that only the batch refers to, if it owns
its memory or is the only view of an array that does. Everything else (tensors, sparse matrices,
tables, memory that belongs to no array) is copied.
"""

from __future__ import annotations

import copy
import operator
import sys
import sysconfig
from collections.abc import Iterable
from functools import partial
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.slots import is_lease
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree, map_leaves

__all__ = ["owned"]

_OWNDATA, _WRITEABLE = 0x4, 0x400
"""Bits of `flags.num`, as in NumPy's ndarraytypes.h: one lookup instead of two."""

_IMMUTABLE = frozenset((str, bytes, int, float, complex, bool, type(None)))


def _counts(values: Iterable[Any]) -> list[int]:
    # `map` alone, and no name for a value: how many references bytecode holds differs between
    # versions of Python.
    return list(map(getrefcount, values))


_ALONE = _counts([object()])[0]
"""What `_counts` gives for a value that only its container refers to."""
if sysconfig.get_config_var("Py_GIL_DISABLED"):  # references of other threads may be missing
    _ALONE = -1


def owned(held: list[Tree], empty: Empty) -> Tree:
    """The batch in `held`, with a copy of each leaf that anything outside the batch can reach.

    Args:
        held: a list that holds only the batch, and is the caller's only reference to it. It is
            emptied.
        empty: what allocates copies: `empty(shape, dtype)`, for dtypes without Python objects.
    """
    alone = _counts(held)[0] == _ALONE
    return _part(held.pop(), alone, empty)


def _part(value: Any, alone: bool, empty: Empty) -> Any:
    """A part of the batch: itself, or a copy.

    Args:
        value: a container, or a leaf.
        alone: whether nothing outside the batch refers to it, nor to a container it is in.
        empty: see `owned`.
    """
    kind = type(value)
    if kind is np.ndarray:
        is_private = alone and _is_private(value, _ALONE)
        return value if is_private else _copied(value, empty)
    if value is None:
        return None
    is_named = isinstance(value, tuple) and hasattr(value, "_fields")
    if not is_named and kind not in (tuple, list, dict):
        # A leaf of another kind; or another container, whose contents only optree knows.
        return map_leaves(partial(_copied, empty=empty), value)
    values = value.values() if kind is dict else value
    counts = _counts(values)
    if alone and all(map(_is_private, values, counts)):
        return value  # most batches end here
    parts = [
        _part(part, alone and count == _ALONE, empty)
        for part, count in zip(values, counts, strict=True)
    ]
    if alone and all(map(operator.is_, parts, values)):
        return value
    if kind is dict:
        return dict(zip(value, parts, strict=True))
    return value._make(parts) if is_named else kind(parts)


def _is_private(value: Any, count: int) -> bool:
    """Whether it is an array whose memory nothing else can reach.

    Args:
        value: part of a batch.
        count: what `_counts` gives for it.
    """
    if count != _ALONE or type(value) is not np.ndarray or getweakrefcount(value):
        return False
    flags = value.flags.num
    if not flags & _WRITEABLE or value.dtype.hasobject:
        return False
    if flags & _OWNDATA:
        return True
    # The base of a view is usually the owner of the memory itself, but need not be.
    below = [value.base]
    while _counts(below)[0] == _ALONE + 1 and isinstance(below[0], np.ndarray):
        if getweakrefcount(below[0]):
            return False
        if below[0].flags.owndata or is_lease(below[0]):
            return True
        below = [below[0].base]
    return False


def _copied(leaf: Any, empty: Empty) -> Any:
    if isinstance(leaf, np.ndarray):
        return _copied_array(leaf, empty)
    if not hasattr(leaf, "shape") or isinstance(leaf, np.generic):  # not an array, or immutable
        return leaf
    package = type(leaf).__module__.partition(".")[0]
    if package == "torch" and hasattr(leaf, "clone"):
        return leaf.clone()
    if package == "tensorflow":
        # TensorFlow's tensors can't be written to, but may share the memory of an array that can.
        nest = sys.modules["tensorflow"].nest
        return nest.map_structure(_copied_tensor, leaf, expand_composites=True)
    if package in ("jax", "jaxlib") and hasattr(leaf, "copy"):
        return leaf.copy()  # for the same reason
    return _deep_copied(leaf)


def _copied_array(array: npt.NDArray[Any], empty: Empty) -> npt.NDArray[Any]:
    dtype = array.dtype
    if dtype.hasobject and dtype.names is None:
        return _copied_objects(array)
    if dtype.hasobject:
        return copy.deepcopy(array)
    if type(array) not in (np.ndarray, np.memmap) or dtype.kind == "T" or dtype.itemsize == 0:
        return array.copy()
    out = empty(array.shape, dtype)
    out[...] = array
    return out


def _copied_objects(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy the elements too: what a transform does to one must not reach others who hold it."""
    own = array.copy()
    elements = own.reshape(-1)
    for number, element in enumerate(elements.tolist()):
        if type(element) not in _IMMUTABLE:
            elements[number] = _deep_copied(element)
    return own


def _copied_tensor(tensor: Any) -> Any:
    tf: Any = sys.modules["tensorflow"]
    tensor = tf.convert_to_tensor(tensor)  # the value of a variable
    is_memory = tensor.dtype not in (tf.string, tf.variant, tf.resource)
    return tf.raw_ops.DeepCopy(x=tensor) if is_memory else tensor


def _deep_copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # a part of a file, a lock: keep what it holds now
        return np.array(np.asarray(value)) if hasattr(value, "__array__") else value
