"""`Moments`: those of parts, merged, are those of the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_npbatch.batches.moments import Moments

VALUES = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, math.nan, math.inf, -math.inf])


def expected(values):
    """By NumPy, in one go."""
    finite = values[np.isfinite(values)].astype("float64")
    return {
        "mean": finite.mean() if len(finite) else math.nan,
        "std": finite.std() if len(finite) else math.nan,
        "min": finite.min() if len(finite) else math.nan,
        "max": finite.max() if len(finite) else math.nan,
        "zeros": (values == 0).mean() if len(values) else math.nan,
        "nan": np.isnan(values).sum(),
        "inf": np.isinf(values).sum(),
    }


@given(st.lists(st.lists(VALUES, max_size=20), max_size=6))
@example([[math.nan, math.inf, 1.0], [math.nan, math.nan], [-math.inf, 0.0, math.nan]])
def test_merged_over_parts_they_are_numpys_over_the_whole(parts):
    merged = Moments()
    for part in parts:
        merged = merged.merged(Moments.of(np.array(part, "float32")))
    whole = np.array([value for part in parts for value in part], "float32")
    assert merged.figures() == pytest.approx(expected(whole), rel=1e-9, abs=1e-7, nan_ok=True)


def test_a_small_spread_round_a_large_mean_keeps_its_digits():
    """Where sums of squares have none left: 1e18 has a resolution of 128."""
    rng = np.random.default_rng(0)
    values = 1e9 + rng.standard_normal(10_000)
    merged = Moments()
    for part in np.array_split(values, 37):
        merged = merged.merged(Moments.of(part))
    assert merged.figures()["std"] == pytest.approx(values.std(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_values_of_any_kind_are_counted(dtype):
    values = np.array([[0, 1], [1, 1]]).astype(dtype)
    assert Moments.of(values).figures() == {
        "mean": 0.75,
        "std": pytest.approx(math.sqrt(0.1875)),
        "min": 0,
        "max": 1,
        "zeros": 0.25,
        "nan": 0,
        "inf": 0,
    }


def test_what_is_not_finite_is_counted_in_an_array_of_any_length():
    values = np.zeros(200_000, "float32")
    values[::1000], values[1::2000] = math.nan, math.inf
    figures = Moments.of(values).figures()
    assert (figures["nan"], figures["inf"]) == (200, 100)
