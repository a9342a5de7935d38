"""What the rest of the machine does meanwhile: a time means little while others take the cores.

    watch = Watch()
    ...
    watch.cores()      # 0.04: as many cores were busy with other processes since `watch` began

Own is every process of this session, workers and what they start included: each case is given a
session of its own (`cases`). Linux only (/proc).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["QUIET_CORES", "Watch", "own_cpu_s", "wait_for_quiet"]

QUIET_CORES = 0.15
"""Others that take less than this don't disturb."""

_GLANCE_S = 0.3
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BUSY = (1, 2, 3, 6, 7, 8)
"""The fields of /proc/stat that count work: user, nice, system, irq, softirq, steal."""
_SESSION = 3
_TIMES = slice(11, 15)
"""Fields of /proc/PID/stat behind the name: the session; the ticks that the process used, as user
and in the kernel, and those of its children that have ended."""


class Watch:
    """Watches the processes that are not of this session."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._others_before = _others_cpu_s()

    def cores(self) -> float:
        """Cores that others kept busy since the watch began."""
        passed = time.perf_counter() - self._begun
        return max(0.0, (_others_cpu_s() - self._others_before) / passed)


def wait_for_quiet(until: float) -> None:
    """Sleeps until others are quiet, or `time.perf_counter()` reaches `until`."""
    while time.perf_counter() < until:
        watch = Watch()
        time.sleep(_GLANCE_S)
        if watch.cores() <= QUIET_CORES:
            return


def own_cpu_s() -> float:
    """Seconds of processors that the processes of this session have used.

    Those that have ended are counted by the parent that was told of it. Descendants would not do
    instead of a session: who has started a process may be gone before it.
    """
    session, ticks = os.getsid(0), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        fields = stat[stat.rindex(")") + 2 :].split()  # a name may hold anything
        if int(fields[_SESSION]) == session:
            ticks += sum(map(int, fields[_TIMES]))
    return ticks / _TICKS_PER_S


def _others_cpu_s() -> float:
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    busy = sum(int(fields[index]) for index in _BUSY) / _TICKS_PER_S
    return busy - own_cpu_s()
