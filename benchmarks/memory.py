"""Does memory grow by the queue, or by the data?"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.cases import Case, Options, Row
from benchmarks.workloads import WORKLOADS

NAME = "memory"
TITLE = "Growth of private memory (RssAnon) in an epoch of C"
COLUMNS = {
    "data": "s",
    "workers": "d",
    "x queue": ".2f",
    "x data": ".3f",
    "grown MB": ".1f",
    "queue MB": ".1f",
    "data MB": ".0f",
}

_WORKLOAD = "C"
_STEP_S = 0.004
"""The consumer takes this long for a batch, longer than making one, so that the queue fills."""


def cases(options: Options) -> list[Case]:
    """One for each kind of data and number of workers, each with memory of its own."""
    return [
        Case(options.arguments(kind=kind, workers=workers), {"KERAS_BACKEND": "numpy"})
        for kind in ("memory map", "array")
        for workers in ((1,) if options.smoke else (0, 1, 2))
    ]


def measure(kind: str, workers: int, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one setting."""
    workload = WORKLOADS[_WORKLOAD].tiny() if smoke else WORKLOADS[_WORKLOAD]
    with tempfile.TemporaryDirectory() as folder:
        x, y = workload.data()
        if kind == "memory map":
            file = Path(folder) / "x.npy"
            np.save(file, x)
            x = np.load(file, mmap_mode="r")
        grown, queue = _grown_bytes(x, y, workload.batch_size, workers)
    queue_bytes = queue * workload.batch_bytes
    data_bytes = workload.num_samples * workload.sample_bytes
    return [
        {
            "data": kind,
            "workers": workers,
            "x queue": grown / queue_bytes,
            "x data": grown / data_bytes,
            "grown MB": grown / 1e6,
            "queue MB": queue_bytes / 1e6,
            "data MB": data_bytes / 1e6,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Nothing to say."""
    return []


def _grown_bytes(x: np.ndarray, y: np.ndarray, batch_size: int, workers: int) -> tuple[int, int]:
    """The most that private memory grew, and the batches that the queue holds."""
    import keras_npbatch as npb

    warm_up = npb.ArrayDataset(x[:2], y[:2], batch_size=1, workers=workers)
    for _batch in warm_up:  # imports and starts whatever comes once
        pass
    before = most = _private_bytes()
    dataset = npb.ArrayDataset(x, y, batch_size=batch_size, seed=0, workers=workers)
    for _batch in dataset:
        time.sleep(_STEP_S)
        most = max(most, _private_bytes())
    return most - before, dataset.max_queue_size


def _private_bytes() -> int:
    """Memory of this process that no file is behind: mapped pages of a file don't count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")
