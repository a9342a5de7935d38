"""Memory that processes share. It has no name, so nothing can be left behind.

    descriptor = new_descriptor(1 << 20)          # in the worker
    ...                                           # it goes to the parent through a socket
    memory = map_descriptor(descriptor, 1 << 20)  # in both: uint8 arrays over the same memory

A segment is a `memfd`: it has no entry in /dev/shm (whose size does not matter), and the kernel
frees it when the last process that maps it has ended, however it ended.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from keras_npbatch.batches.linux import available_bytes
from keras_npbatch.batches.slots import Slot
from keras_npbatch.workers.linux.refusals import advice
from keras_npbatch.workers.processes.refusals import refused_memory, too_much_memory

__all__ = ["MemorySegment", "check_available", "map_descriptor", "new_descriptor"]


class MemorySegment:
    """A segment of the parent's; see `system.Segment`."""

    def __init__(self, num_bytes: int) -> None:
        check_available(num_bytes)
        self.num_bytes = num_bytes
        self.descriptor = new_descriptor(num_bytes)

    def write(self, memory: memoryview, start: int) -> None:
        """Copy `memory` to the offset `start`."""
        # Takes a half to a third of the time of a copy into a map: no page is mapped here.
        while memory:
            written = os.pwrite(self.descriptor, memory, start)
            start += written
            memory = memory[written:]

    def map(self) -> Slot:
        """All of it."""
        return map_descriptor(self.descriptor, self.num_bytes)

    def close(self) -> None:
        """Let it go."""
        os.close(self.descriptor)


def new_descriptor(num_bytes: int) -> int:
    """Create a segment and return its file descriptor; the caller closes it.

    Raises:
        SharedMemoryError: if the system can't provide that much.
    """
    try:
        descriptor = os.memfd_create("keras_npbatch", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, num_bytes)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise refused_memory(num_bytes, error, advice) from error
    return descriptor


def map_descriptor(descriptor: int, num_bytes: int, *, copied_on_write: bool = False) -> Slot:
    """Map a whole segment, as an array of bytes.

    Args:
        descriptor: the segment's file descriptor; it may be closed afterwards.
        num_bytes: the size of the segment.
        copied_on_write: whether only this process sees what it writes.

    Raises:
        SharedMemoryError: if the process has no room for it.
    """
    access = mmap.ACCESS_COPY if copied_on_write else mmap.ACCESS_WRITE
    try:
        return np.frombuffer(mmap.mmap(descriptor, num_bytes, access=access), np.uint8)
    except OSError as error:
        raise refused_memory(num_bytes, error, advice) from error


def check_available(num_bytes: int) -> None:
    """Refuse a request for more memory than is available: using it would kill the process.

    Raises:
        SharedMemoryError: if less is available; the message gives both figures.
    """
    available = available_bytes()  # None if /proc is hidden; the system still refuses too much
    if available is not None and num_bytes > available:
        raise too_much_memory(num_bytes, f"{available / 1e6:,.0f} MB are available")
