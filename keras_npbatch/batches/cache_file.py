"""`CacheFile`: a file of rows that outlives the run, and that several runs may use at once.

    make_file(path, {"a sample": ["x (3,) <f4"]}, 12_000, 4_000)        # unless there is one
    file = CacheFile(path)
    file.write(file.start, data)          # what any process then sees in `file.memory`

The head says in JSON what the rows are, so opening a file runs no code of it. A new file gets its
name when its head is on the disk, so nobody ever opens half a head. Pages that are never written
take no disk, where the file system can do so.

It is read through a memory map and written by `pwrite`: on a full disk, a write through the map
would end the process. In a file system in memory (tmpfs) even a read would, of pages that were
never written. So the marks, which are read before any row is written, have their pages from the
beginning.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import tempfile
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.slots import ALIGNMENT_BYTES

__all__ = ["CacheFile", "DamagedFileError", "make_file", "read_head"]

_MAGIC = b"npbatch1"
_NUMBERS = 24
"""Bytes of the magic, the length of the head and its checksum."""
_LONGEST_HEAD = 2**24
_SIZE = "num_bytes"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_ZEROS = 2**20
"""Bytes written at once."""


class DamagedFileError(Exception):
    """A file that is not a cache, or no longer one."""

    def __init__(self, why: str, is_ours: bool) -> None:
        super().__init__(why)
        self.is_ours = is_ours
        """Whether it was a cache: then it may be made again."""


def read_head(path: Path) -> dict[str, Any] | None:
    """What a file says that its rows are; None if there is no file.

    Raises:
        DamagedFileError: if it is not a whole cache.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_NUMBERS)
            if start[: len(_MAGIC)] != _MAGIC:
                raise DamagedFileError("it does not begin as one", is_ours=False)
            if len(start) < _NUMBERS:
                raise DamagedFileError("its head is cut off", is_ours=True)
            length, checksum = np.frombuffer(start[len(_MAGIC) :], "<u8").tolist()
            text = file.read(min(length, _LONGEST_HEAD))
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None
    if len(text) != length or zlib.crc32(text) != checksum:
        raise DamagedFileError("its head is not what was written", is_ours=True)
    found: dict[str, Any] = json.loads(text)
    if size != found[_SIZE]:
        raise DamagedFileError(f"it has {size} bytes instead of {found[_SIZE]}", is_ours=True)
    return found


class CacheFile:
    """An open file of rows.

    Args:
        path: of a whole file.
    """

    def __init__(self, path: Path) -> None:
        self._refused: OSError | None = None
        binary = getattr(os, "O_BINARY", 0)
        try:
            self._descriptor = os.open(path, os.O_RDWR | binary)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            self._refused = error
            self._descriptor = os.open(path, os.O_RDONLY | binary)
        weakref.finalize(self, os.close, self._descriptor)
        access = mmap.ACCESS_WRITE if self._refused is None else mmap.ACCESS_READ
        self.memory = np.frombuffer(mmap.mmap(self._descriptor, 0, access=access), np.uint8)
        """All bytes of the file, as they are now."""
        length = int(self.memory[len(_MAGIC) : len(_MAGIC) + 8].view("<u8")[0])
        self.head: dict[str, Any] = json.loads(self.memory[_NUMBERS : _NUMBERS + length].tobytes())
        """What its rows are."""
        self.start = _start(length)
        """Where the rows begin."""

    def write(self, start: int, data: npt.NDArray[np.uint8]) -> None:
        """Write bytes from a byte of the file on.

        Raises:
            OSError: if the disk is full, for example, or the file may only be read.
        """
        if self._refused is not None:
            raise self._refused
        if not hasattr(os, "pwrite"):  # Windows, where a long file has its disk from the beginning
            self.memory[start : start + len(data)] = data
            return
        view = memoryview(data.data)
        while len(view):
            written = os.pwrite(self._descriptor, view, start)
            view, start = view[written:], start + written


def make_file(path: Path, head: Mapping[str, Any], num_bytes: int, num_marks: int) -> None:
    """Make a file without rows, unless there is one.

    Args:
        path: of the file.
        head: what its rows are; values that JSON takes.
        num_bytes: that they may take, with their marks.
        num_marks: how many bytes the marks take, which come first and are 0.

    Raises:
        OSError: if it can't be made.
    """
    total, text = 0, b""
    while total != _start(len(text)) + num_bytes:  # the head tells the size, and is a part of it
        total = _start(len(text)) + num_bytes
        text = json.dumps({**head, _SIZE: total}).encode()
    numbers = np.array([len(text), zlib.crc32(text)], "<u8").tobytes()
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix="unfinished-")
    try:
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + numbers + text)
            end = _start(len(text)) + num_marks
            file.writelines(
                bytes(min(_ZEROS, end - start)) for start in range(file.tell(), end, _ZEROS)
            )
            file.truncate(total)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(unfinished, path)
        except FileExistsError:
            pass  # another process was first
        except OSError:  # a file system without links
            os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)


def _start(length: int) -> int:
    """Where the rows begin, after a head of some length."""
    return -(-(_NUMBERS + length) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
