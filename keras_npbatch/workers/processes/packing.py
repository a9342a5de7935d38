"""Takes a batch from a worker process to the model's, with large arrays left where they are.

    message, slots = pack(batch, lend)      # in the worker
    batch = unpack(message, slots)          # in the parent: views of the same memory

Pickle protocol 5 separates the description of a batch (its structure, dtypes, shapes and small
arrays: a few hundred bytes) from the memory of its large arrays, which is lent. So anything that
can be pickled arrives unchanged: arrays of any dtype, strings, objects, sparse matrices, named
tuples.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cloudpickle
import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.slots import SMALLEST_SLOT_BYTES, Slot
from keras_npbatch.tree import Tree, map_leaves

__all__ = ["Lend", "pack", "pack_as_one", "reduce_array", "unpack"]

Lend: TypeAlias = Callable[[Slot], Slot]
"""`lend(memory)` returns shared memory with the same bytes: `memory` itself if it is shared."""


def pack(batch: Tree, lend: Lend) -> tuple[bytes, list[Slot]]:
    """The description of `batch`, and the shared memory that holds its large arrays."""
    lent: list[Slot] = []

    def is_kept_inside(buffer: pickle.PickleBuffer) -> bool:
        memory = np.frombuffer(buffer.raw(), np.uint8)
        if memory.nbytes < SMALLEST_SLOT_BYTES:
            return True
        lent.append(lend(memory))
        return False

    batch = map_leaves(_wrapped, batch)
    try:
        return pickle.dumps(batch, protocol=5, buffer_callback=is_kept_inside), lent
    except (pickle.PicklingError, AttributeError, TypeError):
        # A class that pickle can't find by its name: cloudpickle brings it along.
        lent.clear()
        file = io.BytesIO()
        cloudpickle.Pickler(file, protocol=5, buffer_callback=is_kept_inside).dump(batch)
        return file.getvalue(), lent


def pack_as_one(batch: Tree) -> bytes:
    """All of `batch`, including the memory of its arrays."""
    return bytes(cloudpickle.dumps(map_leaves(_wrapped, batch), protocol=5))


def unpack(message: bytes, memories: Sequence[Slot]) -> Tree:
    """Rebuild the batch; its large arrays are views of `memories`."""
    return pickle.loads(message, buffers=memories)


def reduce_array(array: npt.NDArray[Any]) -> tuple[Any, ...] | None:
    """How pickle should separate an array from its memory; None if its dtype is not plain bytes.

    NumPy's own way loses the byte order of dates and of long doubles (NumPy 2.4), and copies a
    strided array twice.
    """
    dtype = array.dtype
    if dtype.hasobject or dtype.kind == "T" or dtype.itemsize == 0:
        return None
    is_transposed = array.flags.f_contiguous and not array.flags.c_contiguous
    plain = array.T if is_transposed else np.asarray(array, order="C")
    memory = pickle.PickleBuffer(plain.reshape(-1).view(np.uint8).data)
    return _rebuilt, (memory, dtype, plain.shape, is_transposed)


def _rebuilt(
    memory: Any, dtype: np.dtype[Any], shape: tuple[int, ...], is_transposed: bool
) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, memory)
    return array.T if is_transposed else array


class _Array:
    """An array that is pickled the way `reduce_array` describes."""

    __slots__ = ("reduced",)

    def __init__(self, reduced: tuple[Any, ...]) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def _wrapped(leaf: Any) -> Any:
    reduced = reduce_array(leaf) if type(leaf) is np.ndarray else None
    return leaf if reduced is None else _Array(reduced)
