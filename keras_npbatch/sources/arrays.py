"""NumPy arrays and memory maps as sources, and what is viewed as an array: columns, tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, Source, is_raw, refuse_scalar

__all__ = ["IndexedArray", "TakenArray", "array_source"]

_TENSOR_PACKAGES = ("jax", "jaxlib", "tensorflow", "torch")


class TakenArray:
    """A C-contiguous array or memory map: one `np.take` into a buffer, outside the GIL."""

    chunk_rows: int | None = None

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self.is_in_memory = not is_mapped(array)
        self._array = array
        self._feature_shape = array.shape[1:]

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Gather the rows into a buffer."""
        out = empty((len(rows), *self._feature_shape), self.dtype)
        # mode="raise" would gather into a temporary and copy; the rows are known to be in range.
        # The method, since np.take takes as long to find it as a small gather takes.
        return self._array.take(rows, 0, out, "clip")


class IndexedArray:
    """Any other array (strided, Fortran-ordered, unaligned, objects, variable-length strings).

    `np.take` would first make a contiguous copy of the whole array; indexing does not. Raw buffers
    can't hold references to objects, so batches of objects get new arrays.
    """

    chunk_rows: int | None = None

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self.is_in_memory = not is_mapped(array)
        self._array = array

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Index the array."""
        return np.ascontiguousarray(self._array[rows])


def array_source(leaf: Any, path: str) -> Source | None:
    """The source of an array, of a pandas Series (as one column), or of a tensor; else None."""
    package = type(leaf).__module__.partition(".")[0]
    if package == "pandas" and hasattr(leaf, "to_numpy") and leaf.ndim == 1:
        leaf = leaf.to_numpy()[:, np.newaxis]
    elif package in _TENSOR_PACKAGES and hasattr(leaf, "__array__"):
        leaf = np.asarray(leaf)
    if isinstance(leaf, np.ma.MaskedArray):
        raise InvalidDataError(
            f"{path} is a masked array, and its mask would be lost; expected an array. Fill it "
            "(`.filled(value)`) and pass the mask as sample_weight or as an input of its own."
        )
    if not isinstance(leaf, np.ndarray):
        return None
    refuse_scalar(leaf.shape, path)
    array = leaf.view(np.ndarray)  # a memory map, a matrix, a record array as a plain array
    if is_raw(array.dtype) and array.flags.c_contiguous and array.flags.aligned:
        return TakenArray(array)
    return IndexedArray(array)


def is_mapped(array: Any) -> bool:
    """Whether an array is a memory map, or a view of one."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None
