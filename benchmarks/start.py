"""How long and how much memory until the first shuffled batch, however many samples there are?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Case, Options, Row, target
from benchmarks.timing import Rounds, interleave, seconds_of

NAME = "start"
TITLE = "To the first shuffled batch of 256"
COLUMNS = {
    "samples": ",d",
    "peer": "s",
    "x smallest": ".2f",
    "spread": "s",
    "ms": ".2f",
    "peak MB": ".2f",
    "rounds": "d",
    "others": ".2f",
}
KEY, RATIO = ("samples", "peer"), "x smallest"

_NUM_SAMPLES = (10**6, 10**9, 10**12)
_WITH_SAMPLER = (10**6, 10**7)
_SMOKE = (10**4, 10**5)
_PERMUTED_AT_MOST = 10**6
_BATCH_SIZE = 256

_SAMPLERS: dict[str, Callable[[Any, npt.NDArray[np.int64]], Any]] = {
    "BlockShuffle": lambda samplers, values: samplers.BlockShuffle(),
    "LengthBuckets": lambda samplers, values: samplers.LengthBuckets(values),
    "Stratified": lambda samplers, values: samplers.Stratified(values),
    "Balanced": lambda samplers, values: samplers.Balanced(values),
    "Weighted": lambda samplers, values: samplers.Weighted(values),
}
"""Each with a class, a length or a weight for each row, from 0 to 9."""

_FACTORS = np.array([1, 3, 5, 7, 11, 13, 17, 19], np.int64)


class Computed:
    """As many samples as one likes: eight features that are a function of the sample's number."""

    dtype = np.dtype(np.float32)

    def __init__(self, num_samples: int) -> None:
        self.shape = (num_samples, len(_FACTORS))

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return (rows[:, np.newaxis] * _FACTORS % 1024).astype(np.float32)


def cases(options: Options) -> list[Case]:
    """One for all, since nothing is kept from one to the next."""
    return [Case(options.arguments(), {"KERAS_BACKEND": "numpy"})]


def measure(smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """A row for each number of samples; by hand too where the permutation is not a gigabyte; and
    with each sampler."""
    runs: dict[tuple[int, str], Callable[[], Any]] = {}
    for num_samples in _NUM_SAMPLES:
        runs[num_samples, "keras_npbatch"] = partial(_keras_npbatch, num_samples)
        if num_samples <= _PERMUTED_AT_MOST:
            runs[num_samples, "permutation by hand"] = partial(_by_hand, num_samples)
    for num_samples in _SMOKE if smoke else _WITH_SAMPLER:
        values = np.arange(num_samples) * 7919 % 101 % 10
        for name in _SAMPLERS:
            runs[num_samples, name] = partial(_with_sampler, name, values)
    smallest: dict[str, int] = {}
    for num_samples, peer in runs:
        smallest.setdefault(peer, num_samples)
    for (num_samples, _), run in runs.items():
        _check(run(), num_samples)
    timed = {key: partial(seconds_of, run) for key, run in runs.items()}
    times = interleave(timed, Rounds(**rounds))
    return [
        {
            "samples": num_samples,
            "peer": peer,
            **times.told("x smallest", (num_samples, peer), (smallest[peer], peer)),
            "ms": times.seconds((num_samples, peer)) * 1e3,
            "peak MB": _peak_bytes(run) / 1e6,
        }
        for (num_samples, peer), run in runs.items()
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """The most samples, in time and in memory; and with each sampler."""
    with_sampler = [
        target(f"{row['samples']:.0e} samples, {row['peer']}: ms", row["ms"], 1500)
        for row in rows
        if row["peer"] in _SAMPLERS and row["samples"] == _WITH_SAMPLER[-1]
    ]
    return with_sampler + [
        line
        for row in rows
        if row["samples"] == _NUM_SAMPLES[-1]
        for line in (
            target(f"{row['samples']:.0e} samples: ms", row["ms"], 50),
            target(f"{row['samples']:.0e} samples: peak MB", row["peak MB"], 10),
        )
    ]


def _keras_npbatch(num_samples: int) -> Any:
    import keras_npbatch as npb

    source = Computed(num_samples)
    with npb.ArrayDataset(source, batch_size=_BATCH_SIZE, seed=0, workers=0) as dataset:
        return next(iter(dataset))


def _with_sampler(name: str, values: npt.NDArray[np.int64]) -> Any:
    """From making the sampler on."""
    import keras_npbatch as npb

    sampler = _SAMPLERS[name](npb.samplers, values)
    source = Computed(len(values))
    with npb.ArrayDataset(
        source, batch_size=_BATCH_SIZE, seed=0, workers=0, sampler=sampler
    ) as dataset:
        return next(iter(dataset))


def _by_hand(num_samples: int) -> Any:
    rows = np.random.default_rng(0).permutation(num_samples)[:_BATCH_SIZE]
    return Computed(num_samples)[rows]


def _check(batch: npt.NDArray[np.float32], num_samples: int) -> None:
    """Refuses what can't be a batch of distinct samples of this source."""
    if batch.shape != (_BATCH_SIZE, len(_FACTORS)) or batch.dtype != np.float32:
        raise AssertionError(f"got {batch.shape} {batch.dtype} from {num_samples} samples")
    if not np.array_equal(batch, batch[:, :1] * _FACTORS % 1024):
        raise AssertionError(f"features of {num_samples} samples are not those of the source")


def _peak_bytes(run: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak
