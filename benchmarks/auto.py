"""Does `workers="auto"` find what a search over all settings finds?

A dataset for each fixed setting, and one with "auto", which has settled before anything is timed.
Each round runs an epoch of all of them, and times all but the first batches: worker processes make
those while the epochs of others run, and the longer the queue, the more of them. The limit is the
best fixed setting, found by the times themselves, which favours it. `S` is a loader that waits 2 ms
for each sample, as for a disk or a network; `P` is that of `transport`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import Case, Options, Row, target
from benchmarks.process_peers import python_heavy
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import WORKLOADS

NAME = "auto"
TITLE = "workers='auto' beside the best fixed setting"
COLUMNS = {
    "workload": "s",
    "chosen": "s",
    "best": "s",
    "x best": ".2f",
    "spread": "s",
    "steps": "d",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("workload",), "x best"

_HEAVY, _WAITING = "P", "S"
_MOST = 1 / 0.95
_MADE_BEFORE = 12
"""Batches: two more than the longest queue of processes here."""
_MOST_STEPS = 1_000
"""After so many steps it should have settled long ago."""
_BATCHES = {"T": 1_000, "C": 195, "I": 125, "M": 125, _HEAVY: 48, _WAITING: 128}
_THREADS = (1, 2, 4)
_MANY_THREADS = (8, 16, 32, 64)
_PROCESSES = (1, 2, 3)
_WAIT_S, _WAITING_BATCH = 0.002, 32


def cases(options: Options) -> list[Case]:
    """One for each workload."""
    beside = [_HEAVY, _WAITING] if "C" in options.workloads else []
    return [
        Case(
            options.arguments(workload_name=name),
            {"KERAS_BACKEND": "numpy"},
            left_out=WORKLOADS[name].no_room() if name in WORKLOADS else None,
        )
        for name in [*options.workloads, *beside]
    ]


def measure(workload_name: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one workload."""
    make = partial(_dataset, workload_name, _data(workload_name, smoke))
    with ExitStack() as opened:
        found = {
            name: opened.enter_context(make(**settings))
            for name, settings in _fixed(workload_name, smoke).items()
        }
        tuned = found["auto"] = opened.enter_context(make(workers="auto"))
        steps = _settle(tuned, most=30 if smoke else _MOST_STEPS)
        runs = {name: partial(_seconds, each) for name, each in found.items()}
        times = interleave(runs, Rounds(**rounds))
        chosen = str(tuned.workers_chosen)
    best = min((name for name in runs if name != "auto"), key=times.seconds)
    return [
        {
            "workload": workload_name,
            "chosen": chosen,
            "best": best,
            **times.told("x best", "auto", best),
            "steps": steps,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Whether it is as good as the best, for each workload."""
    lines = [target(f"{row['workload']}: x best", row["x best"], _MOST) for row in rows]
    return lines + [target(f"{row['workload']}: steps", row["steps"], 200) for row in rows]


def _fixed(workload_name: str, smoke: bool) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"inline": {"workers": 0}}
    threads = _THREADS + (_MANY_THREADS if workload_name == _WAITING else ())
    for number in threads[:2] if smoke else threads:
        queue = max(10, 2 * number)
        found[f"{number} threads"] = {"workers": number, "max_queue_size": queue}
    for number in _PROCESSES if workload_name == _HEAVY and not smoke else ():
        found[f"{number} processes"] = {"workers": number, "use_multiprocessing": True}
    return found


def _data(workload_name: str, smoke: bool) -> Any:
    if workload_name == _WAITING:
        return _WAITING_BATCH * (4 if smoke else _BATCHES[_WAITING])
    workload = WORKLOADS["C" if workload_name == _HEAVY else workload_name]
    if smoke:
        return workload.tiny().data(), workload.batch_size
    workload = workload.at_most(batches=_BATCHES[workload_name], num_bytes=2**31)
    return workload.data(), workload.batch_size


def _dataset(workload_name: str, data: Any, **settings: Any) -> Any:
    import keras_npbatch as npb

    if workload_name == _WAITING:
        return _waiting()(data, batch_size=_WAITING_BATCH, seed=0, **settings)
    arrays, batch_size = data
    if workload_name == _HEAVY:
        settings["transform"] = _heavy
    return npb.ArrayDataset(*arrays, batch_size=batch_size, seed=0, **settings)


def _heavy(batch: Any) -> Any:
    x, y = batch
    return python_heavy(x), y


def _waiting() -> Any:
    import keras_npbatch as npb

    class Waiting(npb.BatchDataset):
        def load(self, rows: Any) -> Any:
            for _ in rows:
                time.sleep(_WAIT_S)
            return np.repeat(rows[:, np.newaxis], 32, axis=1).astype("float32"), rows

    return Waiting


def _settle(dataset: Any, most: int) -> int:
    """Walk until it has settled; after how many steps that was."""
    for steps, _batch in enumerate(_endless(dataset), 1):
        if dataset.workers_chosen.settled or steps >= most:
            return steps
    raise AssertionError


def _endless(dataset: Any) -> Iterator[Any]:
    while True:
        yield from dataset


def _seconds(dataset: Any) -> float:
    """The time of an epoch but for its first batches, which processes have made beforehand."""
    batches = iter(dataset)
    for _ in range(min(_MADE_BEFORE, len(dataset) // 2)):
        next(batches)
    return seconds_of(lambda: [None for _ in batches])
