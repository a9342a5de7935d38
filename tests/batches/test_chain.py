"""`transform=[f, g]`: one after the other, each with a generator and an error of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.chain import change_of
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.each import each
from keras_npbatch.batches.generators import Generators
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError
from keras_npbatch.plan.plan import Plan
from keras_npbatch.rng import Purpose, generator

N = 6
X = np.arange(2 * N, dtype=np.float64).reshape(N, 2)


def dataset(**settings: Any) -> ArrayBatches:
    return ArrayBatches(X.copy(), batch_size=3, seed=4, shuffle=False, **settings)


def twice(x: Any) -> Any:
    return x * 2


def more(x: Any) -> Any:
    x += 1  # what it was given is its own
    return x


def noise(x: Any, rng: Any) -> Any:
    return x + rng.random(x.shape)


KEPT = np.full((3, 2), 5.0)


def kept(x: Any) -> Any:
    return KEPT


def test_functions_are_called_in_their_order():
    for change in ([twice, more], [each(twice), more], [twice, each(more)], (twice, more)):
        assert np.array_equal(dataset(transform=change)[0], X[:3] * 2 + 1)
        assert np.array_equal(dataset(augment=change)[1], X[3:] * 2 + 1)
    assert np.array_equal(dataset(transform=[more, twice])[0], (X[:3] + 1) * 2)
    assert np.array_equal(dataset(transform=[more], augment=[twice, twice])[0], (X[:3] + 1) * 4)


def test_what_a_function_keeps_is_copied_before_the_next_writes_to_it():
    data = dataset(transform=[kept, more])
    assert (data[0] == 6).all()
    assert (KEPT == 5).all()


def test_each_function_draws_its_own_numbers():
    found = dataset(transform=[noise, noise])[1] - X[3:]
    first, second = (
        generator(4, Purpose.TRANSFORM, *key).random((3, 2)) for key in ((0, 1), (0, 1, 0, 1))
    )
    np.testing.assert_allclose(found, first + second)
    samples = dataset(transform=[each(noise), each(noise)])[0] - X[:3]
    alone = dataset(transform=each(noise))[0] - X[:3]
    assert not np.isclose(samples, 2 * alone).any()


def test_a_list_of_one_is_that_one():
    for function in (twice, noise, each(noise)):
        alone, listed = dataset(augment=function), dataset(augment=[function])
        assert np.array_equal(alone[0], listed[0])
        listed.load_state_dict(alone.state_dict())


def test_a_chain_tells_what_it_does():
    data = dataset(transform=[twice, each(noise)])
    change = core_of(data).transform
    assert change is not None
    assert (change.name, change.draws, change.called) == ("[twice, each(noise)]", True, "transform")
    assert [link.setting for link in change.links] == ["transform[0]", "transform[1]"]
    assert data.state_dict()["dataset"]["transform"] == "[twice, each(noise)]"
    numbers = Generators(Plan(N, 3, 4), 0, 0, np.arange(3))
    assert np.array_equal(change(X[:3], numbers), change.links[1](X[:3] * 2, numbers))
    assert not dataset(transform=[twice, more]).plan.shuffle
    assert core_of(dataset(transform=[twice, more])).transform.draws is False


def fail(x: Any) -> Any:
    raise KeyError("image")


def fail_drawing(x: Any, rng: Any) -> Any:
    raise KeyError("image")


@pytest.mark.parametrize(
    ("functions", "told"),
    [
        ([twice, fail], "transform[1]=fail"),
        ([fail_drawing, twice], "transform[0]=fail_drawing(batch, rng)"),
        ([twice, twice, each(fail)], "transform[2]=each(fail)"),
    ],
)
def test_the_note_of_an_exception_names_which(functions, told):
    with pytest.raises(KeyError) as caught:
        dataset(transform=functions)[1]
    assert caught.value.__notes__[-1] == (
        f"keras_npbatch: raised by {told} at epoch 0, step 1, rows [3, 4, 5]"
    )


def test_what_is_no_batch_is_told_with_the_function_that_returned_it():
    with pytest.raises(InvalidBatchError) as caught:
        dataset(transform=[twice, lambda x: x[:1]])[0]
    assert str(caught.value) == (
        "transform[1] returned ndarray of shape (1, 2) and dtype float64 for x; expected 3 "
        "samples, one for each row of the batch."
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [],
            "augment is [] (list); expected a function of the batch, or several in a list. Leave "
            "it out to change nothing.",
        ),
        (
            [twice, 3],
            "augment[1] is 3 (int); expected a function of the batch: augment[1](batch) or "
            "augment[1](batch, rng).",
        ),
        (
            [None],
            "augment is None (NoneType); expected a function of the batch: augment(batch) or "
            "augment(batch, rng).",
        ),
        (
            [twice, lambda a, b, c: a],
            "augment[1] takes the parameters (a, b, c); expected augment[1](batch) or "
            "augment[1](batch, rng). Bind further arguments with functools.partial.",
        ),
    ],
    ids=["none", "no function", "None", "parameters"],
)
def test_what_is_no_list_of_functions_is_refused(given, message):
    with pytest.raises(InvalidArgumentError) as caught:
        dataset(augment=given)
    assert str(caught.value) == message
    assert change_of(None, "augment") is None


def test_a_layer_in_a_list_of_augmentations_is_refused():
    import keras

    with pytest.raises(InvalidArgumentError) as caught:
        dataset(augment=[twice, keras.layers.RandomFlip()])
    assert str(caught.value) == (
        "augment[1] is a Keras layer (RandomFlip), which would be given the whole batch and draws "
        "random numbers of its own; expected augment[1](batch) or augment[1](batch, rng). Put the "
        "layer into the model, or write the augmentation with rng."
    )
