"""How long does a consumer wait for the first batch of the next epoch?

The consumer works for as long as a batch takes to be made, so that batches are ready when it asks,
and then an epoch ends. The wait is told in times of making one batch.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.cases import Case, Options, Row, target
from benchmarks.neighbours import Watch
from benchmarks.process_peers import python_heavy
from benchmarks.timing import spread
from benchmarks.workloads import WORKLOADS, Arrays

NAME = "boundary"
TITLE = "The wait for the first batch of the next epoch"
COLUMNS = {
    "workload": "s",
    "workers": "s",
    "x batch": ".2f",
    "spread": "s",
    "wait ms": ".2f",
    "batch ms": ".2f",
    "epochs": "d",
    "others": ".2f",
}
KEY, RATIO = ("workload", "workers"), "x batch"

_WORKERS = {
    "0": {"workers": 0},
    "1 thread": {"workers": 1},
    "2 threads": {"workers": 2},
    "2 processes": {"workers": 2, "use_multiprocessing": True},
}
_BATCHES = 24
_EPOCHS = 9
_HEAVY = "C + Python"


def cases(options: Options) -> list[Case]:
    """One for each workload and kind of workers."""
    return [
        Case(options.arguments(workload_name=name, workers=workers), {"KERAS_BACKEND": "numpy"})
        for name in ("C", _HEAVY)
        for workers in (("2 processes",) if options.smoke else _WORKERS)
    ]


def measure(workload_name: str, workers: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one setting."""
    import keras_npbatch as npb

    workload = WORKLOADS["C"].at_most(batches=4 if smoke else _BATCHES, num_bytes=2**31)
    transform = _on_batch if workload_name == _HEAVY else None
    with npb.ArrayDataset(
        *workload.data(),
        batch_size=workload.batch_size,
        seed=0,
        transform=transform,
        **_WORKERS[workers],
    ) as dataset:
        start = time.perf_counter()
        dataset[0]
        batch_s = min(time.perf_counter() - start, _seconds_of_batch(dataset))
        waits, watch = [], Watch()
        for epoch in range(2 if smoke else 1 + _EPOCHS):
            start = time.perf_counter()
            batches = iter(dataset)
            next(batches)
            if epoch > 0:
                waits.append(time.perf_counter() - start)
            time.sleep(batch_s)
            for _batch in batches:
                time.sleep(batch_s)
        others = watch.cores()
    ratios = [round(wait / batch_s, 4) for wait in waits]
    return [
        {
            "workload": workload_name,
            "workers": workers,
            "x batch": statistics.median(ratios),
            "spread": spread(ratios),
            "ratios": ratios,
            "wait ms": statistics.median(waits) * 1e3,
            "batch ms": batch_s * 1e3,
            "epochs": len(waits),
            "others": others,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The target for processes, met or missed."""
    return [
        target(f"{row['workload']}, {row['workers']}: waits for batches", row["x batch"], 1)
        for row in rows
        if "processes" in row["workers"]
    ]


def _seconds_of_batch(dataset: object) -> float:
    start = time.perf_counter()
    dataset[1]  # type: ignore[index]
    return time.perf_counter() - start


def _on_batch(batch: Arrays) -> Arrays:
    return python_heavy(batch[0]), batch[1]
