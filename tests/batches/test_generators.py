"""`Generators`: what is drawn for a batch, and for its samples wherever they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.batches.generators import Generators
from keras_npbatch.plan.plan import Plan
from keras_npbatch.rng import Purpose, generator
from keras_npbatch.samplers.order import WholeData
from keras_npbatch.testing.strategies import samplers

_BY_SAMPLE = Purpose.AUGMENT_OF_SAMPLE


def drawn(plan: Plan, epoch: int, link: int = 0) -> dict[tuple[int, int], list[int]]:
    """For each row, and each time that it came: what it draws in an epoch, over all shards."""
    found: dict[tuple[int, int], list[int]] = {}
    seen: dict[int, int] = {}
    for step in range(plan.num_batches):
        for index in range(plan.shard.count):
            part = plan.of_shard(index)
            rows = part.rows(epoch, step)
            made = Generators(part, epoch, step, rows).of_samples(_BY_SAMPLE, link)
            assert len(made) == len(rows)
            for row, each in zip(rows.tolist(), made, strict=True):
                time = seen[row] = seen.get(row, -1) + 1
                found[row, time] = each.integers(0, 2**62, 2).tolist()
    return found


@settings(max_examples=40)
@given(data=st.data(), epoch=st.integers(0, 3), seed=st.integers(0, 2**128 - 1))
def test_a_row_draws_the_same_in_any_batches_of_any_shards(data, epoch, seed):
    n = data.draw(st.integers(2, 25))
    sampler = data.draw(samplers(n))
    size = sampler.num_samples(WholeData(n))
    sizes, counts = st.integers(1, 9), st.integers(1, 3)
    plans = [
        Plan(n, 6, seed, sampler).of_shard((0, data.draw(counts))),
        Plan(n, data.draw(sizes), seed, sampler),
    ]
    one, other = (drawn(plan, epoch) for plan in plans)
    assert one == other
    assert len(one) == size
    assert len({tuple(numbers) for numbers in one.values()}) == size  # repeated rows too
    for key, numbers in drawn(plans[0], epoch + 1).items():
        assert numbers != one.get(key)
    for key, numbers in drawn(plans[0], epoch, link=1).items():
        assert numbers != one[key]


def test_the_rest_of_an_epoch_in_other_batches_draws_as_the_epoch():
    whole = Plan(20, 5, seed=3)
    rest = Plan(20, 4, seed=3, skip=8, order_size=5)
    there = drawn(whole, 1)
    assert drawn(rest, 1) == {
        (int(row), 0): there[int(row), 0] for row in whole.order(1).rows(8, 20)
    }


def test_a_batch_draws_by_seed_epoch_step_shard_and_link():
    plan = Plan(20, 2, seed=3).of_shard((1, 2))
    first = plan.of_shard(0)
    rows = np.zeros(1, np.int64)
    for each, link, key in (
        (first, 0, (4, 1)),
        (plan, 0, (4, 1, 1)),
        (first, 2, (4, 1, 0, 2)),
        (plan, 2, (4, 1, 1, 2)),
    ):
        made = Generators(each, 4, 1, rows).of_batch(Purpose.AUGMENT, link)
        assert made.random() == generator(3, Purpose.AUGMENT, *key).random()


def test_a_shard_without_a_row_draws_for_the_one_that_pads_it():
    plan = Plan(5, 4, seed=1, remainder="pad").of_shard((1, 2))
    assert plan.span(2 - 1) == (5, 5)
    rows = plan.order(0).rows(4, 5)
    (made,) = Generators(plan, 0, 1, rows).of_samples(_BY_SAMPLE)
    assert made.integers(0, 2**62, 2).tolist() == drawn(Plan(5, 4, seed=1), 0)[int(rows[0]), 0]
