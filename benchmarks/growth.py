"""Does memory grow from epoch to epoch?"""

from __future__ import annotations

import gc

import psutil

from benchmarks.cases import Case, Options, Row, target
from benchmarks.workloads import WORKLOADS

NAME = "growth"
TITLE = "Growth of memory (USS, with its workers) over many epochs"
COLUMNS = {
    "workers": "s",
    "x batch": ".2f",
    "kB/epoch": ".2f",
    "after 20 MB": ".1f",
    "at the end MB": ".1f",
    "epochs": "d",
    "open files": "d",
}
KEY, RATIO = ("workers",), "at the end MB"

_WORKERS = {
    "0": {"workers": 0},
    "2 threads": {"workers": 2},
    "2 processes": {"workers": 2, "use_multiprocessing": True},
}
_SETTLED = 20
_EPOCHS = 200
_BATCHES = 40


def cases(options: Options) -> list[Case]:
    """One for each kind of workers."""
    return [
        Case(options.arguments(workers=workers), {"KERAS_BACKEND": "numpy"})
        for workers in (("2 processes",) if options.smoke else _WORKERS)
    ]


def measure(workers: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one setting."""
    import keras_npbatch as npb

    workload = WORKLOADS["C"].at_most(batches=_BATCHES, num_bytes=2**31)
    settled, epochs = (2, 4) if smoke else (_SETTLED, _EPOCHS)
    process = psutil.Process()
    with npb.ArrayDataset(
        *workload.data(), batch_size=workload.batch_size, seed=0, **_WORKERS[workers]
    ) as dataset:
        for epoch in range(epochs):
            if epoch == settled:
                before, files = _bytes(process), process.num_fds()
            for _batch in dataset:
                pass
        after = _bytes(process)
        more_files = process.num_fds() - files
    return [
        {
            "workers": workers,
            "x batch": (after - before) / workload.batch_bytes,
            "kB/epoch": (after - before) / (epochs - settled) / 1e3,
            "after 20 MB": before / 1e6,
            "at the end MB": after / 1e6,
            "epochs": epochs,
            "open files": more_files,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """In all, of memory and of files."""
    return [
        line
        for row in rows
        for line in (
            target(
                f"{row['workers']}: grew in {row['epochs']} epochs by batches", row["x batch"], 1
            ),
            target(f"{row['workers']}: opened files", row["open files"], 0),
        )
    ]


def _bytes(process: psutil.Process) -> int:
    """Memory that this process and its workers have for themselves."""
    gc.collect()
    members = [process, *process.children(recursive=True)]
    return sum(member.memory_full_info().uss for member in members)
