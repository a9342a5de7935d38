"""How near to the copy itself is a loop over shuffled batches?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.cases import Case, Options, Row
from benchmarks.peers import PEERS, Epoch, gather_limit
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import WORKLOADS, check_coverage

NAME = "iterate"
TITLE = "Iterating over NumPy batches, shuffling included"
COLUMNS = {
    "workload": "s",
    "peer": "s",
    "x limit": ".2f",
    "ns/sample": ",.0f",
    "rounds": "d",
    "others": ".2f",
}

_TARGETS = (
    ("T", "", 2.0),
    ("C", "", 1.1),
    ("I", "", 1.1),
    ("C", "workers=2", 0.75),
    ("I", "workers=2", 0.75),
)
"""Workload, setting ("": the best), and the ratio to the limit that it should not exceed."""


def cases(options: Options) -> list[Case]:
    """One for each workload."""
    return [
        Case(options.arguments(workload_name=name), {"KERAS_BACKEND": "numpy"})
        for name in options.workloads
    ]


def measure(workload_name: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """A row for each peer, and one for the limit, which runs once more before each of them."""
    workload = WORKLOADS[workload_name].tiny() if smoke else WORKLOADS[workload_name]
    data = workload.data()
    limit = gather_limit(workload, data)
    runs: dict[str, Callable[[], float]] = {}
    for name, peer in PEERS.items():
        epoch = peer(workload, data)
        check_coverage(epoch(), data[0])
        runs[_before(name)] = limit
        runs[name] = partial(seconds_of, partial(_walk, epoch))
    times = interleave(runs, Rounds(**rounds))

    def row(name: str, ratio: float, seconds: float) -> Row:
        return {
            "workload": workload.name,
            "peer": name,
            "x limit": ratio,
            "ns/sample": seconds / workload.num_samples * 1e9,
            "rounds": len(times),
            "others": times.others,
        }

    return [
        row("limit", 1.0, times.seconds(*map(_before, PEERS))),
        *(row(name, times.ratio(name, _before(name)), times.seconds(name)) for name in PEERS),
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Each target, and whether it was met."""
    lines = []
    for workload, setting, target in _TARGETS:
        ratios = [
            row["x limit"]
            for row in rows
            if row["workload"] == workload
            and row["peer"].startswith("keras_npbatch")
            and setting in row["peer"]
        ]
        if ratios:
            met = "met" if min(ratios) <= target else "MISSED"
            what = setting or "best setting"
            lines.append(f"{workload}, {what}: {min(ratios):.2f} x limit, target {target}: {met}")
    return lines


def _walk(epoch: Epoch) -> None:
    for _batch in epoch():  # as a training loop does, it holds a batch until it has the next
        pass


def _before(peer: str) -> str:
    return f"limit before {peer}"
