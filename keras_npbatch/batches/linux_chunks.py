"""A `ChunkCache` that processes share, on Linux: a chunk is decoded by one of them.

    sent = new_shared(cache)        # in the parent; `opened` closes it at the end
    cache = open_shared(*sent)      # in a worker process

The memory is a `memfd`, which another process opens through `/proc`. Locks of the file, one byte
for each slot, show who uses which slot. The system releases them when a process ends, however it
ends: a chunk that a killed process was decoding is decoded by the next that needs it.

The locks are of an open file (`F_OFD_SETLK`), and each process opens its own: those of a process as
a whole would be lost when it closes any descriptor of the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_npbatch.batches import linux
from keras_npbatch.sources.chunk_cache import ChunkCache, Held, SharedMemory

__all__ = ["Sent", "new_shared", "open_shared"]

Sent = tuple[int, int, dict[str, Any]]
"""The process that has the memory, the descriptor there, and what the cache was made of."""


def new_shared(cache: ChunkCache, opened: contextlib.ExitStack) -> Sent:
    """Memory for a cache like this one.

    Args:
        cache: is itself not shared.
        opened: lets the memory go; processes that have opened it keep it.
    """
    descriptor = linux.new_memory(cache.num_bytes)
    opened.callback(os.close, descriptor)
    return os.getpid(), descriptor, cache.__getstate__()


def open_shared(pid: int, descriptor: int, settings: dict[str, Any]) -> ChunkCache:
    """The cache, shared with all processes that open it; one of this process if it is gone."""
    own = linux.memory_of(pid, descriptor)
    cache = ChunkCache(**settings)
    if own is None:
        return cache
    memory = np.frombuffer(mmap.mmap(own, cache.num_bytes), np.uint8)
    return ChunkCache(**settings, shared=SharedMemory(memory, _ProcessHolds(own)))


class _ProcessHolds:
    """Which slots the processes use: byte 0 is the lock of the directory, the next that of slot 0.

    The threads of a process take turns.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn, self._directory = threading.Lock(), threading.Lock()
        weakref.finalize(self, os.close, descriptor)

    def _lock(self, kind: int, start: int, length: int = 1, *, waits: bool = False) -> None:
        command = fcntl.F_OFD_SETLKW if waits else fcntl.F_OFD_SETLK
        wanted = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
        fcntl.fcntl(self._descriptor, command, wanted)

    @contextlib.contextmanager
    def call(self) -> Iterator[Held]:
        with self._turn:
            try:
                yield Held()
            finally:
                self._unlock_slots()

    def _unlock_slots(self) -> None:
        self._lock(fcntl.F_UNLCK, 1, 0)  # to the end of the file

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._directory:  # to the system, all threads have the lock of this open file
            self._lock(fcntl.F_WRLCK, 0, waits=True)
            try:
                yield
            finally:
                self._lock(fcntl.F_UNLCK, 0)

    def hold(self, held: Held, slot: int) -> None:
        self._lock(fcntl.F_RDLCK, 1 + slot)
        held.slots.add(slot)

    def claim(self, held: Held, slot: int) -> bool:
        if slot in held.slots:  # its own lock would not hinder this process
            return False
        try:
            self._lock(fcntl.F_WRLCK, 1 + slot)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def settle(self, held: Held, slot: int) -> None:
        self.hold(held, slot)

    def wait(self, held: Held, slot: int) -> None:
        self._lock(fcntl.F_RDLCK, 1 + slot, waits=True)
        self._lock(fcntl.F_UNLCK, 1 + slot)

    def let_go(self, held: Held) -> None:
        held.slots.clear()
        self._unlock_slots()
