"""`Walk`: the samples of a plan, epoch after epoch."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.walk import Walk
from keras_npbatch.samplers.balanced import Balanced
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.length_buckets import LengthBuckets
from keras_npbatch.samplers.shuffle import Shuffle


@st.composite
def plans(draw):
    rows = draw(st.integers(2, 12))
    labels = np.arange(rows) % 2
    sampler = draw(st.sampled_from([Shuffle(), InOrder(), Balanced(labels, num_samples=7)]))
    shard = draw(st.sampled_from([(0, 1), (1, 2)]))
    return Plan(rows, draw(st.integers(1, 5)), draw(st.integers(0, 9)), sampler, "pad", shard)


@settings(max_examples=60)
@given(plans(), st.integers(0, 40), st.integers(0, 40))
def test_it_is_one_epoch_after_the_other_whatever_the_batches(plan, start, length):
    walk = Walk(plan)
    size = plan.epoch_size
    epochs = [plan.order(epoch).rows(0, size) for epoch in range(80 // size + 1)]
    expected = np.concatenate(epochs)[start : start + length]
    assert walk.numbers(start, start + length, 0).tolist() == expected.tolist()
    assert walk.num_samples == plan.num_samples
    for number in range(plan.num_samples):
        places = walk.places(number, start, start + length, 0)
        assert places.tolist() == np.flatnonzero(expected == number).tolist()


def test_samples_of_a_part_are_numbered_among_themselves():
    from keras_npbatch.plan.division import subset

    part = subset(Plan(20, 4, 3), [3, 7, 11, 19])
    walk = Walk(part)
    assert sorted(walk.numbers(0, 4, 0).tolist()) == [0, 1, 2, 3]
    rows = part.order(0).rows(0, 4).tolist()
    assert [[3, 7, 11, 19][number] for number in walk.numbers(0, 4, 0)] == rows
    assert walk.places(2, 0, 8, 0).tolist() == [
        rows.index(11),
        4 + part.order(1).rows(0, 4).tolist().index(11),
    ]


def test_what_decides_the_order_is_told():
    assert Walk(Plan(20, 4, 3)).told == "Shuffle() of 20, seed 3"
    sampler = LengthBuckets(np.arange(20), 2)
    for plan in (Plan(20, 4, 3, sampler), Plan(20, 2, 3, sampler, shard=(1, 2))):
        assert Walk(plan).told == f"{sampler.identity} of 20, batches of 4, seed 3"
        assert Walk(plan, index=0).told == f"{sampler.identity} of 20, batches of 4"
        # And so it is made.
        rows = sampler.order(plan.available, 4, 3, 0).rows(0, 20)
        assert Walk(plan).numbers(0, 20, 0).tolist() == rows.tolist()


def test_a_drawn_seed_follows_that_of_the_mixture():
    walk, twin = (Walk(Plan(50, 4, seed), index=1) for seed in (3, 4))
    assert walk.told == "Shuffle() of 50"
    orders = [walk.numbers(0, 50, seed).tolist() for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert twin.numbers(0, 50, 0).tolist() == orders[0]
    assert Walk(Plan(50, 4), index=0).numbers(0, 50, 0).tolist() != orders[0]
