"""What does input cost in `model.fit`: with a dataset, with arrays, and without any input?

The model is as small as can be, so that the input is what is measured: a bigger model has more time
to hide it in, and moves the ratios towards 1. That is seen with a large one, on one workload.

What is ours is measured in one process, each peer in another, all beside `fit(x, y)` and the floor.
"""

from __future__ import annotations

import statistics

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.feed_names import BY_HAND, DEFAULT, FLOOR, REFERENCE
from benchmarks.timing import Rounds, interleave
from benchmarks.workloads import WORKLOADS, WrongCoverageError

NAME = "fit"
TITLE = "An epoch of model.fit"
COLUMNS = {
    "backend": "s",
    "model": "s",
    "workload": "s",
    "feed": "s",
    "x fit(x, y)": ".2f",
    "spread": "s",
    "x floor": ".2f",
    "ms/step": ".3f",
    "each once": "s",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("backend", "model", "workload", "feed"), "x fit(x, y)"

OURS = (DEFAULT, "keras_npbatch workers=0", "keras_npbatch workers=2")
_OURS_BY_TF_DATA = tuple(f"tf.data: keras_npbatch workers={workers}" for workers in (1, 2))
_PEERS = {
    "PyDataset workers=1": "keras",
    "PyDataset, 2 threads": "keras",
    "PyDataset, 2 processes": "keras",
    "tf.data: from_tensor_slices.shuffle.batch": "tensorflow",
    "torch DataLoader, whole batches": "torch",
}
"""Each with the package that it needs."""
_TENSORFLOW_PEERS = {"tf.data: from_generator": "tensorflow"}
_PACKAGES = {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow"}

_TINY, _LARGE = "tiny", "large"
_LARGE_WORKLOAD = "C"
_MOST_BATCHES = 500
_MOST_BYTES = 320_000_000
"""An epoch is cut to this, since a step takes a hundred times as long as a batch does."""
_LONG_STEP_MS = 5


def cases(options: Options) -> list[Case]:
    """One for ours and one for each peer, on each backend and workload."""

    def case(backend: str, workload: str, feeds: tuple[str, ...], model: str, package: str) -> Case:
        return Case(
            options.arguments(backend=backend, workload_name=workload, feeds=feeds, model=model),
            {"KERAS_BACKEND": backend},
            left_out=missing(_PACKAGES[backend]) or missing(package),
        )

    found = []
    for backend in options.backends:
        ours, peers = [(*OURS, BY_HAND)], dict(_PEERS)
        if backend == "tensorflow":
            ours.append(_OURS_BY_TF_DATA)
            peers |= _TENSORFLOW_PEERS
        with_peers = options.with_peers and not options.smoke
        for name in options.in_memory:
            found += [case(backend, name, feeds, _TINY, backend) for feeds in ours]
            if with_peers:
                found += [
                    case(backend, name, (peer,), _TINY, package) for peer, package in peers.items()
                ]
        if _LARGE_WORKLOAD in options.in_memory:
            found.append(case(backend, _LARGE_WORKLOAD, (*OURS[:2], BY_HAND), _LARGE, backend))
    return found


def measure(
    backend: str,
    workload_name: str,
    feeds: list[str],
    model: str,
    smoke: bool,
    rounds: dict[str, float],
) -> list[Row]:
    """A row for each feed, and for the floor where they are ours."""
    from benchmarks.feeds import FEEDS  # these import Keras
    from benchmarks.training import Trainer, check_fit, wide

    workload = WORKLOADS[workload_name]
    if smoke:
        workload = workload.tiny()
    else:
        workload = workload.at_most(batches=_MOST_BATCHES, num_bytes=_MOST_BYTES)
    data = workload.data()
    arguments = {name: FEEDS[name](workload, data) for name in (FLOOR, REFERENCE, *feeds)}
    delivered = {}
    for name in (REFERENCE, *feeds):
        try:
            check_fit(workload, arguments[name])
            delivered[name] = "yes"
        except WrongCoverageError as error:
            if name not in _PEERS:
                raise
            delivered[name] = str(error)
    make_model = wide if model == _LARGE else None
    runs = {
        name: Trainer(workload, feed, make_model).seconds_of_epoch
        for name, feed in arguments.items()
    }
    for run in runs.values():
        run()  # compiles
    times = interleave(runs, Rounds(**rounds))
    is_ours = feeds[0] in OURS
    return [
        {
            "backend": backend,
            "model": model,
            "workload": workload_name,
            "feed": name,
            **times.told("x fit(x, y)", name, REFERENCE),
            "x floor": times.ratio(name, FLOOR),
            "ms/step": times.seconds(name) / workload.num_batches * 1e3,
            "each once": delivered.get(name),
        }
        for name in ([FLOOR, REFERENCE, *feeds] if is_ours else feeds)
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The default setting: on each backend and workload, on all, and with a long step."""
    default = [row for row in rows if row["feed"] == DEFAULT]
    tiny = [row for row in default if row["model"] == _TINY]
    lines = [
        target(f"{row['backend']} {row['workload']}: x fit(x, y)", row["x fit(x, y)"], 1.0)
        for row in tiny
    ]
    if tiny:
        mean = statistics.geometric_mean(row["x fit(x, y)"] for row in tiny)
        lines.append(target(f"geometric mean of {len(tiny)}: x fit(x, y)", mean, 0.9))
    by_hand = {
        row["backend"]: row["x floor"]
        for row in rows
        if row["model"] == _LARGE and row["feed"] == BY_HAND
    }
    lines += [
        target(
            f"{row['backend']} {row['workload']}, a step of {row['ms/step']:.0f} ms: x floor",
            row["x floor"],
            1.05,
            by_hand=by_hand.get(row["backend"]),
        )
        for row in default
        if row["model"] == _LARGE and row["ms/step"] > _LONG_STEP_MS
    ]
    return lines
