"""What do eight worker processes on one array use beside the array?

The limit is eight forks of Python with NumPy that do nothing but gather from the same shared
memory: what a process must write to run at all is its own. Shared memory is counted once (PSS).
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.cases import Case, Options, Row, target
from benchmarks.workloads import WORKLOADS, Workload
from keras_npbatch.batches.core import core_of
from keras_npbatch.workers.executor import Executor

NAME = "sharing"
TITLE = "Eight processes that gather from one array"
COLUMNS = {
    "peer": "s",
    "array MB": ".0f",
    "in memory MB": ".0f",
    "slots MB": ".0f",
    "own MB/process": ".1f",
}
KEY, RATIO = ("peer",), "own MB/process"

_BARE, _OURS = "bare forks", "keras_npbatch"
_PROCESSES = 8
_MOST_MB = 8.0
"""What each may write of its own: the pages of Python and NumPy that running changes."""


def cases(options: Options) -> list[Case]:
    """One for each: what one of them leaves in memory must not be the other's."""
    return [
        Case(options.arguments(peer=peer), {"KERAS_BACKEND": "numpy"}) for peer in (_BARE, _OURS)
    ]


def measure(peer: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one peer."""
    workload = WORKLOADS["C"].tiny() if smoke else WORKLOADS["C"]
    array_bytes = workload.num_samples * workload.sample_bytes
    with {_BARE: _forks, _OURS: _workers}[peer](workload) as pids:
        array, slots, own = (sum(kind) for kind in zip(*map(_bytes_of, pids), strict=True))
    return [
        {
            "peer": peer,
            "array MB": array_bytes / 1e6,
            "in memory MB": array / 1e6,
            "slots MB": slots / 1e6,
            "own MB/process": own / _PROCESSES / 1e6,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The array once, whatever the number of processes."""
    return [
        target(f"{row['peer']}: own MB a process", row["own MB/process"], _MOST_MB)
        for row in rows
        if row["peer"] == _OURS
    ]


def _bytes_of(pid: int) -> tuple[int, int, int]:
    """The parts that a process has (PSS) in the array, in slots, and in all else."""
    array = slots = own = 0
    for mapping in psutil.Process(pid).memory_maps(grouped=False):
        if not mapping.path.startswith("/memfd:"):
            own += mapping.pss
        elif mapping.perms.endswith("s"):
            slots += mapping.pss
        else:  # what a process writes to the array is its own
            array += mapping.pss
    return array, slots, own


@contextmanager
def _workers(workload: Workload) -> Iterator[list[int]]:
    import keras_npbatch as npb

    with npb.ArrayDataset(
        *workload.data(),
        batch_size=workload.batch_size,
        seed=0,
        workers=_PROCESSES,
        use_multiprocessing=True,
    ) as dataset:
        for _batch in dataset:
            pass
        pool = core_of(dataset).part(Executor).pool
        assert pool is not None
        yield list(pool.pids)


@contextmanager
def _forks(workload: Workload) -> Iterator[list[int]]:
    memory = os.memfd_create("array")
    num_bytes = workload.num_samples * workload.sample_bytes
    os.ftruncate(memory, num_bytes)
    pids = []
    done, tell = os.pipe()
    for _ in range(_PROCESSES):
        pid = os.fork()
        if pid == 0:
            array = np.frombuffer(mmap.mmap(memory, num_bytes, mmap.MAP_PRIVATE), workload.dtype)
            _gather(array.reshape(-1, *workload.feature_shape), workload)
            os.write(tell, b".")
            time.sleep(600)
            os._exit(0)
        pids.append(pid)
    try:
        told = b""
        while len(told) < _PROCESSES:
            told += os.read(done, _PROCESSES)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def _gather(array: npt.NDArray[Any], workload: Workload) -> None:
    """An epoch's worth, of the rows in order, so that each page is touched."""
    batch = np.empty((workload.batch_size, *array.shape[1:]), array.dtype)
    for start in range(0, len(array) - workload.batch_size + 1, workload.batch_size):
        np.take(array, np.arange(start, start + workload.batch_size), 0, batch, "clip")
