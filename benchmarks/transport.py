"""What does it cost to get batches out of two worker processes?

Each peer has a process of its own, with the limit measured in it before every epoch. The limit of
`P` is what two processes take that only compute, and hand nothing over; that of the others is the
copy of rows into warm memory by one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.peers import Epoch, gather_limit
from benchmarks.process_peers import PEERS, compute_limit, python_heavy
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import WORKLOADS, check_coverage

NAME = "transport"
TITLE = "Batches from two worker processes"
COLUMNS = {
    "workload": "s",
    "peer": "s",
    "x limit": ".2f",
    "spread": "s",
    "us/batch": ",.0f",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("workload", "peer"), "x limit"

_OURS = "keras_npbatch"
_TARGETS = (
    ("C", "Keras PyDataset (tensorflow)", 30.0),
    ("I", "Keras PyDataset (tensorflow)", 30.0),
    ("T", "Keras PyDataset (tensorflow)", 5.0),
    ("C", "torch DataLoader", 4.0),
    ("I", "torch DataLoader", 4.0),
    ("C", "grain mp_prefetch", 4.0),
    ("I", "grain mp_prefetch", 4.0),
)
"""Workload, peer, and how many times as long as ours it should take at least."""
_LIMITS = (("C", 1.0), ("I", 1.0), ("P", 1.1))
"""Workload, and the ratio to the limit that ours should not exceed."""
_HEAVY = "P"
_MOST_BATCHES = {"T": 1_000, "C": 200, "I": 125, _HEAVY: 24}


def cases(options: Options) -> list[Case]:
    """One for each workload and peer."""
    workloads = [*options.in_memory, *([_HEAVY] if "C" in options.workloads else [])]
    return [
        Case(
            options.arguments(workload_name=workload, peer_name=name),
            {"KERAS_BACKEND": peer.backend},
            left_out=missing(peer.package),
        )
        for workload in workloads
        for name, peer in PEERS.items()
        if name == _OURS or (options.with_peers and not options.smoke)
    ]


def measure(workload_name: str, peer_name: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one peer."""
    is_heavy = workload_name == _HEAVY
    workload = WORKLOADS["C" if is_heavy else workload_name]
    if smoke:
        workload = workload.tiny()
    else:
        workload = workload.at_most(batches=_MOST_BATCHES[workload_name], num_bytes=2**31)
    data = workload.data()
    transform = python_heavy if is_heavy else None
    limit: Callable[[], float] = (
        partial(compute_limit, workload, data) if is_heavy else gather_limit(workload, data)
    )
    with PEERS[peer_name].begin(workload, data, transform) as epoch:
        if not is_heavy:
            check_coverage(epoch(), data[0])

        walk(epoch)
        runs = {"limit": limit, "peer": partial(seconds_of_epoch, epoch)}
        times = interleave(runs, Rounds(**rounds))
    return [
        {
            "workload": workload_name,
            "peer": peer_name,
            **times.told("x limit", "peer", "limit"),
            "us/batch": times.seconds("peer") / workload.num_batches * 1e6,
        }
    ]


def walk(epoch: Epoch) -> None:
    """An epoch, as a training loop that does nothing takes it."""
    for _batch in epoch():
        pass


def seconds_of_epoch(epoch: Epoch) -> float:
    """The time of the second of two epochs.

    From the end of the first to the end of the second: what was made ahead of an epoch, while
    another or the limit was timed, is made up for by what is made ahead of the next.
    """
    walk(epoch)
    return seconds_of(partial(walk, epoch))


def verdicts(rows: list[Row]) -> list[str]:
    """Each target, and whether it was met."""
    ratios = {(row["workload"], row["peer"]): row["x limit"] for row in rows}
    lines = [
        target(f"{workload}: x limit", ratios[workload, _OURS], most)
        for workload, most in _LIMITS
        if (workload, _OURS) in ratios
    ]
    lines += [
        target(
            f"{workload}: {peer} / ours",
            ratios[workload, peer] / ratios[workload, _OURS],
            least,
            least=True,
        )
        for workload, peer, least in _TARGETS
        if (workload, _OURS) in ratios and (workload, peer) in ratios
    ]
    return lines
