"""`Mixture`: shares in every prefix, and each dataset in its own epochs."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.walk import Walk
from keras_npbatch.samplers.mixture import Mixture
from keras_npbatch.samplers.order import WholeData

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=4)


@st.composite
def mixtures(draw):
    sizes = draw(SIZES)
    counts = [draw(st.integers(1, 20)) for _ in sizes]
    of_mixture = draw(st.booleans())  # whether seeds follow that of the mixture
    walks = [Walk(Plan(size, 2, i), i if of_mixture else None) for i, size in enumerate(sizes)]
    return sizes, counts, walks


def epoch_of(mixture, sizes, epoch, seed=5):
    data = WholeData(sum(sizes))
    return mixture.order(data, 4, seed, epoch).rows(0, mixture.num_samples(data))


@settings(max_examples=60)
@given(mixtures())
def test_each_dataset_has_its_share_of_any_prefix_and_walks_its_own_epochs(drawn):
    sizes, counts, walks = drawn
    mixture, total = Mixture(walks, counts), sum(counts)
    offsets = np.cumsum([0, *sizes])
    seen = [[] for _ in sizes]
    for epoch in range(3):
        rows = epoch_of(mixture, sizes, epoch)
        assert len(rows) == total
        which = np.searchsorted(offsets, rows, side="right") - 1
        for index, count in enumerate(counts):
            so_far = np.cumsum(which == index)
            shares = [Fraction(count * (t + 1), total) for t in range(total)]
            assert all(abs(int(n) - s) < 1 for n, s in zip(so_far, shares, strict=True))
            seen[index] += (rows[which == index] - offsets[index]).tolist()
    for size, walk, numbers in zip(sizes, walks, seen, strict=True):
        # Neighbours of different datasets are exchanged, so each keeps its own order.
        assert numbers == walk.numbers(0, len(numbers), 5).tolist()
        for start in range(0, len(numbers) - size + 1, size):
            assert sorted(numbers[start : start + size]) == list(range(size))


@settings(max_examples=30)
@given(mixtures(), st.integers(0, 5) | st.sampled_from([2**61, 2**62, 2**70]))
def test_every_place_of_a_sample_is_found(drawn, epoch):
    sizes, counts, walks = drawn
    mixture = Mixture(walks, counts)
    order = mixture.order(WholeData(sum(sizes)), 4, 5, epoch)
    rows = order.rows(0, sum(counts))
    firsts = order.positions(np.arange(sum(sizes)))
    for row in range(sum(sizes)):
        places = np.flatnonzero(rows == row).tolist()
        assert order.places(row).tolist() == places
        assert firsts[row] == (places[0] if places else -1)


def test_epochs_differ_and_seeds_too_and_copies_agree():
    sizes = [400, 100]
    mixture = Mixture([Walk(Plan(size, 2, 0)) for size in sizes], [300, 300])
    first = epoch_of(mixture, sizes, 0)
    which = first < 400
    assert (which != (epoch_of(mixture, sizes, 1) < 400)).any()
    assert (which != (epoch_of(mixture, sizes, 0, seed=6) < 400)).any()
    again = pickle.loads(pickle.dumps(mixture))
    assert again == mixture
    assert epoch_of(again, sizes, 0).tolist() == first.tolist()


def test_more_than_a_piece_of_positions():
    sizes = [60_000, 10]
    mixture = Mixture([Walk(Plan(size, 2, 0)) for size in sizes], [40_000, 5])
    order = mixture.order(WholeData(sum(sizes)), 4, 1, 2)
    rows = order.rows(0, 40_005)
    assert order.rows(32_760, 32_780).tolist() == rows[32_760:32_780].tolist()
    assert (rows >= 60_000).sum() == 5
    for row in (60_000, 60_007, int(rows[39_000])):
        assert order.places(row).tolist() == np.flatnonzero(rows == row).tolist()


@pytest.mark.parametrize("scale", [1, 2**30, 2**58])
def test_shares_hold_however_long_an_epoch_is(scale):
    """Products of positions and counts have more than 64 bits."""
    counts, n = [3 * scale, scale, 2], 2**15 + 3000
    if scale == 1:
        counts = [30_000, 10_000, 2]
    order = Mixture([Walk(Plan(2**60, 2, 0)) for _ in counts], counts).order(
        WholeData(3 * 2**60), 4, 1, 0
    )
    which = order.rows(0, n) // 2**60
    for index, count in enumerate(counts):
        # In parts of a sample, so that nothing is rounded.
        so_far = np.cumsum(which == index).astype(object) * sum(counts)
        lead = so_far - np.arange(1, n + 1).astype(object) * count
        assert np.abs(lead).max() < sum(counts)
    for position in (0, 5, n - 1):
        (row,) = order.rows(position, position + 1)
        assert order.positions(np.array([row])) == [position]


def test_what_it_is_called_tells_the_datasets_and_their_shares():
    walks = [Walk(Plan(3, 2, 7)), Walk(Plan(4, 2, 8))]
    assert Mixture(walks, [6, 2]).identity == (
        "Mixture(6 by Shuffle() of 3, seed 7, 2 by Shuffle() of 4, seed 8)"
    )
    assert Mixture(walks, [6, 2]) != Mixture(walks, [6, 3])


def test_a_part_of_a_mixture_is_refused():
    from keras_npbatch.plan.division import subset

    mixture = Mixture([Walk(Plan(3, 2)), Walk(Plan(4, 2))], [6, 2])
    with pytest.raises(InvalidArgumentError) as caught:
        subset(Plan(7, 2, sampler=mixture), [0, 1, 2])
    assert str(caught.value) == (
        "subset of 3 rows: a mixture can't be split; expected its datasets to be: split each of "
        "them, and mix the parts."
    )
