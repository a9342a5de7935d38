"""NumPy arrays and memory maps as sources, and what is viewed as an array: columns, tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, Source, is_raw, refuse_scalar

__all__ = ["IndexedArray", "TakenArray", "array_source", "is_mapped", "plain_array"]

_TENSOR_PACKAGES = ("jax", "jaxlib", "tensorflow", "torch")


class TakenArray:
    """A C-contiguous array or memory map: one `np.take` into a buffer, outside the GIL."""

    chunk_rows: int | None = None

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self.is_in_memory = not is_mapped(array)
        self.array = array
        self._feature_shape = array.shape[1:]

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Gather the rows into a buffer."""
        out = empty((len(rows), *self._feature_shape), self.dtype)
        # mode="raise" would gather into a temporary and copy; the rows are known to be in range.
        # The method, since np.take takes as long to find it as a small gather takes.
        return self.array.take(rows, 0, out, "clip")


class IndexedArray:
    """Any other array (strided, Fortran-ordered, unaligned, objects, variable-length strings).

    `np.take` would first make a contiguous copy of the whole array; indexing does not. Raw buffers
    can't hold references to objects, so batches of objects get new arrays.
    """

    chunk_rows: int | None = None

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self.is_in_memory = not is_mapped(array)
        self.array = array

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Index the array."""
        return np.ascontiguousarray(self.array[rows])


def array_source(leaf: Any, path: str) -> Source | None:
    """The source of an array, of a pandas Series (as one column), or of a tensor; else None."""
    is_pandas = type(leaf).__module__.partition(".")[0] == "pandas"
    if is_pandas and hasattr(leaf, "to_numpy") and leaf.ndim == 1:
        leaf = leaf.to_numpy()[:, np.newaxis]
    array = plain_array(leaf, path)
    if array is None:
        return None
    refuse_scalar(array.shape, path)
    if is_raw(array.dtype) and array.flags.c_contiguous and array.flags.aligned:
        return TakenArray(array)
    return IndexedArray(array)


def plain_array(leaf: Any, path: str) -> npt.NDArray[Any] | None:
    """An array, memory map, matrix, record array or tensor as a plain array; else None.

    Raises:
        InvalidDataError: for a masked array, and for a tensor that NumPy can't read.
    """
    package = type(leaf).__module__.partition(".")[0]
    if package in _TENSOR_PACKAGES and hasattr(leaf, "__array__"):
        leaf = _array_of_tensor(leaf, path)
    if isinstance(leaf, np.ma.MaskedArray):
        raise InvalidDataError(
            f"{path} is a masked array, and its mask would be lost; expected an array. Fill it "
            "(`.filled(value)`) and pass the mask as sample_weight or as an input of its own."
        )
    return leaf.view(np.ndarray) if isinstance(leaf, np.ndarray) else None


def _array_of_tensor(tensor: Any, path: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(tensor)
    except (TypeError, RuntimeError) as error:  # torch's, of a GPU, a graph, or bfloat16
        if not hasattr(tensor, "detach"):
            raise
        where, written = f"on {tensor.device}", path
        if tensor.requires_grad:
            where, written = f"{where} with gradients", f"{path}.detach()"
        if tensor.device.type != "cpu":
            written += ".cpu()"
        if written == path:
            written += ".float()"
        raise InvalidDataError(
            f"{path} is {describe(tensor)} {where}, which NumPy can't read; expected one in the "
            f"memory of the CPU, without gradients, of a dtype of NumPy. Write `{written}`."
        ) from error


def is_mapped(array: Any) -> bool:
    """Whether an array is a memory map, or a view of one."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None
