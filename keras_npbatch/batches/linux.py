"""What Linux alone has for the memory of datasets; imported there only.

descriptor = new_memory(1 << 30)                 # shared with processes that know its number
descriptor = memory_of(parent_pid, descriptor)   # in another process, or None if it is gone
limit_bytes()                                    # of the control group, or None
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["alone", "limit_bytes", "memory_of", "new_memory"]

_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def new_memory(num_bytes: int) -> int:
    """A descriptor of new memory; pages that are never written take none."""
    descriptor = os.memfd_create("keras_npbatch-cache", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, num_bytes)
    return descriptor


def memory_of(pid: int, descriptor: int) -> int | None:
    """A descriptor of this process for the same memory; None if there is none any more."""
    with contextlib.suppress(OSError):
        path = f"/proc/{pid}/fd/{descriptor}"
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return None


@contextlib.contextmanager
def alone(descriptor: int) -> Iterator[None]:
    """In no other process at the same time."""
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def limit_bytes() -> int | None:
    """The memory that the control group leaves this process; None if it sets no limit."""
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            return int(path.read_text())
    return None
