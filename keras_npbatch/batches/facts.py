"""`Facts`: what is known about how the batches of a dataset are made, without making one.

    core.facts(plan).is_in_memory

Whoever decides who makes batches, and how many of them ahead, goes by these.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about how batches are made, without making one."""

    are_gathered: bool = False
    """Whether they are rows of arrays, and no user code is called."""
    are_arrays: bool = False
    """Whether the data are contiguous NumPy arrays or memory maps."""
    is_in_memory: bool = False
    """Whether all data are in memory."""
    batch_bytes: int = 0
    """The size of a full batch of the data, if it is known."""
