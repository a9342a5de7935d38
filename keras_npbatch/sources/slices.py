"""HDF5, Zarr and TensorStore as sources: storage in files that is read fastest by slices.

Consecutive rows are read as one slice. Data in chunks are read chunk by chunk: the storage reads
and decodes a whole chunk whatever is asked for, so the chunk is kept for the rows of the next
batches. How many chunks are kept is bounded, and several threads that need the same chunk decode it
once; so do worker processes on Linux (`chunk_cache.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.chunk_cache import ChunkCache
from keras_npbatch.sources.gone import refuse_gone
from keras_npbatch.sources.hdf5 import closed_file, raw_chunks
from keras_npbatch.sources.hdf5_map import mapped_rows
from keras_npbatch.sources.source import Empty, Reading, Source, is_raw, refuse_scalar
from keras_npbatch.sources.zarr_files import zarr_files
from keras_npbatch.sources.zarr_folder import at_absolute_path, refuse_missing
from keras_npbatch.sources.zarr_map import mapped_chunks

__all__ = ["CHUNKS_KEPT", "SlicedStorage", "sliced_source", "stored_in_slices"]

_PACKAGES = ("h5py", "zarr", "tensorstore")
CHUNKS_KEPT = 4
"""How many chunks are kept, unless the order of the rows needs more."""
_SMALL_CHUNK_BYTES = 2**20
"""A chunk up to this size is read whole: HDF5 does so itself, to keep it."""
_FEW = 8
"""A large, uncompressed chunk is read by rows if fewer than one row in this many is needed."""


class SlicedStorage:
    """A dataset of HDF5 or Zarr, or a TensorStore."""

    is_in_memory = False
    chunk_starts: Rows | None = None

    def __init__(self, storage: Any, path: str) -> None:
        self.shape = tuple(storage.shape)
        dtype = storage.dtype
        self.dtype = np.dtype(getattr(dtype, "numpy_dtype", dtype))
        self.chunk_rows: int | None = _chunk_rows(storage, self.shape)
        self._storage, self._path = storage, path
        self._raw = raw_chunks(storage) or zarr_files(storage)
        self._is_whole = _is_compressed(storage) or self._chunk_bytes <= _SMALL_CHUNK_BYTES
        self._chunks: ChunkCache | None = None
        """Keeps chunks; None if the storage has no chunks."""
        if self.chunk_rows is not None:
            self._chunks = self._cache(self.chunk_rows, CHUNKS_KEPT)

    def _cache(self, rows: int, chunks: int) -> ChunkCache:
        most = max(1, -(-self.shape[0] // rows))
        return ChunkCache(min(chunks, most), rows, self.shape[1:], self.dtype)

    @property
    def identity_of_data(self) -> Any:
        """Equal for two that read the same dataset: h5py makes a new object for each request."""
        is_h5 = type(self._storage).__module__.partition(".")[0] == "h5py"
        return self._storage if is_h5 else id(self._storage)

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block once; see `Chunked`."""
        unit = self.chunk_rows
        if unit is None or block_rows % unit == 0:
            unit = block_rows  # fewer slices take less time
        if block_rows * blocks == 1:
            self._chunks = self._cache(unit, max(CHUNKS_KEPT, 2 - (-ahead // unit)))
            return
        self._is_whole = True
        groups = max(2, 1 + -(-ahead // (block_rows * blocks)))
        most = groups * blocks * -(-block_rows // unit)
        if self._chunks is None or self._chunks.rows != unit or self._chunks.chunks < most:
            self._chunks = self._cache(unit, most)

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing: what is in the file may have changed."""
        if self._chunks is not None:
            self._chunks.forget(pass_number)

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        if self.chunk_rows is None or self._chunks is None:
            return None
        num_chunks = -(-self.shape[0] // self.chunk_rows)
        if num_chunks <= self._chunks.chunks:
            return None
        touched = num_chunks * (1 - (1 - 1 / num_chunks) ** batch_size)
        return Reading(self.chunk_rows, touched, touched * self.chunk_rows / batch_size)

    @property
    def kept_in(self) -> object:
        """What keeps its chunks."""
        return self

    def chunks_of(self, rows: Rows) -> Rows:
        """The chunks that are read for some rows, each once."""
        return np.unique(rows // self._chunks.rows) if self._chunks is not None else rows[:0]

    def expect(self, numbers: Rows, until: int) -> None:
        """Let other chunks make room before these; see `Prepared`."""
        if self._chunks is not None:
            self._chunks.expect(numbers, until)

    def prepare(self, number: int) -> None:
        """Decode a chunk before its rows are asked for; see `Prepared`."""
        assert self._chunks is not None
        self._chunks.prepare(number, self._decode)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the rows, of chunks or slice by slice, into the order asked for."""
        shape = (len(rows), *self.shape[1:])
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        chunks = self._chunks
        if chunks is None:
            self._read_slices(rows, out, np.arange(len(rows)))
            return out
        if not self._is_whole:
            few = self._of_few(rows, chunks)
            if few.any():
                self._read_slices(rows[few], out, np.flatnonzero(few))
                others = np.flatnonzero(~few)
                if len(others):
                    rest = np.empty((len(others), *self.shape[1:]), self.dtype)
                    chunks.gather(rows[others], rest, self._decode)
                    out[others] = rest
                return out
        chunks.gather(rows, out, self._decode)
        return out

    def stretches(self, starts: Rows, stops: Rows) -> npt.NDArray[Any]:
        """The rows of several spans that don't overlap, one after the other."""
        if self._chunks is None:
            spans = zip(starts.tolist(), stops.tolist(), strict=True)
            return np.concatenate([self._slice(start, stop) for start, stop in spans])
        sizes = stops - starts
        before = np.cumsum(sizes) - sizes
        return self.read(np.arange(sizes.sum()) + np.repeat(starts - before, sizes), np.empty)

    @property
    def _chunk_bytes(self) -> int:
        of_row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return int((self.chunk_rows or 0) * of_row)

    def _of_few(self, rows: Rows, chunks: ChunkCache) -> npt.NDArray[np.bool_]:
        """Which rows are too few to read their chunk whole, if it is not kept."""
        numbers, which, counts = np.unique(
            rows // chunks.rows, return_inverse=True, return_counts=True
        )
        are_few: npt.NDArray[np.bool_] = (counts * _FEW < chunks.rows) & ~chunks.has(numbers)
        return are_few[which]

    def _read_slices(self, rows: Rows, out: npt.NDArray[Any], places: Rows) -> None:
        """Read each run of consecutive rows as a slice."""
        order = np.argsort(rows, kind="stable")
        increasing = rows[order]
        edges = [0, *(np.flatnonzero(np.diff(increasing) > 1) + 1).tolist(), len(rows)]
        for begin, end in pairwise(edges):
            if begin == end:
                continue
            first = int(increasing[begin])
            piece = self._slice(first, int(increasing[end - 1]) + 1)
            out[places[order[begin:end]]] = piece[increasing[begin:end] - first]

    def _decode(self, number: int, into: npt.NDArray[Any]) -> None:
        """Read a whole chunk."""
        start = number * len(into)
        stop = min(start + len(into), self.shape[0])
        into = into[: stop - start]
        with self._named(start, stop):
            if self._raw is not None and self._raw.read(start, stop, into):
                return
            refuse_missing(self._storage, self._path)
            if not _read_into(self._storage, start, stop, into):
                into[...] = self._read(start, stop)
            refuse_gone(into, self._storage, self._path)

    def _slice(self, start: int, stop: int) -> npt.NDArray[Any]:
        with self._named(start, stop):
            refuse_missing(self._storage, self._path)
            found = self._read(start, stop)
            refuse_gone(found, self._storage, self._path)
            return found

    def _read(self, start: int, stop: int) -> npt.NDArray[Any]:
        found = self._storage[start:stop]
        if hasattr(found, "read") and hasattr(found, "domain"):  # a TensorStore is lazy
            found = found.read().result()
        return np.asarray(found)

    @contextmanager
    def _named(self, start: int, stop: int) -> Iterator[None]:
        """Add a note with the rows to an exception in the block."""
        try:
            yield
        except Exception as error:
            if type(self._storage).__module__.partition(".")[0] == "h5py" and not self._storage:
                raise closed_file(self._path) from error
            error.add_note(
                f"keras_npbatch: raised by {self._path}[{start}:{stop}], a "
                f"{type(self._storage).__name__}"
            )
            raise


def sliced_source(leaf: Any, path: str) -> Source | None:
    """The source of a dataset of HDF5, Zarr or TensorStore; else None."""
    stored = stored_in_slices(leaf, path)
    if stored is None:
        return None
    return mapped_rows(leaf, path) or mapped_chunks(at_absolute_path(leaf), path, stored) or stored


def stored_in_slices(leaf: Any, path: str) -> SlicedStorage | None:
    """What reads slices of a dataset of HDF5, Zarr or TensorStore; None for other data."""
    package = type(leaf).__module__.partition(".")[0]
    if package not in _PACKAGES or not all(
        hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")
    ):
        return None
    refuse_scalar(tuple(leaf.shape or ()), path)  # h5py.Empty has None
    refuse_missing(leaf, path)
    leaf = _from_zero(at_absolute_path(leaf))
    try:
        return SlicedStorage(leaf, path)
    except (TypeError, ValueError):  # of a dtype that NumPy does not know
        return None


def _from_zero(storage: Any) -> Any:
    """The same storage, numbered from 0: a slice of a TensorStore keeps the numbers that it had."""
    domain = getattr(storage, "domain", None)
    if domain is None or not any(domain.origin):
        return storage
    import tensorstore

    return storage[tensorstore.d[:].translate_to[0]]


def _read_into(storage: Any, start: int, stop: int, into: npt.NDArray[Any]) -> bool:
    """Read a slice into memory that is there, if the storage can; whether it has."""
    package = type(storage).__module__.partition(".")[0]
    if not into.size or not is_raw(into.dtype):
        return False
    if package == "h5py" and hasattr(storage, "read_direct"):
        storage.read_direct(into, np.s_[start:stop])
        return True
    if package == "zarr" and hasattr(storage, "get_basic_selection"):
        try:
            from zarr.buffer.cpu import NDBuffer
        except ImportError:  # before 3.1
            return False
        storage.get_basic_selection((slice(start, stop),), out=NDBuffer.from_numpy_array(into))
        return True
    return False


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
    """Whether a chunk has to be decoded whole; True if that is not known."""
    filters = getattr(storage, "_filters", None)  # of h5py: compression, shuffle, checksums
    if type(storage).__module__.partition(".")[0] == "h5py":
        return bool(filters) or getattr(storage, "compression", None) is not None
    return True
