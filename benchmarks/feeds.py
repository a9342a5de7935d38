"""What is given to `model.fit`: a feed is a function from arrays to the arguments of `fit`.

To add one, write it and put it into `FEEDS`. This module imports Keras: only the process that
measures imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from benchmarks.workloads import Arrays, Workload

__all__ = ["DEFAULT", "FEEDS", "FLOOR", "REFERENCE", "Feed"]

Feed = Callable[[Workload, Arrays], dict[str, Any]]


def one_ready_batch(workload: Workload, data: Arrays) -> dict[str, Any]:
    """The same batch every step, as tensors of the backend: what the loop costs without input."""
    return {"x": _OneReadyBatch(workload, data)}


def arrays(workload: Workload, data: Arrays) -> dict[str, Any]:
    """`fit(x, y)`."""
    x, y = data
    return {"x": x, "y": y, "batch_size": workload.batch_size, "shuffle": True}


def keras_npbatch(**settings: int) -> Feed:
    """`fit(ArrayDataset(x, y))`."""

    def feed(workload: Workload, data: Arrays) -> dict[str, Any]:
        import keras_npbatch as npb

        return {"x": npb.ArrayDataset(*data, batch_size=workload.batch_size, seed=0, **settings)}

    return feed


FLOOR = "floor: one ready batch"
REFERENCE = "fit(x, y)"
DEFAULT = "keras_npbatch, default (workers=1)"

FEEDS: dict[str, Feed] = {
    FLOOR: one_ready_batch,
    REFERENCE: arrays,
    DEFAULT: keras_npbatch(),
    "keras_npbatch workers=0": keras_npbatch(workers=0),
    "keras_npbatch workers=2": keras_npbatch(workers=2),
}


class _OneReadyBatch(DataAdapter):
    """Full batches, and the short last one, so that the floor has the steps of an epoch."""

    def __init__(self, workload: Workload, data: Arrays) -> None:
        size = workload.batch_size
        rest = workload.num_samples % size or size
        full, last = (self._as_tensors(data, rows) for rows in (size, rest))
        self._batches = [full] * (workload.num_batches - 1) + [last]

    @property
    def num_batches(self) -> int:
        return len(self._batches)

    @property
    def batch_size(self) -> None:
        return None  # Keras only shows it

    @property
    def has_partial_batch(self) -> bool:
        return False

    @property
    def partial_batch_size(self) -> None:
        return None

    @staticmethod
    def _as_tensors(data: Arrays, rows: int) -> tuple[Any, ...]:
        return tuple(keras.ops.convert_to_tensor(np.array(array[:rows])) for array in data)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._batches)

    def get_jax_iterator(self) -> Iterator[tuple[Any, ...]]:
        return iter(self)

    def get_torch_dataloader(self) -> Iterator[tuple[Any, ...]]:
        return iter(self)

    def get_tf_dataset(self) -> _OneReadyBatch:
        return self
