"""Ways from arrays to batches through two worker processes.

A peer begins with a workload, its arrays and a transform of a batch's features (or None), and gives
a function that begins an epoch. To add one, write it and put it into `PEERS`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers import Epoch
from benchmarks.workloads import Arrays, Workload

__all__ = ["PEERS", "ProcessPeer", "compute_limit", "python_heavy", "torch_batches"]

Features = npt.NDArray[Any]
Transform = Callable[[Features], Features] | None

_WORKERS = 2
_LOOPS = 2_700
"""About 100 us of Python a sample."""


@dataclass(frozen=True, slots=True)
class ProcessPeer:
    """How a peer is begun, and what it needs."""

    begin: Callable[[Workload, Arrays, Transform], AbstractContextManager[Epoch]]
    package: str = "numpy"
    backend: str = "numpy"


def python_heavy(features: Features) -> Features:
    """Mirrors each sample, after about 100 us of Python over it."""
    result = np.empty_like(features)
    for number, sample in enumerate(features):
        total = 0
        for value in range(_LOOPS):
            total += value & 7
        result[number] = sample[:, ::-1] + np.float32(total & 1)
    return result


def compute_limit(workload: Workload, data: Arrays) -> float:
    """The seconds in which two processes transform an epoch, each its half, and drop it."""
    context = multiprocessing.get_context("fork")
    size, number = workload.batch_size, workload.num_batches

    def work(first: int, begin: Any, end: Any) -> None:
        begin.wait()
        for step in range(first, number, _WORKERS):
            python_heavy(data[0][step * size : (step + 1) * size])
        end.wait()

    begin, end = context.Barrier(_WORKERS + 1), context.Barrier(_WORKERS + 1)
    processes = [
        context.Process(target=work, args=(first, begin, end)) for first in range(_WORKERS)
    ]
    for process in processes:
        process.start()
    begin.wait()
    start = time.perf_counter()
    end.wait()
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    return seconds


@contextlib.contextmanager
def keras_npbatch(workload: Workload, data: Arrays, transform: Transform) -> Iterator[Epoch]:
    """`ArrayDataset`, iterated over as NumPy arrays."""
    import keras_npbatch as npb

    def on_batch(batch: Arrays) -> Arrays:
        assert transform is not None
        return transform(batch[0]), batch[1]

    with npb.ArrayDataset(
        *data,
        batch_size=workload.batch_size,
        seed=0,
        workers=_WORKERS,
        use_multiprocessing=True,
        transform=None if transform is None else on_batch,
    ) as dataset:
        yield lambda: iter(dataset)


def _keras(reader: str) -> Callable[..., AbstractContextManager[Epoch]]:
    @contextlib.contextmanager
    def begin(workload: Workload, data: Arrays, transform: Transform) -> Iterator[Epoch]:
        import keras
        from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

        x, y = data
        rng = np.random.default_rng(0)

        class Textbook(keras.utils.PyDataset):
            def __init__(self) -> None:
                super().__init__(workers=_WORKERS, use_multiprocessing=True)
                self.rows = rng.permutation(workload.num_samples)

            def __len__(self) -> int:
                return workload.num_batches

            def __getitem__(self, index: int) -> Arrays:
                size = workload.batch_size
                rows = self.rows[index * size : (index + 1) * size]
                return x[rows] if transform is None else transform(x[rows]), y[rows]

            def on_epoch_end(self) -> None:
                self.rows = rng.permutation(workload.num_samples)

        adapter = PyDatasetAdapter(Textbook(), shuffle=False)
        pipeline = adapter.get_tf_dataset() if reader == "tensorflow" else None

        def epoch() -> Iterator[Arrays]:
            adapter.on_epoch_begin()
            yield from adapter.get_jax_iterator() if pipeline is None else pipeline
            adapter.on_epoch_end()

        yield epoch

    return begin


def torch_batches(workload: Workload, data: Arrays, transform: Transform, workers: int) -> Any:
    """A `DataLoader` whose sampler gives whole batches of indices."""
    import torch
    from torch.utils import data as torch_data

    x, y = data

    class Rows(torch_data.Dataset):
        def __len__(self) -> int:
            return workload.num_samples

        def __getitem__(self, rows: list[int]) -> Any:
            features = x[rows] if transform is None else transform(x[rows])
            return torch.from_numpy(features), torch.from_numpy(y[rows])

    rows = Rows()
    sampler = torch_data.BatchSampler(torch_data.RandomSampler(rows), workload.batch_size, False)
    return torch_data.DataLoader(
        rows,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


@contextlib.contextmanager
def torch_loader(workload: Workload, data: Arrays, transform: Transform) -> Iterator[Epoch]:
    """The same, in worker processes that stay."""
    loader = torch_batches(workload, data, transform, workers=_WORKERS)
    yield lambda: iter(loader)


class GrainBatches:
    """Batch `index`, counted over all epochs, by a permutation that each process makes itself."""

    def __init__(self, workload: Workload, data: Arrays, transform: Transform) -> None:
        self.workload, self.data, self.transform = workload, data, transform
        self.epoch, self.rows = -1, np.empty(0, np.int64)

    def __call__(self, index: int) -> Arrays:
        epoch, step = divmod(int(index), self.workload.num_batches)
        if epoch != self.epoch:
            rng = np.random.default_rng(epoch)
            self.epoch, self.rows = epoch, rng.permutation(self.workload.num_samples)
        size = self.workload.batch_size
        rows = self.rows[step * size : (step + 1) * size]
        x, y = self.data
        return x[rows] if self.transform is None else self.transform(x[rows]), y[rows]


@contextlib.contextmanager
def grain_prefetch(workload: Workload, data: Arrays, transform: Transform) -> Iterator[Epoch]:
    """Whole batches by index, through `mp_prefetch`, one iterator for all epochs."""
    import grain
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain reads them
    options = grain.multiprocessing.MultiprocessingOptions(
        num_workers=_WORKERS, per_worker_buffer_size=2
    )
    batches = iter(
        grain.MapDataset.range(workload.num_batches * 10**6)
        .map(GrainBatches(workload, data, transform))
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        .mp_prefetch(options)
    )

    def epoch() -> Iterator[Arrays]:
        for _ in range(workload.num_batches):
            yield next(batches)

    yield epoch
    close = getattr(batches, "close", None)
    if close is not None:
        close()


PEERS = {
    "keras_npbatch": ProcessPeer(keras_npbatch),
    "Keras PyDataset (tensorflow)": ProcessPeer(_keras("tensorflow"), "tensorflow", "tensorflow"),
    "Keras PyDataset (jax)": ProcessPeer(_keras("jax"), "jax", "jax"),
    "torch DataLoader": ProcessPeer(torch_loader, "torch"),
    "grain mp_prefetch": ProcessPeer(grain_prefetch, "grain"),
}
