"""The recipe: one batch from (epoch, step), the same whenever it is made; and its failures."""

from __future__ import annotations

import copy
import pickle
import random
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.batches.chain import change_of
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.each import each
from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.set_aside import Failure, SetAside
from keras_npbatch.batches.transforms import Transform
from keras_npbatch.errors import InvalidBatchError, SetAsideError
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.shard import Shard
from keras_npbatch.rng import Purpose
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.testing.strategies import plans
from keras_npbatch.tree import leaves_with_paths

X = np.arange(400, dtype=np.float32).reshape(100, 4)
Y = np.arange(100) % 3


def load(rows: npt.NDArray[np.int64]) -> Any:
    return {"x": X[rows], "row": rows}, Y[rows]


def add_noise(batch: Any, rng: np.random.Generator) -> Any:
    x, y = batch
    x["x"] += rng.random(x["x"].shape, np.float32)
    return x, y


def fingerprint(batch: Any) -> Any:
    return [
        (path, leaf.dtype.str, leaf.shape, leaf.tobytes())
        for path, leaf in leaves_with_paths(batch)
    ]


a_recipe = st.builds(
    Recipe,
    plan=plans(),
    load=st.just(load),
    transform=st.sampled_from([None, Transform(add_noise)]),
    class_weight=st.sampled_from([None, ClassWeight({0: 2.0, 2: 0.5})]),
)

# --- one pure function -------------------------------------------------------------------------


@given(recipe=a_recipe, order=st.randoms(use_true_random=False))
def test_a_batch_is_the_same_bytes_whenever_it_is_made(
    recipe: Recipe, order: random.Random
) -> None:
    places = [(epoch, step) for epoch in (0, 1, 9) for step in range(recipe.plan.num_batches)]
    first = {place: fingerprint(recipe(*place)) for place in places}
    order.shuffle(places)
    again = pickle.loads(pickle.dumps(recipe.plan))
    other = Recipe(again, recipe.load, recipe.transform, recipe.class_weight)
    for place in places:
        assert fingerprint(recipe(*place)) == first[place]
        assert fingerprint(other(*place)) == first[place]


def test_threads_make_the_same_bytes() -> None:
    recipe = Recipe(Plan(100, 8, seed=3), load, Transform(add_noise), ClassWeight({1: 4.0}))
    places = [(epoch, step) for epoch in range(4) for step in range(13)]
    alone = [fingerprint(recipe(*place)) for place in places]
    fresh = Recipe(Plan(100, 8, seed=3), load, Transform(add_noise), ClassWeight({1: 4.0}))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda place: fingerprint(fresh(*place)), places))
    assert together == alone


@given(recipe=a_recipe, epoch=st.integers(0, 5))
def test_the_batches_of_an_epoch_are_its_plan_read_from_the_data(
    recipe: Recipe, epoch: int
) -> None:
    plan = recipe.plan
    for step in range(plan.num_batches):
        batch = recipe(epoch, step)
        rows = plan.rows(epoch, step)
        x, y = batch[:2]
        assert x["row"][: len(rows)].tolist() == rows.tolist()
        assert y[: len(rows)].tolist() == Y[rows].tolist()
        noise = x["x"][: len(rows)] - X[rows]
        assert (noise == 0).all() if recipe.transform is None else (noise.std() > 0)
        size = plan.batch_size if plan.remainder == "pad" else len(rows)
        assert len(y) == len(x["x"]) == size
        weighed = plan.remainder == "pad" or recipe.class_weight is not None
        assert len(batch) == (3 if weighed else 2)
        if weighed:
            expected = np.zeros(size, np.float32)
            expected[: len(rows)] = 1
            if recipe.class_weight is not None:
                expected[: len(rows)] = np.array([2.0, 1.0, 0.5])[Y[rows]]
            assert batch[2].tolist() == expected.tolist()


def test_the_seed_of_the_plan_is_the_seed_of_the_transform() -> None:
    one, other = (
        Recipe(Plan(8, 8, seed=seed, sampler=InOrder()), load, Transform(add_noise))
        for seed in (0, 1)
    )
    assert fingerprint(one(0, 0)) != fingerprint(other(0, 0))
    assert fingerprint(one(0, 0)) != fingerprint(one(1, 0))


def test_the_transform_sees_batches_in_the_form_that_keras_takes() -> None:
    seen: list[Any] = []

    def look(batch: Any) -> Any:
        seen.append(batch)
        return batch

    for form in (lambda x, y: x, lambda x, y: (x,), lambda x, y: [x, y], lambda x, y: (x, y, None)):
        Recipe(
            Plan(4, 4, sampler=InOrder()),
            lambda rows, form=form: form(X[rows], Y[rows]),
            Transform(look),
        )(0, 0)
    assert [type(batch) for batch in seen] == [np.ndarray, np.ndarray, tuple, tuple]
    assert [len(batch) for batch in seen[2:]] == [2, 2]


def test_the_transform_decides_what_class_weights_and_padding_see() -> None:
    """Labels that the transform changes weigh what they have become; its weights are padded."""
    flip = Transform(lambda batch: (batch[0], 1 - batch[1]))
    recipe = Recipe(
        Plan(3, 4, sampler=InOrder(), remainder="pad"),
        lambda rows: (X[rows], np.array([0, 1, 0])[rows]),
        flip,
        ClassWeight({1: 5.0}),
    )
    x, y, weight = recipe(0, 0)
    assert y.tolist() == [1, 0, 1, 1]
    assert weight.tolist() == [5, 1, 5, 0]
    assert len(x) == 4


def test_load_is_given_int64_rows_and_can_not_spoil_the_order() -> None:
    seen: list[npt.NDArray[np.int64]] = []

    def spoil(rows: npt.NDArray[np.int64]) -> Any:
        seen.append(rows.copy())
        found = X[rows]
        if rows.flags.writeable:
            rows[...] = 0
        return found

    recipe = Recipe(Plan(10, 4), spoil)
    once = [fingerprint(recipe(0, step)) for step in range(3)]
    assert [fingerprint(recipe(0, step)) for step in range(3)] == once
    assert all(rows.dtype == np.int64 and rows.ndim == 1 for rows in seen)
    assert sorted(np.concatenate(seen[:3]).tolist()) == list(range(10))


def test_finished_batches_are_handed_on_as_they_are() -> None:
    """Nothing is checked then, which is why only sources that are known to be right say so."""
    batch = object()
    recipe = Recipe(Plan(10, 4), lambda rows: batch, finished=True)
    assert recipe(0, 0) is batch
    with pytest.raises(InvalidBatchError):
        Recipe(Plan(10, 4), lambda rows: batch)(0, 0)


def test_a_recipe_can_not_be_changed() -> None:
    recipe = Recipe(Plan(10, 4), load)
    with pytest.raises(AttributeError):
        recipe.transform = None  # type: ignore[misc]
    assert copy.copy(recipe) == recipe


# --- failures ----------------------------------------------------------------------------------


class BrokenError(Exception):
    """An error of the user's own."""


def fail(*_: Any) -> Any:
    raise BrokenError("can't read 7.png")


FIVE = Plan(10, 5, sampler=InOrder())
TWENTY = Plan(100, 20, sampler=InOrder())
NO_WEIGHT = "class_weight needs one array of class labels in y"


@pytest.mark.parametrize(
    ("recipe", "raised_by"),
    [
        (Recipe(FIVE, fail), "load(rows)"),
        (Recipe(FIVE, fail, name="__getitem__(index)"), "__getitem__(index)"),
        (Recipe(FIVE, load, Transform(fail)), "transform"),
        (Recipe(FIVE, lambda rows: None), "load(rows)"),
        (Recipe(FIVE, lambda rows: X), "load(rows)"),
        (Recipe(FIVE, load, Transform(lambda batch: None)), "transform"),
        (Recipe(FIVE, load, Transform(lambda batch: X)), "transform"),
        (Recipe(FIVE, lambda rows: X[rows], None, ClassWeight({})), "class_weight"),
        (
            Recipe(FIVE, lambda rows: (X[rows], Y[rows], X[rows, 0]), None, ClassWeight({})),
            "class_weight",
        ),
    ],
)
def test_a_failure_tells_what_was_being_done_and_where(recipe: Recipe, raised_by: str) -> None:
    with pytest.raises((BrokenError, InvalidBatchError)) as caught:
        recipe(epoch=3, step=1)
    assert caught.value.__notes__ == [
        f"keras_npbatch: raised by {raised_by} at epoch 3, step 1, rows [5, 6, 7, 8, 9]"
    ]


def test_a_failure_of_padding_tells_so() -> None:
    class Unpaddable:
        shape = (2,)
        dtype = "float32"

    recipe = Recipe(Plan(2, 5, sampler=InOrder(), remainder="pad"), lambda rows: Unpaddable())
    with pytest.raises(TypeError) as caught:
        recipe(0, 0)
    assert caught.value.__notes__ == [
        "keras_npbatch: raised by padding at epoch 0, step 0, rows [0, 1]"
    ]


def test_of_many_rows_the_first_are_told() -> None:
    with pytest.raises(BrokenError) as caught:
        Recipe(TWENTY, fail)(epoch=0, step=2)
    assert caught.value.__notes__ == [
        "keras_npbatch: raised by load(rows) at epoch 0, step 2, rows "
        "[40, 41, 42, 43, 44, 45, 46, 47, ...] (20 rows)"
    ]


def test_the_rows_that_are_told_are_those_of_the_shuffled_batch() -> None:
    plan = Plan(10, 5, seed=4)
    with pytest.raises(BrokenError) as caught:
        Recipe(plan, fail)(epoch=2, step=1)
    rows = plan.rows(2, 1).tolist()
    assert caught.value.__notes__[0].endswith(f"rows {rows}")


def test_the_users_own_exception_passes_with_its_traceback_and_its_notes() -> None:
    error = BrokenError("mine")
    error.add_note("a note of the user's")

    def read_the_file(rows: Any) -> Any:
        raise error

    with pytest.raises(BrokenError) as caught:
        Recipe(FIVE, read_the_file)(0, 0)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__notes__[0] == "a note of the user's"
    assert len(error.__notes__) == 2
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1] == "read_the_file"


@pytest.mark.parametrize("stage", ["load(rows)", "transform"])
def test_a_stop_iteration_is_an_error_not_the_end(stage: str) -> None:
    """A `next` of the user's on an empty iterator must not end an epoch early, in silence."""
    error = StopIteration("no more files")

    def stop(*_: Any) -> Any:
        raise error

    at_load = stage == "load(rows)"
    recipe = Recipe(FIVE, stop if at_load else load, None if at_load else Transform(stop))
    with pytest.raises(RuntimeError) as caught:
        recipe(1, 0)
    assert str(caught.value) == f"{stage} raised StopIteration"
    assert caught.value.__cause__ is error
    assert caught.value.__notes__ == [
        f"keras_npbatch: raised by {stage} at epoch 1, step 0, rows [0, 1, 2, 3, 4]"
    ]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_of_the_batch_gets_no_note(kind: type[BaseException]) -> None:
    def leave(rows: Any) -> Any:
        raise kind

    with pytest.raises(kind) as caught:
        Recipe(FIVE, leave)(0, 0)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(
    ("load", "transform", "message"),
    [
        (lambda rows: None, None, "load(rows) returned None; expected x, (x,), (x, y)"),
        (lambda rows: rows[1:], None, "load(rows) returned ndarray of shape (3,)"),
        (lambda rows: rows, lambda batch: None, "transform returned None; expected x, (x,)"),
        (lambda rows: rows, lambda batch: batch[1:], "transform returned ndarray of shape (3,)"),
    ],
)
def test_a_message_says_who_returned_what_is_no_batch(load, transform, message):
    recipe = Recipe(Plan(4, 4), load, None if transform is None else Transform(transform))
    with pytest.raises(InvalidBatchError) as caught:
        recipe(0, 0)
    assert str(caught.value).startswith(message)


def test_a_failure_of_finished_batches_tells_so_too() -> None:
    with pytest.raises(BrokenError) as caught:
        Recipe(FIVE, fail, finished=True, name="read(rows)")(epoch=3, step=1)
    assert caught.value.__notes__ == [
        "keras_npbatch: raised by read(rows) at epoch 3, step 1, rows [5, 6, 7, 8, 9]"
    ]

    def stop(rows: Any) -> Any:
        raise StopIteration

    with pytest.raises(RuntimeError, match=r"^read\(rows\) raised StopIteration\n"):
        Recipe(FIVE, stop, finished=True, name="read(rows)")(epoch=3, step=1)


@pytest.mark.parametrize("by_sample", [False, True])
def test_a_failure_of_a_load_that_draws_names_it_with_its_generator(by_sample: bool) -> None:
    recipe = Recipe(FIVE, fail, load_draws=True, load_draws_by_sample=by_sample)
    with pytest.raises(BrokenError) as caught:
        recipe(epoch=3, step=1)
    assert caught.value.__notes__[0].startswith("keras_npbatch: raised by load(rows, rng) at")


# --- generators and lengths ----------------------------------------------------------------------


def test_load_draws_from_the_generator_of_the_batch_or_of_each_row() -> None:
    numbers = Generators(FIVE, 3, 1, FIVE.rows(3, 1))
    of_batch = Recipe(FIVE, lambda rows, rng: (rows, rng.random(5)), load_draws=True)(3, 1)
    assert of_batch[0].tolist() == [5, 6, 7, 8, 9]
    assert of_batch[1].tolist() == numbers.of_batch(Purpose.LOAD).random(5).tolist()
    of_samples = Recipe(
        FIVE,
        lambda rows, rngs: (rows, np.array([rng.random() for rng in rngs])),
        load_draws_by_sample=True,
    )(3, 1)
    assert of_samples[0].tolist() == [5, 6, 7, 8, 9]
    expected = [rng.random() for rng in numbers.of_samples(Purpose.LOAD_OF_SAMPLE)]
    assert of_samples[1].tolist() == expected


def test_whole_batches_have_any_number_of_samples_until_they_are_changed() -> None:
    recipe = Recipe(FIVE, lambda rows: X[:3], is_whole=True)
    assert len(recipe(0, 0)) == 3
    with pytest.raises(InvalidBatchError, match="transform returned"):
        Recipe(FIVE, lambda rows: X[:3], Transform(lambda batch: batch), is_whole=True)(0, 0)


def test_a_shard_without_a_sample_of_the_last_batch_pads_the_first_of_the_others() -> None:
    asked: list[list[int]] = []

    def read(rows: npt.NDArray[np.int64]) -> Any:
        asked.append(rows.tolist())
        return X[rows]

    plan = Plan(6, 2, sampler=InOrder(), remainder="pad", shard=Shard(2, 3))
    assert Recipe(plan, read)(0, 0)[0].tolist() == X[4:6].tolist()
    plan = Plan(8, 2, seed=1, remainder="pad", shard=Shard(2, 3))
    x, _, weight = Recipe(plan, read)(3, 1)
    first = int(plan.of_shard(0).rows(3, 1)[0])
    assert x.tolist() == [X[first].tolist()] * 2
    assert weight.tolist() == [0, 0]
    assert asked == [[4, 5], [first]]


# --- rows that can't be read ---------------------------------------------------------------------


def reading_all_but(*failing: int) -> Any:
    def read(rows: npt.NDArray[np.int64]) -> Any:
        if set(failing) & set(rows.tolist()):
            raise BrokenError("gone")
        return X[rows], Y[rows]

    return read


def without(*failing: int, plan: Plan = FIVE, **settings: Any) -> Recipe:
    return Recipe(plan, reading_all_but(*failing), aside=SetAside(10, 1.0), **settings)


def test_rows_that_can_not_be_read_are_filled_up_with_others_of_no_weight() -> None:
    batch, failures = without(1, 3)(0, 0)
    assert failures == (
        Failure(1, "BrokenError: gone"),
        Failure(3, "BrokenError: gone"),
    )
    assert batch[0].tolist() == X[[0, 2, 4, 0, 2]].tolist()
    assert batch[2].tolist() == [1, 1, 1, 0, 0]
    x, _, weight = without(1, 3)(0, 1)
    assert x.tolist() == X[5:10].tolist()
    assert weight.tolist() == [1] * 5


def test_what_is_padded_is_what_could_be_read_of_the_batch() -> None:
    plan = Plan(8, 5, sampler=InOrder(), remainder="pad")
    batch, failures = without(6, plan=plan)(0, 1)
    assert [failure.row for failure in failures] == [6]
    assert batch[0].tolist() == X[[5, 7, 5, 7, 5]].tolist()
    assert batch[2].tolist() == [1, 1, 0, 0, 0]


def test_a_row_that_stands_in_for_others_is_not_told_to_fail() -> None:
    plan = Plan(5, 2, sampler=InOrder(), remainder="pad", shard=Shard(1, 2))
    x, _, weight = without(4, plan=plan)(0, 1)
    assert x.tolist() == X[[0, 0]].tolist()
    assert weight.tolist() == [0, 0]


def test_where_nothing_is_filled_up_the_batch_is_shorter() -> None:
    batch, failures = without(1, 3, fills_up=False)(0, 0)
    assert [failure.row for failure in failures] == [1, 3]
    assert len(batch) == 2
    assert batch[0].tolist() == X[[0, 2, 4]].tolist()


@pytest.mark.parametrize(
    ("plan", "failing", "why", "remedy"),
    [
        (FIVE, [0, 1, 2, 3, 4], "that is its whole batch", "take a larger batch_size"),
        (
            Plan(10, 5, sampler=InOrder(), remainder="pad"),
            [0],
            "other devices need batches of one size",
            "evaluate on one device",
        ),
        (
            Plan(10, 5, sampler=InOrder(), shard=Shard(0, 2)),
            [0],
            "other devices need batches of one size",
            "evaluate on one device",
        ),
    ],
)
def test_a_batch_that_can_not_be_shorter_is_refused(
    plan: Plan, failing: list[int], why: str, remedy: str
) -> None:
    with pytest.raises(SetAsideError) as caught:
        without(*failing, plan=plan, fills_up=False)(0, 0)
    assert str(caught.value) == (
        f"rows {failing} could not be read (BrokenError: gone), and evaluate can't leave them "
        f"out: {why}. Expected rows to take the mean over. Mend the data, leave these rows out "
        f"(subset), or {remedy}."
    )


def test_a_failure_of_padding_what_lacks_rows_tells_so() -> None:
    class Unpaddable:
        shape = (4,)
        dtype = "float32"

    def read(rows: npt.NDArray[np.int64]) -> Any:
        if 1 in rows.tolist():
            raise BrokenError("gone")
        return Unpaddable()

    with pytest.raises(TypeError) as caught:
        Recipe(FIVE, read, aside=SetAside(10, 1.0))(0, 0)
    assert caught.value.__notes__ == [
        "keras_npbatch: raised by padding at epoch 0, step 0, rows [0, 1, 2, 3, 4]"
    ]


def test_what_a_function_of_samples_makes_lies_where_the_recipe_allocates() -> None:
    made: list[Any] = []

    def empty(shape: Any, dtype: Any) -> npt.NDArray[Any]:
        made.append(np.empty(shape, dtype))
        return made[-1]

    double = change_of(each(lambda sample: sample * 2), "transform")
    batch = Recipe(FIVE, lambda rows: X[rows], double, empty=empty)(0, 0)
    assert batch.tolist() == (X[:5] * 2).tolist()
    assert any(np.shares_memory(batch, array) for array in made)
