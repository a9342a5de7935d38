"""Checks of arguments: what is no number, and no state, is refused by one of our errors."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import re

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import BatchDataset, Shard, errors
from keras_npbatch.arguments import (
    advice_on,
    is_called,
    number_of_batches,
    refuses_unknown_arguments,
    row_numbers,
    told_of_unknown,
    whole_number,
)

N, BATCH = 50, 8


class Loader(BatchDataset):
    def load(self, rows):
        return rows[:, np.newaxis] * 2.0, rows


NO_WHOLE_NUMBERS = [
    *(math.nan, math.inf, -math.inf, 1.5, 8.0, -1, -(2**63), 1j),
    *(True, False, np.True_, "8", b"8", "", [], [8], (8,), {}, {8}, ..., len),
    *(np.float32(8), np.float64("nan"), np.array([8]), np.array(8.0), np.array("8")),
    *(np.datetime64(8, "s"), np.timedelta64(8, "s"), np.str_("8")),
]
SETTINGS = ["num_samples", "batch_size", "seed", "workers", "max_queue_size", "timeout"]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_by_name(name, value):
    if name == "timeout" and type(value) in (float, np.float32) and 0 < value < math.inf:
        return  # seconds may have a fraction
    arguments = {"num_samples": N, "batch_size": BATCH} | {name: value}
    with pytest.raises(errors.InvalidArgumentError, match=name):
        Loader(**arguments)


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_what_is_no_number_of_a_process_an_epoch_or_a_step_is_refused(value):
    dataset = Loader(num_samples=N, batch_size=BATCH)
    for call in (
        lambda: Shard(value, 2),
        lambda: Shard(0, value),
        lambda: dataset.rows(value),
        lambda: dataset.rows(0, epoch=value),
        lambda: dataset.locate(value),
        lambda: dataset.set_epoch(value),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            call()
    assert dataset.epoch == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.data())
def test_a_state_that_was_changed_is_refused_or_is_that_of_a_position(data):
    dataset = Loader(num_samples=N, batch_size=BATCH, seed=0)
    before = dataset.state_dict(epoch=3, step=2)
    dataset.load_state_dict(before)
    state = copy.deepcopy(before)
    inner = state if data.draw(st.booleans()) else state["dataset"]
    name = data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=5))
    if data.draw(st.booleans()):
        inner[name] = data.draw(JSON)
    else:
        inner.pop(name, None)
    try:
        dataset.load_state_dict(state)
    except errors.InvalidStateError:
        assert dataset.state_dict() == before
        return
    place = json.loads(json.dumps(dataset.state_dict()))
    assert dataset.state_dict(epoch=place["epoch"], step=place["step"])["epoch"] == dataset.epoch
    assert len(list(dataset)) == len(dataset) - place["step"] + (place["skip"] > 0)


@pytest.mark.parametrize("value", [2, 7, np.int8(5)])
def test_a_whole_number_within_its_bounds_is_an_int(value):
    number = whole_number("n", value, least=2, most=7)
    assert type(number) is int
    assert number == value
    assert whole_number("n", 2**70, least=2) == 2**70


@pytest.mark.parametrize(
    ("value", "most", "text"),
    [
        (1, 7, "n is 1 (int); expected a whole number from 2 to 7."),
        (8, 7, "n is 8 (int); expected a whole number from 2 to 7."),
        (1, None, "n is 1 (int); expected a whole number from 2 up."),
        (
            2.0,
            7,
            "n is 2.0 (float); expected a whole number from 2 to 7. Write 2; to divide whole "
            "numbers, a // b.",
        ),
        (True, 7, "n is True (bool); expected a whole number from 2 to 7."),
    ],
)
def test_what_is_out_of_bounds_is_told_with_them(value, most, text):
    with pytest.raises(errors.InvalidArgumentError, match=f"^{re.escape(text)}$"):
        whole_number("n", value, least=2, most=most)


@pytest.mark.parametrize("value", [True, np.True_])
def test_a_truth_value_is_no_number(value):
    with pytest.raises(errors.InvalidArgumentError, match="expected a whole number from 0 to 7"):
        whole_number("n", value, least=0, most=7)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_row_numbers_are_int64(dtype):
    rows = row_numbers(np.array([9, 0, 9], dtype), 10)
    assert rows.dtype == np.int64
    assert rows.tolist() == [9, 0, 9]


def test_row_numbers_that_are_int64_are_not_copied():
    rows = np.array([3])
    assert row_numbers(rows, 10) is rows
    assert row_numbers(rows[:0], 0).tolist() == []


@pytest.mark.parametrize("rows", [[[1]], 1, [1.0], [True], ["1"], []])
def test_what_are_no_row_numbers_is_refused(rows):
    text = f"rows is {errors.describe(np.asarray(rows))}; expected whole numbers of shape (n,)."
    with pytest.raises(errors.InvalidArgumentError, match=f"^{re.escape(text)}$"):
        row_numbers(rows, 10)


@pytest.mark.parametrize("rows", [[-1, 3], [3, 10]])
def test_rows_that_there_are_not_are_refused(rows):
    text = f"rows go from {rows[0]} to {rows[1]}; expected numbers from 0 to 9"
    with pytest.raises(IndexError, match=f"^{re.escape(text)}$"):
        row_numbers(rows, 10)


class Counted:
    def __init__(self, found):
        self.found = found

    @property
    def num_batches(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_the_number_of_batches_of_a_dataset_is_an_int_or_none():
    assert number_of_batches(Counted(None)) is None
    found = number_of_batches(Counted(np.int64(3)))
    assert type(found) is int
    assert found == 3


def test_an_error_of_ours_about_the_number_of_batches_passes_as_it_is():
    error = errors.InvalidArgumentError("said in full")
    with pytest.raises(errors.InvalidArgumentError) as caught:
        number_of_batches(Counted(error))
    assert caught.value is error


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (2.5, "TypeError: 'float' object cannot be interpreted as an integer"),
    ],
)
def test_a_dataset_that_can_not_tell_its_number_of_batches_is_refused(found, cause):
    text = f"Counted can't tell how many batches it has ({cause}); expected a number. Write"
    with pytest.raises(
        errors.InvalidArgumentError, match=rf"^{re.escape(text)} __len__\.$"
    ) as caught:
        number_of_batches(Counted(found))
    assert cause.startswith(type(caught.value.__cause__).__name__)


class WithProperty:
    @property
    def called(self):
        return Answer(is_called())


class Answer:
    def __init__(self, is_called):
        self.is_called = is_called

    def __call__(self):
        return self


def test_a_property_knows_whether_it_is_called():
    asked = WithProperty()
    answer = asked.called()  # not in an assert, which pytest rewrites
    assert answer.is_called is True
    answer = asked.called
    assert answer.is_called is False


WORDS = {"num_workers": "Write workers={value}.", "test_size": "Write split({rest})."}


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("num_workers", 4, "Write workers=4."),
        ("num_workers", 0.5, "Write workers=0.5."),
        ("num_workers", True, "Write workers=True."),
        ("num_workers", (1,), "Write workers=(1,)."),
        ("num_workers", (1, 2), "Write workers=(1, 2)."),
        ("num_workers", [1, 2, 3, 4], "Write workers=[1, 2, 3, 4]."),
        ("num_workers", (1, 2, 3, 4, 5), "Write workers=N."),
        ("num_workers", (), "Write workers=N."),
        ("num_workers", (1, "2"), "Write workers=N."),
        ("num_workers", "4", "Write workers=N."),
        ("test_size", 0.25, "Write split(0.75)."),
        ("test_size", 1.5, "Write split(0.8)."),
        ("test_size", 0.0, "Write split(0.8)."),
        ("test_size", 1.0, "Write split(0.8)."),
        ("test_size", 100, "Write split(0.8)."),
        ("Batchsize", 4, "Did you mean batch_size?"),
        ("unheard_of", 4, None),
    ],
)
def test_the_advice_on_an_unknown_argument(key, value, advice):
    assert advice_on(key, value, ["batch_size", "seed"], WORDS) == advice


@pytest.mark.parametrize(
    ("unknown", "advice", "text"),
    [
        (["a"], ["Write b."], "f has no argument a. Write b."),
        (["a", "c"], ["Write b."] * 2, "f has no arguments a, c. Write b."),
        (["a", "c"], ["Write b.", None], "f has no arguments a, c. Expected x, y. Write b."),
        (["a"], [None], "f has no argument a. Expected x, y."),
    ],
)
def test_what_is_told_of_unknown_arguments(unknown, advice, text):
    told = told_of_unknown("f", "argument", iter(unknown), iter(["x", "y"]), iter(advice))
    assert told == text


def decorated():
    """A function and a class."""

    @refuses_unknown_arguments(WORDS)
    def fitted(x, *others, batch_size=32, **given):
        """Its text."""
        return x, others, batch_size

    class Fitted:
        @refuses_unknown_arguments(WORDS)
        def __init__(self, x, batch_size=32, **given):
            self.given = x, batch_size

    return fitted, Fitted


def test_known_arguments_arrive():
    fitted, Fitted = decorated()
    assert fitted(1, 2, batch_size=3) == (1, (2,), 3)
    assert Fitted(1, batch_size=3).given == (1, 3)
    assert (fitted.__name__, fitted.__doc__) == ("fitted", "Its text.")
    assert list(inspect.signature(fitted).parameters) == ["x", "others", "batch_size", "given"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda f, _: f(1, num_workers=2), "fitted has no argument num_workers. Write workers=2."),
        (lambda _, c: c(1, num_workers=2), "Fitted has no argument num_workers. Write workers=2."),
        (lambda f, _: f(1, others=2, self=3), "fitted has no arguments others, self. Expected x"),
        (lambda _, c: c(1, abc=2), "Fitted has no argument abc. Expected x, batch_size, given."),
        (lambda _, c: c(1, batchsize=2), "Fitted has no argument batchsize. Did you mean batch"),
    ],
)
def test_unknown_arguments_are_refused_with_advice(call, text):
    with pytest.raises(errors.UnknownSettingError, match=f"^{re.escape(text)}"):
        call(*decorated())
