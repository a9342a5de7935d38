"""Copies of a dataset, to read without leaving a trace in it.

    twin = copied(dataset)
    twin.on_epoch_end()      # shuffles the indices of the twin alone

Attributes are copied one by one, as deep as they go. What can't be copied (a lock, a file) is
shared, and so is what nobody can write to: memory maps, read-only arrays, the arrays of an
`ArrayDataset`. Not by `__getstate__`, which may be at fault itself.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.tree import leaves

__all__ = ["copied"]

_SHARED = frozenset({"_plan", "_sources", "_structure"})
"""Attributes of our own datasets that are never written to."""
_STARTED = frozenset(
    {"_clock", "_pool", "_sent", "_sessions", "_slots", "_streams", "_times_entered"}
)
"""What a dataset of ours makes when it starts."""


def copied(dataset: Any) -> Any:
    """A dataset of its own with the same contents."""
    kind: Any = type(dataset)
    if not hasattr(dataset, "__dict__"):
        return copy.deepcopy(dataset)
    twin = kind.__new__(kind)
    memo: dict[int, Any] = {id(dataset): twin}
    is_ours = isinstance(dataset, BatchDataset)
    shared, left_out = (_SHARED, _STARTED) if is_ours else (frozenset(), frozenset())
    for name, value in vars(dataset).items():
        if name not in left_out:
            twin.__dict__[name] = value if name in shared else _copied(value, memo)
    if is_ours:
        twin._start(dataset._clock.epoch)
        twin._clock.move_to(*dataset._clock.place)
    return twin


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    for leaf in leaves(value):
        if isinstance(leaf, np.memmap) or (
            isinstance(leaf, np.ndarray) and not leaf.flags.writeable
        ):
            memo[id(leaf)] = leaf
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001  # whatever an object does that can't be copied
        return value
