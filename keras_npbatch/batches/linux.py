"""What Linux alone has for the memory of datasets; imported there only.

private_memory(1 << 30)                          # of this process
descriptor = new_memory(1 << 30)                 # shared with processes that know its number
descriptor = memory_of(parent_pid, descriptor)   # in another process, or None if it is gone
limit_bytes()                                    # of the control groups, or None
available_bytes()                                # of the machine and the control groups
cores()
delayed_s()                                      # seconds for which this thread waited for a core
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "alone",
    "available_bytes",
    "cores",
    "delayed_s",
    "limit_bytes",
    "memory_of",
    "new_memory",
    "private_memory",
]

_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""More may be mapped than the machine has. Older versions of Python have no name for it."""
_MEMORY = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_SCHEDULING = Path("/proc/thread-self/schedstat")
"""Of a thread: nanoseconds on a core, nanoseconds in the queue for one, and how often it ran."""


def new_memory(num_bytes: int) -> int:
    """A descriptor of new memory; pages that are never written take none."""
    descriptor = os.memfd_create("keras_npbatch-cache", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, num_bytes)
    return descriptor


def private_memory(num_bytes: int) -> mmap.mmap:
    """Memory of this process alone, in large pages where the system has them.

    Pages that are never written take none.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    memory = mmap.mmap(-1, num_bytes, flags=flags)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def memory_of(pid: int, descriptor: int) -> int | None:
    """A descriptor of this process for the same memory; None if there is none any more."""
    with contextlib.suppress(OSError):
        path = f"/proc/{pid}/fd/{descriptor}"
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return None


@contextlib.contextmanager
def alone(descriptor: int) -> Iterator[None]:
    """Run the block in no other process at the same time."""
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def limit_bytes() -> int | None:
    """The memory that the control groups leave this process; None if none sets a limit."""
    limits = []
    for group in _groups():
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(_first_of(group, "memory.max", "memory.limit_in_bytes")))
    return min(limits, default=None)


def available_bytes() -> int | None:
    """The memory that this process can still use; None if the system does not say."""
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB$", _MEMORY.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:  # /proc is hidden
        return None
    available = [1024 * int(found[1])]
    for group in _groups():
        with contextlib.suppress(KeyError, OSError, ValueError):  # no limit
            limit = int(_first_of(group, "memory.max", "memory.limit_in_bytes"))
            used = int(_first_of(group, "memory.current", "memory.usage_in_bytes"))
            lines = (group / "memory.stat").read_text().splitlines()
            figures = dict(map(str.split, lines))
            reclaimable = figures.get("total_inactive_file") or figures["inactive_file"]
            available.append(max(0, limit - used + int(reclaimable)))
    return min(available)


def cores() -> int:
    """The cores that this process may run on, or fewer if a control group leaves less time."""
    found = len(os.sched_getaffinity(0))
    for group in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = map(int, _processor_time(group))
            if quota > 0:  # -1: as much as there is
                found = min(found, math.ceil(quota / period))
    return found


def delayed_s() -> float:
    """The seconds for which this thread could have run and had no core; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        _, delayed_ns, _ = _SCHEDULING.read_text().split()
        return int(delayed_ns) / 1e9
    return 0.0


def _groups(controller: str = "memory") -> list[Path]:
    """The folders of the control groups that this process is in, the innermost first.

    In a container the outermost that can be seen is its own. Of version 1 each controller has a
    tree of its own, of version 2 all have one.
    """
    found: list[Path] = []
    with contextlib.suppress(OSError, ValueError):  # /proc is hidden, or names are not text
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = _GROUPS / controller if controllers else _GROUPS
            inner = top / path.strip("/")
            found += [inner, *(each for each in inner.parents if each.is_relative_to(top))]
    return [*found, _GROUPS, _GROUPS / controller]


def _processor_time(group: Path) -> list[str]:
    """The quota of a group and the period that it is for, in microseconds."""
    with contextlib.suppress(FileNotFoundError):
        return (group / "cpu.max").read_text().split()
    return [(group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]


def _first_of(group: Path, *names: str) -> str:
    """What the first of these files of a group says; versions call them by different names."""
    for name in names[:-1]:
        with contextlib.suppress(FileNotFoundError):
            return (group / name).read_text()
    return (group / names[-1]).read_text()
