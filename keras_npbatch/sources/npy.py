"""The header of a `.npy` file, and its memory map: opened when rows are read, not before.

header = read_header("a.npy", "parts[0]")
header.shape          # (1000, 48)
open_npy(header)      # a memory map, if the file still is what the header says
"""

from __future__ import annotations

import math
import os
import zlib
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError

__all__ = ["Header", "open_npy", "read_header"]


class Header(NamedTuple):
    """What a `.npy` file says of its array."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    """Whether the first index varies fastest."""
    offset: int
    """Where the values begin, in bytes."""
    checksum: int
    """Of the bytes before them."""

    @property
    def num_bytes(self) -> int:
        """The size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: str, name: str) -> Header:
    """Read the header of a file without mapping it.

    Args:
        path: of the file.
        name: what was given, for messages.

    Raises:
        InvalidDataError: if it is not a whole `.npy` file of an array with rows.
    """
    expected = "expected a .npy file, as `np.save` writes"
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            file.seek(0)
            try:
                shape, is_fortran, dtype = _parse(file)
            except ValueError as error:
                several = " Of an .npz, save each array in a file of its own."
                raise InvalidDataError(
                    f"{name} is {path!r}, which does not begin as one; {expected}."
                    f"{several if head[:2] == b'PK' else ''}"
                ) from error
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
            file.seek(0)
            checksum = zlib.crc32(file.read(offset))
    except OSError as error:
        raise InvalidDataError(
            f"{name} is {path!r}, which can't be opened ({error.strerror}); {expected}."
        ) from error
    header = Header(path, shape, dtype, is_fortran, offset, checksum)
    if dtype.hasobject:
        raise InvalidDataError(
            f"{name} is {path!r}, of dtype {dtype}; expected numbers or text. Python objects in it "
            "are pickled, and can't be read by rows: convert them (`.astype`) and save them again."
        )
    if not shape:
        raise InvalidDataError(
            f"{name} is {path!r}, which has no dimension; expected the first dimension to count "
            "samples."
        )
    if size < offset + header.num_bytes:
        raise InvalidDataError(
            f"{name} is {path!r}, which has {size} bytes; expected {offset + header.num_bytes} "
            f"for shape {shape} and dtype {dtype}. It is cut off: write it again."
        )
    return header


def _parse(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    # Version 3 has a public reader only for files that it maps.
    mapped = np.lib.format.open_memmap(file.name, mode="r")
    file.seek(mapped.offset)
    return mapped.shape, mapped.flags.f_contiguous and not mapped.flags.c_contiguous, mapped.dtype


def open_npy(header: Header) -> npt.NDArray[Any]:
    """The array in a file, as a memory map.

    Raises:
        InvalidDataError: if the file has another header now.
    """
    with open(header.path, "rb") as file:
        is_same = zlib.crc32(file.read(header.offset)) == header.checksum
        is_whole = os.fstat(file.fileno()).st_size >= header.offset + header.num_bytes
        if not (is_same and is_whole):
            raise InvalidDataError(
                f"{header.path!r} has changed since the source was made; expected shape "
                f"{header.shape} and dtype {header.dtype}. Make the source again."
            )
        if not header.num_bytes:  # there is nothing to map
            return np.empty(header.shape, header.dtype)
        order: Any = "F" if header.is_fortran else "C"
        return np.memmap(file, header.dtype, "r", header.offset, header.shape, order)
