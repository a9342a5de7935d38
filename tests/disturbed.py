"""Tests of how long something takes, on a machine where others work too."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import psutil

_TRIES = 5
_UNDISTURBED = 0.2
"""Less processor time of others than this, in a second, is what a machine at rest takes."""


def whatever_else_runs(test: Callable[..., None]) -> Callable[..., None]:
    """Tries again where other work on the machine moved times about; else a failure is one."""

    @functools.wraps(test)
    def tried(*arguments: Any, **named: Any) -> None:
        for _ in range(_TRIES - 1):
            began, others = time.monotonic(), _processor_time_of_others()
            try:
                return test(*arguments, **named)
            except AssertionError:
                took = time.monotonic() - began
                if _processor_time_of_others() - others < _UNDISTURBED * took:
                    raise
        return test(*arguments, **named)

    return tried


def _processor_time_of_others() -> float:
    """Seconds that the processors have worked for other processes than this one."""
    of_all, own = psutil.cpu_times(), psutil.Process().cpu_times()
    at_work = sum(of_all) - of_all.idle - getattr(of_all, "iowait", 0.0)
    return float(at_work - own.user - own.system)
