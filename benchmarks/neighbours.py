"""What the rest of the machine does meanwhile: a time means little while others take the cores.

    watch = Watch()
    ...
    watch.cores()      # 0.04: as many cores were busy with other processes since `watch` began

Linux only (/proc/stat).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["QUIET_CORES", "Watch", "wait_for_quiet"]

QUIET_CORES = 0.15
"""Others that take less than this don't disturb."""

_GLANCE_S = 0.3
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BUSY = (1, 2, 3, 6, 7, 8)
"""The fields of /proc/stat that count work: user, nice, system, irq, softirq, steal."""


class Watch:
    """Watches the processes that are neither this one nor its finished children."""

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


def _others_cpu_s() -> float:
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    own = os.times()
    busy = sum(int(fields[index]) for index in _BUSY) / _TICKS_PER_S
    return busy - own.user - own.system - own.children_user - own.children_system
