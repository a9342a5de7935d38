"""Arguments of `fit` that Keras ignores when data come from an adapter: honoured or refused.

They are read from the frames of `fit`. A Keras that hides them makes these tests fail.
"""

from __future__ import annotations

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch import ArrayDataset, BatchDataset, errors

N, BATCH = 50, 8


@pytest.fixture
def dataset(data):
    return ArrayDataset(*data(N), batch_size=BATCH, seed=0)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            {"y": np.zeros(N)},
            "fit(y=...) was given with the dataset (ArrayDataset), and Keras would "
            "ignore it; expected None. Put the targets into the dataset.",
        ),
        (
            {"y": ArrayDataset(np.zeros(N), np.zeros(N))},
            "fit(y=...) was given with the dataset (ArrayDataset), and Keras would "
            "ignore it; expected None. To validate on another dataset, write fit(train, "
            "validation_data=other).",
        ),
        (
            {"sample_weight": np.zeros(N)},
            "fit(sample_weight=...) was given with the dataset (ArrayDataset), and "
            "Keras would ignore it; expected None. Put the weights into the dataset.",
        ),
        (
            {"batch_size": 16},
            "fit(batch_size=...) was given 16 (int) with the dataset (ArrayDataset) of "
            "batch_size=8, and Keras would ignore it. Give batch_size to the dataset.",
        ),
        (
            {"validation_split": 0.2},
            "fit(validation_split=0.2) was given with the dataset (ArrayDataset), and Keras splits "
            "arrays alone; expected none. Write train, validation = dataset.split(0.8), then "
            "fit(train, validation_data=validation).",
        ),
        (
            {"validation_split": 0.25, "validation_data": (np.zeros((5, 1)), np.zeros(5))},
            "fit(validation_split=0.25) was given with the dataset (ArrayDataset), and Keras "
            "splits arrays alone; expected none. Write train, validation = dataset.split(0.75), "
            "then fit(train, validation_data=validation).",
        ),
    ],
    ids=str,
)
def test_fit_refuses_what_keras_would_ignore(make_model, dataset, argument, message):
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        make_model().fit(dataset, verbose=0, **argument)
    assert str(caught.value) == message
    assert dataset.epoch == 0


@pytest.mark.parametrize("training", ["the dataset", "another", "arrays"])
def test_fit_refuses_what_keras_would_ignore_of_validation(make_model, dataset, data, training):
    x, y = {
        "the dataset": (dataset, None),
        "another": (ArrayDataset(*data(N)), None),
        "arrays": data(N),
    }[training]
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        make_model().fit(x, y, validation_data=(dataset, np.zeros(N)), verbose=0)
    assert str(caught.value) == (
        "fit(validation_data=...) was given targets or weights beside the dataset (ArrayDataset), "
        "and Keras would ignore them; expected the dataset alone. Put them into the dataset."
    )
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        make_model().fit(x, y, validation_data=dataset, validation_batch_size=3, verbose=0)
    assert str(caught.value) == (
        "fit(validation_batch_size=...) was given 3 (int) with the dataset (ArrayDataset) of "
        "batch_size=8, and Keras would ignore it. Give batch_size to the dataset."
    )
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        make_model().fit(x, y, validation_data=dataset.split(0.8), verbose=0)
    assert str(caught.value) == (
        "fit(validation_data=...) was given 2 datasets (ArrayDataset, ...), and Keras would ignore "
        "all but the first; expected one. Take the parts of a split apart: train, validation = "
        "dataset.split(0.8)."
    )
    make_model().fit(x, y, validation_data=(dataset, None), validation_batch_size=BATCH, verbose=0)


def test_evaluate_and_predict_refuse_likewise(make_model, dataset):
    with pytest.raises(errors.UnsupportedArgumentError, match=r"^evaluate\(y=\.\.\.\) was given"):
        make_model().evaluate(dataset, y=np.zeros(N), verbose=0)
    with pytest.raises(errors.UnsupportedArgumentError, match=r"^predict\(batch_size=\.\.\.\)"):
        make_model().predict(dataset, batch_size=3, verbose=0)


def test_the_batch_size_of_the_dataset_may_be_repeated(make_model, dataset):
    make_model().fit(dataset, batch_size=BATCH, verbose=0)


def test_class_weight_of_array_training_is_not_mistaken_for_validation(make_model, dataset, data):
    x, y = data(N)
    make_model().fit(x, y, class_weight={0: 2.0}, validation_data=dataset, verbose=0)


@pytest.mark.parametrize("form", ["labels", "column", "one-hot"])
def test_class_weight_trains_as_keras_does_with_arrays(make_model, fit, form):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 1)).astype("float32")
    y = rng.integers(0, 3, N)
    if form == "column":
        y = y[:, np.newaxis]
    elif form == "one-hot":
        y = np.eye(3, dtype="float32")[y]
    weights = {0: 1.0, 1: 5.0}
    ours, theirs = (make_model_for(form) for _ in range(2))
    ours.fit(ArrayDataset(x, y, batch_size=BATCH, shuffle=False, class_weight=weights), verbose=0)
    theirs.fit(x, y, batch_size=BATCH, shuffle=False, class_weight=weights, verbose=0)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_class_weight_weighs_training_alone_as_keras_does():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 1)).astype("float32")
    y = rng.integers(0, 3, N)
    model = make_model_for("labels")
    dataset = ArrayDataset(x, y, batch_size=BATCH, class_weight={0: 50.0})
    np.testing.assert_allclose(
        model.evaluate(dataset, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5
    )


def test_a_loader_that_was_not_initialised_is_told(make_model):
    class Forgetful(BatchDataset):
        def __init__(self):
            pass

    with pytest.raises(errors.InvalidArgumentError, match=r"^Forgetful was not initialised; call"):
        make_model().fit(Forgetful(), verbose=0)


def make_model_for(form):
    import keras

    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(3, kernel_initializer="ones", activation="softmax")]
    )
    loss = "categorical_crossentropy" if form == "one-hot" else "sparse_categorical_crossentropy"
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("joined", ["mix", "zip"])
def test_datasets_that_are_read_in_their_own_orders_name_what_to_change(make_model, joined):
    data = ArrayDataset(np.zeros((8, 4), "float32"), np.zeros(8))
    whole = npb.zip(data, data) if joined == "zip" else npb.mix([data, data], weights=[1, 1])
    with pytest.raises(errors.UnsupportedArgumentError) as caught:
        make_model().fit(whole, shuffle=False, verbose=0)
    assert str(caught.value) == (
        f"fit(shuffle=False) was given with the dataset ({type(whole).__name__}), whose datasets "
        "are each read in their own order; expected no shuffle. Leave it out, or make these "
        "datasets with shuffle=False."
    )
