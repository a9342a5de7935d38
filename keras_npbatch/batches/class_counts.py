"""How many samples of each class the whole data have.

    classes_of(dataset)             # {"y": {0: 900, 1: 100}}

The targets of an `ArrayDataset` are read once, and nothing else. What another dataset has is known
only once an epoch has been read; see `callbacks.statistics.classes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.summary import MOST_CLASSES, Counts, classes_in, name_of
from keras_npbatch.plan.plan import Plan
from keras_npbatch.sources.arrays import IndexedArray, TakenArray
from keras_npbatch.sources.progress import counted
from keras_npbatch.sources.source import Source

__all__ = ["add_counts", "classes_of"]

_ROWS_AT_ONCE = 64 * 1024


def classes_of(dataset: Any) -> dict[str, Counts]:
    """The class counts of each leaf of classes in the targets of an `ArrayDataset`.

    Reads arrays and memory maps once, a part at a time; not other kinds of files, nor what a user's
    `load` returns.
    """
    core = core_of(dataset)
    if not core.reads_arrays_alone:
        return {}
    found = {}
    for path, source in core.data.items():
        name = name_of(path)
        if name.startswith("y") and isinstance(source, TakenArray | IndexedArray):
            counts = _counted(source, core.plan, f"counting the classes of {name}")
            if counts is not None:
                found[name] = counts
    return found


def _counted(source: Source, plan: Plan, what: str) -> Counts | None:
    if source.dtype.kind not in "biuf":
        return None
    total: Counts = {}
    order = plan.in_data_order().order(0)
    with counted(range(0, plan.num_samples, _ROWS_AT_ONCE), what) as starts:
        for start in starts:
            rows = order.rows(start, min(start + _ROWS_AT_ONCE, plan.num_samples))
            counts = classes_in(source.read(rows, np.empty))
            if counts is None:
                return None
            add_counts(total, counts)
            if len(total) > MOST_CLASSES:
                return None
    return total


def add_counts(total: Counts, counts: Counts) -> None:
    """Add counts to a total, in place."""
    for number, count in counts.items():
        total[number] = total.get(number, 0) + count
