"""`WorkerSettings`: who makes batches, and how many ahead, as the user has set it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AHEAD_IN_BLOCKS", "WorkerSettings"]

_UNDER_WAY_BY_AUTO = 192
"""As many ahead as `workers.tuning` ever chooses, and as many threads."""
AHEAD_IN_BLOCKS = 16
"""The most that `workers="auto"` makes ahead where chunks are kept meanwhile."""


@dataclass(slots=True)
class WorkerSettings:
    """Who makes batches, as set by the user; see `BatchDataset`."""

    workers: int | Literal["auto"] = 0
    use_multiprocessing: bool | None = None
    """None: threads; with "auto", threads or processes."""
    max_queue_size: int = 1
    start_method: str | None = None
    timeout_s: float | None = None
    has_own_queue: bool = True
    """Whether `max_queue_size` was given; otherwise "auto" chooses it."""
    memory_bytes: int | None = None
    """What "auto" may use; None: a quarter of what is free."""

    def most_under_way(self, *, in_blocks: bool = False) -> int:
        """The most batches that are ready, or being made, at once.

        Args:
            in_blocks: whether chunks are kept for as long as one of these batches may need them.
        """
        if self.workers == "auto":
            return AHEAD_IN_BLOCKS if in_blocks else _UNDER_WAY_BY_AUTO
        return self.max_queue_size + self.workers
