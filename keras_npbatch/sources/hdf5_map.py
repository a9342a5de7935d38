"""`MappedRows`: datasets of HDF5 whose rows lie in the file as they are in memory.

    source = mapped_rows(file["x"])      # None if they don't

What is not compressed is a memory map: the rows of a batch are copied from the file's pages to the
batch, by any number of threads. h5py would look up each slice, let one thread in at a time, and
copy a whole chunk first.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.cut import refuse_cut
from keras_npbatch.sources.hdf5 import closed_file, is_stored_as_in_memory
from keras_npbatch.sources.scatter import groups, items
from keras_npbatch.sources.source import Empty, Reading

__all__ = ["MappedRows", "mapped_rows"]

_LONG_BYTES = 2048
"""From here on a second copy of a row takes longer than a step of a loop."""


class MappedRows:
    """The rows of a dataset of HDF5, in one or more parts of a file.

    Args:
        storage: the dataset, which must stay open.
        leaf: its path, for messages.
        path: of the file.
        inode: of the file, which must be that one when it is mapped again.
        shape: of the data.
        dtype: of the data.
        chunk_rows: rows of a chunk; None: all lie one after the other.
        offsets: where each chunk begins in the file, or all rows.
    """

    is_in_memory = False
    chunk_starts: Rows | None = None

    def __init__(
        self,
        storage: Any,
        leaf: str,
        path: str,
        inode: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunk_rows: int | None,
        offsets: Rows,
    ) -> None:
        self._storage, self._leaf, self._file = storage, leaf, (path, inode)
        self.shape, self.dtype, self.chunk_rows = shape, dtype, chunk_rows
        self._size = chunk_rows or shape[0]
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        # The file is seen as items as long as a row. The gaps between chunks may be of any length,
        # so in some chunks rows begin at other bytes of an item: those get another view.
        self._residues, self._ways = np.unique(offsets % self._row_bytes, return_inverse=True)
        self._items = offsets // self._row_bytes
        self._map()

    def _map(self) -> None:
        path, inode = self._file
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_ino != inode:
                raise FileNotFoundError(f"{path} is another file than the one that was mapped")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._mapped, self._memory = mapped, memoryview(mapped)
        item = np.dtype(f"V{self._row_bytes}")
        self._views = [
            np.frombuffer(mapped, item, (len(mapped) - begin) // item.itemsize, begin)
            for begin in self._residues.tolist()
        ]

    def __getstate__(self) -> dict[str, Any]:
        # Another process has no handle.
        left_behind = ("_storage", "_views", "_memory", "_mapped")
        return vars(self) | dict.fromkeys(left_behind)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._map()

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """The system keeps the pages of the file that are used."""

    def forget(self, pass_number: int | None = None) -> None:
        """Nothing to forget: reading always sees what is in the file."""

    def reading(self, batch_size: int) -> Reading | None:
        """None: only the rows of a batch are read."""
        return None

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Copy the rows from where they lie.

        Raises:
            InvalidDataError: if the file has been closed, or cut off.
        """
        if self._storage is not None and not self._storage:
            raise closed_file(self._leaf)
        refuse_cut(self._mapped, len(self._memory), self._file[0], self._leaf)
        out = empty((len(rows), *self.shape[1:]), self.dtype)
        if not len(rows):
            return out
        numbers = rows // self._size
        at = self._items[numbers] + (rows - numbers * self._size)
        ways = self._ways[numbers]
        if (ways == ways[0]).all():
            self._views[ways[0]].take(at, 0, items(out), "clip")
            return out
        # NumPy gathers or scatters, but not both at once.
        if self._row_bytes >= _LONG_BYTES:
            self._copy_each(at, ways, out)
            return out
        by_way = np.empty(len(rows), self._views[0].dtype)
        for way, places in groups(ways):
            by_way[places] = self._views[way][at[places]]
        items(out)[:] = by_way
        return out

    def _copy_each(self, at: Rows, ways: Rows, out: npt.NDArray[Any]) -> None:
        """Copy one row after the other, where two copies of all would take longer."""
        size, begin = self._row_bytes, 0
        into, memory = out.reshape(-1).view(np.uint8).data, self._memory
        for first in (at * size + self._residues[ways]).tolist():
            into[begin : begin + size] = memory[first : first + size]
            begin += size


def mapped_rows(storage: Any, leaf: str) -> MappedRows | None:
    """The source of a dataset of h5py that is no more than memory in a file; else None."""
    if type(storage).__module__.partition(".")[0] != "h5py" or os.name != "posix":
        return None
    if not hasattr(storage, "id") or not hasattr(storage, "file"):
        return None
    file, shape = storage.file, tuple(storage.shape or ())
    if file.mode != "r" or file.driver != "sec2" or file.swmr_mode or file.userblock_size:
        return None  # what is written may still be elsewhere
    if not shape or 0 in shape or not is_stored_as_in_memory(storage, []):
        return None
    chunks = storage.chunks
    if chunks and tuple(chunks[1:]) != shape[1:]:
        return None
    offsets = _offsets(storage, shape[0])
    path = Path(os.fsdecode(file.filename)).resolve()
    if offsets is None or not path.exists():
        return None
    inode = os.fstat(file.id.get_vfd_handle()).st_ino
    if path.stat().st_ino != inode:  # moved, and another file has its name
        return None
    chunk_rows = int(chunks[0]) if chunks else None
    where = str(path), inode
    return MappedRows(storage, leaf, *where, shape, storage.dtype, chunk_rows, offsets)


def _offsets(storage: Any, num_rows: int) -> Rows | None:
    """Where the chunks begin in the file, or all rows; None if some are not in it."""
    if storage.is_virtual or storage.external:
        return None
    if not storage.chunks:
        offset = storage.id.get_offset()
        return None if offset is None else np.array([offset], np.int64)
    if not hasattr(storage.id, "chunk_iter"):  # before HDF5 1.12.3
        return None
    size = storage.chunks[0]
    found = np.full(-(-num_rows // size), -1, np.int64)

    def note(chunk: Any) -> None:
        number = chunk.chunk_offset[0] // size
        if number < len(found):
            found[number] = chunk.byte_offset

    # One walk over all: to ask for each by its place would walk over them again and again.
    storage.id.chunk_iter(note)
    return None if (found < 0).any() else found
