"""How near to the copy itself is a loop over shuffled batches?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.cases import Case, Options, Row, target
from benchmarks.peers import PEERS, TWO_THREADS, Epoch, gather_limit
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import WORKLOADS, check_coverage

NAME = "iterate"
TITLE = "Iterating over NumPy batches, shuffling included"
COLUMNS = {
    "workload": "s",
    "peer": "s",
    "x limit": ".2f",
    "spread": "s",
    "ns/sample": ",.0f",
    "limit ns": ",.0f",
    "rounds": "d",
    "others": ".2f",
}

KEY, RATIO = ("workload", "peer"), "x limit"

_TWO = "keras_npbatch workers=2"
_TARGETS = (
    ("T", "keras_npbatch", 1.6),
    ("C", "keras_npbatch", 1.05),
    ("I", "keras_npbatch", 1.05),
    ("M", "keras_npbatch", 1.05),
    ("C", _TWO, 0.65),
    ("I", _TWO, 0.65),
)
"""Workload, setting (the best of those that begin so), and what it should take of the limit."""


def cases(options: Options) -> list[Case]:
    """One for each workload and peer."""
    return [
        Case(
            options.arguments(workload_name=workload, peer=peer),
            {"KERAS_BACKEND": "numpy"},
            left_out=WORKLOADS[workload].no_room(),
        )
        for workload in options.workloads
        for peer in PEERS
        if options.with_peers or peer.startswith("keras_npbatch") or peer == TWO_THREADS
    ]


def measure(workload_name: str, peer: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one peer, beside the limit, which runs before each of its epochs."""
    workload = WORKLOADS[workload_name].tiny() if smoke else WORKLOADS[workload_name]
    data = workload.data()
    epoch = PEERS[peer](workload, data)
    check_coverage(epoch(), data[0])
    runs: dict[str, Callable[[], float]] = {
        "limit": gather_limit(workload, data),
        "peer": partial(seconds_of, partial(_walk, epoch)),
    }
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "workload": workload_name,
            "peer": peer,
            **times.told("x limit", "peer", "limit"),
            "ns/sample": times.seconds("peer") / workload.num_samples * 1e9,
            "limit ns": times.seconds("limit") / workload.num_samples * 1e9,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Each target, and whether it was met."""
    lines = []
    ratios = {(row["workload"], row["peer"]): row["x limit"] for row in rows}
    for workload, setting, most in _TARGETS:
        of_setting = [
            ratio
            for (name, peer), ratio in ratios.items()
            if name == workload and peer.startswith(setting)
        ]
        if of_setting:
            by_hand = ratios.get((workload, TWO_THREADS)) if setting == _TWO else None
            what = f"{workload}, best of {setting}: x limit"
            lines.append(target(what, min(of_setting), most, by_hand=by_hand))
    return lines


def _walk(epoch: Epoch) -> None:
    for _batch in epoch():  # as a training loop does, it holds a batch until it has the next
        pass
