"""`LengthBuckets`: each row once, in batches of nearly the same length."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import itertools

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.length_buckets import LengthBuckets
from keras_npbatch.samplers.order import Available, Rows, WholeData, every_row
from keras_npbatch.sources.ragged import Ragged

few = settings(deadline=None, derandomize=True, max_examples=60)


def epoch_of(
    lengths: Any, batch_size: int, *, epoch: int = 0, part: Any = None, **settings_: Any
) -> Rows:
    available: Available = WholeData(len(lengths)) if part is None else part
    order = LengthBuckets(lengths, **settings_).order(available, batch_size, 0, epoch)
    return order.rows(0, available.num_samples)


def batches_of(rows: npt.NDArray[Any], batch_size: int) -> list[npt.NDArray[Any]]:
    return np.split(rows, range(batch_size, len(rows), batch_size))


def waste(lengths: npt.NDArray[Any], batch_size: int) -> float:
    """The part of an epoch that is padding, if batches are padded to their longest sample."""
    padded = sum(len(batch) * int(batch.max()) for batch in batches_of(lengths, batch_size))
    return 1 - int(lengths.sum()) / padded


@few
@given(
    n=st.integers(1, 300),
    batch_size=st.integers(1, 50) | st.integers(1, 400),
    window=st.integers(1, 10),
    part=st.booleans(),
)
def test_each_row_comes_once_and_no_batch_lies_between_others(
    n: int, batch_size: int, window: int, part: bool
) -> None:
    """Of the whole batches of a window, sorted by their shortest, none overlaps the next."""
    lengths = np.random.default_rng(n).integers(0, 99, n)
    available = Chosen(n, ("some",), np.arange(n // 3, n)) if part else WholeData(n)
    rows = epoch_of(lengths, batch_size, batches_per_window=window, part=available)
    assert np.array_equal(np.sort(rows), every_row(available))
    whole = [batch for batch in batches_of(lengths[rows], batch_size) if len(batch) == batch_size]
    if -(-len(rows) // batch_size) <= window:
        whole.sort(key=lambda batch: (batch.min(), batch.max()))
        assert all(a.max() <= b.min() for a, b in itertools.pairwise(whole))


@pytest.mark.parametrize("window", [1, 4, 100])
def test_the_short_batch_is_the_last_of_an_epoch_and_of_any_length(window: int) -> None:
    """Not always the longest: over epochs it comes from all places of its window."""
    lengths = apart(103)
    found = []
    for epoch in range(30):
        *whole, last = batches_of(epoch_of(lengths, 10, epoch=epoch, batches_per_window=window), 10)
        assert len(last) == 3
        if window == 100:
            assert last.max() - last.min() == 2
            assert all(batch.max() - batch.min() in (9, 12) for batch in whole)
        found.append(int(last.min()))
    assert len(set(found)) > 5
    assert min(found) < 20
    assert max(found) > 60


def apart(number: int) -> Rows:
    """Increasing lengths, so far apart that they are sorted exactly."""
    return np.rint(1000 * 1.04 ** np.arange(number)).astype(np.int64)


def test_rows_have_other_neighbours_in_each_epoch_also_in_a_single_window() -> None:
    lengths = np.arange(1, 961)
    found = [
        {frozenset(batch.tolist()) for batch in batches_of(epoch_of(lengths, 32, epoch=e), 32)}
        for e in (0, 1)
    ]
    assert len(found[0] & found[1]) < 10


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("batch_size", [32, 64])
def test_with_the_default_window_little_more_is_padding_than_after_a_full_sort(
    batch_size: int, sigma: float
) -> None:
    lengths = np.rint(np.random.default_rng(0).lognormal(4, sigma, 50_000)).astype(np.int64) + 1
    by_sorting = waste(np.sort(lengths), batch_size)
    shuffled = waste(np.random.default_rng(1).permutation(lengths), batch_size)
    for epoch in range(2):
        found = waste(lengths[epoch_of(lengths, batch_size, epoch=epoch)], batch_size)
        assert by_sorting < found < by_sorting + 0.05
        assert found < shuffled / 8


def test_a_window_of_one_batch_sorts_nothing() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    rows = epoch_of(lengths, 20, batches_per_window=1)
    assert abs(waste(lengths[rows], 20) - waste(lengths, 20)) < 0.03
    assert np.array_equal(np.sort(rows), np.arange(2000))


def test_the_wider_the_window_the_less_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 4000)
    wastes = [
        waste(lengths[epoch_of(lengths, 20, batches_per_window=w)], 20) for w in (1, 3, 10, 100)
    ]
    assert wastes == sorted(wastes, reverse=True)
    assert wastes[-1] < wastes[0] / 10


def test_windows_are_of_nearly_equal_sizes() -> None:
    """Eleven batches in windows of ten are five and six, not ten and one."""
    lengths = np.random.default_rng(0).permutation(apart(550))
    rows = epoch_of(lengths, 50, batches_per_window=10)
    for batches in (range(5), range(5, 11)):
        spans = sorted((lengths[rows[50 * b : 50 * b + 50]]).tolist() for b in batches)
        ends = sorted((min(span), max(span)) for span in spans)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))


def test_batches_and_the_rows_within_are_in_a_random_order() -> None:
    lengths = np.repeat(apart(100), 20)
    firsts, within = [], []
    for epoch in range(3):
        batches = batches_of(epoch_of(lengths, 20, epoch=epoch), 20)
        firsts.append([int(batch.min()) // 20 for batch in batches])
        within.append(np.concatenate([np.diff(batch) > 0 for batch in batches]).mean())
    assert all(sorted(each) == list(range(100)) for each in firsts)
    assert len({tuple(each) for each in firsts}) == 3
    assert all(abs(np.corrcoef(each, range(100))[0, 1]) < 0.4 for each in firsts)
    assert all(0.4 < each < 0.6 for each in within)


def test_explain_tells_what_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 95)
    ds = ArrayDataset(np.arange(95), batch_size=10, seed=0, sampler=LengthBuckets(lengths))
    for step in range(10):
        of_batch = lengths[ds.rows(step, 0)]
        explained = ds.explain(epoch=0, step=step)
        expected = 1 - of_batch.sum() / (len(of_batch) * of_batch.max())
        assert explained.padding_waste == pytest.approx(expected)
        assert f"padded to the longest sample, {expected:.1%} is padding" in str(explained)
    sampler = LengthBuckets([0, 0, 3, 1])
    assert sampler.padding_waste(np.array([0, 1])) == 0
    assert sampler.padding_waste(np.array([2, 3])) == pytest.approx(1 / 3)
    assert sampler.padding_waste(np.empty(0, np.int64)) == 0


def test_long_lengths_are_summed_exactly() -> None:
    assert LengthBuckets([200, 100]).padding_waste(np.array([0, 1])) == pytest.approx(0.25)
    assert LengthBuckets([2**62, 3]).lengths_of(np.array([0, 1])).tolist() == [2**62, 3]
    assert LengthBuckets([2**60 + 1, 3]).lengths_of(np.array([0, 1])).tolist() == [2**60 + 1, 3]
    assert LengthBuckets([5, 3]).lengths_of(np.array([0, 1])).dtype == np.int64
    assert LengthBuckets([2**40, 2**39]).padding_waste(np.array([0, 1])) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (
            [3, -2],
            "lengths of LengthBuckets have -2 at row 1; expected whole numbers from 0 to 2**62.",
        ),
        (
            [3, 1.5],
            "lengths of LengthBuckets have 1.5 at row 1; expected whole numbers from 0 to 2**62.",
        ),
        (
            [1e300],
            "lengths of LengthBuckets have 1e+300 at row 0; expected whole numbers from 0 to "
            "2**62.",
        ),
        (
            [1, np.nan],
            "lengths of LengthBuckets have nan at row 1; expected finite numbers. Give such rows a "
            "value, also those that a subset leaves out.",
        ),
        (
            ["abc"],
            "lengths of LengthBuckets are ['abc'] (list), the sequences themselves; expected the "
            "length of each: LengthBuckets([len(row) for row in tokens]).",
        ),
        (
            [np.arange(3), np.arange(2)],
            "lengths of LengthBuckets are a list of 2 items, the sequences themselves; expected "
            "the length of each: LengthBuckets([len(row) for row in tokens]).",
        ),
        (
            Ragged([np.arange(3), np.arange(2)]),
            "lengths of LengthBuckets are Ragged of shape (2, None) and dtype int64, the sequences "
            "themselves; expected the length of each: LengthBuckets(tokens.lengths).",
        ),
        *(
            (
                np.zeros((3, width), int),
                f"lengths of LengthBuckets are ndarray of shape (3, {width}) and dtype int64, the "
                "sequences themselves; expected the length of each: of rows that are padded with "
                "0, LengthBuckets((tokens != 0).sum(axis=1)).",
            )
            for width in (2, 4)
        ),
        (
            ["abc", 3],
            "lengths of LengthBuckets are ['abc', 3] (list), the sequences themselves; expected "
            "the length of each: LengthBuckets([len(row) for row in tokens]).",
        ),
    ],
)
def test_what_is_no_length_is_refused(lengths: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        LengthBuckets(lengths)
    assert str(error.value) == message


@pytest.mark.parametrize("series", [pd.Series, pl.Series])
def test_so_are_texts_in_a_column_of_a_table(series: Any) -> None:
    for texts in (["a", "bc"], [[1], [2, 3]]):
        with pytest.raises(InvalidArgumentError) as error:
            LengthBuckets(series(texts))
        assert str(error.value).endswith(
            ", the sequences themselves; expected the length of each: LengthBuckets([len(row) for "
            "row in tokens])."
        )
    assert LengthBuckets(series([1, 2])) == LengthBuckets([1, 2])
    with pytest.raises(InvalidArgumentError, match="expected one number for each row"):
        LengthBuckets(series([], dtype=int))


def test_a_column_may_have_a_second_axis() -> None:
    for lengths in (np.array([[1], [2]]), pd.DataFrame({"length": [1, 2]})):
        assert LengthBuckets(lengths) == LengthBuckets([1, 2])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(3), sampler=LengthBuckets([1, 1]))
    assert str(error.value) == (
        "lengths of LengthBuckets are 2 values, and the data have 3 rows; expected one for each "
        "row of the whole data, also for a part of a split."
    )
    with pytest.raises(InvalidArgumentError, match=f"have {2**62 + 1} at row 1; expected whole"):
        LengthBuckets([2**62, 2**62 + 1])
    assert LengthBuckets([1], 10**6).identity.startswith(
        "LengthBuckets(1 lengths, batches_per_window=1000000, "
    )
    for window in (0, 10**6 + 1):
        with pytest.raises(InvalidArgumentError, match=r"^batches_per_window is"):
            LengthBuckets([1], batches_per_window=window)


def test_its_identity_tells_lengths_and_window() -> None:
    samplers = [LengthBuckets([1, 2]), LengthBuckets([2, 1]), LengthBuckets([1, 2], 5)]
    assert len(set(samplers)) == 3
    for dtype in ("uint8", "int16", "uint64", "float16", "float64"):
        assert LengthBuckets(np.array([1, 2], dtype)) == samplers[0]
    assert LengthBuckets([True, False]) == LengthBuckets([1, 0])
    assert LengthBuckets([1, 2], 1000) == samplers[0]
    assert repr(samplers[2]).startswith("LengthBuckets(2 lengths, batches_per_window=5, ")
