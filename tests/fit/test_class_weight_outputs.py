"""Class weights for a model of several outputs: training as with the sample weights by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError
from tests.keras_loaders import TwoLabels

N, BATCH = 30, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2)).astype("float32")
LABELS, FLAGS = RNG.integers(0, 3, N), RNG.integers(0, 2, (N, 1)).astype("float32")
WEIGHTS = {0: 1.0, 1: 5.0, 2: 0.5}
OF_LABELS = np.array([WEIGHTS[label] for label in LABELS.tolist()], "float32")
OF_FLAGS = np.where(FLAGS[:, 0] == 1, 3.0, 1.0).astype("float32")

FORMS = {
    "dict": (
        {"a": LABELS, "b": FLAGS},
        {"a": WEIGHTS, "b": {1: 3.0}},
        {"a": OF_LABELS, "b": OF_FLAGS},
    ),
    "dict, one not weighed": (
        {"a": LABELS, "b": FLAGS},
        {"a": WEIGHTS, "b": None},
        {"a": OF_LABELS, "b": np.ones(N, "float32")},
    ),
    "tuple": ((LABELS, FLAGS), (WEIGHTS, {1: 3.0}), (OF_LABELS, OF_FLAGS)),
    "tuple, one not weighed": (
        (LABELS, FLAGS),
        (None, {1: 3.0}),
        (np.ones(N, "float32"), OF_FLAGS),
    ),
}


def two_outputs(nesting):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    a = keras.layers.Dense(3, activation="softmax", name="a")(inputs)
    b = keras.layers.Dense(1, activation="sigmoid", name="b")(inputs)
    is_dict = isinstance(nesting, dict)
    model = keras.Model(inputs, {"a": a, "b": b} if is_dict else (a, b))
    losses = ["sparse_categorical_crossentropy", "binary_crossentropy"]
    model.compile("sgd", dict(zip("ab", losses, strict=True)) if is_dict else losses)
    return model


@pytest.mark.parametrize(
    ("form", "given_to", "remainder"),
    [
        ("dict", "the dataset", "keep"),
        ("tuple", "fit", "keep"),
        ("tuple, one not weighed", "the dataset", "pad"),
        ("dict, one not weighed", "fit", "pad"),
    ],
)
def test_it_trains_as_with_the_sample_weights_by_hand(form, given_to, remainder):
    y, class_weight, sample_weight = FORMS[form]
    settings = {"batch_size": BATCH, "seed": 0, "remainder": remainder}
    by_hand = ArrayDataset(X, y, sample_weight, **settings)
    of_dataset = {"class_weight": class_weight} if given_to == "the dataset" else {}
    of_fit = {"class_weight": class_weight} if given_to == "fit" else {}
    dataset = ArrayDataset(X, y, **of_dataset, **settings)
    expected, model = two_outputs(y), two_outputs(y)
    losses = expected.fit(by_hand, epochs=2, verbose=0).history["loss"]
    found = model.fit(dataset, epochs=2, verbose=0, **of_fit).history["loss"]
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_worker_processes_weigh_too():
    settings = {"batch_size": BATCH, "seed": 0, "class_weight": {"a": WEIGHTS, "b": None}}
    alone = TwoLabels(N, workers=0, **settings)
    workers = TwoLabels(N, workers=2, use_multiprocessing=True, **settings)
    for here, there in zip(alone, workers, strict=True):
        np.testing.assert_array_equal(here[2]["a"], there[2]["a"])
        assert here[2]["b"] is None is there[2]["b"]
    workers.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"a": WEIGHTS},
            "class_weight is for the outputs ['a'], and y is a dict of ['a', 'b']; expected the "
            "same outputs, None for one that is not weighed.",
        ),
        (
            (WEIGHTS, None),
            "class_weight is for 2 outputs, and y is a dict of ['a', 'b']; expected one for each, "
            "None for one that is not weighed.",
        ),
        (
            {"a": WEIGHTS, "b": {0: -1.0}},
            "class_weight['b'][0] is -1.0 (float); expected a finite number from 0 up.",
        ),
        (
            {"a": WEIGHTS, "b": {"x": 1.0}},
            "class_weight['b'] has the key 'x' (str); expected class numbers as they are in y, "
            "whole numbers. Number the classes: names, y = np.unique(labels, return_inverse=True).",
        ),
    ],
)
def test_what_does_not_match_the_targets_is_refused_by_its_path(given, message):
    with pytest.raises(InvalidArgumentError) as told:
        ArrayDataset(X, {"a": LABELS, "b": FLAGS}, class_weight=given)
    assert str(told.value) == message


def test_a_target_that_is_no_label_is_refused_by_its_path():
    dataset = ArrayDataset(
        X, {"a": X[:, :, None], "b": FLAGS}, class_weight={"a": WEIGHTS, "b": None}
    )
    with pytest.raises(InvalidBatchError, match=r"class_weight of y\['a'\] needs"):
        dataset[0]
