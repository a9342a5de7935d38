"""What do padded sequences and windows cost, beside the same by hand?

Padded sequences are compared with a loop that writes into a ready buffer, windows with a dataset
that takes the rows of an array of all windows, copied beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import Case, Options, Row, target
from benchmarks.timing import Rounds, interleave, seconds_of

NAME = "sequences"
TITLE = "Batches of Ragged beside a loop into a ready buffer, and of Windows beside copied windows"
COLUMNS = {
    "data": "s",
    "batch": "s",
    "x by hand": ".2f",
    "spread": "s",
    "us/batch": ",.0f",
    "by hand us": ",.0f",
    "start s": ".2f",
    "rounds": "d",
    "others": ".2f",
}

KEY, RATIO = ("data",), "x by hand"

_BATCH = 256
_BATCHES = 200
_COPIED_BYTES = 2**29


class _Data(NamedTuple):
    """What is measured, and what does the same by hand."""

    source: Callable[[], Any]
    """Makes what is given to a dataset."""
    by_hand: Callable[[Any], Any]
    """Makes the batch of a step by hand: of its rows, or of its number if `is_dataset`."""
    is_dataset: bool = False
    """Whether the batches by hand are those of a dataset."""


def cases(options: Options) -> list[Case]:
    """One for each kind of data."""
    return [Case(options.arguments(data=data), {"KERAS_BACKEND": "numpy"}) for data in _DATA]


def measure(data: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one kind of data."""
    import keras_npbatch as npb

    made = _DATA[data][0](2000 if smoke else 1_000_000)
    began = time.perf_counter()
    x = made.source()
    started = time.perf_counter() - began
    settings = {"batch_size": _BATCH, "seed": 0, "workers": 0}
    dataset = npb.ArrayDataset(x, **settings)
    few = min(_BATCHES, dataset.num_samples // _BATCH)  # full batches
    rows = [np.array(dataset.rows(step, epoch=0)) for step in range(few)]
    for step in (0, few - 1):
        np.testing.assert_array_equal(dataset[step], made.by_hand(rows[step]))

    def walk(walked: Any) -> None:
        walked.set_epoch(0)
        for number, _batch in enumerate(walked, start=1):
            if number == few:
                break

    def by_hand() -> None:
        for each in rows:
            made.by_hand(each)

    hand = by_hand
    if made.is_dataset:
        everything = made.by_hand(np.arange(dataset.num_samples))
        hand = partial(walk, npb.ArrayDataset(everything, **settings))
    runs = {
        "by hand": partial(seconds_of, hand),
        "ours": partial(seconds_of, partial(walk, dataset)),
    }
    times = interleave(runs, Rounds(**rounds))
    return [
        {
            "data": data,
            "batch": str(dataset[0].shape),
            **times.told("x by hand", "ours", "by hand"),
            "us/batch": times.seconds("ours") / few * 1e6,
            "by hand us": times.seconds("by hand") / few * 1e6,
            "start s": started,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Whether each met its target, and whether a million sequences start in a second."""
    lines = []
    for row in rows:
        lines.append(target(f"{row['data']}: x by hand", row["x by hand"], _DATA[row["data"]][1]))
        lines.append(target(f"{row['data']}: seconds to start", row["start s"], 1))
    return lines


def _ragged(is_list: bool, mean: float, num_rows: int) -> _Data:
    from keras_npbatch.sources import Ragged

    num_rows = num_rows if mean < 100 else max(num_rows // 20, 2 * _BATCH)
    rng = np.random.default_rng(0)
    lengths = np.maximum(1, rng.lognormal(np.log(mean), 0.6, num_rows)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.integers(1, 30_000, offsets[-1], dtype=np.int32)
    rows = np.split(values, offsets[1:-1])
    buffers: dict[int, np.ndarray] = {}

    def by_hand(chosen: np.ndarray) -> np.ndarray:
        width = int(lengths[chosen].max())
        if width not in buffers:
            buffers[width] = np.empty((len(chosen), width), np.int32)
        out = buffers[width]
        out.fill(0)
        for number, row in enumerate(chosen.tolist()):
            sequence = rows[row]
            out[number, : len(sequence)] = sequence
        return out

    data = rows if is_list else (values, offsets)
    return _Data(lambda: Ragged(data), by_hand)


def _windows(features: int, length: int, num_steps: int) -> _Data:
    from keras_npbatch.sources import Windows

    num_steps = min(num_steps, _COPIED_BYTES // (4 * features * length))
    series = np.random.default_rng(0).normal(size=(num_steps, features)).astype("float32")
    view = np.lib.stride_tricks.sliding_window_view(series, length, axis=0).swapaxes(1, 2)
    return _Data(lambda: Windows(series, length), view.__getitem__, is_dataset=True)


_DATA: dict[str, tuple[Callable[[int], _Data], float]] = {
    "a million arrays of 14": (partial(_ragged, True, 12), 1.3),
    "values and offsets, of 14": (partial(_ragged, False, 12), 1.3),
    "arrays of 600": (partial(_ragged, True, 500), 1.3),
    "values and offsets, of 600": (partial(_ragged, False, 500), 1.3),
    "windows of 48 x 1": (partial(_windows, 1, 48), 1.1),
    "windows of 48 x 8": (partial(_windows, 8, 48), 1.1),
    "windows of 200 x 16": (partial(_windows, 16, 200), 1.1),
}
"""What makes the data, and its target."""
