"""What do the callbacks cost in `model.fit`, in their default setting?

The model is the small convolutional network of Keras's first examples, on the samples of workload
C: not the smallest there is, whose steps do nothing. What a callback costs is told in microseconds
too, for other steps.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.cases import Case, Options, Row
from benchmarks.timing import Rounds, interleave
from benchmarks.workloads import WORKLOADS

NAME = "callbacks"
TITLE = "A step of model.fit with each callback"
COLUMNS = {
    "backend": "s",
    "callback": "s",
    "x without": ".3f",
    "spread": "s",
    "x without, again": ".3f",
    "us/step more": ".0f",
    "ms/step": ".2f",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("backend", "callback"), "x without"
_WORKLOAD = "C"
_BATCHES = 6
_LIMIT = 1.02


def cases(options: Options) -> list[Case]:
    """One for each backend."""
    return [
        Case(options.arguments(backend=backend), {"KERAS_BACKEND": backend})
        for backend in options.backends
    ]


def measure(backend: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """A row for each callback: the second of two epochs, with it and without."""
    import keras_npbatch as npb  # these import Keras
    from benchmarks.training import Trainer, convolutional

    workload = WORKLOADS[_WORKLOAD].at_most(batches=3 if smoke else _BATCHES, num_bytes=10**9)
    dataset = npb.ArrayDataset(*workload.data(), batch_size=workload.batch_size, seed=0)
    callbacks = npb.callbacks
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # "again" is a run without any, too: how far apart two of the same are.
        makers = {
            "without": list,
            "again": list,
            "BatchStatistics": lambda: [callbacks.BatchStatistics(dataset)],
            "InputMonitor": lambda: [callbacks.InputMonitor(dataset)],
            "CoverageAudit": lambda: [callbacks.CoverageAudit(dataset)],
            "NaNReport": lambda: [callbacks.NaNReport(dataset, folder / "nan")],
            "BackupAndRestore": lambda: [callbacks.BackupAndRestore(dataset, folder / "backup")],
        }
        trainer = Trainer(workload, {"x": dataset}, convolutional)
        runs = {
            name: lambda make=make: trainer.seconds_of_epoch(make())
            for name, make in makers.items()
        }
        for run in runs.values():
            run()  # compiles
        times = interleave(runs, Rounds(**rounds))
    steps = workload.num_batches
    return [
        {
            "backend": backend,
            "callback": name,
            **times.told("x without", name, "without"),
            "x without, again": times.ratio("again", "without"),
            "us/step more": (times.seconds(name) - times.seconds("without")) / steps * 1e6,
            "ms/step": times.seconds(name) / steps * 1e3,
        }
        for name in makers
        if name not in ("without", "again")
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Each callback on each backend."""
    return [
        f"{row['backend']} {row['callback']}: {100 * (row['x without'] - 1):+.1f} % of a step of "
        f"{row['ms/step']:.1f} ms, {'within' if row['x without'] <= _LIMIT else 'above'} 2 % "
        f"(without any, again: {100 * (row['x without, again'] - 1):+.1f} %)"
        for row in rows
    ]
