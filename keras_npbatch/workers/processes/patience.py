"""How long a worker may stand still, and how often one may fail as it starts.

    patience = Patience(timeout_s=30)
    patience.start_s                       # 90: user modules are imported meanwhile
    patience.note_failed_start(killed=False, hung=True, how="...")   # the third raises

No batch can be the reason for a failed start. Whoever kills workers may stop, so killed ones are
forgiven more often. Where one takes too long the machine may be busy, so the next may take longer.
"""

from __future__ import annotations

from collections import Counter

from keras_npbatch.errors import WorkerStartError

__all__ = ["MOST_DEATHS", "Patience"]

MOST_DEATHS = 3
"""After so many workers have died over one batch, or at their start, it is an error."""
_MOST_KILLED_AT_START = 10
_START_TIMES, _LEAST_START_S = 3.0, 3.0
"""A start may take so many times `timeout`, or so many seconds if that is more."""


class Patience:
    """With the workers of one pool.

    Args:
        timeout_s: how long a worker may owe a batch; None for ever.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self.batch_s = timeout_s
        self._failed: Counter[bool] = Counter()
        """Starts in a row: those that somebody killed, and others."""

    @property
    def start_s(self) -> float | None:
        """How long a start may take; None for ever."""
        if self.batch_s is None:
            return None
        again = 2 if self._failed[False] else 1
        return again * max(_LEAST_START_S, _START_TIMES * self.batch_s)

    @property
    def look_ms(self) -> float | None:
        """How long to wait before the next look at who stands still; None for ever."""
        return None if self.batch_s is None else min(self.batch_s, 1.0) * 250

    def note_start(self) -> None:
        """A worker was ready."""
        self._failed.clear()

    def note_failed_start(self, how: str, *, killed: bool, hung: bool) -> None:
        """A worker ended before it was ready.

        Raises:
            WorkerStartError: if that has come too often since one was.
        """
        self._failed[killed] += 1
        number = self._failed[killed]
        if number < (_MOST_KILLED_AT_START if killed else MOST_DEATHS):
            return
        more = "give it more time (timeout=...), " if hung else ""
        raise WorkerStartError(
            f"{number} worker processes ended at their start, the last one {how}; what they wrote "
            f"is on standard error. Try {more}start_method='spawn', or threads: "
            "use_multiprocessing=False."
        )
