"""`state_dict` and `load_state_dict`: an iteration goes on where it ended, with the same bytes."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import re

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, errors
from keras_npbatch.errors import InvalidStateError
from keras_npbatch.plan import position
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.length_buckets import LengthBuckets
from keras_npbatch.samplers.weighted import Weighted
from keras_npbatch.testing.strategies import settings

N, BATCH = 50, 8


class Loader(BatchDataset):
    def load(self, rows):
        return rows[:, np.newaxis] * 2.0, rows


def jitter(batch, rng):
    x, ids = batch
    return x + rng.standard_normal(x.shape), ids


def arrays(num_samples=N):
    ids = np.arange(num_samples)
    return np.repeat(ids[:, np.newaxis], 3, axis=1).astype("float32"), ids


def batch_bytes(batch):
    return [part.tobytes() for part in batch]


@given(
    settings(transforms=[None, jitter]),
    st.lists(st.tuples(st.integers(0, 45), st.sampled_from([0, 1, 3])), max_size=5),
)
def test_what_was_not_delivered_comes_after_a_resume_byte_for_byte(chosen, runs):
    """Interrupted after any batch, again and again, with any number of workers each time."""
    steady = Loader(**chosen)
    expected = [batch_bytes(batch) for _ in range(3) for batch in steady]
    got = []
    state = json.dumps(Loader(**chosen).state_dict())
    for most, workers in [*runs, (len(expected), 2)]:
        dataset = Loader(**{**chosen, "workers": workers})
        dataset.load_state_dict(json.loads(state))
        until = min(len(got) + most, len(expected))
        while len(got) < until:  # over any number of iterations
            for batch in dataset:
                got.append(batch_bytes(batch))
                if len(got) == until:
                    break
        state = json.dumps(dataset.state_dict())
    assert got == expected
    assert json.loads(state) == steady.state_dict()


def test_the_state_tells_the_position_after_the_batches_delivered_so_far():
    dataset = Loader(N, batch_size=BATCH, seed=0)

    def position():
        state = dataset.state_dict()
        return state["epoch"], state["step"]

    assert position() == (0, 0)
    told = [position() for _ in dataset]
    assert told == [*((0, step) for step in range(1, 7)), (1, 0)]
    for _ in dataset:
        break
    assert position() == (1, 1)  # after the iteration, too
    assert dataset.epoch == 1
    iterator = iter(dataset)  # begins the epoch anew, as without a state
    next(iterator)
    next(iterator)
    assert position() == (1, 2)
    dataset.set_epoch(5)
    assert position() == (5, 0)


def test_a_resumed_epoch_is_short_and_those_after_it_are_whole():
    dataset = Loader(N, batch_size=BATCH, seed=0, workers=2)
    dataset.load_state_dict(dataset.state_dict(epoch=3, step=5))
    assert dataset.epoch == 3
    rest = [ids.tolist() for _, ids in dataset]
    assert rest == [dataset.rows(step, 3).tolist() for step in (5, 6)]
    assert dataset.epoch == 4
    assert [len(list(dataset)) for _ in range(2)] == [7, 7]
    assert len(dataset) == dataset.num_batches == 7


def test_a_resumed_pass_that_is_left_early_is_begun_anew_at_its_first_step():
    dataset = Loader(N, batch_size=BATCH, seed=0)
    dataset.load_state_dict(dataset.state_dict(epoch=3, step=5))
    next(iter(dataset))
    assert [ids.tolist() for _, ids in dataset] == [dataset.rows(s, 3).tolist() for s in (5, 6)]


def test_peeking_does_not_move_the_position():
    dataset = Loader(N, batch_size=BATCH, seed=0)
    dataset.load_state_dict(dataset.state_dict(epoch=3, step=5))
    dataset[0], dataset.rows(2), dataset.locate(1), len(dataset)
    assert dataset.state_dict() == dataset.state_dict(epoch=3, step=5)


def test_setting_an_epoch_begins_it_with_its_first_batch():
    dataset = Loader(N, batch_size=BATCH, seed=0)
    dataset.load_state_dict(dataset.state_dict(epoch=3, step=5))
    dataset.set_epoch(3)
    assert len(list(dataset)) == 7


@pytest.mark.parametrize("copied", [lambda d: pickle.loads(pickle.dumps(d)), copy.copy])
def test_a_copy_takes_the_resume_point_with_it(copied):
    dataset = ArrayDataset(*arrays(), batch_size=BATCH, seed=0)
    dataset.load_state_dict(dataset.state_dict(epoch=3, step=5))
    assert len(list(copied(dataset))) == 2
    assert len(list(dataset)) == 2


def test_an_endless_dataset_goes_on_from_a_state_too():
    dataset = Loader(N, batch_size=BATCH, seed=0)
    endless = dataset.repeat()
    endless.load_state_dict(dataset.state_dict(epoch=1, step=5))
    got = [ids.tolist() for _, (_, ids) in zip(range(9), endless, strict=False)]
    assert got == [dataset.rows(s, 1).tolist() for s in (5, 6)] + [
        dataset.rows(s, 2).tolist() for s in range(7)
    ]


def test_a_position_can_be_named():
    dataset = Loader(N, batch_size=BATCH, seed=0)
    named = dataset.state_dict(epoch=2, step=3)
    assert (named["epoch"], named["step"]) == (2, 3)
    assert dataset.state_dict(epoch=2, step=7) == dataset.state_dict(epoch=3, step=0)
    assert dataset.state_dict(epoch=2) == dataset.state_dict(epoch=2, step=0)
    dataset.set_epoch(4)
    assert dataset.state_dict(step=1) == dataset.state_dict(epoch=4, step=1)
    assert dataset.epoch == 4
    for wrong in ({"epoch": -1}, {"step": 8}, {"step": -1}, {"step": 1.5}):
        with pytest.raises(errors.InvalidArgumentError):
            dataset.state_dict(**wrong)


def test_the_state_is_these_few_entries():
    dataset = ArrayDataset(
        {"a": np.zeros((9, 2), "float32")}, np.zeros(9, "int8"), batch_size=4, seed=2**100
    )
    state = dataset.state_dict(epoch=3, step=1)
    assert state == {
        "version": 1,
        "epoch": 3,
        "step": 1,
        "skip": 0,
        "dataset": {
            "class": "ArrayDataset",
            "num_samples": 9,
            "global_batch_size": 4,
            "shuffle": True,
            "seed": 2**100,
            "remainder": "keep",
            "transform": None,
            "augment": None,
            "class_weight": None,
            "x['a']": [[9, 2], "float32"],
            "y": [[9], "int8"],
        },
    }
    assert json.loads(json.dumps(state)) == state


BASE = {"batch_size": BATCH, "seed": 1}


def differing():
    x, y = arrays()
    yield "num_samples was 50 and is 49", ArrayDataset(x[1:], y[1:], **BASE)
    yield "seed was 1 and is 2", ArrayDataset(x, y, **(BASE | {"seed": 2}))
    yield "shuffle was True and is False", ArrayDataset(x, y, shuffle=False, **BASE)
    yield "remainder was 'keep' and is 'spread'", ArrayDataset(x, y, remainder="spread", **BASE)
    yield "transform was None and is 'jitter'", ArrayDataset(x, y, transform=jitter, **BASE)
    yield (
        "class_weight was None and is [[0, 1.0], [3, 2.5]]",
        ArrayDataset(x, y, class_weight={3: 2.5, 0: 1}, **BASE),
    )
    yield (
        "x was [[50, 3], 'float32'] and is [[50, 2], 'float32']",
        ArrayDataset(x[:, 1:], y, **BASE),
    )
    yield "y was [[50], 'int64'] and is [[50], 'int8']", ArrayDataset(x, y.astype("int8"), **BASE)
    yield "y was [[50], 'int64'] and is not there", ArrayDataset(x, **BASE)
    yield "sample_weight was not there and is [[50], 'int64']", ArrayDataset(x, y, y, **BASE)
    yield "class was 'ArrayDataset' and is 'Loader'", Loader(N, **BASE)


@pytest.mark.parametrize(
    ("difference", "other"), list(differing()), ids=lambda value: str(value)[:20]
)
def test_the_state_of_another_dataset_is_refused_and_the_difference_told(difference, other):
    state = ArrayDataset(*arrays(), **BASE).state_dict(epoch=2, step=3)
    with pytest.raises(InvalidStateError, match=re.escape(difference)) as caught:
        other.load_state_dict(json.loads(json.dumps(state)))
    assert str(caught.value).startswith("the state is of another dataset: ")
    assert str(caught.value).endswith(
        ". Expected a dataset with the same data and settings as the one that wrote it: with "
        "others its batches would not go on where they ended. Make it so, the seed too, or start "
        "again."
    )
    assert (other.epoch, other.state_dict()["step"]) == (0, 0)


def test_what_changes_no_batch_is_no_difference():
    """Workers and queues may change, and a seed that nothing is drawn from."""
    x, y = arrays()
    state = ArrayDataset(x, y, shuffle=False, workers=0).state_dict(epoch=1, step=2)
    other = ArrayDataset(x, y, shuffle=False, workers=3, max_queue_size=2).repeat()
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_many_differences_are_cut_short():
    state = ArrayDataset(*arrays(), **BASE).state_dict()
    with pytest.raises(InvalidStateError, match=r"; and 2 more\. Expected"):
        Loader(9, batch_size=3, seed=0, shuffle=False, remainder="drop").load_state_dict(state)


def test_the_name_of_a_transform_is_told_whatever_it_is():
    class Callable:
        def __call__(self, batch):
            return batch

    for transform, name in (
        (jitter, "jitter"),
        (functools.partial(jitter, rng=None), "jitter"),
        (Callable(), f"{Callable.__qualname__}"),
    ):
        dataset = ArrayDataset(*arrays(), transform=transform)
        assert dataset.state_dict()["dataset"]["transform"] == name


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda state: None,
            "the state is None (NoneType); expected the dict that a dataset's state_dict() "
            "returned.",
        ),
        (
            lambda state: {},
            "the state is {} (dict); expected the dict that a dataset's state_dict() returned.",
        ),
        (
            lambda state: state | {"version": 2},
            "the state has version 2 (int); this keras_npbatch reads version 1. Load it with the "
            "keras_npbatch that wrote it, or start again.",
        ),
        (
            lambda state: state | {"dataset": 3},
            "the state has no description of its dataset; expected the dict that a dataset's "
            "state_dict() returned, unchanged.",
        ),
        (
            lambda state: state | {"step": 7},
            "in the state, step is 7 (int); expected a whole number from 0 to 6.",
        ),
        (
            lambda state: state | {"epoch": "1"},
            "in the state, epoch is '1' (str); expected a whole number from 0 up.",
        ),
        (
            lambda state: state | {"skip": 50},
            "in the state, skip is 50 (int); expected a whole number from 0 to 49.",
        ),
        (
            lambda state: state | {"order_size": -1},
            "in the state, order_size is -1 (int); expected a whole number from 0 up.",
        ),
        (
            lambda state: state | {"dataset": state["dataset"] | {"global_batch_size": 0}},
            "in the state, global_batch_size is 0 (int); expected a whole number from 1 up.",
        ),
        (
            lambda state: {name: state[name] for name in ("version", "dataset", "epoch")},
            "in the state, step is None (NoneType); expected a whole number from 0 to 6.",
        ),
    ],
)
def test_what_is_no_state_is_refused(change, text):
    dataset = Loader(N, batch_size=BATCH, seed=0)
    dataset.load_state_dict(dataset.state_dict(epoch=1, step=2))
    with pytest.raises(InvalidStateError) as caught:
        dataset.load_state_dict(change(dataset.state_dict()))
    assert str(caught.value) == text
    assert dataset.state_dict() == dataset.state_dict(epoch=1, step=2)


@pytest.mark.parametrize(
    ("epoch", "step", "message"),
    [
        (-1, 0, "epoch is -1 (int); expected a whole number from 0 up."),
        (0, 4, "step is 4 (int); expected a whole number from 0 to 3."),
    ],
)
def test_a_position_that_is_not_there_is_not_written(epoch, step, message):
    with pytest.raises(errors.InvalidArgumentError) as caught:
        position.write({}, Place(epoch, step), Plan(3, 1))
    assert str(caught.value) == message


def told_difference(theirs, ours):
    state = {"version": 1, "epoch": 0, "step": 0, "dataset": theirs}
    with pytest.raises(InvalidStateError) as caught:
        position.read(state, ours, Plan(3, 1))
    return str(caught.value).partition(": ")[2].partition(". Expected")[0]


def test_what_is_not_there_is_not_none():
    assert told_difference({}, {"seed": None}) == "seed was not there and is None"
    assert told_difference({"seed": None}, {}) == "seed was None and is not there"


def test_five_differences_are_told_and_how_many_more_there_are():
    theirs = dict.fromkeys("abcdefg", 0)
    five = "; ".join(f"{name} was 0 and is 1" for name in "abcde")
    assert told_difference(theirs, theirs | dict.fromkeys("abcde", 1)) == five
    assert told_difference(theirs, theirs | dict.fromkeys("abcdef", 1)) == f"{five}; and 1 more"
    assert told_difference(theirs, dict.fromkeys(theirs, 1)) == f"{five}; and 2 more"


# --- states of plans, without a dataset ----------------------------------------------------------


def state_of(plan, place):
    """As JSON gives it back."""
    return json.loads(json.dumps(position.write(described(plan), place, plan)))


def described(plan):
    return {"seed": plan.seed, "global_batch_size": plan.global_batch_size}


def read(state, plan):
    return position.read(state, described(plan), plan)


FIFTY = Plan(N, BATCH)


@pytest.mark.parametrize(
    "place",
    [Place(), Place(2, 6), Place(2, 3, in_order=True), Place(2, 4, 13), Place(2, 1, 13, True, 6)],
)
def test_a_place_is_read_as_it_was_written(place):
    assert read(state_of(FIFTY, place), FIFTY) == place


def test_after_the_last_step_of_a_rest_comes_the_next_epoch():
    assert read(state_of(FIFTY, Place(2, 5, 13)), FIFTY) == Place(3)
    assert "in_order" not in state_of(FIFTY, Place(2, 7, in_order=True))


@pytest.mark.parametrize("shard", [Shard(), Shard(1, 2)])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place(2, 3), Place(2, 0, 24)),
        (Place(2, 0), Place(2)),
        (Place(2, 3, in_order=True), Place(2, 0, 24, in_order=True)),
        (Place(2, 2, 5), Place(2, 0, 21)),
        (Place(2, 5, 5), Place(2, 0, 45)),
    ],
)
def test_with_batches_of_another_size_it_is_the_rest_of_the_epoch(shard, place, expected):
    state = state_of(FIFTY, place)
    assert read(state, Plan(N, 3, shard=shard)) == expected


def test_the_samples_that_were_read_are_those_of_the_batches_that_were():
    """Of 50 in 7 batches, spread, the first has 8 and the others 7."""
    state = state_of(Plan(N, BATCH, remainder="spread"), Place(2, 3))
    assert read(state, Plan(N, 10, remainder="spread")) == Place(2, 0, 22)


def test_where_no_batch_is_left_the_next_epoch_comes():
    state = state_of(Plan(N, BATCH, remainder="drop"), Place(2, 5))
    assert read(state, Plan(N, 10, remainder="drop")) == Place(2, 0, 40)
    assert read(state, Plan(N, 11, remainder="drop")) == Place(3)
    assert read(state, Plan(N, 11)) == Place(2, 0, 40)


def test_an_order_that_depends_on_the_size_of_batches_keeps_the_first_one():
    def plan(batch_size):
        return Plan(N, batch_size, sampler=LengthBuckets(np.arange(N)))

    assert read(state_of(plan(8), Place(2, 3)), plan(6)) == Place(2, 0, 24, order_size=8)
    again = state_of(plan(6), Place(2, 1, 24, order_size=8))
    assert read(again, plan(6)) == Place(2, 1, 24, order_size=8)
    assert read(again, plan(5)) == Place(2, 0, 30, order_size=8)
    assert read(state_of(plan(8), Place(2)), plan(6)) == Place(2)
    in_order = state_of(plan(8), Place(2, 3, in_order=True))
    assert read(in_order, plan(6)) == Place(2, 0, 24, in_order=True)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("in_order", 1, "in_order is 1 (int); expected True or False."),
        ("skip", N, "skip is 50 (int); expected a whole number from 0 to 49."),
        ("skip", -1, "skip is -1 (int); expected a whole number from 0 to 49."),
        ("order_size", -1, "order_size is -1 (int); expected a whole number from 0 up."),
        ("epoch", -1, "epoch is -1 (int); expected a whole number from 0 up."),
        ("step", 7, "step is 7 (int); expected a whole number from 0 to 6."),
        ("step", -1, "step is -1 (int); expected a whole number from 0 to 6."),
    ],
)
def test_a_number_that_can_not_be_is_refused_by_name(name, value, told):
    state = state_of(FIFTY, Place(2, 3)) | {name: value}
    with pytest.raises(InvalidStateError) as caught:
        read(state, FIFTY)
    assert str(caught.value) == f"in the state, {told}"


def test_a_size_of_batches_that_can_not_be_is_refused():
    state = state_of(FIFTY, Place(2, 3))
    state["dataset"]["global_batch_size"] = 0
    with pytest.raises(InvalidStateError) as caught:
        read(state, FIFTY)
    told = "global_batch_size is 0 (int); expected a whole number from 1 up."
    assert str(caught.value) == f"in the state, {told}"


def test_whether_a_state_is_of_a_dataset():
    state = state_of(FIFTY, Place(2, 3))
    assert position.is_of(state, described(Plan(N, 3)))
    assert not position.is_of(state, described(Plan(N, BATCH, seed=1)))
    assert not position.is_of({}, described(FIFTY))
    assert not position.is_of({"dataset": None}, described(FIFTY))
    assert not position.is_of(None, described(FIFTY))


def test_a_state_that_skips_nothing_need_not_say_so():
    state = state_of(FIFTY, Place(2, 3))
    del state["skip"]
    assert read(state, FIFTY) == Place(2, 3)


def test_an_epoch_in_order_has_each_row_once_whatever_the_sampler():
    """So fewer or more samples of it can have been read."""
    plan = Plan(N, BATCH, sampler=Weighted(np.ones(N), num_samples=2 * N))
    assert read(state_of(plan, Place(2, 3, 60)), plan) == Place(2, 3, 60)
    with pytest.raises(InvalidStateError, match=r"skip is 60 .* from 0 to 49"):
        read(state_of(plan, Place(2, 3, 60)) | {"in_order": True}, plan)
