"""dask arrays as sources: the chunks along the first dimension are computed whole."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.chunks import ChunkRows
from keras_npbatch.sources.pieces import starts_of
from keras_npbatch.sources.source import Source, refuse_scalar
from keras_npbatch.sources.tables import how_to_convert

__all__ = ["DaskRows", "dask_source"]


class DaskRows(ChunkRows):
    """A dask array; dask's own scheduler computes its chunks."""

    def __init__(self, array: Any, path: str) -> None:
        lengths = array.chunks[0]
        self._blocks = [number for number, length in enumerate(lengths) if length]
        self._array, self._path = array, path
        starts = starts_of([length for length in lengths if length])
        super().__init__(starts, tuple(map(int, array.shape[1:])), np.dtype(array.dtype))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_process": os.getpid()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.pop("_process") != os.getpid():
            _forget_pools()
        vars(self).update(state)

    def decode(self, number: int) -> npt.NDArray[Any]:
        """Compute a block of rows."""
        block = self._array.blocks[self._blocks[number]]
        try:
            found = np.asarray(block.compute())
        except Exception as error:
            error.add_note(
                f"keras_npbatch: raised by chunk {self._blocks[number]} of {self._path}, a dask "
                "array"
            )
            raise
        if found.shape != block.shape or found.dtype != self.dtype:
            raise InvalidDataError(
                f"chunk {self._blocks[number]} of {self._path} was computed as an array of shape "
                f"{found.shape} and dtype {found.dtype}; expected shape {block.shape} and dtype "
                f"{self.dtype}, as the dask array tells. Give `map_blocks` or `from_delayed` the "
                "right ones."
            )
        return found

    def pick(self, chunk: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
        """Rows of a block."""
        return chunk.take(rows, axis=0)


def _forget_pools() -> None:
    """Let dask start threads of its own in a worker process.

    One that was forked has dask's pools, but none of their threads: it would wait for them forever.
    """
    from dask import threaded

    threaded.pools_lock = Lock()  # perhaps held at that moment
    threaded.default_pool = None
    threaded.pools.clear()


def dask_source(leaf: Any, path: str) -> Source | None:
    """The source of a dask array; else None."""
    is_dask = type(leaf).__module__.partition(".")[0] == "dask"
    if is_dask and hasattr(leaf, "to_dask_array"):  # a DataFrame or a Series
        raise InvalidDataError(
            f"{path} is a {type(leaf).__name__} of dask, which does not know how many rows it has; "
            f"expected an array. {how_to_convert(leaf, path)}"
        )
    if not is_dask or not hasattr(leaf, "blocks"):
        return None
    refuse_scalar(leaf.shape, path)
    if any(length != length for length in leaf.shape):
        raise InvalidDataError(
            f"{path} is a dask array of unknown chunks, whose shape is {leaf.shape}; expected one "
            f"that knows how many rows each has. Let dask count them: "
            f"`{path}.compute_chunk_sizes()`."
        )
    if isinstance(getattr(leaf, "_meta", None), np.ma.MaskedArray):
        raise InvalidDataError(
            f"{path} is a dask array of masked arrays, and the masks would be lost; expected plain "
            f"ones. Fill them (`dask.array.ma.filled({path}, value)`) and pass the mask as "
            "sample_weight or as an input of its own."
        )
    return DaskRows(leaf, path)
