"""`Together`: the messages of a step; test_jax.py and test_torch.py train with it."""

from __future__ import annotations

import json

import pytest

from keras_npbatch.batches.set_aside import Failure
from keras_npbatch.distributed.together import Together, joined
from keras_npbatch.errors import InvalidArgumentError, RanksDisagreeError
from keras_npbatch.plan.shard import Shard


def said(*messages):
    return [json.dumps(["rows set aside", [index, pairs]]) for index, pairs in messages]


def test_the_rows_of_all_are_in_the_order_of_the_shards():
    assert joined(said((1, [[7, "b"], [9, "c"]]), (0, [[3, "a"]]))) == (
        Failure(3, "a"),
        Failure(7, "b"),
        Failure(9, "c"),
    )
    assert joined(said((0, []), (1, []))) == ()


def test_processes_that_hold_one_model_count_once_and_must_agree():
    assert joined(said((0, [[3, "a"]]), (0, [[3, "in other words"]]))) == (Failure(3, "a"),)
    with pytest.raises(RanksDisagreeError) as caught:
        joined(said((0, [[3, "a"]]), (0, [])))
    assert str(caught.value) == (
        "two processes read shard 0, and one could not read rows [3], the other []; expected the "
        "same: they hold parts of one model. Look at how each of them reaches the data."
    )


def test_a_failure_is_told():
    with pytest.raises(RanksDisagreeError) as caught:
        joined([*said((0, [])), json.dumps(["a failure", "OSError: the disk is gone"])])
    assert str(caught.value) == "process 1 can't go on: OSError: the disk is gone"


def test_without_a_way_to_communicate_it_is_refused():
    with pytest.raises(InvalidArgumentError) as caught:
        Together(Shard(0, 2)).of_all([])
    assert str(caught.value) == (
        "on_error='set_aside' was given with Shard(index=0, count=2), and the processes have no "
        "way to tell each other which rows they could not read; expected one, since the loss is "
        "the mean over the rows of all. Start jax.distributed or torch.distributed before the "
        "dataset is made, or leave such rows out: dataset.subset(rows)."
    )


def test_an_error_of_a_step_is_the_one_that_is_raised():
    def steps():
        yield 0
        raise OSError("the disk is gone")

    watched = Together(Shard(0, 2)).watched(steps())
    assert next(watched) == 0
    with pytest.raises(OSError, match="the disk is gone"):
        next(watched)
