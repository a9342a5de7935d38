"""Memory that processes share, on any system.

    segment = InheritedSegment(1 << 20, copied_on_write=True)     # of the parent's
    map_inherited(segment.where, 1 << 20, copied_on_write=True)   # in a worker that inherits it

    extent = new_named("/npb_3f5a_0", 1 << 20)     # in the worker
    extent = open_named("/npb_3f5a_0", 1 << 20)    # in the parent
    unlink("/npb_3f5a_0")                          # both keep it

On macOS and other Unix systems, what the parent makes has no name, and a worker inherits its
descriptor. Only what a worker makes needs a name, and only until the parent has mapped it. macOS
maps POSIX shared memory copy-on-write for nobody, so what is copied on write is a temporary file
without a name. On Windows a name leaves no entry anywhere: the memory is gone with the last process
that maps it.

Not `multiprocessing.shared_memory`: up to Python 3.12 each process that uses it starts another one,
the resource tracker, and what it maps can't be closed while an array refers to it.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import secrets
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from keras_npbatch.batches.slots import Slot
from keras_npbatch.workers.portable.refusals import advice
from keras_npbatch.workers.processes.refusals import refused_memory, too_much_memory

__all__ = [
    "InheritedSegment",
    "above_standard",
    "check_room",
    "map_inherited",
    "new_named",
    "new_prefix",
    "open_named",
    "unlink",
]

_posixshmem: Any
try:  # what multiprocessing.shared_memory is made of
    _posixshmem = importlib.import_module("_posixshmem")
except ImportError:  # Windows
    _posixshmem = None

_PRIVATE = 0o600
_STANDARD_ERROR = 2


class InheritedSegment:
    """A segment of the parent's; see `system.Segment`.

    Args:
        num_bytes: its size.
        copied_on_write: whether it is written once, by the parent, and mapped copy-on-write.
    """

    def __init__(self, num_bytes: int, *, copied_on_write: bool = False) -> None:
        self.num_bytes = num_bytes
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        with _refusing(num_bytes):
            if _posixshmem is None:
                self.where: int | str = new_prefix()
                self._map = _mapped(self.where, num_bytes)
            elif copied_on_write:
                with tempfile.TemporaryFile(buffering=0) as file:
                    self.where = above_standard(os.dup(file.fileno()))
                self._file = os.fdopen(self.where, "r+b", buffering=0)
            else:
                self.where = above_standard(_unnamed(num_bytes))

    @property
    def descriptors(self) -> list[int]:
        """What a worker inherits."""
        return [self.where] if isinstance(self.where, int) else []

    def write(self, memory: memoryview, start: int) -> None:
        """Copy `memory` to the offset `start` of a segment that is copied on write."""
        if self._map is not None:
            self._map[start : start + memory.nbytes] = memory
            return
        assert self._file is not None
        with _refusing(self.num_bytes):
            self._file.seek(start)
            while memory:
                memory = memory[self._file.write(memory) :]

    def map(self) -> Slot:
        """All of it."""
        return map_inherited(self.where, self.num_bytes)

    def close(self) -> None:
        """Let it go."""
        if self._file is not None:
            self._file.close()
        elif isinstance(self.where, int):
            os.close(self.where)
        self._map = None


def above_standard(descriptor: int) -> int:
    """The same under a number that a worker can inherit: its first three are standard streams.

    A program that was started without those gets their numbers for what it opens.
    """
    low = []
    while descriptor <= _STANDARD_ERROR:
        low.append(descriptor)
        descriptor = os.dup(descriptor)
    for number in low:
        os.close(number)
    return descriptor


def map_inherited(where: int | str, num_bytes: int, *, copied_on_write: bool = False) -> Slot:
    """Map a segment of the parent's.

    Args:
        where: what `InheritedSegment.where` is in the parent.
        num_bytes: its size.
        copied_on_write: whether only this process sees what it writes.
    """
    with _refusing(num_bytes):
        return np.frombuffer(_mapped(where, num_bytes, copied_on_write), np.uint8)


def new_prefix() -> str:
    """A name that nothing else has, also with a number after it; macOS takes 31 characters."""
    return f"/npb_{os.getpid():x}_{secrets.token_hex(4)}_"


def check_room(num_bytes: int) -> None:
    """Refuse what does not fit into /dev/shm, which Linux has: to write beyond it ends the process.

    Raises:
        SharedMemoryError: if less is left; the message gives both figures.
    """
    if _posixshmem is None:
        return
    with _refusing(num_bytes):
        descriptor = _unnamed(0)
    try:
        found = os.fstatvfs(descriptor)
    except OSError:  # it is not a file system
        return
    finally:
        os.close(descriptor)
    room = found.f_bavail * found.f_frsize
    if found.f_blocks and room < num_bytes:
        raise too_much_memory(num_bytes, f"{room / 1e6:,.0f} MB are available")


def new_named(name: str, num_bytes: int) -> Slot:
    """Memory that another process can map by its name."""
    with _refusing(num_bytes):
        if _posixshmem is None:
            return np.frombuffer(_mapped(name, num_bytes), np.uint8)
        descriptor = _created(name, num_bytes)
        try:
            return map_inherited(descriptor, num_bytes)
        finally:
            os.close(descriptor)


def open_named(name: str, num_bytes: int) -> Slot:
    """The memory that another process has made.

    Raises:
        FileNotFoundError: if it is gone, on Windows with the process.
    """
    if _posixshmem is None:
        from multiprocessing.shared_memory import SharedMemory

        opened = SharedMemory(name)  # else a map of that name would be made
        try:
            return map_inherited(name, num_bytes)
        finally:
            opened.close()
    descriptor = _posixshmem.shm_open(name, os.O_RDWR, mode=_PRIVATE)
    try:
        return map_inherited(descriptor, num_bytes)
    finally:
        os.close(descriptor)


def unlink(name: str) -> bool:
    """Let the name go; those that have mapped the memory keep it. False if there is none."""
    if _posixshmem is None:
        return False
    try:
        _posixshmem.shm_unlink(name)
    except FileNotFoundError:
        return False
    return True


def _mapped(where: int | str, num_bytes: int, copied_on_write: bool = False) -> mmap.mmap:
    access = mmap.ACCESS_COPY if copied_on_write else mmap.ACCESS_WRITE
    if isinstance(where, int):
        return mmap.mmap(where, num_bytes, access=access)
    return mmap.mmap(-1, num_bytes, tagname=where, access=access)  # type: ignore[call-arg]


def _unnamed(num_bytes: int) -> int:
    name = new_prefix()
    descriptor = _created(name, num_bytes)
    unlink(name)
    return descriptor


def _created(name: str, num_bytes: int) -> int:
    descriptor: int = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=_PRIVATE)
    try:
        if num_bytes:  # macOS lets it have a size once
            os.ftruncate(descriptor, num_bytes)
    except BaseException:
        os.close(descriptor)
        unlink(name)
        raise
    return descriptor


@contextlib.contextmanager
def _refusing(num_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused_memory(num_bytes, error, advice) from error
