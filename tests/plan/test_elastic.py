"""Stop after any step, go on with another number of processes: the rest of the epoch, each once."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, Shard
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.shuffle import Shuffle
from tests.inside import core_of

exact = settings(deadline=None, derandomize=True, max_examples=80)

REMAINDERS: tuple[Remainder, ...] = get_args(Remainder)
N = 60


def of_all(count: int, batch_size: int, **settings_: Any) -> list[ArrayDataset]:
    """The datasets of all processes."""
    ids = np.arange(settings_.pop("n", N))
    settings_ = {"seed": 3, **settings_}
    return [
        ArrayDataset(ids, batch_size=batch_size, shard=Shard(index, count), **settings_)
        for index in range(count)
    ]


def read(datasets: list[ArrayDataset], steps: int | None = None) -> list[int]:
    """The samples of so many steps of an epoch, of all processes; padding is not among them."""
    seen: list[int] = []
    for batches in zip(*datasets, strict=True):
        for batch in batches:
            ids, weights = (batch[0], batch[2]) if isinstance(batch, tuple) else (batch, None)
            seen.extend(ids if weights is None else ids[weights > 0])
        if steps is not None:
            steps -= 1
            if steps == 0:
                break
    return [int(each) for each in seen]


def state_of(datasets: list[ArrayDataset]) -> dict[str, Any]:
    """The state, which is that of every process, by way of a file."""
    states = [json.dumps(dataset.state_dict()) for dataset in datasets]
    assert len(set(states)) == 1
    return json.loads(states[0])  # type: ignore[no-any-return]


@exact
@given(
    remainder=st.sampled_from(REMAINDERS),
    n=st.integers(1, 80),
    stops=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=4
    ),
    shuffle=st.booleans(),
)
def test_whatever_the_processes_the_rest_of_the_epoch_comes_once(
    remainder: Remainder, n: int, stops: list[tuple[int, int, int]], shuffle: bool
) -> None:
    """Interrupted again and again, each time another number of them, with other batches."""
    alone = ArrayDataset(np.arange(n), batch_size=1, seed=3, shuffle=shuffle)
    order = [int(alone.rows(step, 0)[0]) for step in range(n)]
    state, seen = alone.state_dict(), []
    for count, batch_size, steps in stops:
        try:
            datasets = of_all(count, batch_size, n=n, remainder=remainder, shuffle=shuffle)
            for dataset in datasets:
                state["dataset"]["remainder"] = remainder
                dataset.load_state_dict(state)
        except InvalidArgumentError:  # a process would have no sample at some step, or none has
            continue
        if datasets[0].epoch == 1:  # too few left for a batch
            assert remainder == "drop"
            assert n - len(seen) < count * batch_size
            break
        seen += read(datasets, steps)
        state = state_of(datasets)
        if datasets[0].epoch == 1:
            break
    assert seen == order[: len(seen)]
    if state["epoch"] == 1 and remainder != "drop":
        assert len(seen) == n


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("stop", range(1, 5))
def test_stopped_on_four_and_resumed_on_fewer(count: int, stop: int) -> None:
    """With the global batch as it was: the very batches that would have come."""
    four = of_all(4, 3)
    begun = read(four, stop)
    state = state_of(four)
    others = of_all(count, 12 // count)
    for dataset in others:
        dataset.load_state_dict(state)
    assert others[0].state_dict() == state
    rest = read(others)
    steady = of_all(4, 3)
    assert begun + rest == read(steady)
    assert state_of(others) == state_of(steady)
    assert read(others) == read(steady)  # the next epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_with_other_batches_the_next_epoch_is_whole_again(workers: int) -> None:
    before = of_all(4, 3)
    begun = read(before, 2)
    state = state_of(before)
    after = of_all(3, 5, workers=workers)
    for dataset in after:
        dataset.load_state_dict(state)
    assert (state["step"], state["skip"]) == (2, 0)
    assert len(after[0]) == 4
    assert sorted(begun + read(after)) == list(range(N))
    assert {dataset.epoch for dataset in after} == {1}
    assert sorted(read(after)) == list(range(N))


def test_stopped_again_in_the_rest_of_an_epoch() -> None:
    first = of_all(4, 3)
    seen = read(first, 2)  # 24 of 60
    second = of_all(1, 7)
    second[0].load_state_dict(state_of(first))
    seen += read(second, 2)  # 38 of 60
    state = state_of(second)
    assert (state["epoch"], state["step"], state["skip"]) == (0, 2, 24)
    third = of_all(2, 5)
    for dataset in third:
        dataset.load_state_dict(state)
    seen += read(third)
    assert sorted(seen) == list(range(N))


def test_steps_are_told_of_the_place_that_they_are_counted_from() -> None:
    dataset = ArrayDataset(np.arange(N), batch_size=7, seed=3)
    dataset.load_state_dict(ArrayDataset(np.arange(N), batch_size=12, seed=3).state_dict(step=2))
    assert core_of(dataset).clock.place == Place(0, 0, 24)
    assert dataset.state_dict(step=1)["skip"] == 24
    assert dataset.state_dict(epoch=0, step=1)["skip"] == 24
    assert dataset.state_dict(epoch=1, step=1)["skip"] == 0
    dataset.set_epoch(0)
    assert dataset.state_dict(step=1)["skip"] == 0


def test_too_few_samples_for_the_processes_are_refused_when_the_state_is_loaded() -> None:
    first = of_all(2, 29, remainder="keep")
    read(first, 1)  # 58 of 60
    third = of_all(3, 4, remainder="keep")
    with pytest.raises(InvalidArgumentError, match=r"leaves shards without a sample: .* 2 for 3"):
        third[0].load_state_dict(state_of(first))
    assert core_of(third[0]).clock.place == Place()


@exact
@given(
    n=st.integers(1, 300),
    size=st.integers(1, 40),
    skip=st.integers(0, 299),
    remainder=st.sampled_from(REMAINDERS),
    count=st.integers(1, 4),
)
def test_the_rest_of_an_epoch_is_planned_as_an_epoch_of_its_rows(
    n: int, size: int, skip: int, remainder: Remainder, count: int
) -> None:
    skip = skip % n
    if remainder == "drop" and n - skip < size * count:
        with pytest.raises(InvalidArgumentError, match="leaves no batch"):
            Plan(n, size, 1, Shuffle(), remainder, Shard(0, count), skip)
        return
    for index in range(count):
        rest = Plan(n, size, 1, Shuffle(), remainder, Shard(index, count), skip)
        order = rest.order(2).rows(skip, n)
        own = Plan(n - skip, size, 1, InOrder(), remainder, Shard(index, count))
        assert rest.num_batches == own.num_batches
        for step in range(rest.num_batches):
            rows = rest.rows(2, step)
            assert np.array_equal(rows, order[own.rows(0, step)])
            if len(rows):
                assert rest.locate(int(rows[-1]), 2) == [(step, len(rows) - 1)]
        if skip:
            assert rest.locate_shards(int(rest.order(2).rows(0, 1)[0]), 2) == []
