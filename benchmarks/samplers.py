"""What does each sampler cost, beside `Shuffle`?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import WORKLOADS, Arrays, Workload

NAME = "samplers"
TITLE = "Iterating with a sampler, beside the same loop with Shuffle (ten classes, of 30 % to 1 %)"
COLUMNS = {
    "workload": "s",
    "sampler": "s",
    "x Shuffle": ".2f",
    "spread": "s",
    "ns/sample": ",.0f",
    "rounds": "d",
    "others": ".2f",
}

KEY, RATIO = ("workload", "sampler"), "x Shuffle"

_MOST = 1.10
_MEASURED = ("C",)
_SHARES = np.array([30, 20, 15, 10, 8, 6, 5, 3, 2, 1]) / 100


def cases(options: Options) -> list[Case]:
    """One for each sampler and peer."""
    chosen = [name for name in options.workloads if name in _MEASURED or options.smoke]
    return [
        Case(
            options.arguments(workload_name=workload, sampler=sampler),
            {"KERAS_BACKEND": "numpy"},
            left_out=None if package is None else missing(package),
        )
        for workload in chosen
        for sampler, (package, _) in _SAMPLERS.items()
        if options.with_peers or package is None
    ]


def measure(workload_name: str, sampler: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one sampler, beside `Shuffle`, which runs before each of its epochs."""
    import keras_npbatch as npb

    workload = WORKLOADS[workload_name].tiny() if smoke else WORKLOADS[workload_name]
    data = workload.data()
    labels = np.random.default_rng(0).choice(len(_SHARES), len(data[0]), p=_SHARES)
    epoch = _SAMPLERS[sampler][1](workload, data, labels)
    shuffled = npb.ArrayDataset(*data, batch_size=workload.batch_size, seed=0)
    samples = sum(len(batch[0]) for batch in epoch())
    if samples != workload.num_samples:
        raise AssertionError(f"an epoch has {samples} samples, not {workload.num_samples}")
    runs: dict[str, Callable[[], float]] = {
        "Shuffle": partial(seconds_of, partial(_walk, lambda: iter(shuffled))),
        "sampler": partial(seconds_of, partial(_walk, epoch)),
    }
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "workload": workload_name,
            "sampler": sampler,
            **times.told("x Shuffle", "sampler", "Shuffle"),
            "ns/sample": times.seconds("sampler") / workload.num_samples * 1e9,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Whether each sampler of this library met its target."""
    return [
        target(f"{row['workload']}, {row['sampler']}: x Shuffle", row["x Shuffle"], _MOST)
        for row in rows
        if row["workload"] in _MEASURED and _SAMPLERS[row["sampler"]][0] is None
    ]


Epoch = Callable[[], Iterator[Any]]


def _ours(make: Callable[[Any, np.ndarray], Any]) -> Callable[..., Epoch]:
    def epoch_of(workload: Workload, data: Arrays, labels: np.ndarray) -> Epoch:
        import keras_npbatch as npb

        sampler = make(npb.samplers, labels)
        dataset = npb.ArrayDataset(*data, batch_size=workload.batch_size, seed=0, sampler=sampler)
        return lambda: iter(dataset)

    return epoch_of


def _torch(workload: Workload, data: Arrays, labels: np.ndarray) -> Epoch:
    import torch
    from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

    weights = 1 / np.bincount(labels)[labels]
    tensors = TensorDataset(*map(torch.from_numpy, data))
    sampler = WeightedRandomSampler(weights.tolist(), len(labels))
    loader = DataLoader(tensors, batch_size=workload.batch_size, sampler=sampler)
    return lambda: iter(loader)


def _imbalanced_learn(workload: Workload, data: Arrays, labels: np.ndarray) -> Epoch:
    from imblearn.keras import balanced_batch_generator
    from imblearn.over_sampling import RandomOverSampler

    x, y = data
    steps = workload.num_batches
    generator, _ = balanced_batch_generator(
        x.reshape(len(x), -1),
        labels,
        sampler=RandomOverSampler(),
        batch_size=workload.batch_size,
        random_state=0,
    )

    def epoch() -> Iterator[Any]:
        left = len(y)
        for _ in range(steps):
            batch = next(generator)
            yield tuple(part[:left] for part in batch)
            left -= min(left, len(batch[0]))

    return epoch


def _walk(epoch: Epoch) -> None:
    for _batch in epoch():
        pass


def _lengths(labels: np.ndarray) -> np.ndarray:
    return np.exp(np.random.default_rng(0).normal(4, 0.6, len(labels))).astype(int) + 1


_SAMPLERS: dict[str, tuple[str | None, Callable[..., Epoch]]] = {
    "InOrder": (None, _ours(lambda samplers, labels: samplers.InOrder())),
    "BlockShuffle": (None, _ours(lambda samplers, labels: samplers.BlockShuffle())),
    "LengthBuckets": (
        None,
        _ours(lambda samplers, labels: samplers.LengthBuckets(_lengths(labels))),
    ),
    "Stratified": (None, _ours(lambda samplers, labels: samplers.Stratified(labels))),
    "Balanced": (
        None,
        _ours(lambda samplers, labels: samplers.Balanced(labels, num_samples=len(labels))),
    ),
    "Weighted": (
        None,
        _ours(lambda samplers, labels: samplers.Weighted(1 / np.bincount(labels)[labels])),
    ),
    "torch DataLoader, WeightedRandomSampler": ("torch", _torch),
    "imbalanced-learn, balanced_batch_generator": ("imblearn", _imbalanced_learn),
}
"""The package that a peer needs, and what begins an epoch."""
