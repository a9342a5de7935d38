"""Shards: each process its part of every global batch, the same number of steps for all."""

from __future__ import annotations

import json
import pickle
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.explanation import Explanation
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard, even_locate, even_part
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.length_buckets import LengthBuckets
from keras_npbatch.samplers.order import MAX_ROWS
from keras_npbatch.samplers.own import chosen_sampler
from keras_npbatch.samplers.shuffle import Shuffle

exact = settings(deadline=None, derandomize=True, max_examples=120)

REMAINDERS: tuple[Remainder, ...] = get_args(Remainder)


@st.composite
def sharded(draw: st.DrawFn, most_samples: int = 400, most_shards: int = 9) -> list[Plan]:
    """The plans of all processes that train together.

    Shrinks to one process with one sample.
    """
    count = draw(st.integers(1, most_shards))
    batch_size = draw(st.integers(1, 12))
    full = count * batch_size
    # At multiples of a global batch, and where the last one has fewer samples than processes.
    ends = [1, count - 1, count, full - 1, full, full + 1, 2 * full + count - 1, 3 * full]
    n = draw(st.sampled_from([e for e in ends if e > 0]) | st.integers(1, most_samples))
    remainder = draw(st.sampled_from(REMAINDERS))
    n = max(n, full) if remainder == "drop" else n
    seed, shuffle = draw(st.integers(0, 3)), draw(st.booleans())
    return [
        Plan(n, batch_size, seed, chosen_sampler(shuffle, None), remainder, Shard(index, count))
        for index in range(count)
    ]


@st.composite
def huge(draw: st.DrawFn) -> Plan:
    """The plan of one of up to a million processes over up to 2**62 samples."""
    count = draw(st.integers(1, 10) | st.integers(1, 5000) | st.integers(1, 2**20))
    batch_size = draw(st.integers(1, 10) | st.integers(1, 4096))
    n = draw(st.sampled_from([10**6, 10**12, MAX_ROWS]) | st.integers(1, MAX_ROWS))
    remainder = draw(st.sampled_from(REMAINDERS))
    n = max(n, count * batch_size) if remainder == "drop" else n
    index = draw(st.sampled_from([0, count - 1]) | st.integers(0, count - 1))
    return Plan(n, batch_size, 0, Shuffle(), remainder, Shard(index, count))


def whole(plan: Plan) -> Plan:
    """The plan of one process with the same global batch."""
    return Plan(plan.num_samples, plan.global_batch_size, plan.seed, plan.sampler, plan.remainder)


# --- the rows of all ---------------------------------------------------------------------------


@exact
@given(plans=sharded(), epoch=st.integers(0, 2))
def test_each_step_has_the_rows_of_one_process_with_that_global_batch(
    plans: list[Plan], epoch: int
) -> None:
    alone = whole(plans[0])
    for plan in plans:
        assert plan.num_batches == alone.num_batches
    for step in range(alone.num_batches):
        rows = np.concatenate([plan.rows(epoch, step) for plan in plans])
        assert np.array_equal(rows, alone.rows(epoch, step))


@exact
@given(plans=sharded(), epoch=st.integers(0, 2))
def test_all_together_read_every_sample_once(plans: list[Plan], epoch: int) -> None:
    rows = np.concatenate(
        [plan.rows(epoch, step) for plan in plans for step in range(plan.num_batches)]
    )
    n, full = plans[0].num_samples, plans[0].global_batch_size
    assert len(np.unique(rows)) == len(rows)
    if plans[0].remainder == "drop":
        assert len(rows) == n - n % full
    else:
        assert np.array_equal(np.sort(rows), np.arange(n))


@exact
@given(plans=sharded(), data=st.data())
def test_the_sizes_differ_by_at_most_one(plans: list[Plan], data: st.DataObject) -> None:
    step = data.draw(st.integers(0, plans[0].num_batches - 1))
    sizes = [len(plan.rows(0, step)) for plan in plans]
    assert max(sizes) - min(sizes) <= 1
    assert {(min(sizes), max(sizes))} == {plan.sizes(step) for plan in plans}
    if plans[0].remainder != "spread" and step < plans[0].num_batches - 1:
        assert set(sizes) == {plans[0].batch_size}


@exact
@given(plans=sharded(), count=st.integers(1, 12), data=st.data())
def test_another_number_of_processes_reads_the_same_rows_at_each_step(
    plans: list[Plan], count: int, data: st.DataObject
) -> None:
    plan = plans[0]
    if plan.global_batch_size % count:
        with pytest.raises(InvalidArgumentError, match="divides the global batch"):
            plan.of_shard(Shard(0, count))
        return
    others = [plan.of_shard(Shard(index, count)) for index in range(count)]
    assert {other.num_batches for other in others} == {plan.num_batches}
    assert {other.global_batch_size for other in others} == {plan.global_batch_size}
    step = data.draw(st.integers(0, plan.num_batches - 1))
    ours = np.concatenate([each.rows(1, step) for each in plans])
    theirs = np.concatenate([each.rows(1, step) for each in others])
    assert np.array_equal(ours, theirs)


@exact
@given(plan=huge(), data=st.data())
def test_of_a_huge_epoch_too(plan: Plan, data: st.DataObject) -> None:
    """Neighbours touch, the first begins where the step does, and the last ends there."""
    last, count = plan.num_batches - 1, plan.shard.count
    step = data.draw(st.sampled_from([0, last]) | st.integers(0, last))
    start, stop = plan.global_span(step)
    begin, end = plan.span(step)
    assert start <= begin <= end <= stop
    before = start if plan.shard.index == 0 else plan.of_shard(plan.shard.index - 1).span(step)[1]
    behind = (
        stop if plan.shard.index == count - 1 else plan.of_shard(plan.shard.index + 1).span(step)[0]
    )
    assert (before, behind) == (begin, end)
    assert (start, stop) == whole(plan).span(step)
    smallest, largest = plan.sizes(step)
    assert smallest <= end - begin <= largest <= smallest + 1
    if step < last:
        assert plan.global_span(step + 1)[0] == stop


def test_a_thousand_processes_over_a_million_million_samples() -> None:
    plans = [Plan(10**12, 32, shard=Shard(index, 1000)) for index in range(1000)]
    steps = plans[0].num_batches
    assert {plan.num_batches for plan in plans} == {steps}
    rows = np.concatenate([plan.rows(3, steps - 1) for plan in plans])
    assert np.array_equal(rows, Plan(10**12, 32000).rows(3, steps - 1))


# --- the way back ------------------------------------------------------------------------------


@exact
@given(plans=sharded(), data=st.data(), epoch=st.integers(0, 2))
def test_locate_inverts_rows(plans: list[Plan], data: st.DataObject, epoch: int) -> None:
    row = data.draw(st.integers(0, plans[0].num_samples - 1))
    places = [plan.locate(row, epoch) for plan in plans]
    found = [index for index, place in enumerate(places) if place]
    for plan in plans:
        assert plan.locate_shards(row, epoch) == plans[-1].locate_shards(row, epoch)
    if not found:
        assert plans[0].remainder == "drop"
        assert plans[0].locate_shards(row, epoch) == []
        return
    (index,) = found
    ((step, position),) = places[index]
    assert plans[index].rows(epoch, step)[position] == row
    assert plans[0].locate_shards(row, epoch) == [(step, index, position)]


@exact
@given(plan=huge(), data=st.data())
def test_locate_inverts_rows_of_a_huge_epoch(plan: Plan, data: st.DataObject) -> None:
    last = plan.num_batches - 1
    step = data.draw(st.sampled_from([0, last]) | st.integers(0, last))
    rows = plan.rows(2, step)
    if len(rows):
        position = data.draw(st.integers(0, len(rows) - 1))
        assert plan.locate(int(rows[position]), 2) == [(step, position)]


@exact
@given(
    count=st.integers(1, 2**20),
    start=st.integers(0, 2**61),
    size=st.integers(0, 2**40),
    data=st.data(),
)
@example(count=3, start=0, size=2, data=None)
def test_even_parts_are_those_of_numpy(
    count: int, start: int, size: int, data: st.DataObject | None
) -> None:
    if data is None:
        parts = [even_part(index, count, start, start + size) for index in range(count)]
        expected = np.array_split(np.arange(start, start + size), count)
        assert [(b, e) for b, e in parts if e > b] == [
            (int(each[0]), int(each[-1]) + 1) for each in expected if len(each)
        ]
        return
    if size:
        position = data.draw(st.integers(0, size - 1))
        index, within = even_locate(count, position, size)
        begin, end = even_part(index, count, start, start + size)
        assert begin + within == start + position < end


# --- telling -----------------------------------------------------------------------------------


@exact
@given(plans=sharded(), data=st.data(), epoch=st.integers(0, 2))
def test_any_process_explains_the_step_of_all(
    plans: list[Plan], data: st.DataObject, epoch: int
) -> None:
    step = data.draw(st.integers(0, plans[0].num_batches - 1))
    for plan in (plans[0], plans[-1]):
        told = Explanation.of(plan, epoch, step)
        assert (told.epoch, told.step, told.num_batches) == (epoch, step, plan.num_batches)
        assert np.array_equal(told.rows, whole(plan).rows(epoch, step))
        assert len(told.shards) == len(told.padding) == len(plans)
        for each, rows, padding in zip(plans, told.shards, told.padding, strict=True):
            assert np.array_equal(rows, each.rows(epoch, step))
            assert padding == (plan.batch_size - len(rows) if plan.remainder == "pad" else 0)


def test_an_explanation_reads_so() -> None:
    plan = Plan(10, 2, sampler=InOrder(), remainder="pad", shard=Shard(1, 2))
    assert str(Explanation.of(plan, epoch=0, step=2)) == (
        "step 2 of 3 in epoch 0: 2 of 10 samples, remainder='pad'\n"
        "  shard 0 of 2: rows [8], 1 padded\n"
        "  shard 1 of 2: rows [9], 1 padded"
    )
    assert str(Explanation.of(plan, epoch=0, step=0)).splitlines()[1:] == [
        "  shard 0 of 2: rows [0, 1]",
        "  shard 1 of 2: rows [2, 3]",
    ]
    with pytest.raises(InvalidArgumentError, match=r"step is 3 .*from 0 to 2"):
        Explanation.of(plan, 0, 3)
    with pytest.raises(InvalidArgumentError, match="epoch is -1"):
        Explanation.of(plan, -1, 0)


def test_an_explanation_tells_the_padding_of_samples_that_have_lengths() -> None:
    """Of the global batch: 1 + 2 + 3 + 4 of 4 times 4."""
    plan = Plan(4, 2, sampler=LengthBuckets(np.array([1, 2, 3, 4])), shard=Shard(1, 2))
    told = Explanation.of(plan, epoch=0, step=0)
    assert told.padding_waste == 0.375
    assert str(told).splitlines()[-1] == "  padded to the longest sample, 37.5% is padding"
    assert repr(told) == str(told)
    assert Explanation.of(Plan(4, 2), 0, 0).padding_waste is None


# --- arguments ---------------------------------------------------------------------------------


def test_numbers_become_plain_ones() -> None:
    shard: Any = Shard(np.int64(1), np.uint8(3))
    assert (type(shard.index), type(shard.count)) == (int, int)
    assert shard == Shard(1, 3) == Shard.of((1, 3)) == Shard.of([1, 3]) == Shard.of(shard)
    assert Shard.of(None) == Shard() == Shard(0, 1)
    assert pickle.loads(pickle.dumps(shard)) == shard
    assert Plan(10, 2, shard=(1, 3)).shard == shard  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "count", "told"),
    [
        (0, 0, "count of a Shard is 0 .*from 1 to"),
        (0, 2**20 + 1, "count of a Shard is 1048577"),
        (0, 1.5, "count of a Shard is 1.5"),
        (2, 2, "index of a Shard is 2 .*from 0 to 1"),
        (-1, 2, "index of a Shard is -1"),
        (True, 2, "index of a Shard is True"),
        ("0", 2, "index of a Shard is '0'"),
    ],
)
def test_numbers_that_make_no_shard_are_refused(index: Any, count: Any, told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        Shard(index, count)


@pytest.mark.parametrize("value", ["auto", 3, (1, 2, 3), {"index": 0}, object()])
def test_what_is_no_shard_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Shard.of(value)
    assert str(caught.value) == (
        f"shard is {describe(value)}; expected keras_npbatch.Shard(index, count), (index, count), "
        "or 'auto' to ask the framework which process of how many this is."
    )


@pytest.mark.parametrize("shard", [2, -1, True, "0", Shard(0, 3)])
def test_another_process_that_does_not_exist_is_refused(shard: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        Plan(10, 2, shard=Shard(0, 2)).of_shard(shard)


def test_drop_needs_a_batch_for_all() -> None:
    with pytest.raises(InvalidArgumentError, match=r"samples=7 .*size=4 for each of 2 sh"):
        Plan(7, 4, remainder="drop", shard=Shard(0, 2))
    assert Plan(8, 4, remainder="drop", shard=Shard(0, 2)).num_batches == 1


def test_more_than_can_be_counted_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="for each of 4 shards"):
        Plan(10, 2**61, shard=Shard(0, 4))


def test_plans_of_different_shards_are_different() -> None:
    plan = Plan(10, 2, shard=Shard(0, 2))
    assert plan != plan.of_shard(1)
    assert plan == plan.of_shard(0) == pickle.loads(pickle.dumps(plan))
    assert pickle.loads(pickle.dumps(plan.of_shard(1))).shard == Shard(1, 2)
    assert json.dumps(plan.shard.index) == "0"
