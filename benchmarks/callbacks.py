"""What do the callbacks cost in `model.fit`, in their default setting?

Two models get the samples of workload C. The steps of the smallest are short, so a callback can't
hide behind them, and what it costs is told in microseconds a step. The other is the small
convolutional network of Keras's first examples: that cost is told as a share of its step.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Options, Row, target
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
    "us/step": ".0f",
    "% of conv step": ".2f",
    "conv ms/step": ".1f",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("backend", "callback"), "x without"
_WORKLOAD = "C"
_BATCHES, _CONV_BATCHES = 60, 6
_MOST_PERCENT = 2.0


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

    conv_ms = _ms_of_a_step(convolutional, 1 if smoke else _CONV_BATCHES)
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
        trainer = Trainer(workload, {"x": dataset})
        runs = {
            name: lambda make=make: trainer.seconds_of_epoch(make())
            for name, make in makers.items()
        }
        for run in runs.values():
            run()  # compiles
        times = interleave(runs, Rounds(**rounds))
    us_without = times.seconds("without") / workload.num_batches * 1e6
    rows: list[Row] = []
    for name in makers:
        if name in ("without", "again"):
            continue
        cost_us = (times.ratio(name, "without") - 1) * us_without
        rows.append(
            {
                "backend": backend,
                "callback": name,
                **times.told("x without", name, "without"),
                "x without, again": times.ratio("again", "without"),
                "us/step": cost_us,
                "% of conv step": cost_us / conv_ms / 10,
                "conv ms/step": conv_ms,
            }
        )
    return rows


def verdicts(rows: list[Row]) -> list[str]:
    """Each callback on each backend."""
    return [
        target(f"{row['backend']} {row['callback']}: %", row["% of conv step"], _MOST_PERCENT)
        for row in rows
    ]


def _ms_of_a_step(make_model: Any, batches: int) -> float:
    import keras_npbatch as npb
    from benchmarks.training import Trainer

    workload = WORKLOADS[_WORKLOAD].at_most(batches=batches, num_bytes=10**9)
    dataset = npb.ArrayDataset(*workload.data(), batch_size=workload.batch_size, seed=0)
    trainer = Trainer(workload, {"x": dataset}, make_model)
    seconds = [trainer.seconds_of_epoch() for _ in range(4)][1:]  # the first one compiles
    return statistics.median(seconds) / workload.num_batches * 1e3
