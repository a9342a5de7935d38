"""Copies of a dataset, to read it without changing it.

    twin = copied(dataset)
    twin.on_epoch_end()      # shuffles the indices of the twin only

Attributes are deep-copied one by one. What can't be copied (a lock, a file) is shared, and so are
memory maps, read-only arrays, and the arrays of an `ArrayDataset`. The copy does not use
`__getstate__`, which may have a fault itself.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from keras_npbatch.batches.core import Core
from keras_npbatch.tree import leaves

__all__ = ["copied"]


def copied(dataset: Any) -> Any:
    """An independent copy of a dataset."""
    kind: Any = type(dataset)
    if not hasattr(dataset, "__dict__"):
        return copy.deepcopy(dataset)
    twin = kind.__new__(kind)
    memo: dict[int, Any] = {id(dataset): twin}
    for name, value in vars(dataset).items():
        if isinstance(value, Core):
            core = value.copy_for(twin)
            core.cache = None  # it would hide that a sample is made differently the next time
            core.datasets = tuple(copied(each) for each in core.datasets)
            for part in core.from_user:
                setattr(core, part, _copied(getattr(core, part), memo))
            value = core
        else:
            value = _copied(value, memo)
        twin.__dict__[name] = value
    return twin


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    for leaf in leaves(value):
        if isinstance(leaf, np.memmap) or (
            isinstance(leaf, np.ndarray) and not leaf.flags.writeable
        ):
            memo[id(leaf)] = leaf
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001  # whatever an object raises that can't be copied
        return value
