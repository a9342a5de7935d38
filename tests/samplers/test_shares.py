"""`shares`: whole numbers of samples; what they refuse is pinned with `mix`."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.samplers.shares import shares


def test_an_epoch_ends_as_was_said() -> None:
    assert shares([0.7, 0.3], [100, 50], "first") == [98, 42]  # whole shares of ten
    assert shares([0.7, 0.3], [100, 50], "longest") == [119, 51]
    assert shares([0.7, 0.3], [100, 50], 1000) == [700, 300]
    assert shares([1, 2], [5, 5], "first") == [2, 5]
    assert shares([1e-9, 1], [1, 10**9], "longest") == [1, 10**9 + 1]


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
