"""`RawChunks`: chunks of HDF5 that are decoded here, several at a time.

    raw = raw_chunks(file["x"])          # None if they can't be
    raw.read(128, 192, into)             # whether it has

h5py lets one thread at a time into the HDF5 library, which decodes there, so that two threads take
as long as one. What `compression="gzip"` and `shuffle=True` store is zlib's format and bytes in
another order. So the library is asked for the bytes of a chunk as they are stored, and zlib decodes
them, outside of h5py's lock and of Python's.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError

__all__ = ["RawChunks", "closed_file", "is_stored_as_in_memory", "raw_chunks"]

_DEFLATE, _SHUFFLE = 1, 2
"""The numbers of these filters: `H5Z_FILTER_DEFLATE` and `H5Z_FILTER_SHUFFLE` of HDF5."""
_KNOWN = ([_DEFLATE], [_SHUFFLE, _DEFLATE])


class RawChunks:
    """The chunks of a dataset of HDF5, each of whole rows.

    Args:
        dataset: the dataset.
        is_shuffled: whether the first bytes of all items are stored before the second ones.
    """

    def __init__(self, dataset: Any, is_shuffled: bool) -> None:
        self._dataset, self._is_shuffled = dataset, is_shuffled
        self._rows = int(dataset.chunks[0])
        self._items = int(np.prod(dataset.chunks, dtype=np.int64))
        self._item_bytes = int(dataset.dtype.itemsize)
        self._has_chunks = False

    def read(self, start: int, stop: int, into: npt.NDArray[Any]) -> bool:
        """Read some chunks; False if one is not stored like the others, or not at all.

        Args:
            start: the first row of a chunk.
            stop: the first row of another, or the number of all rows.
            into: a contiguous array, of the dtype of the dataset.
        """
        from h5py._objects import phil

        zeros = (0,) * (into.ndim - 1)
        # If there is no chunk at all, HDF5 does not say how long the requested one is.
        self._has_chunks = self._has_chunks or self._dataset.id.get_storage_size() > 0
        if not self._has_chunks:
            return False
        for first in range(start, stop, self._rows):
            # (`get_chunk_info_by_coord` would walk over all chunks up to this one.)
            try:
                # h5py takes its lock in all methods but this one (its `h5d_pyx.templ.pyx`, up to
                # 3.16 at least). Two threads in the HDF5 library would crash the process.
                with phil:
                    filters_left_out, stored = self._dataset.id.read_direct_chunk((first, *zeros))
            except (OSError, RuntimeError, ValueError):  # not written; or HDF5 says what is wrong
                return False
            if filters_left_out or not stored:
                return False
            decoded = zlib.decompress(stored, bufsize=self._items * self._item_bytes)
            if len(decoded) != self._items * self._item_bytes:
                return False
            here = into[first - start : min(first + self._rows, stop) - start]
            rows: npt.NDArray[Any] = np.frombuffer(decoded, np.uint8)
            if self._is_shuffled:
                rows = np.ascontiguousarray(rows.reshape(self._item_bytes, self._items).T)
            here[...] = rows.view(into.dtype).reshape(-1, *into.shape[1:])[: len(here)]
        return True


def raw_chunks(storage: Any) -> RawChunks | None:
    """What reads a dataset whose chunks can be decoded here; None for others, and other storage."""
    package = type(storage).__module__.partition(".")[0]
    if package != "h5py" or not hasattr(getattr(storage, "id", None), "read_direct_chunk"):
        return None
    chunks = storage.chunks
    if not chunks or tuple(chunks[1:]) != tuple(storage.shape[1:]) or 0 in storage.shape:
        return None
    for filters in _KNOWN:
        if is_stored_as_in_memory(storage, filters):
            return RawChunks(storage, filters[0] == _SHUFFLE)
    return None


def closed_file(path: str) -> InvalidDataError:
    """What to raise if the file of a leaf has been closed."""
    return InvalidDataError(
        f"{path} is in an HDF5 file that has been closed; expected an open one. Close it when the "
        "dataset is not used any more."
    )


def is_stored_as_in_memory(storage: Any, filters: list[int]) -> bool:
    """Whether numbers are in the file as in memory, but for these filters."""
    import h5py

    made = storage.id.get_create_plist()
    found = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
    if found != filters or storage.dtype.kind not in "iufcb":
        return False
    # There are integers of 20 bits, and types that are converted.
    in_memory = h5py.h5t.py_create(storage.dtype, logical=True)
    return bool(storage.id.get_type().equal(in_memory))
