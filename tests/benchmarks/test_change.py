"""The rule that tells a change from noise, on ratios whose change is known."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.change import LEAST_CHANGE, LEAST_ROUNDS, change, interval, verdict

RATIOS = st.floats(0.01, 100)
ROUNDS = st.lists(RATIOS, min_size=1, max_size=30)
ENOUGH = st.lists(RATIOS, min_size=LEAST_ROUNDS, max_size=30)

_RUNS = 200
few = settings(max_examples=20)  # each of 200 pairs of runs


def scattered(rng: np.random.Generator, shape: str, spread: float, rounds: int) -> np.ndarray:
    """Ratios of many runs without a change, whose rounds scatter by about `spread`."""
    size = (_RUNS, rounds)
    if shape == "normal":
        return 1 + spread * rng.standard_normal(size)
    if shape == "skewed":  # never faster than the work itself, often a little slower
        return 1 + spread * rng.exponential(size=size)
    # a round in ten is disturbed, and takes up to five times as long
    disturbed = rng.random(size) < 0.1
    return (1 + spread * rng.standard_normal(size)) * np.where(
        disturbed, rng.uniform(1, 5, size), 1
    )


runs = given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from(["normal", "skewed", "disturbed"]),
    spread=st.floats(0.001, 0.05),
    old_rounds=st.integers(LEAST_ROUNDS, 15),
    new_rounds=st.integers(LEAST_ROUNDS, 15),
)


def describe(old: np.ndarray, new: np.ndarray, what: str) -> float:
    """How often the rule says so, of all pairs of runs."""
    said = [verdict(list(one), list(other)) for one, other in zip(old, new, strict=True)]
    return said.count(what) / len(said)


@few
@runs
def test_runs_without_a_change_are_rarely_told_apart(seed, shape, spread, old_rounds, new_rounds):
    rng = np.random.default_rng(seed)
    old = scattered(rng, shape, spread, old_rounds)
    new = scattered(rng, shape, spread, new_rounds)
    assert describe(old, new, "within noise") >= 0.96


@few
@given(seed=st.integers(0, 2**32), rounds=st.integers(LEAST_ROUNDS, 15))
def test_of_wild_rounds_few_runs_are_told_apart(seed, rounds):
    # Here the medians differ by far more than the least change, so the intervals alone decide.
    rng = np.random.default_rng(seed)
    old, new = (np.exp(rng.standard_normal((_RUNS, rounds))) for _ in range(2))
    assert describe(old, new, "within noise") >= 0.96


@few
@given(
    seed=st.integers(0, 2**32),
    # As many rounds as it takes not to be misled by one disturbed round in ten.
    rounds=st.one_of(
        st.tuples(st.sampled_from(["normal", "skewed"]), st.integers(9, 15)),
        st.tuples(st.just("disturbed"), st.integers(20, 25)),
    ),
    spread=st.floats(0.001, 0.03),
)
def test_a_fifth_more_or_less_is_told(seed, rounds, spread):
    rng = np.random.default_rng(seed)
    old, new = (scattered(rng, rounds[0], spread, rounds[1]) for _ in range(2))
    assert describe(old, 1.2 * new, "slower") >= 0.9
    assert describe(1.2 * old, new, "faster") >= 0.9


@given(ROUNDS, ROUNDS)
def test_slower_one_way_is_faster_the_other_way(old, new):
    mirrored = {"slower": "faster", "faster": "slower"}
    there, back = verdict(old, new), verdict(new, old)
    assert back == mirrored.get(there, there)


@given(ENOUGH)
def test_a_run_compared_with_itself_is_noise(ratios):
    assert verdict(ratios, ratios) == "within noise"


@given(ENOUGH, ENOUGH)
def test_what_is_told_is_seen_in_the_intervals_and_in_the_medians(old, new):
    said = verdict(old, new)
    (old_low, old_high), (new_low, new_high) = interval(old), interval(new)
    apart = new_low > old_high or new_high < old_low
    times = max(change(old, new), change(new, old))
    assert (said in ("slower", "faster")) == (apart and times >= 1 + LEAST_CHANGE)
    if said in ("slower", "faster"):
        assert (said == "slower") == (statistics.median(new) > statistics.median(old))


@given(ROUNDS, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter(ratios, random):
    mixed = random.sample(ratios, len(ratios))
    assert interval(mixed) == interval(ratios)


@pytest.mark.parametrize("n", range(1, 60))
def test_an_interval_is_the_narrowest_that_holds_the_median_with_95_percent(n):
    low, high = interval([float(number) for number in range(1, n + 1)])
    k = int(low)
    assert high == n + 1 - k  # as many are left out on each side

    def held(k: int) -> float:  # that the median lies between the k-th smallest and k-th largest
        return float(1 - 2 * binom.cdf(k - 1, n, 0.5))

    assert n < LEAST_ROUNDS or held(k) >= 0.95
    assert held(k + 1) < 0.95


def test_fewer_rounds_than_six_tell_nothing():
    assert verdict([1.0] * 5, [2.0] * 9) == "too few rounds"
    assert verdict([1.0] * 9, [2.0] * 5) == "too few rounds"
    assert verdict([1.0] * 6, [2.0] * 6) == "slower"


def test_a_change_below_ten_percent_is_not_told_however_still_the_machine_was():
    assert verdict([1.0] * 9, [1.09] * 9) == "within noise"
    assert verdict([1.0] * 9, [1.11] * 9) == "slower"
    assert verdict([1.11] * 9, [1.0] * 9) == "faster"
