"""`Weighted`: each row floor or ceil of its share, compared with exact fractions."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.order import Available, Rows, WholeData, every_row
from keras_npbatch.samplers.weighted import Weighted

few = settings(deadline=None, derandomize=True, max_examples=60)


def times_of(
    weights: Any, num_samples: int | None = None, *, seed: int = 0, epoch: int = 0, part: Any = None
) -> Rows:
    """How often each row comes."""
    available: Available = WholeData(len(weights)) if part is None else part
    sampler = Weighted(weights, num_samples)
    n = sampler.num_samples(available)
    assert n == (available.num_samples if num_samples is None else num_samples)
    rows = sampler.order(available, 32, seed, epoch).rows(0, n)
    return np.bincount(rows, minlength=len(weights))


@few
@given(
    weights=st.lists(st.integers(0, 9) | st.integers(0, 2**40), min_size=1, max_size=60).filter(
        any
    ),
    num_samples=st.none() | st.integers(1, 500),
    seed=st.integers(0, 5),
    part=st.booleans(),
)
def test_whole_numbers_are_divided_exactly(
    weights: list[int], num_samples: int | None, seed: int, part: bool
) -> None:
    available: Available = WholeData(len(weights))
    if part:
        available = Chosen(
            len(weights), ("some",), np.arange(np.flatnonzero(weights)[-1] // 2, len(weights))
        )
    times = times_of(weights, num_samples, seed=seed, part=available).tolist()
    rows = every_row(available).tolist()
    total = sum(weights[row] for row in rows)
    assert sum(times) == (num_samples or len(rows))
    for row in rows:
        share = Fraction(sum(times) * weights[row], total)
        assert times[row] in (share.__floor__(), share.__ceil__())
    assert sum(times[row] for row in rows) == sum(times)


scales = st.sampled_from([1.0, 2.0**-1000, 5e-324 * 2**60, 2.0**900, 1e-30, 1e30])


@few
@given(
    weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).filter(any),
    num_samples=st.integers(1, 500),
    scale=scales,
)
def test_so_are_floats_of_any_scale(weights: list[float], num_samples: int, scale: float) -> None:
    """But for the rounding of their sum."""
    scaled = np.array(weights) * scale
    if not scaled.any():
        return
    times = times_of(scaled, num_samples)
    exact = [Fraction(float(weight)) for weight in scaled]
    for weight, found in zip(exact, times.tolist(), strict=True):
        share = float(num_samples * weight / sum(exact))
        assert np.floor(share - 1e-6) <= found <= np.ceil(share + 1e-6)
        assert found == 0 or weight > 0


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "uint64", "float16", "float64"])
def test_any_dtype_will_do(dtype: str) -> None:
    weights = np.array([0, 1, 1, 0, 1]).astype(dtype)
    assert times_of(weights, 30).tolist() == [0, 10, 10, 0, 10]
    assert times_of(weights[:, np.newaxis], 30).tolist() == [0, 10, 10, 0, 10]


def test_whole_numbers_too_large_for_64_bits_in_sum_are_scaled() -> None:
    assert times_of(np.array([2**63, 2**62, 2**62], np.uint64), 400).tolist() == [200, 100, 100]
    assert times_of([2**59, 2**59, 2**59, 2**59], 6).sum() == 6
    assert times_of([2**60 - 1, 1], 1000).tolist()[0] >= 999


def test_of_a_part_the_first_row_counts_as_any_other() -> None:
    assert times_of([1, 1, 5], 20, part=Chosen(3, ("some",), np.array([0, 1]))).tolist() == [
        *(10, 10, 0)
    ]


@pytest.mark.parametrize("epoch", range(4))
def test_rows_and_places_agree_to_the_last_bit(epoch: int) -> None:
    """One draw, and weights between which it changes from one row to the other."""
    total = 2**60 - 1
    low, high = 1, total - 1
    while low < high - 1:
        middle = (low + high) // 2
        order = Weighted([middle, total - middle], 1).order(WholeData(2), 32, 0, epoch)
        low, high = (low, middle) if len(order.places(0)) else (middle, high)
    for weight, row in ((low, 1), (high, 0)):
        order = Weighted([weight, total - weight], 1).order(WholeData(2), 32, 0, epoch)
        assert order.rows(0, 1).tolist() == [row]
        assert [order.places(each).tolist() for each in (row, 1 - row)] == [[0], []]


def test_every_place_of_rows_that_come_often() -> None:
    order = Weighted([1, 2], 30).order(WholeData(2), 32, 0, 0)
    rows = order.rows(0, 30)
    for row in (0, 1):
        assert order.places(row).tolist() == np.flatnonzero(rows == row).tolist()


@pytest.mark.parametrize("num_samples", [100_003, 2**31 - 1])
@pytest.mark.parametrize("epoch", range(5))
def test_long_epochs_of_large_weights_are_exact(num_samples: int, epoch: int) -> None:
    """Without walking through them: by the places of rows that come a few times."""
    seldom = 5 * 2**60 // num_samples + 1
    weights = [2**59, seldom, 2**59, seldom, 2**58, seldom]
    order = Weighted(weights, num_samples).order(WholeData(6), 32, 0, epoch)
    share = Fraction(num_samples * seldom, sum(weights))
    for row in (1, 3, 5):
        places = order.places(row).tolist()
        assert len(places) in (share.__floor__(), share.__ceil__())
        assert [int(order.rows(place, place + 1)[0]) for place in places] == [row] * len(places)


def test_over_epochs_each_row_has_its_share() -> None:
    weights = np.random.default_rng(0).exponential(size=20)
    epochs = 400
    mean = sum(times_of(weights, 30, epoch=epoch) for epoch in range(epochs)) / epochs
    assert np.abs(mean - 30 * weights / weights.sum()).max() < 0.12


def test_counts_vary_far_less_than_those_of_draws_with_replacement() -> None:
    """Chi-square by its degrees of freedom: 1 for draws."""
    draw = np.random.default_rng(0)
    weights = draw.exponential(size=200) + 0.1
    n = 1000
    expected = n * weights / weights.sum()

    def chi_square(times: Rows) -> float:
        return float(((times - expected) ** 2 / expected).sum() / (len(weights) - 1))

    drawn = np.bincount(draw.choice(200, n, p=weights / weights.sum()), minlength=200)
    assert chi_square(times_of(weights, n)) < 0.1
    assert 0.7 < chi_square(drawn) < 1.4


def test_draws_are_shuffled() -> None:
    order = Weighted(np.ones(500)).order(WholeData(500), 32, 0, 0)
    rows = order.rows(0, 500)
    assert sorted(rows.tolist()) == list(range(500))
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [1, np.nan],
            "weights of Weighted have nan at row 1; expected finite numbers. Give such rows a "
            "value, also those that a subset leaves out.",
        ),
        ([2, 1, -3], "weights of Weighted have -3 at row 2; expected numbers from 0 up."),
        (
            [0.0, 0.0],
            "weights of Weighted are all 0, so no row would come; expected a weight above 0.",
        ),
        (
            ["a"],
            "weights of Weighted are ['a'] (list); expected one number for each row, of shape "
            "(num_rows,).",
        ),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Weighted(weights)
    assert str(error.value) == message


def test_what_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(3), sampler=Weighted([1, 1]))
    assert str(error.value) == (
        "weights of Weighted are 2 values, and the data have 3 rows; expected one for each row of "
        "the whole data, also for a part of a split."
    )
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(4), sampler=Weighted([1, 1, 0, 0])).subset([2, 3])
    assert str(error.value) == (
        "subset of 2 rows: weights of Weighted are all 0 for the 2 rows of this part, so no row "
        "would come; expected a weight above 0."
    )
    with pytest.raises(InvalidArgumentError) as error:
        Weighted([1]).checked(2**31, None)
    assert str(error.value) == (
        "the data have 2147483648 rows, and an epoch of Weighted at most 2147483647 samples; "
        "expected a num_samples up to that."
    )
    for sampler, num_rows in ((Weighted([1]), 2**31 - 1), (Weighted([1], 5), 2**31)):
        with pytest.raises(InvalidArgumentError, match=f"1 values, and the data have {num_rows}"):
            sampler.checked(num_rows, None)
    for number in (0, 2**31, 1.5):
        with pytest.raises(InvalidArgumentError, match=r"^num_samples of Weighted is"):
            Weighted([1], num_samples=number)  # type: ignore[arg-type]


def test_its_identity_tells_weights_and_number() -> None:
    samplers = [Weighted([1, 2]), Weighted([2, 1]), Weighted([1, 2], 5), Weighted([1.0, 2.5])]
    assert len(set(samplers)) == 4
    # As they stand in saved states.
    assert repr(Weighted([100, 200], 5)) == "Weighted(2 weights, num_samples=5, ea807465a22fb214)"
    assert repr(samplers[3]) == "Weighted(2 weights, num_samples=None, e1c52bef96d55952)"
    # Whole numbers whose sum may not fit are scaled as floats are.
    for weight in (2**59, 2**60):
        assert Weighted([weight] * 4) == Weighted([1.0] * 4)
