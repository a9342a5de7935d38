"""The public strategies: what they draw is valid, reaches odd cases, and shrinks as documented."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from keras_npbatch import BatchDataset
from keras_npbatch.batches.parts import check_lengths, pack, unpack
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.testing import check_dataset, strategies
from keras_npbatch.testing.array_layouts import ALL_DTYPES, LAYOUTS, filled, laid_out
from keras_npbatch.tree import leaves
from tests.comparing import assert_same_array

QUICK = settings(
    max_examples=150, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink]
)


def least(strategy, condition=lambda _: True):
    return find(strategy, condition, settings=QUICK)


def any_of(strategy, condition):
    """One that is not made smaller, which takes long."""
    return find(strategy, condition, settings=settings(QUICK, phases=[Phase.generate]))


class Loader(BatchDataset):
    def load(self, rows):
        return rows * 2.0, rows


# --- what they shrink to, as documented --------------------------------------------------------


def test_arrays_shrink_to_one_number():
    array = least(strategies.arrays())
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((1,), ALL_DTYPES[0], True)


def test_row_numbers_shrink_to_none():
    assert least(strategies.row_numbers(5)).tolist() == []


def test_nests_shrink_to_a_leaf():
    assert least(strategies.nests(st.just("leaf"))) == "leaf"


def test_batches_shrink_to_one_array():
    batch = least(strategies.batches(3))
    assert (type(batch), batch.shape, batch.dtype) == (np.ndarray, (3,), np.dtype("float32"))


def test_plans_shrink_to_one_sample():
    assert least(strategies.plans()) == Plan(1, 1, seed=0, sampler=InOrder(), remainder="keep")


def test_settings_shrink_to_one_sample():
    assert least(strategies.settings()) == {
        "num_samples": 1,
        "batch_size": 1,
        "shuffle": False,
        "seed": 0,
        "remainder": "keep",
        "transform": None,
        "workers": 0,
        "max_queue_size": 10,
    }


def test_datasets_shrink_to_one_sample_at_epoch_0():
    dataset = least(strategies.datasets())
    assert (dataset.num_samples, dataset.batch_size, dataset.epoch) == (1, 1, 0)
    assert len(leaves(dataset[0])) == 1


def test_resume_points_shrink_to_the_beginning():
    state = least(strategies.resume_points(Loader(10, batch_size=3, seed=0)))
    assert (state["epoch"], state["step"]) == (0, 0)


def test_shards_shrink_to_the_plan_itself():
    plan = Plan(50, 12, seed=1)
    assert least(strategies.shards(plan)) == [plan]


def test_every_strategy_says_what_it_shrinks_to():
    for name in strategies.__all__:
        if name != "Pair":
            assert "Shrinks to" in inspect.getdoc(getattr(strategies, name)), name


# --- what they reach ---------------------------------------------------------------------------


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "spread"])
def test_settings_reach_every_remainder_and_a_short_batch(remainder):
    def has_rest(chosen):
        return chosen["remainder"] == remainder and chosen["num_samples"] % chosen["batch_size"]

    any_of(strategies.settings(), has_rest)


def test_settings_reach_less_than_a_batch():
    any_of(strategies.settings(), lambda chosen: chosen["num_samples"] < chosen["batch_size"])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_batches_reach_every_form(length):
    any_of(strategies.batches(2), lambda b: isinstance(b, tuple) and len(b) == length)


def test_datasets_reach_weights_without_a_target():
    any_of(
        strategies.datasets(),
        lambda d: isinstance(d[0], tuple) and len(d[0]) == 3 and d[0][1] is None,
    )


def test_resume_points_reach_the_next_epoch():
    dataset = Loader(10, batch_size=3, seed=0)
    state = any_of(
        strategies.resume_points(dataset, max_epochs=1), lambda state: state["epoch"] == 1
    )
    assert state["step"] == 0


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_shards_reach_every_number_that_divides_a_batch(count):
    any_of(strategies.shards(Plan(50, 12)), lambda plans: len(plans) == count)


# --- what they draw is valid -------------------------------------------------------------------


@given(strategies.plans(), st.data())
def test_shards_make_up_the_plan(plan, data):
    plans = data.draw(strategies.shards(plan))
    for step in range(plan.num_batches):
        rows = np.concatenate([each.rows(1, step) for each in plans])
        assert rows.tolist() == plan.rows(1, step).tolist()


@given(strategies.settings(25, transforms=[None, lambda batch: batch]))
def test_settings_make_a_dataset(chosen):
    assert 1 <= chosen["num_samples"] <= 25
    dataset = Loader(**chosen)
    assert dataset.num_samples == chosen["num_samples"]
    assert len(list(dataset)) == len(dataset)


@given(strategies.settings(remainders=["spread"]))
def test_settings_keep_to_the_remainders_they_are_given(chosen):
    assert chosen["remainder"] == "spread"


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), strategies.batches(n))))
def test_batches_are_batches(drawn):
    num_samples, batch = drawn
    parts = unpack(batch, "batches()")
    check_lengths(parts, num_samples, "batches()")
    assert type(pack(parts)) is type(batch)


@given(strategies.arrays(num_rows=4))
def test_arrays_have_the_rows_that_are_asked_for(array):
    assert len(array) == 4


@settings(max_examples=15)
@given(strategies.datasets())
def test_nothing_is_found_in_a_drawn_dataset(dataset):
    # NaN is drawn on purpose.
    ignore = ["values_are_finite", "processes_read_the_same_batches"]
    report = check_dataset(dataset, ignore=ignore)
    assert report.ok, report


@given(strategies.datasets(), st.data())
def test_a_drawn_dataset_goes_on_at_a_resume_point(dataset, data):
    state = data.draw(strategies.resume_points(dataset))
    dataset.load_state_dict(json.loads(json.dumps(state)))
    assert (dataset.epoch, dataset.state_dict()["step"]) == (state["epoch"], state["step"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_a_layout_changes_no_value(dtype, layout):
    array = filled((3, 2), dtype)
    expected = np.broadcast_to(array[:1], array.shape) if layout == "broadcast" else array
    assert_same_array(np.array(laid_out(array, layout)), np.array(expected))


# --- the extra ---------------------------------------------------------------------------------


def test_without_hypothesis_only_strategies_are_missing_and_the_message_says_how_to_get_them():
    program = """
import sys
sys.modules["hypothesis"] = None  # as if it were not installed
import keras_npbatch.testing
from keras_npbatch.errors import MissingExtraError
from tests.testing.gallery.good import Textbook
assert keras_npbatch.testing.check_dataset(
    Textbook(), ignore="processes_read_the_same_batches"
).ok
try:
    keras_npbatch.testing.strategies
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
    )
    assert done.stdout == (
        "keras_npbatch.testing.strategies needs hypothesis, which is not installed; "
        "pip install 'keras_npbatch[testing]'\n"
    ), done.stderr


def test_an_unknown_name_is_an_attribute_error():
    from keras_npbatch import testing

    with pytest.raises(AttributeError) as caught:
        testing.nope  # noqa: B018
    assert str(caught.value) == "module 'keras_npbatch.testing' has no attribute 'nope'"
    assert testing.strategies is strategies
