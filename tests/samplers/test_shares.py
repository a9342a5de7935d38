"""`shares`: whole numbers of samples, and what they refuse."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.shares import shares


def test_an_epoch_ends_as_was_said() -> None:
    assert shares([0.7, 0.3], [100, 50], "first") == [98, 42]  # whole shares of ten
    assert shares([0.7, 0.3], [100, 50], "longest") == [119, 51]
    assert shares([0.7, 0.3], [100, 50], 1000) == [700, 300]
    assert shares([1, 2], [5, 5], "first") == [2, 5]
    assert shares([1e-9, 1], [1, 10**9], "longest") == [1, 10**9 + 1]
    assert shares([1e-9, 0.5], [1, 5 * 10**8], "longest") == [1, 5 * 10**8 + 1]
    assert shares([1], [5], 1) == [1]


def test_shares_are_whole_from_four_times_the_least_epoch_that_has_them_on() -> None:
    assert shares([1, 2], [100, 9], "first") == [4, 8]
    assert shares([1, 2], [100, 8], "first") == [4, 8]
    assert shares([1, 2], [100, 7], "first") == [3, 7]
    assert shares([1, 2], [1, 9], "longest") == [5, 10]
    assert shares([1, 2], [1, 7], "longest") == [4, 7]


def test_a_weight_is_taken_for_the_fraction_that_was_meant() -> None:
    """0.1 is a little more than a tenth: ten samples would be the share of less than 110."""
    assert shares([1, 0.1], [1000, 10], "first") == [100, 10]


NUMBERS = "expected a number above 0 for each of the 3 datasets"


@pytest.mark.parametrize(
    ("weights", "until", "message"),
    [
        *(
            (
                weights,
                "first",
                f"weights is {told}; {NUMBERS}. To leave a dataset out, don't give it.",
            )
            for weights, told in (
                ([1, 2], "[1.0, 2.0]"),
                ([1, 0, 2], "[1.0, 0.0, 2.0]"),
                ([1, float("inf"), 2], "[1.0, inf, 2.0]"),
            )
        ),
        (3, "first", f"weights is 3 (int); {NUMBERS}."),
        ({0: 1, 1: 2, 2: 3}, "first", f"weights is {{0: 1, 1: 2, 2: 3}} (dict); {NUMBERS}."),
        (["a", 1, 1], "first", f"weights is ['a', 1, 1] (list); {NUMBERS}."),
        (
            [1, 1, 1],
            "second",
            "until is 'second' (str); expected 'first', 'longest', or how many samples an epoch "
            "has.",
        ),
        *(
            (
                [1, 1, 1],
                until,
                f"until is {until} ({type(until).__name__}); expected a whole number from 1 to "
                "4611686018427387904.",
            )
            for until in (0, 2**62 + 1, 1.5)
        ),
        (
            [100, 1, 100],
            20,
            "an epoch of 20 samples has none of datasets[1], whose share is 0.00498; expected at "
            "least one of each. Give a larger weight, or more samples: until=...",
        ),
    ],
)
def test_what_makes_no_epoch_is_refused(weights: Any, until: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        shares(weights, [5, 5, 5], until)
    assert str(error.value) == message


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 500)), min_size=1, max_size=4),
    st.sampled_from(["first", "longest", 1000, 997]),
)
def test_each_is_within_one_of_its_share(drawn, until):
    weights, sizes = zip(*drawn, strict=True)
    try:
        counts = shares(weights, sizes, until)
    except ValueError:  # an epoch without a sample of one of them
        assert until == "first"
        return
    total, exact = sum(counts), [Fraction(weight, sum(weights)) for weight in weights]
    assert all(abs(count - share * total) < 1 for count, share in zip(counts, exact, strict=True))
    pairs = list(zip(counts, sizes, strict=True))
    if until == "first":
        assert all(count <= size for count, size in pairs)
    elif until == "longest":
        assert all(count >= size for count, size in pairs)
    else:
        assert total == until
