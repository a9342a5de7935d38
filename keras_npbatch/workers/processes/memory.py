"""Memory that processes share. It has no name, so nothing can be left behind.

    descriptor = new_segment(1 << 20)          # in the worker
    ...                                        # the descriptor goes to the parent through a socket
    memory = map_segment(descriptor, 1 << 20)  # in both: uint8 arrays over the same memory

A segment is a `memfd`: it has no entry in /dev/shm (whose size does not matter), and the kernel
frees it when the last process that maps it has ended, however it ended.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_npbatch.batches.slots import Slot
from keras_npbatch.errors import SharedMemoryError
from keras_npbatch.workers.processes.refusals import advice

__all__ = ["Arena", "map_segment", "new_segment"]

_PAGE_BYTES = mmap.PAGESIZE
_SMALLEST_EXTENT_BYTES = 1 << 20

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY = Path("/proc/meminfo")


def new_segment(num_bytes: int) -> int:
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
        raise _refused(num_bytes, error) from error
    return descriptor


def map_segment(descriptor: int, num_bytes: int, *, copied_on_write: bool = False) -> Slot:
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
        raise _refused(num_bytes, error) from error


def check_available(num_bytes: int) -> None:
    """Refuse a request for more memory than is available: using it would kill the process.

    Raises:
        SharedMemoryError: if less is available; the message gives both figures.
    """
    available = _available_bytes()
    if num_bytes > available:
        raise _refusal(num_bytes, f"{available / 1e6:,.0f} MB are available")


class Arena:
    """Slots in shared memory that grows; used by one thread of a worker process.

    It grows by extents, each at least as large as all before it together, so there are few
    segments. A request takes the smallest free slot that is large enough and at most twice as
    large: batches of varying shape share slots, and no small array occupies a large slot.

    Args:
        announce: called with the descriptor and the size of each new extent, in order; it closes
            the descriptor.
    """

    def __init__(self, announce: Callable[[int, int], None]) -> None:
        self._announce = announce
        self._extents: list[tuple[int, Slot]] = []
        self._used_bytes = 0
        self._free: list[Slot] = []
        self._returned: deque[Slot] = deque()

    def take(self, num_bytes: int) -> Slot:
        """Take an aligned slot of at least `num_bytes`, reused or new."""
        while self._returned:
            self._free.append(self._returned.popleft())
        fitting = [
            (slot.nbytes, -number)
            for number, slot in enumerate(self._free)
            if num_bytes <= slot.nbytes <= 2 * num_bytes
        ]
        if fitting:  # the smallest, and of equals the last returned: it may be in a cache
            return self._free.pop(-min(fitting)[1])
        # A power of two: else batches that are each a little larger than the one before would
        # never find a free slot. Pages that are never written take no memory.
        check_available(num_bytes)
        return self._new(max(_PAGE_BYTES, 1 << (num_bytes - 1).bit_length()))

    def give(self, slot: Slot) -> None:
        """Return a slot, which is then free."""
        self._returned.append(slot)  # nothing else: this may interrupt `take`

    def cleared(self) -> Arena:
        """This arena itself: shared memory stays until the process ends."""
        return self

    def find(self, address: int) -> tuple[int, int] | None:
        """The number of the extent that holds an address, and the offset in it; None if none."""
        for number, (start, extent) in enumerate(self._extents):
            if start <= address < start + extent.nbytes:
                return number, address - start
        return None

    def _new(self, num_bytes: int) -> Slot:
        extent = self._extents[-1][1] if self._extents else None
        if extent is None or self._used_bytes + num_bytes > extent.nbytes:
            total = sum(extent.nbytes for _, extent in self._extents)
            size = max(2 * num_bytes, total, _SMALLEST_EXTENT_BYTES)
            descriptor = new_segment(size)
            extent = map_segment(descriptor, size)
            self._extents.append((extent.__array_interface__["data"][0], extent))
            self._used_bytes = 0
            self._announce(descriptor, size)
        slot = extent[self._used_bytes : self._used_bytes + num_bytes]
        self._used_bytes += num_bytes
        return slot


def _available_bytes() -> int:
    """The memory this process can still use, limited by the machine and by its control group."""
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB$", _MEMORY.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:  # /proc is hidden; the system still refuses a segment that is too large
        return sys.maxsize
    available = 1024 * int(found[1])
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        statistics = dict(map(str.split, (_CGROUP / "memory.stat").read_text().splitlines()))
        reclaimable = int(statistics["inactive_file"])
    except (KeyError, OSError, ValueError):  # no limit of this kind
        return available
    return available if limit == "max" else min(available, int(limit) - used + reclaimable)


def _refused(num_bytes: int, error: OSError) -> SharedMemoryError:
    if error.errno in (errno.ENOMEM, errno.ENOSPC, errno.EFBIG, errno.EOVERFLOW):
        return _refusal(num_bytes, f"the system said: {error.strerror}")
    return SharedMemoryError(
        f"worker processes asked for shared memory, and the system said: {advice(error)}"
    )


def _refusal(num_bytes: int, why: str) -> SharedMemoryError:
    return SharedMemoryError(
        f"worker processes asked for {num_bytes / 1e6:,.0f} MB of shared memory, and {why}. Use a "
        "smaller batch_size or max_queue_size, keep large data in a file (np.load(..., "
        "mmap_mode='r'), HDF5, Zarr), or use threads: use_multiprocessing=False."
    )
