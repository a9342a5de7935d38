"""`MappedChunks`: arrays of Zarr whose chunks are files as they are in memory.

    array = zarr.open_array("data.zarr", mode="r")
    source = mapped_chunks(array, "x", SlicedStorage(array, "x"))      # None if they aren't

What is not compressed is a memory map: the rows of a batch are copied from the files' pages to the
batch. Reading whole chunks first means a second copy, through memory that no cache of the processor
holds. It is still done for short rows, which take longer one by one.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.cut import refuse_cut
from keras_npbatch.sources.scatter import groups
from keras_npbatch.sources.source import Chunked, Empty, Reading
from keras_npbatch.sources.stock import Stock
from keras_npbatch.sources.zarr_files import ZarrFiles, zarr_files

__all__ = ["MappedChunks", "mapped_chunks"]

_LONG_BYTES = 2048
"""Shorter rows are copied faster many at once, from chunks that are read whole."""
_MAPS = 64
"""How many chunks are mapped at a time: each map keeps a file open."""


class _Chunk(NamedTuple):
    """The bytes of a chunk."""

    bytes: npt.NDArray[np.uint8]
    memory: memoryview
    """Of the same bytes: a slice of it takes less time to make."""
    file: mmap.mmap | None
    """To read beyond its end would end the process: SIGBUS."""


class MappedChunks:
    """The rows of an array of Zarr that is open for reading.

    Args:
        storage: the array.
        leaf: its path, for messages.
        files: its chunks.
        slices: reads what is in no such file.
    """

    is_in_memory = False
    chunk_starts: Rows | None = None

    def __init__(self, storage: Any, leaf: str, files: ZarrFiles, slices: Chunked) -> None:
        self._leaf, self._files, self._slices = leaf, files, slices
        self.shape, self.dtype = tuple(storage.shape), np.dtype(storage.dtype)
        self.chunk_rows: int | None = int(storage.chunks[0])
        self._size = int(storage.chunks[0])
        self._row_bytes = _bytes_of_row(storage)
        self._pages = np.arange(0, self._size * self._row_bytes, mmap.PAGESIZE)
        self._maps: Stock[_Chunk] = Stock(_MAPS)
        self._needs_all = False

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """All rows of a chunk will be needed soon; the system keeps the pages that are used."""
        self._needs_all = True

    def forget(self, pass_number: int | None = None) -> None:
        """Map the chunks again: other files may have taken their places."""
        self._maps.forget()
        self._slices.forget(pass_number)

    def reading(self, batch_size: int) -> Reading | None:
        """None: only the rows of a batch are read."""
        return None

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Copy the rows from where they lie, each by itself.

        Raises:
            InvalidDataError: if a file has been cut off, or the array is not there any more.
        """
        out = empty((len(rows), *self.shape[1:]), self.dtype)
        if not len(rows):
            return out
        size, into = self._row_bytes, out.reshape(-1).view(np.uint8).data
        # Chunk by chunk: not all of them need be mapped at once.
        for number, places in groups(rows // self._size):
            chunk = self._maps.get(number, self._map)
            if chunk.file is not None:
                refuse_cut(chunk.file, len(chunk.bytes), self._files.path(number), self._leaf)
            begins = (rows[places] - number * self._size) * size
            for place, begin in zip(places.tolist(), begins.tolist(), strict=True):
                into[place * size : (place + 1) * size] = chunk.memory[begin : begin + size]
        return out

    def _map(self, number: int) -> _Chunk:
        """A chunk in its file, or what zarr has in place of one."""
        size = self._size * self._row_bytes
        try:
            with open(self._files.path(number), "rb") as file:
                if os.fstat(file.fileno()).st_size == size:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    found = np.frombuffer(mapped, np.uint8)
                    # Rows are copied with the interpreter locked. So the system reads the pages
                    # now, while other threads run, if most of them are needed.
                    if self._needs_all:
                        found.take(self._pages)
                    return _chunk(found, mapped)
        except FileNotFoundError:
            pass  # never written, or not there any more
        start = number * self._size
        rows = np.arange(start, min(start + self._size, self.shape[0]))
        return _chunk(self._slices.read(rows, np.empty).reshape(-1).view(np.uint8), None)


def _chunk(of: npt.NDArray[np.uint8], file: mmap.mmap | None) -> _Chunk:
    return _Chunk(of, of.data, file)


def mapped_chunks(storage: Any, leaf: str, slices: Chunked) -> MappedChunks | None:
    """The source of an array of Zarr that is no more than memory in files; else None."""
    files = zarr_files(storage)
    if files is None or not files.are_decoded or os.name != "posix":
        return None
    if not storage.read_only or _bytes_of_row(storage) < _LONG_BYTES:
        return None  # what is written now may be cut and made longer again, or is read faster
    return MappedChunks(storage, leaf, files, slices)


def _bytes_of_row(storage: Any) -> int:
    return int(np.prod(storage.shape[1:], dtype=np.int64) * storage.dtype.itemsize)
