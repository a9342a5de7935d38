"""HDF5, Zarr and TensorStore as sources: storage in files that is read fastest by slices.

Consecutive rows are read as one slice. Data in chunks are read chunk by chunk: the storage reads
and decodes a whole chunk whatever is asked for, so the chunk is kept for the rows of the next
batches. How many chunks are kept is bounded, and several threads that need the same chunk decode it
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, Reading, Source, is_raw, refuse_scalar
from keras_npbatch.sources.stock import Stock
from keras_npbatch.sources.turns import Turns

__all__ = ["CHUNKS_KEPT", "SlicedStorage", "sliced_source"]

_PACKAGES = ("h5py", "zarr", "tensorstore")
CHUNKS_KEPT = 4
"""How many chunks are kept, unless the order of the rows needs more."""
_SMALL_CHUNK_BYTES = 2**20
"""A chunk up to this size is read whole: HDF5 does so itself, to keep it."""
_FEW = 8
"""Of a large chunk that is not compressed, less than one row in so many is read row by row."""


class SlicedStorage:
    """A dataset of HDF5 or Zarr, or a TensorStore."""

    is_in_memory = False
    chunk_starts: Rows | None = None

    def __init__(self, storage: Any, path: str) -> None:
        self.shape = tuple(storage.shape)
        dtype = storage.dtype
        self.dtype = np.dtype(getattr(dtype, "numpy_dtype", dtype))
        self.chunk_rows: int | None = _chunk_rows(storage, self.shape)
        self._unit = self.chunk_rows
        """Rows that are read together, and kept."""
        self._storage, self._path = storage, path
        self._is_whole = _is_compressed(storage) or self._chunk_bytes <= _SMALL_CHUNK_BYTES
        self._stock: Stock[npt.NDArray[Any]] = Stock(CHUNKS_KEPT)
        self._turns = Turns()

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block once; see `Chunked`."""
        if self.chunk_rows is None or block_rows % self.chunk_rows == 0:
            self._unit = block_rows  # fewer slices take less time
        self._is_whole = True
        assert self._unit is not None
        groups = max(2, 1 + -(-ahead // (block_rows * blocks)))
        self._stock.most = groups * blocks * -(-block_rows // self._unit)

    def forget(self) -> None:
        """Keep nothing: what is in the file may have changed."""
        self._stock.forget()

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        if self.chunk_rows is None:
            return None
        num_chunks = -(-self.shape[0] // self.chunk_rows)
        if num_chunks <= self._stock.most:
            return None
        touched = num_chunks * (1 - (1 - 1 / num_chunks) ** batch_size)
        return Reading(self.chunk_rows, touched, touched * self.chunk_rows / batch_size)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the rows, slice by slice, into the order asked for."""
        shape = (len(rows), *self.shape[1:])
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        order = np.argsort(rows, kind="stable")
        increasing = rows[order]
        for begin, end in self._turns.turned([*self._together(increasing)]):
            some = increasing[begin:end]
            for first, piece, inside in self._pieces(some):
                at, which = order[begin:end][inside], some[inside] - first
                if _is_run(at) and _is_run(which):  # of the data in order: one copy
                    out[at[0] : at[0] + len(at)] = piece[which[0] : which[0] + len(which)]
                else:
                    out[at] = piece[which]
        return out

    def stretches(self, starts: Rows, stops: Rows) -> npt.NDArray[Any]:
        """The rows of several spans that don't overlap, one after the other."""
        if self._unit is None:
            spans = zip(starts.tolist(), stops.tolist(), strict=True)
            return np.concatenate([self._slice(start, stop) for start, stop in spans])
        sizes = stops - starts
        before = np.cumsum(sizes) - sizes
        return self.read(np.arange(sizes.sum()) + np.repeat(starts - before, sizes), np.empty)

    @property
    def _chunk_bytes(self) -> int:
        of_row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return int((self.chunk_rows or 0) * of_row)

    def _together(self, rows: Rows) -> Iterator[tuple[int, int]]:
        """The spans of increasing rows that are read together: those of a chunk, or all."""
        if self._unit is None:
            if len(rows):
                yield 0, len(rows)
            return
        ends = np.flatnonzero(np.diff(rows // self._unit)) + 1
        edges = [0, *ends.tolist(), len(rows)]
        yield from ((a, b) for a, b in pairwise(edges) if a < b)

    def _pieces(self, rows: Rows) -> Iterator[tuple[int, npt.NDArray[Any], slice]]:
        """For increasing rows: the first row of each array, the array, and which rows are in it."""
        size = self._unit
        if size is not None:
            number = int(rows[0]) // size
            is_few = len(rows) * _FEW < size and number not in self._stock
            if self._is_whole or not is_few:
                yield number * size, self._stock.get(number, self._chunk), slice(0, len(rows))
                return
        ends = np.flatnonzero(np.diff(rows) > 1) + 1
        edges = [0, *ends.tolist(), len(rows)]
        for a, b in pairwise(edges):
            first, last = int(rows[a]), int(rows[b - 1])
            yield first, self._slice(first, last + 1), slice(a, b)

    def _chunk(self, number: int) -> npt.NDArray[Any]:
        """A whole chunk."""
        assert self._unit is not None
        start = number * self._unit
        return self._slice(start, min(start + self._unit, self.shape[0]))

    def _slice(self, start: int, stop: int) -> npt.NDArray[Any]:
        try:
            found = self._storage[start:stop]
            if hasattr(found, "read") and hasattr(found, "domain"):  # a TensorStore is lazy
                found = found.read().result()
            return np.asarray(found)
        except Exception as error:
            if type(self._storage).__module__.partition(".")[0] == "h5py" and not self._storage:
                raise InvalidDataError(
                    f"{self._path} is in an HDF5 file that has been closed; expected an open one. "
                    "Close it when the dataset is not used any more."
                ) from error
            error.add_note(
                f"keras_npbatch: raised by {self._path}[{start}:{stop}], a "
                f"{type(self._storage).__name__}"
            )
            raise


def sliced_source(leaf: Any, path: str) -> Source | None:
    """The source of a dataset of HDF5, Zarr or TensorStore; else None."""
    package = type(leaf).__module__.partition(".")[0]
    if package not in _PACKAGES or not all(
        hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")
    ):
        return None
    refuse_scalar(tuple(leaf.shape or ()), path)  # h5py.Empty has None
    try:
        return SlicedStorage(leaf, path)
    except (TypeError, ValueError):  # of a dtype that NumPy does not know
        return None


def _is_run(numbers: Rows) -> bool:
    """Whether each number is one more than that before it."""
    is_long = numbers[-1] - numbers[0] == len(numbers) - 1
    return bool(is_long and (np.diff(numbers) == 1).all())


def _chunk_rows(storage: Any, shape: tuple[int, ...]) -> int | None:
    """Rows that are read together: of a shard of Zarr, or of a chunk."""
    found = [getattr(storage, name, None) for name in ("shards", "chunks")]
    layout = getattr(storage, "chunk_layout", None)
    if layout is not None:  # of TensorStore
        found.append(layout.read_chunk.shape)
    for each in found:
        if isinstance(each, tuple) and len(each) == len(shape) and each[0]:
            return int(each[0])
    return None


def _is_compressed(storage: Any) -> bool:
    """Whether a chunk has to be decoded whole, as far as can be told."""
    filters = getattr(storage, "_filters", None)  # of h5py: compression, shuffle, checksums
    if type(storage).__module__.partition(".")[0] == "h5py":
        return bool(filters) or getattr(storage, "compression", None) is not None
    return True
