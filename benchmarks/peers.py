"""What is measured by iterating: ways from arrays to shuffled batches, without any training.

A peer is a function of a workload and its arrays; it returns a function that begins an epoch. To
add one, write it and put it into `PEERS`.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.workloads import Arrays, Workload

__all__ = ["PEERS", "TWO_THREADS", "Epoch", "Peer", "gather_limit", "two_threads"]

TWO_THREADS = "two threads by hand"
"""What two threads could take at best."""

Epoch = Callable[[], Iterator[Arrays]]
Peer = Callable[[Workload, Arrays], Epoch]

Rows = npt.NDArray[np.int64]

_LIMIT_SLOTS = 4
_LANES = 2
_SLOTS_OF_A_LANE = 2
_ALIGNMENT_BYTES = 64


def gather_limit(workload: Workload, data: Arrays) -> Callable[[], float]:
    """The seconds of an epoch in which nothing happens but the copy of rows into warm memory.

    One thread; the permutation is ready; the batches go round four aligned buffers.
    """
    slots = [_slot(workload) for _ in range(_LIMIT_SLOTS)]
    batches = _split(np.random.default_rng(0).permutation(workload.num_samples), workload)

    def run() -> float:
        start = time.perf_counter()
        for slot, rows in zip(itertools.cycle(slots), batches, strict=False):
            _gather(data, rows, slot)
        return time.perf_counter() - start

    return run


def by_index(workload: Workload, data: Arrays) -> Epoch:
    """What one writes by hand: a permutation, and `x[rows], y[rows]`."""
    x, y = data
    rng = np.random.default_rng(0)

    def epoch() -> Iterator[Arrays]:
        for rows in _split(rng.permutation(workload.num_samples), workload):
            yield x[rows], y[rows]

    return epoch


def two_threads(workload: Workload, data: Arrays) -> Epoch:
    """The least code for two threads: each gathers every other batch into two buffers of its own.

    What a second core can add, before anything is promised about errors, views that are kept, or
    an iterator that is left early. A batch may be written over as soon as the next is asked for:
    with more buffers than these fewer would be in the processor's caches.
    """
    rng = np.random.default_rng(0)
    slots = [[_slot(workload) for _ in range(_SLOTS_OF_A_LANE)] for _ in range(_LANES)]

    def work(batches: list[Rows], free: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        for rows in batches:
            slot = free.get()
            done.put((_gather(data, rows, slot), slot))

    def epoch() -> Iterator[Arrays]:
        batches = _split(rng.permutation(workload.num_samples), workload)
        lanes = [(queue.SimpleQueue(), queue.SimpleQueue()) for _ in range(_LANES)]
        for number, (free, done) in enumerate(lanes):
            for slot in slots[number]:
                free.put(slot)
            arguments = (batches[number::_LANES], free, done)
            threading.Thread(target=work, args=arguments, daemon=True).start()
        for step in range(len(batches)):
            free, done = lanes[step % _LANES]
            batch, slot = done.get()
            yield batch
            free.put(slot)

    return epoch


def keras_npbatch(**settings: int) -> Peer:
    """`ArrayDataset`, iterated over as NumPy arrays."""

    def peer(workload: Workload, data: Arrays) -> Epoch:
        import keras_npbatch as npb

        dataset = npb.ArrayDataset(*data, batch_size=workload.batch_size, seed=0, **settings)
        return lambda: iter(dataset)

    return peer


PEERS: dict[str, Peer] = {
    "keras_npbatch workers=0": keras_npbatch(workers=0),
    "keras_npbatch workers=1": keras_npbatch(workers=1),
    "keras_npbatch workers=2": keras_npbatch(workers=2),
    TWO_THREADS: two_threads,
    "x[rows] by hand": by_index,
}


def _split(rows: Rows, workload: Workload) -> list[Rows]:
    size = workload.batch_size
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _slot(workload: Workload) -> Arrays:
    """Aligned memory for a batch, written to once, so that it is there."""
    size = workload.batch_size
    return (
        _aligned_zeros((size, *workload.feature_shape), np.dtype(workload.dtype)),
        _aligned_zeros((size,), np.dtype(np.int32)),
    )


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> npt.NDArray:
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(num_bytes + _ALIGNMENT_BYTES, 0, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT_BYTES
    return memory[start : start + num_bytes].view(dtype).reshape(shape)


def _gather(data: Arrays, rows: Rows, slot: Arrays) -> Arrays:
    x, y = (
        np.take(array, rows, axis=0, out=buffer[: len(rows)], mode="clip")
        for array, buffer in zip(data, slot, strict=True)
    )
    return x, y
