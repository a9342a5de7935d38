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

from benchmarks.feed_names import BY_HAND, DEFAULT, FLOOR, REFERENCE
from benchmarks.workloads import Arrays, Workload

__all__ = ["FEEDS", "Feed"]

Feed = Callable[[Workload, Arrays], dict[str, Any]]


def one_ready_batch(workload: Workload, data: Arrays) -> dict[str, Any]:
    """The same batch every step, as tensors of the backend: what the loop costs without input."""
    return {"x": _OneReadyBatch(workload, data)}


def by_hand(workload: Workload, data: Arrays) -> dict[str, Any]:
    """A permutation, and `take` in the loop, with nothing around it: what any input costs."""
    return {"x": _ByHand(workload, data)}


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


def tf_dataset(peer: str) -> Feed:
    """A `tf.data.Dataset`, made in one of the ways of `tf_peers`."""

    def feed(workload: Workload, data: Arrays) -> dict[str, Any]:
        from benchmarks.tf_peers import TF_PEERS

        return {"x": TF_PEERS[peer](workload, data), "shuffle": False}

    return feed


def py_dataset(**settings: Any) -> Feed:
    """The textbook's `keras.utils.PyDataset`: a permutation, and `x[rows], y[rows]`."""

    def feed(workload: Workload, data: Arrays) -> dict[str, Any]:
        return {"x": _Textbook(workload, data, **settings), "shuffle": False}

    return feed


def torch_loader(workload: Workload, data: Arrays) -> dict[str, Any]:
    """A `DataLoader` in this process whose sampler gives whole batches of indices."""
    from benchmarks.process_peers import torch_batches

    return {"x": torch_batches(workload, data, None, workers=0), "shuffle": False}


FEEDS: dict[str, Feed] = {
    FLOOR: one_ready_batch,
    REFERENCE: arrays,
    BY_HAND: by_hand,
    DEFAULT: keras_npbatch(),
    "keras_npbatch workers=0": keras_npbatch(workers=0),
    "keras_npbatch workers=2": keras_npbatch(workers=2),
}

FEEDS |= {
    "PyDataset workers=1": py_dataset(),
    "PyDataset, 2 threads": py_dataset(workers=2),
    "PyDataset, 2 processes": py_dataset(workers=2, use_multiprocessing=True),
    "torch DataLoader, whole batches": torch_loader,
}
FEEDS |= {
    f"tf.data: {peer}": tf_dataset(peer)
    for peer in (
        "keras_npbatch workers=1",
        "keras_npbatch workers=2",
        "from_generator",
        "from_tensor_slices.shuffle.batch",
    )
}


class _Textbook(keras.utils.PyDataset):
    def __init__(self, workload: Workload, data: Arrays, **settings: Any) -> None:
        super().__init__(**settings)
        self._workload, self._data = workload, data
        self._rng = np.random.default_rng(0)
        self.on_epoch_end()

    def __len__(self) -> int:
        return self._workload.num_batches

    def __getitem__(self, index: int) -> Arrays:
        size = self._workload.batch_size
        rows = self._rows[index * size : (index + 1) * size]
        x, y = self._data
        return x[rows], y[rows]

    def on_epoch_end(self) -> None:
        self._rows = self._rng.permutation(self._workload.num_samples)


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


class _ByHand(_OneReadyBatch):
    """Batches in the floor's place, made as they are asked for."""

    def __init__(self, workload: Workload, data: Arrays) -> None:
        super().__init__(workload, data)
        self._data, self._rng = data, np.random.default_rng(0)
        self._order = np.arange(workload.num_samples)
        self._starts = range(0, workload.num_samples, workload.batch_size)
        # JAX takes the array itself in less time than Keras makes a tensor of it.
        is_jax = keras.backend.backend() == "jax"
        self._given = np.asarray if is_jax else keras.ops.convert_to_tensor

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self._rng.shuffle(self._order)
        for start in self._starts:
            rows = self._order[start : start + self._starts.step]
            yield tuple(self._given(array.take(rows, 0)) for array in self._data)
