"""How long a worker may hang, and how often workers may fail to start.

    patience = Patience(timeout_s=30, method="spawn")
    patience.start_s                       # 90: user modules are imported meanwhile
    patience.note_failed_start(killed=False, hung=True, how="...")   # the second raises

A failed start is never the fault of a batch. Whatever kills workers may stop doing so, so more
killed ones are forgiven. A start that takes too long may mean a busy machine, so another one may
take twice as long, once.
"""

from __future__ import annotations

from collections import Counter

from keras_npbatch.errors import WorkerStartError
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["MOST_DEATHS", "Patience"]

MOST_DEATHS = 3
"""How many workers may die over one batch, or at their start, before it is an error."""
_MOST_KILLED_AT_START, _MOST_HUNG_AT_START = 10, 2
_START_TIMES, _LEAST_START_S = 3.0, 3.0
"""A start may take this multiple of `timeout`, or this many seconds if that is more."""
_LEAST_SPAWN_S = 5.0
"""The same for a new interpreter, which imports everything by itself."""


class Patience:
    """The patience with the workers of one pool.

    Args:
        timeout_s: how long a worker may owe a batch, in seconds; None for no limit.
        method: how workers are started.
    """

    def __init__(self, timeout_s: float | None, method: StartMethod) -> None:
        self.batch_s = timeout_s
        self._spawns = method == "spawn"
        self._failed: Counter[bool] = Counter()
        """Failed starts in a row: of workers killed by a signal (True), and others (False)."""

    @property
    def start_s(self) -> float | None:
        """How long a start may take, in seconds; None for no limit."""
        if self.batch_s is None:
            return None
        again = 2 if self._failed[False] else 1
        least_s = _LEAST_SPAWN_S if self._spawns else _LEAST_START_S
        return again * max(least_s, _START_TIMES * self.batch_s)

    @property
    def look_s(self) -> float | None:
        """How long to wait before the next check for hung workers, in seconds; None: no limit."""
        return None if self.batch_s is None else min(self.batch_s, 1.0) / 4

    def note_start(self) -> None:
        """Record that a worker became ready."""
        self._failed.clear()

    def note_failed_start(self, how: str, *, killed: bool, hung: bool) -> None:
        """Record that a worker ended before it was ready.

        Raises:
            WorkerStartError: if that has happened too often since a worker was last ready.
        """
        self._failed[killed] += 1
        number = self._failed[killed]
        if number < (
            _MOST_KILLED_AT_START if killed else _MOST_HUNG_AT_START if hung else MOST_DEATHS
        ):
            return
        others = "threads" if self._spawns else "start_method='spawn', or threads"
        more_time = "Give them more time (timeout=...), or try" if hung else "Try"
        raise WorkerStartError(
            f"{number} worker processes ended at their start, the last one {how}; what they wrote "
            f"is on standard error. {more_time} {others}: use_multiprocessing=False."
        )
