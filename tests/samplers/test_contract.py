"""What holds for every sampler in `SAMPLERS`; and for a dataset with one."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, islice, pairwise
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, Shard
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.plan.split import Selection
from keras_npbatch.samplers import (
    SAMPLERS,
    Balanced,
    BlockShuffle,
    InOrder,
    LengthBuckets,
    Sampler,
    Shuffle,
    Stratified,
    Weighted,
    every_row,
)
from keras_npbatch.samplers.given import digest
from keras_npbatch.samplers.order import Available, Listed, Order, Rows, WholeData
from keras_npbatch.testing import check_dataset
from tests.loaders import doubled

few = settings(deadline=None, derandomize=True, max_examples=25)
fewer = settings(few, max_examples=8)
every_sampler = pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.__name__)


def labels(n: int, draw: np.random.Generator) -> Rows:
    """Three classes, the first two of which have a row."""
    found = draw.choice(3, n, p=[0.7, 0.2, 0.1])
    found[:2] = 0, 1
    return found


MAKERS: dict[type[Sampler], Callable[[int, np.random.Generator], Sampler]] = {
    Shuffle: lambda n, draw: Shuffle(),
    InOrder: lambda n, draw: InOrder(),
    BlockShuffle: lambda n, draw: BlockShuffle(int(draw.integers(1, n + 1)), blocks=3),
    LengthBuckets: lambda n, draw: LengthBuckets(draw.integers(0, 50, n), batches_per_window=3),
    Stratified: lambda n, draw: Stratified(labels(n, draw)),
    Balanced: lambda n, draw: Balanced(labels(n, draw)),
    Weighted: lambda n, draw: Weighted(draw.exponential(size=n)),
}
WITHOUT_ARGUMENTS = {Shuffle, InOrder}


def make(kind: type[Sampler], n: int, number: int = 0) -> Sampler:
    """A sampler for n rows; another number gives other labels, weights or settings."""
    return MAKERS[kind](n, np.random.default_rng(number)).checked(n, None)


def test_every_sampler_has_a_maker() -> None:
    assert set(MAKERS) == set(SAMPLERS)
    assert [type(sampler) for sampler, *_ in PINNED] == list(SAMPLERS)


# --- orders ------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Arguments of `order`, and a number for `make`."""

    available: Available
    batch_size: int
    seed: int
    epoch: int
    number: int

    @property
    def order(self) -> tuple[Available, int, int, int]:
        return self[:4]


@st.composite
def parts(draw: st.DrawFn, n: int) -> Available:
    """All rows, chosen ones, or a part of a split."""
    kind = draw(st.sampled_from(["whole", "chosen", "split"]))
    if kind == "split" and n > 10:
        return Selection(n).split((0.7,), draw(st.integers(0, 3)))[draw(st.integers(0, 1))]
    if kind == "chosen":
        rows = draw(st.sets(st.integers(0, n - 1), min_size=1))
        return Chosen(n, ("some",), np.array(sorted(rows), np.int64))
    return WholeData(n)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    available = draw(parts(draw(st.integers(2, 30) | st.integers(31, 300))))
    return Case(
        available,
        batch_size=draw(st.integers(1, 20) | st.integers(21, 400)),
        seed=draw(st.integers(0, 3) | st.integers(0, 2**128 - 1)),
        epoch=draw(st.integers(0, 3) | st.integers(0, 2**40)),
        number=draw(st.integers(0, 3)),
    )


def made(kind: type[Sampler], case: Case) -> tuple[Sampler, Order, Rows]:
    """The sampler of a case, an order of it, and all rows in that order."""
    sampler = make(kind, case.available.num_rows, case.number)
    order = sampler.order(*case.order)
    assert isinstance(order, Order)
    rows = order.rows(0, sampler.num_samples(case.available))
    assert rows.dtype == np.int64
    return sampler, order, rows


@every_sampler
@few
@given(case=cases(), data=st.data())
def test_an_order_is_a_function_of_its_arguments(
    kind: type[Sampler], case: Case, data: st.DataObject
) -> None:
    """Made again, from a pickle, by several threads at once, read in any slices."""
    sampler, order, rows = made(kind, case)
    n = len(rows)
    sent: Sampler = pickle.loads(pickle.dumps(sampler))
    for again in (sampler.order(*case.order), sent.order(*case.order)):
        assert np.array_equal(again.rows(0, n), rows)
    ends = data.draw(st.lists(st.integers(0, n), min_size=2, max_size=12))
    spans = [(min(span), max(span)) for span in pairwise(ends)]
    fresh = make(kind, case.available.num_rows, case.number)
    shared = fresh.order(*case.order)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda span: shared.rows(*span), spans))
        others = list(threads.map(lambda _: fresh.order(*case.order).rows(0, n), range(2)))
    for span, some in zip(spans, found, strict=True):
        assert np.array_equal(some, rows[slice(*span)])
        assert np.array_equal(order.rows(*span), some)
    assert all(np.array_equal(other, rows) for other in others)


@every_sampler
@few
@given(case=cases())
def test_an_epoch_has_available_rows_alone_each_once_unless_it_repeats(
    kind: type[Sampler], case: Case
) -> None:
    sampler, _, rows = made(kind, case)
    available = every_row(case.available)
    assert len(rows) == sampler.num_samples(case.available)
    assert np.isin(rows, available).all()
    if not sampler.repeats:
        assert np.array_equal(np.sort(rows), available)


@every_sampler
@few
@given(case=cases())
def test_places_and_positions_invert_rows(kind: type[Sampler], case: Case) -> None:
    _, order, rows = made(kind, case)
    available = every_row(case.available)
    others = np.setdiff1d(np.arange(case.available.num_rows), available)[:5]
    asked = np.concatenate([available, others])
    positions = order.positions(asked)
    assert positions.dtype == order.positions(asked[:0]).dtype == np.int64
    for row, position in zip(asked.tolist(), positions.tolist(), strict=True):
        places = np.flatnonzero(rows == row)
        assert np.array_equal(order.places(row), places)
        assert order.places(row).dtype == np.int64
        assert position == (places[0] if len(places) else -1)


@every_sampler
@fewer
@given(case=cases(), data=st.data())
def test_times_count_how_often_a_row_came_before(
    kind: type[Sampler], case: Case, data: st.DataObject
) -> None:
    sampler, order, rows = made(kind, case)
    expected, seen = [], Counter[int]()
    for row in rows.tolist():
        expected.append(seen[row])
        seen[row] += 1
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    for each in (order, Listed(rows)):
        assert each.times(start, stop).tolist() == expected[start:stop]
    assert sampler.repeats or not any(expected)


@every_sampler
@pytest.mark.parametrize("part", [False, True])
def test_another_epoch_and_another_seed_give_another_order(kind: type[Sampler], part: bool) -> None:
    available = Selection(300).split((0.5,), 0)[0] if part else WholeData(300)
    sampler = make(kind, 300)
    n = sampler.num_samples(available)
    orders = [sampler.order(available, 8, *each).rows(0, n) for each in ((0, 0), (0, 1), (1, 0))]
    for one, other in combinations(orders, 2):
        assert ((one == other).mean() < 0.3) == (kind is not InOrder)


@every_sampler
def test_only_a_sampler_in_blocks_shuffles_in_groups(kind: type[Sampler]) -> None:
    for rows in (WholeData(100), Chosen(100, ("some",), np.arange(50))):
        group = make(kind, 100).order(rows, 8, 0, 0).group(3)  # type: ignore[union-attr]
        assert (group is None) == (kind is not BlockShuffle)


@every_sampler
def test_the_order_depends_on_the_batch_size_exactly_if_it_says_so(kind: type[Sampler]) -> None:
    sampler, whole = make(kind, 100), WholeData(100)
    n = sampler.num_samples(whole)
    one, other = (sampler.order(whole, size, 0, 0).rows(0, n) for size in (8, 16))
    assert np.array_equal(one, other) == (not sampler.uses_batch_size)


@pytest.mark.parametrize("kind", [Shuffle, InOrder, BlockShuffle])
def test_an_epoch_of_a_million_million_rows_needs_no_table(kind: type[Sampler]) -> None:
    n = 10**12
    sampler = kind().checked(n, None)
    tracemalloc.start()
    try:
        order = sampler.order(WholeData(n), 32, 0, 0)
        for start in (0, n // 2, n - 32):
            rows = order.rows(start, start + 32)
            assert np.array_equal(order.positions(rows), np.arange(start, start + 32))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2e6


ROWS = np.arange(20_000)
PINNED = [
    (Shuffle(), "e8e2dde00378fdc3", "fb0891d3e7ba0c1f"),
    (InOrder(), "c4ba9b2ab462eba5", "64ad24b39e54d3fe"),
    (BlockShuffle(64, blocks=7), "be5a6f467fb244c4", "9479c6a9155d1869"),
    (LengthBuckets(ROWS * 7919 % 101), "026583d82cdc2172", "fbb1ca792f747924"),
    (Stratified(ROWS % 7 % 3), "c8b23769e020112f", "02a13430e98f5ab5"),
    (Balanced(ROWS % 7 % 3), "c75c21fc96643b36", "580d36e464ad5f75"),
    (Weighted(ROWS % 5), "610682fe56534d88", "bfcf12e5394d85f3"),
]
"""Digests of an epoch of all rows, and of a part."""


@pytest.mark.parametrize(
    ("sampler", "whole", "part"), PINNED, ids=[type(each[0]).__name__ for each in PINNED]
)
def test_the_rows_of_a_seed_stay_the_same_in_every_release(
    sampler: Sampler, whole: str, part: str
) -> None:
    parts = WholeData(len(ROWS)), Chosen(len(ROWS), ("some",), ROWS[5000::3].copy())
    orders = [sampler.order(rows, 32, 3, 2).rows(0, sampler.num_samples(rows)) for rows in parts]
    assert [digest(order) for order in orders] == [whole, part]


# --- identity ----------------------------------------------------------------------------------


def test_equal_words_mean_equal_samplers_and_equal_orders() -> None:
    n = 60
    numbers = {kind: [0] if kind in WITHOUT_ARGUMENTS else [0, 1] for kind in SAMPLERS}
    samplers = [make(kind, n, number) for kind in SAMPLERS for number in numbers[kind]]
    for one, other in combinations(samplers, 2):
        assert one != other
        assert one.identity != other.identity
        assert repr(one) == one.identity
    assert len(set(samplers)) == len(samplers)
    again = [make(kind, n, number) for kind in SAMPLERS for number in numbers[kind]]
    for one, other in zip(samplers, again, strict=True):
        assert one is not other
        assert one == other == pickle.loads(pickle.dumps(one))
        assert hash(one) == hash(other)
        assert one.identity == other.identity
        orders = [each.order(WholeData(n), 8, 0, 0).rows(0, n) for each in (one, other)]
        assert np.array_equal(*orders)
        assert one != one.identity


@every_sampler
def test_pickles_have_no_tables(kind: type[Sampler]) -> None:
    n = 5000
    sampler = make(kind, n)
    unused = pickle.dumps(sampler)
    for part in (WholeData(n), *Selection(n).split((0.5,), 0)):
        sampler.order(part, 8, 0, 0).rows(0, 10)
    assert pickle.dumps(sampler) == unused
    arguments = 0 if kind in {*WITHOUT_ARGUMENTS, BlockShuffle} else 8
    assert len(unused) <= arguments * n + 500


# --- batches -----------------------------------------------------------------------------------

N = 150


def dataset(kind: type[Sampler], batch_size: int = 30, number: int = 0, **more: Any) -> Any:
    """Each sample is its own number."""
    arguments = {"sampler": make(kind, N, number), "seed": 3, "workers": 0, **more}
    return ArrayDataset(np.arange(N), batch_size=batch_size, **arguments)


def epoch_of(ds: Any) -> list[int]:
    return np.concatenate(list(ds)).tolist()  # type: ignore[no-any-return]


def order_of(ds: Any, epoch: int) -> list[int]:
    return np.concatenate([ds.rows(step, epoch) for step in range(len(ds))]).tolist()  # type: ignore[no-any-return]


@every_sampler
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shards_of_a_step_are_the_batch_of_one_process(kind: type[Sampler], count: int) -> None:
    whole = dataset(kind)
    shards = [dataset(kind, 30 // count, shard=Shard(index, count)) for index in range(count)]
    for _ in range(2):
        for batch, *pieces in zip(whole, *shards, strict=True):
            parts = [x if w is None else x[w > 0] for x, _, w in map(weighted, pieces)]
            assert np.array_equal(np.concatenate(parts), batch)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def weighted(batch: Any) -> Any:
    return batch if isinstance(batch, tuple) else (batch, None, None)


@every_sampler
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "spread"])
def test_rows_are_the_batches_and_locate_inverts_them(kind: type[Sampler], remainder: str) -> None:
    if remainder == "spread" and kind.cuts_batches:
        with pytest.raises(InvalidArgumentError, match=r"^remainder='spread' was given with the"):
            dataset(kind, 31, remainder=remainder)
        return
    ds = dataset(kind, 31, remainder=remainder)
    places: dict[int, list[tuple[int, int]]] = {}
    for step, batch in enumerate(ds):
        rows = ds.rows(step, 0)
        x, _, weights = weighted(batch)
        assert np.array_equal(x if weights is None else x[weights > 0], rows)
        explained = ds.explain(epoch=0, step=step)
        assert np.array_equal(explained.rows, rows)
        assert (explained.padding_waste is None) == (kind is not LengthBuckets)
        for position, row in enumerate(rows.tolist()):
            places.setdefault(row, []).append((step, position))
    for row in range(N):
        found = places.get(row, [])
        if not ds.sampler.repeats:
            found = found[0] if found else None  # type: ignore[assignment]
        assert ds.locate(row, 0) == found


@every_sampler
def test_evaluate_and_predict_read_in_the_order_of_the_data(kind: type[Sampler]) -> None:
    ds = dataset(kind)
    for call in ("evaluate", "predict"):
        assert epoch_of(ds.batches_for(call)) == list(range(N))
    part, _ = ds.split(0.6)
    assert epoch_of(part.batches_for("predict")) == part.rows_in_order().tolist()
    assert set(epoch_of(part)) <= set(part.rows_in_order().tolist())


@every_sampler
@fewer
@given(stops=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=3))
def test_resumed_with_any_batch_size_the_rest_of_the_epoch_comes(
    kind: type[Sampler], stops: list[tuple[int, int]]
) -> None:
    """Exactly the samples left, in the order that the epoch began with; then whole epochs."""
    ds = dataset(kind, 30)
    expected, state, seen = order_of(ds, 0), ds.state_dict(), []
    for batch_size, steps in [(30, 1), *stops, (7, N)]:
        ds = dataset(kind, batch_size)
        ds.load_state_dict(json.loads(json.dumps(state)))
        if ds.epoch == 1:
            break
        for batch in islice(ds, steps):
            seen += batch.tolist()
        state = ds.state_dict()
    assert seen == expected
    assert state["epoch"] == 1
    assert epoch_of(ds) == order_of(dataset(kind, ds.batch_size), 1)


@every_sampler
@pytest.mark.parametrize("step", range(1, 6))
def test_resumed_with_the_same_batches_they_go_on(kind: type[Sampler], step: int) -> None:
    steady, ds = list(dataset(kind)), dataset(kind)
    ds.load_state_dict(dataset(kind).state_dict(epoch=0, step=step % len(steady)))
    for one, other in zip(ds, steady[step % len(steady) :], strict=True):
        assert np.array_equal(one, other)


def words_of(sampler: Sampler) -> str:
    """How a state tells the sampler."""
    if isinstance(sampler, Shuffle | InOrder):
        return f"shuffle was {isinstance(sampler, Shuffle)}"
    return f"sampler was {sampler.identity!r}"


@every_sampler
def test_the_state_of_another_sampler_is_refused(kind: type[Sampler]) -> None:
    ds = dataset(kind)
    others = [dataset(other) for other in SAMPLERS if other is not kind]
    if kind not in WITHOUT_ARGUMENTS:
        others.append(dataset(kind, number=1))
    for other in others:
        with pytest.raises(InvalidStateError, match=r"the state is of another dataset") as error:
            ds.load_state_dict(other.state_dict())
        expected = words_of(other.sampler)
        if type(other.sampler) is Shuffle and kind is not InOrder:  # both shuffle
            expected = f"sampler was not there and is {ds.sampler.identity!r}"
        assert expected in str(error.value)
        assert kind.__name__ in str(error.value) or kind in WITHOUT_ARGUMENTS
    ds.load_state_dict(dataset(kind).state_dict())


@every_sampler
@pytest.mark.parametrize("shuffle", [True, False])
def test_sampler_and_shuffle_together_are_refused(kind: type[Sampler], shuffle: bool) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        dataset(kind, shuffle=shuffle)
    assert str(error.value) == (
        f"sampler and shuffle={shuffle} were both given; expected one of them. The sampler decides "
        "the order: shuffle=True is Shuffle(), shuffle=False is InOrder()."
    )


@every_sampler
def test_threads_make_the_same_batches(kind: type[Sampler]) -> None:
    alone, threads = (dataset(kind, 7, workers=n, transform=doubled_ids) for n in (0, 2))
    for _ in range(2):
        for one, other in zip(alone, threads, strict=True):
            assert np.array_equal(one, other)


def doubled_ids(batch: Any) -> Any:
    return doubled((batch,))[0]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.more] * (kind is not Stratified)) for kind in SAMPLERS],
)
def test_processes_make_the_same_batches(kind: type[Sampler]) -> None:
    alone = dataset(kind, 7, transform=doubled_ids)
    part, others = dataset(kind, 7, workers=2, use_multiprocessing=True, transform=doubled_ids), []
    with part as processes:
        for _ in range(2):
            others += list(processes)
    for one, other in zip([*alone, *alone], others, strict=True):
        assert np.array_equal(one, other)


@every_sampler
def test_nothing_is_found_in_a_dataset_with_it(kind: type[Sampler]) -> None:
    report = check_dataset(dataset(kind), ignore=["processes_read_the_same_batches"])
    assert report.ok, report
    assert "every_sample_comes_once" in report.passed
