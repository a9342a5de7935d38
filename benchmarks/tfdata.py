"""How near to the copy itself is a `tf.data.Dataset` of shuffled batches, and which way is faster?

Each is walked over by a loop inside a `tf.function`, which takes nothing but the batches; `fit`
shows the same datasets with a model (`python -m benchmarks fit --backend tensorflow`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.peers import gather_limit
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import WORKLOADS, check_coverage

NAME = "tfdata"
TITLE = "An epoch of a tf.data.Dataset of shuffled batches"
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
_READY, _BY_HAND = "by hand, one ready batch", "by hand, two threads"
_GENERATOR, _ARRAYS = "from_generator", "Keras's array adapter"
_PEERS = (
    *(f"{_OURS} workers={workers}" for workers in (0, 1, 2)),
    _READY,
    _BY_HAND,
    _GENERATOR,
    "from_tensor_slices.shuffle.batch",
    _ARRAYS,
)
_MOST_BATCHES = 1_000

_LIMITS = (("C", 1.7), ("I", 1.0))
"""Workload, and the ratio to the limit that our best setting should not exceed."""
_TARGETS = (
    ("T", _GENERATOR, 0.5),
    ("C", _GENERATOR, 0.5),
    ("I", _GENERATOR, 0.5),
    ("C", _ARRAYS, 1.0),
    ("I", _ARRAYS, 1.0),
)
"""Workload, peer, and what our best setting should take of its time."""


def cases(options: Options) -> list[Case]:
    """One for each workload and peer."""
    return [
        Case(
            options.arguments(workload_name=workload, peer=peer),
            {"KERAS_BACKEND": "tensorflow"},
            left_out=missing("tensorflow"),
        )
        for workload in options.in_memory
        for peer in _PEERS
        if options.with_peers or peer.startswith(_OURS) or peer in (_READY, _BY_HAND)
    ]


def measure(workload_name: str, peer: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one peer, beside the limit, which runs before each of its epochs."""
    import tensorflow as tf

    from benchmarks.tf_peers import TF_PEERS

    workload = WORKLOADS[workload_name]
    if smoke:
        workload = workload.tiny()
    else:
        bytes_of_all = workload.num_samples * workload.sample_bytes
        workload = workload.at_most(batches=_MOST_BATCHES, num_bytes=bytes_of_all)
    data = workload.data()
    dataset = TF_PEERS[peer](workload, data)
    if peer != _READY:
        check_coverage(dataset, data[0])
    walk = tf.function(partial(_walk, dataset))
    walk()  # traces
    runs: dict[str, Callable[[], float]] = {
        "limit": gather_limit(workload, data),
        "peer": partial(seconds_of, walk),
    }
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "workload": workload_name,
            "peer": peer,
            **times.told("x limit", "peer", "limit"),
            "us/batch": times.seconds("peer") / workload.num_batches * 1e6,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Each target, and whether it was met."""
    lines = []
    ratios = {(row["workload"], row["peer"]): row["x limit"] for row in rows}
    for workload in dict.fromkeys(row["workload"] for row in rows):
        ours = [
            ratio
            for (name, peer), ratio in ratios.items()
            if name == workload and peer.startswith(_OURS)
        ]
        if not ours:
            continue
        lines += [
            target(
                f"{workload}, our best: x limit",
                min(ours),
                most,
                by_hand=ratios.get((workload, _BY_HAND)),
            )
            for name, most in _LIMITS
            if name == workload
        ]
        lines += [
            target(f"{workload}, our best / {peer}", min(ours) / ratios[workload, peer], most)
            for name, peer, most in _TARGETS
            if name == workload and (workload, peer) in ratios
        ]
    return lines


def _walk(dataset: object) -> None:
    for _batch in dataset:
        pass
