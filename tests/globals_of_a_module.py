"""A transform in a module, which worker processes import, and what it reads there."""

from __future__ import annotations

from typing import Any

SCALE = 1.0
OFFSET = 0.0
_calls = 0


def scaled(batch: Any) -> Any:
    """The batch times `SCALE`."""
    global _calls
    _calls += 1  # a state of its process
    return _moved(batch * SCALE)


def _moved(batch: Any) -> Any:
    return batch + OFFSET
