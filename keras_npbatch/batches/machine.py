"""What this process may use of the machine: memory and cores, with the limits of its container.

total_bytes()         # of memory
available_bytes()     # of that, what can be used without pushing something else out
cores()
delayed_s()           # how long this thread has waited for one of them

On Linux the kernel and the control groups tell, on macOS `vm_stat`, on Windows the system itself.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

__all__ = ["available_bytes", "cores", "delayed_s", "total_bytes"]

_UNKNOWN = 2**63
_VM_STAT = "/usr/bin/vm_stat"
_ANSWERS_WITHIN_S = 5.0


def total_bytes() -> int:
    """The memory of this machine, or what a control group leaves this process of it."""
    if not hasattr(os, "sysconf"):
        return _of_windows()[0]
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if sys.platform == "linux":
        from keras_npbatch.batches import linux

        most = min(most, linux.limit_bytes() or most)
    return most


def available_bytes() -> int:
    """The memory that can be used without pushing out what is in use; half of all if unknown."""
    if sys.platform == "win32":
        return _of_windows()[1]
    found = None
    if sys.platform == "linux":
        from keras_npbatch.batches import linux

        found = linux.available_bytes()
    elif sys.platform == "darwin":
        found = _of_macos()
    return total_bytes() // 2 if found is None else found


def cores() -> int:
    """How many processor cores this process may use."""
    if sys.platform == "linux":
        from keras_npbatch.batches import linux

        return linux.cores()
    return os.cpu_count() or 1


def delayed_s() -> float:
    """The seconds for which this thread could have run and had no core; 0 if unknown."""
    if sys.platform == "linux":
        from keras_npbatch.batches import linux

        return linux.delayed_s()
    return 0.0


def of_vm_stat(text: str) -> int | None:
    """The available bytes that the output of `vm_stat` tells: free, inactive, read ahead."""
    page = re.search(r"page size of (\d+) bytes", text)
    pages = re.findall(r"^Pages (?:free|inactive|speculative): +(\d+)\.$", text, re.MULTILINE)
    return int(page[1]) * sum(map(int, pages)) if page and pages else None


def _of_macos() -> int | None:
    try:
        answer = subprocess.run(
            [_VM_STAT],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
            timeout=_ANSWERS_WITHIN_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return of_vm_stat(answer.stdout)


class _MemoryStatus(ctypes.Structure):
    """`MEMORYSTATUSEX` of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        *((name, ctypes.c_uint64) for name in ("f1", "f2", "f3", "f4", "f5")),
    )


def _of_windows() -> tuple[int, int]:
    """Bytes of all memory, and of what is available; a large number where unknown."""
    libraries = getattr(ctypes, "windll", None)
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if libraries is None or not libraries.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return _UNKNOWN, _UNKNOWN
    return status.total, status.available
