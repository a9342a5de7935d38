"""`ZarrFiles`: chunks of Zarr in files of this machine, decoded by the thread that needs them.

    files = zarr_files(zarr.open_array("data.zarr"))      # None if they can't be
    files.read(128, 192, into)                            # whether it has

For a chunk, zarr asks its event loop, which asks a thread to read a file and another to decode it,
and copies what comes back. That takes longer than to read and to decode it. So a chunk that is a
file, by itself or compressed by one of zarr's usual codecs, is read and decoded right into its
place. All else is left to zarr: other stores, shards, filters, chunks that were never written.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError

__all__ = ["ZarrFiles", "zarr_files"]

_BLOSC, _ZSTD, _GZIP = "blosc", "zstd", "gzip"
_BLOSC_HEAD = 16
"""How long the head of what Blosc has compressed is, in bytes."""
_BLOSC_LENGTH, _BLOSC_STORED = slice(4, 8), slice(12, 16)
"""Where it tells how long the data were, and how long head and compressed data are."""
_OF_GZIP = 31
"""What tells zlib that it is gzip's format."""


class ZarrFiles:
    """The chunks of an array, each of whole rows, and each a file.

    Args:
        metadata: of the array, which names its chunks.
        folder: of the array.
        shape: of a chunk.
        dtype: of the array.
        codec: what a chunk is compressed with, or None.
    """

    def __init__(
        self,
        metadata: Any,
        folder: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        codec: str | None,
    ) -> None:
        self._metadata, self._folder, self._codec = metadata, folder, codec
        self._rows, self._others = shape[0], (0,) * (len(shape) - 1)
        self._num_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize

    @property
    def are_decoded(self) -> bool:
        """Whether chunks lie in their files as they are in memory."""
        return self._codec is None

    def path(self, number: int) -> str:
        """The file of a chunk."""
        return f"{self._folder}/{self._metadata.encode_chunk_key((number, *self._others))}"

    def read(self, start: int, stop: int, into: npt.NDArray[Any]) -> bool:
        """Read some chunks; False if one is not there, or not as it should be.

        Args:
            start: the first row of a chunk.
            stop: the first row of another, or the number of all rows.
            into: a contiguous array, of the dtype of the array.
        """
        for first in range(start, stop, self._rows):
            here = into[first - start : min(first + self._rows, stop) - start]
            try:
                with open(self.path(first // self._rows), "rb", buffering=0) as file:
                    if not self._read(file, here.reshape(-1).view(np.uint8)):
                        return False
            except FileNotFoundError:
                return False
        return True

    def _read(self, file: Any, into: npt.NDArray[np.uint8]) -> bool:
        if self._codec is None:
            return bool(file.readinto(into) == len(into))
        stored = file.read()
        if self._codec == _GZIP:
            return _put(zlib.decompress(stored, _OF_GZIP, self._num_bytes), into, self._num_bytes)
        import numcodecs

        if self._codec == _ZSTD:
            return _put(numcodecs.Zstd().decode(stored), into, self._num_bytes)
        _refuse_cut(file.name, stored)
        if int.from_bytes(stored[_BLOSC_LENGTH], "little") != self._num_bytes:
            return False
        if len(into) == self._num_bytes:
            numcodecs.Blosc().decode(stored, into)
            return True
        return _put(numcodecs.Blosc().decode(stored), into, self._num_bytes)


def _refuse_cut(path: str, stored: bytes) -> None:
    """Refuse what is shorter than its head tells: Blosc would read on in memory that follows it.

    That would give arbitrary values, or end the process, in zarr too.

    Raises:
        InvalidDataError: naming the file.
    """
    told = int.from_bytes(stored[_BLOSC_STORED], "little")
    if len(stored) < max(_BLOSC_HEAD, told):
        raise InvalidDataError(
            f"{path!r} has {len(stored)} bytes; expected {max(_BLOSC_HEAD, told)}, a whole chunk "
            "compressed by Blosc. It is cut off, or being written: write it again."
        )


def _put(decoded: bytes, into: npt.NDArray[np.uint8], num_bytes: int) -> bool:
    """Copy the first rows of a chunk: all but the last one have them all."""
    if len(decoded) != num_bytes:
        return False
    into[:] = np.frombuffer(decoded, np.uint8)[: len(into)]
    return True


def zarr_files(storage: Any) -> ZarrFiles | None:
    """What reads an array whose chunks are files like these; None for others, and other storage."""
    if type(storage).__module__.partition(".")[0] != "zarr":
        return None
    store: Any = getattr(storage, "store", None)
    metadata: Any = getattr(storage, "metadata", None)
    if type(store).__name__ != "LocalStore" or not hasattr(metadata, "encode_chunk_key"):
        return None
    shape, chunks, dtype = tuple(storage.shape), storage.chunks, storage.dtype
    is_whole = chunks and tuple(chunks[1:]) == shape[1:] and 0 not in shape
    if not is_whole or dtype.kind not in "iufcb":
        return None
    codec = _codec(metadata, dtype)
    if codec is _OTHER:
        return None
    folder = f"{store.root}/{storage.path}"
    return ZarrFiles(metadata, folder, tuple(chunks), dtype, codec)


_OTHER: Any = object()
"""A way to store chunks that is not known here."""


def _codec(metadata: Any, dtype: np.dtype[Any]) -> Any:
    """What chunks are compressed with: a name, None for nothing, or `_OTHER`."""
    if metadata.zarr_format == 2:
        if metadata.filters or metadata.order != "C":
            return _OTHER
        compressor = metadata.compressor
        if compressor is None:
            return None
        return {"blosc": _BLOSC, "zstd": _ZSTD, "gzip": _GZIP}.get(compressor.codec_id, _OTHER)
    first, *others = metadata.codecs
    endian = getattr(first, "endian", None)
    endian = getattr(endian, "value", endian)  # an enumeration in older versions
    if type(first).__name__ != "BytesCodec" or len(others) > 1:
        return _OTHER
    # The order of bytes in a file is the codec's, whatever that of the array is.
    if dtype.itemsize > 1 and (endian != sys.byteorder or not dtype.isnative):
        return _OTHER
    if not others:
        return None
    names = {"BloscCodec": _BLOSC, "ZstdCodec": _ZSTD, "GzipCodec": _GZIP}
    return names.get(type(others[0]).__name__, _OTHER)
