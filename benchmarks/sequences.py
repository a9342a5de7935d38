"""What do padded sequences, windows and mixtures cost, beside the same by hand?

Padded sequences are compared with a loop that writes into a ready buffer, windows with a dataset
that takes the rows of an array of all windows, copied beforehand, windows of a file with slices of
it, a mixture of two datasets with one dataset of all rows, and packed rows with grain's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import Case, Options, Row, missing, target
from benchmarks.timing import Rounds, interleave, seconds_of
from benchmarks.workloads import FOLDER

NAME = "sequences"
TITLE = "Batches of sequences, windows and mixtures beside the same by hand"
COLUMNS = {
    "data": "s",
    "batch": "s",
    "x by hand": ".2f",
    "spread": "s",
    "us/batch": ",.0f",
    "by hand us": ",.0f",
    "start s": ".2f",
    "waste": ".3f",
    "by hand waste": ".3f",
    "rounds": "d",
    "others": ".2f",
}

KEY, RATIO = ("data",), "x by hand"

_BATCH = 256
_BATCHES = 200
_COPIED_BYTES = 2**29
_SETTINGS = {"batch_size": _BATCH, "seed": 0, "workers": 0}


class _Data(NamedTuple):
    """What is measured, and what does the same by hand."""

    start: Callable[[], Any]
    """Makes the dataset."""
    by_hand: Callable[[list[np.ndarray]], Any]
    """Does the same by hand for the rows of some steps, given in their order."""
    check: Callable[[Any, np.ndarray], None]
    """Compares a batch with what is right for its rows."""
    waste: tuple[float, float] | None = None
    """Time steps in all rows to those that are no padding: of ours, and by hand."""
    is_whole: bool = False
    """Whether whole epochs are compared, and the start with them."""


def cases(options: Options) -> list[Case]:
    """One for each kind of data."""
    return [
        Case(options.arguments(data=data), {"KERAS_BACKEND": "numpy"}, left_out)
        for data in _DATA
        for left_out in [missing("grain") if data == _PACKED else None]
        if options.with_peers or data != _PACKED
    ]


def measure(data: str, smoke: bool, rounds: dict[str, float]) -> list[Row]:
    """The row of one kind of data."""
    import keras_npbatch as npb

    assert npb.ArrayDataset  # imports Keras, which is no part of the start
    made = _DATA[data][0](2000 if smoke else 1_000_000)
    began = time.perf_counter()
    dataset = made.start()
    started = time.perf_counter() - began
    few = min(_BATCHES, dataset.plan.epoch_size // dataset.plan.batch_size)  # full batches
    of_steps = [np.array(dataset.rows(step, epoch=0)) for step in range(few)]
    for step in (0, few - 1):
        made.check(dataset[step], of_steps[step])

    def ours() -> None:
        walked = made.start() if made.is_whole else dataset
        walked.set_epoch(0)
        for _batch in islice(walked, few):
            pass

    runs = {
        "by hand": partial(seconds_of, partial(made.by_hand, of_steps)),
        "ours": partial(seconds_of, ours),
    }
    if not made.is_whole:
        ours()  # what the first epoch alone computes
    times = interleave(runs, Rounds(**rounds))
    batch = dataset[0]
    waste = dict(zip(("waste", "by hand waste"), made.waste or (), strict=False))
    return [
        {
            "data": data,
            "batch": str((batch["values"] if isinstance(batch, dict) else batch).shape),
            **times.told("x by hand", "ours", "by hand"),
            "us/batch": times.seconds("ours") / few * 1e6,
            "by hand us": times.seconds("by hand") / few * 1e6,
            "start s": started,
            **waste,
        }
    ]


def verdicts(rows: list[Row]) -> list[str]:
    """Whether each met its target, and whether a million sequences start in a second."""
    lines = []
    for row in rows:
        most = _DATA[row["data"]][1]
        if most is not None:
            lines.append(target(f"{row['data']}: x by hand", row["x by hand"], most))
        lines.append(target(f"{row['data']}: seconds to start", row["start s"], 1))
        if "waste" in row:
            told = f"{row['data']}: time steps to those of the sequences"
            lines.append(target(told, row["waste"], 1.05, by_hand=row["by hand waste"]))
    return lines


def _equal(by_hand: Callable[[np.ndarray], Any]) -> Callable[[Any, np.ndarray], None]:
    """A check that a batch is what is made of its rows by hand."""
    return lambda batch, rows: np.testing.assert_array_equal(batch, by_hand(rows))


def _each_step(by_hand: Callable[[np.ndarray], Any]) -> Callable[[list[np.ndarray]], None]:
    """Makes the batches of some steps by hand."""

    def make(of_steps: list[np.ndarray]) -> None:
        for rows in of_steps:
            by_hand(rows)

    return make


def _walk(start: Callable[[], Any]) -> Callable[[list[np.ndarray]], None]:
    """Walks through as many batches of another dataset as there are steps."""
    walked = start()

    def walk(of_steps: list[np.ndarray]) -> None:
        walked.set_epoch(0)
        for _batch in islice(walked, len(of_steps)):
            pass

    return walk


def _lengths(mean: float, num_rows: int) -> np.ndarray:
    drawn = np.random.default_rng(0).lognormal(np.log(mean), 0.6, num_rows)
    return np.maximum(1, drawn).astype(np.int64)


def _ragged(is_list: bool, mean: float, num_rows: int) -> _Data:
    import keras_npbatch as npb

    num_rows = num_rows if mean < 100 else max(num_rows // 20, 2 * _BATCH)
    lengths = _lengths(mean, num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.random.default_rng(1).integers(1, 30_000, offsets[-1], dtype=np.int32)
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
    return _Data(
        lambda: npb.ArrayDataset(npb.sources.Ragged(data), **_SETTINGS),
        _each_step(by_hand),
        _equal(by_hand),
    )


def _packed(num_rows: int) -> _Data:
    """Beside the packing of grain, which packs each epoch anew, as it reads."""
    import grain
    from grain.experimental import BestFitPackIterDataset

    import keras_npbatch as npb

    width, num_rows = 512, min(num_rows, 5_000)
    lengths = np.minimum(_lengths(60, num_rows), width)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.random.default_rng(1).integers(1, 30_000, offsets[-1], dtype=np.int32)
    sequences = np.split(values, offsets[1:-1])
    settings = _SETTINGS | {"batch_size": 32}

    def start() -> Any:
        ragged = npb.sources.Ragged(sequences, pad_to=width, pack=True)
        return npb.ArrayDataset(ragged, **settings)

    def by_grain(_: list[np.ndarray]) -> int:
        source = grain.MapDataset.source([{"values": each} for each in sequences])
        shuffled = source.shuffle(seed=0).to_iter_dataset()
        found = BestFitPackIterDataset(
            shuffled, length_struct={"values": width}, num_packing_bins=64
        )
        return sum(len(batch["values"]) for batch in found.batch(32))

    def check(batch: Any, rows: np.ndarray) -> None:
        for line, segments, row in zip(batch["values"], batch["segment_ids"], rows, strict=True):
            numbers = of_rows.sequences_in(int(row))
            assert segments.max() == len(numbers)
            np.testing.assert_array_equal(
                line[segments > 0], np.concatenate([sequences[number] for number in numbers])
            )

    of_rows = npb.sources.Ragged(sequences, pad_to=width, pack=True)
    steps = int(lengths.sum())
    waste = len(of_rows) * width / steps, by_grain([]) * width / steps
    return _Data(start, by_grain, check, waste, is_whole=True)


def _series(features: int, length: int, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """A series, and a view of all its windows."""
    num_steps = min(num_steps, _COPIED_BYTES // (4 * features * length))
    series = np.random.default_rng(0).normal(size=(num_steps, features)).astype("float32")
    view = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)
    return series, view.swapaxes(1, 2)


def _windows(features: int, length: int, num_steps: int) -> _Data:
    import keras_npbatch as npb

    series, view = _series(features, length, num_steps)
    return _Data(
        lambda: npb.ArrayDataset(npb.sources.Windows(series, length), **_SETTINGS),
        _walk(lambda: npb.ArrayDataset(np.ascontiguousarray(view), **_SETTINGS)),
        _equal(view.__getitem__),
    )


def _stored_windows(num_steps: int) -> _Data:
    """In order, beside a slice of the file for each batch, and a copy of the windows in it."""
    import h5py

    import keras_npbatch as npb

    length = 48
    series, view = _series(8, length, num_steps)
    file = h5py.File(Path(os.environ[FOLDER]) / "series.h5", "w")
    chunks = min(4096, len(series)), 8
    stored = file.create_dataset("series", data=series, chunks=chunks, compression="gzip")

    def by_hand(rows: np.ndarray) -> np.ndarray:
        piece = stored[rows[0] : rows[-1] + length]
        windows = np.lib.stride_tricks.sliding_window_view(piece, length, axis=0)
        return np.ascontiguousarray(windows.swapaxes(1, 2))

    def start() -> Any:
        windows = npb.sources.Windows(stored, length)
        return npb.ArrayDataset(windows, shuffle=False, **_SETTINGS)

    return _Data(start, _each_step(by_hand), _equal(view.__getitem__))


def _mixed(features: int, num_rows: int) -> _Data:
    """Beside one dataset of the rows of both."""
    import keras_npbatch as npb

    num_rows = max(2 * _BATCH, min(num_rows, _COPIED_BYTES // (8 * features)))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * num_rows, features)).astype("float32")
    halves = x[:num_rows].copy(), x[num_rows:].copy()

    def start() -> Any:
        parts = [npb.ArrayDataset(half, seed=0) for half in halves]
        return npb.mix(parts, weights=[0.7, 0.3], **_SETTINGS)

    return _Data(start, _walk(lambda: npb.ArrayDataset(x, **_SETTINGS)), _equal(x.__getitem__))


_PACKED = "packed, beside grain"
_DATA: dict[str, tuple[Callable[[int], _Data], float | None]] = {
    "a million arrays of 14": (partial(_ragged, True, 12), 1.3),
    "values and offsets, of 14": (partial(_ragged, False, 12), 1.3),
    "arrays of 600": (partial(_ragged, True, 500), 1.3),
    "values and offsets, of 600": (partial(_ragged, False, 500), 1.3),
    _PACKED: (_packed, 1),
    "windows of 48 x 1": (partial(_windows, 1, 48), 1.1),
    "windows of 48 x 8": (partial(_windows, 8, 48), 1.1),
    "windows of 200 x 16": (partial(_windows, 16, 200), 1.1),
    "windows of 48 x 8 in a compressed file": (_stored_windows, None),
    "a mix of two, 128 B": (partial(_mixed, 32), 1.05),
    "a mix of two, 12 kB": (partial(_mixed, 3072), 1.05),
    "a mix of two, 150 kB": (partial(_mixed, 37_632), 1.05),
}
"""What makes the data, and its target, if there is one."""
