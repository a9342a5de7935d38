"""What Keras would fail on obscurely is told by the first batch, and only where it is wrong."""

from __future__ import annotations

import contextlib
import re
import warnings

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, errors

X = np.random.default_rng(0).random((40, 3)).astype("float32")
Y = np.arange(40) % 3
NAMES = np.array(["cat", "dog", "owl"])[Y]


class Loader(BatchDataset):
    def load(self, rows):
        return X[rows]


def dense(loss="sparse_categorical_crossentropy", **compiled):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", loss, **compiled)
    return model


def x_alone(batch):
    return batch[0]


NO_TARGETS = "the batches of the {} have no targets, but {} computes a loss; expected (x, y). "


@pytest.mark.parametrize(
    ("make", "name", "advice"),
    [
        (
            lambda: ArrayDataset((X, Y)),
            "ArrayDataset",
            "ArrayDataset((x, y)) has two inputs and no targets: write ArrayDataset(x, y). If they "
            "are inputs, give the targets too: ArrayDataset((x1, x2), y).",
        ),
        (
            lambda: ArrayDataset(X, Y, transform=x_alone, workers=2),
            "ArrayDataset",
            "Let transform return (x, y), not x alone, and give the dataset both.",
        ),
        (
            lambda: ArrayDataset(X, Y, transform=x_alone, remainder="pad"),
            "ArrayDataset",
            "Let transform return (x, y), not x alone, and give the dataset both.",
        ),
        (lambda: ArrayDataset(X), "ArrayDataset", "Write ArrayDataset(x, y)."),
        (lambda: Loader(40), "Loader", "Let load(rows) or __getitem__ return (x, y)."),
    ],
)
@pytest.mark.parametrize("call", ["fit", "evaluate", "validation"])
def test_batches_without_targets_are_refused_where_a_loss_needs_them(make, name, advice, call):
    model = dense()
    run, data = getattr(model, call, model.fit), {"x": make()}
    if call == "validation":
        data = {"x": ArrayDataset(X, Y), "validation_data": make()}
    with pytest.raises(errors.InvalidBatchError) as caught:
        run(**data, verbose=0)
    kind = "evaluate" if call == "validation" else call
    assert str(caught.value) == NO_TARGETS.format(name, kind) + advice


def test_texts_are_no_targets_of_a_loss():
    for labels in (NAMES, NAMES.astype(object), NAMES.astype("S3")):
        with pytest.raises(errors.InvalidBatchError) as caught:
            dense().fit(ArrayDataset(X, labels), verbose=0)
        assert str(caught.value) == (
            f"y of the ArrayDataset is text ({labels.dtype}), but fit computes a loss; "
            "expected numbers. Number the classes: names, y = np.unique(labels, "
            "return_inverse=True)."
        )


def test_predict_needs_no_targets():
    both = keras.Input((3,)), keras.Input(())
    model = keras.Model(both, keras.layers.Dense(1)(both[0]))
    model.compile("sgd", "mse")
    assert model.predict(ArrayDataset((X, Y)), verbose=0).shape == (40, 1)
    assert dense().predict(ArrayDataset(X, Y, transform=x_alone), verbose=0).shape == (40, 3)


class OwnLoss(keras.Model):
    """One that learns its inputs."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3)

    def call(self, x):
        return self.head(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(keras.ops.square(x - y_pred))


class Unsupervised(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return keras.ops.mean(y_pred)


def test_models_that_need_no_targets_are_trained_without():
    own, called = OwnLoss(), dense(Unsupervised())
    own.compile("sgd", "mse")
    for model in (own, called):
        history = model.fit(ArrayDataset(X), verbose=0).history
        assert np.isfinite(history["loss"][0])


def fails(batch):
    raise ValueError("boom")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_model_that_jax_has_lost_is_told_of_with_the_error(backend, workers):
    model = dense()
    model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="boom") as caught:
        model.fit(ArrayDataset(X, Y, transform=fails, workers=workers), verbose=0)
    note = (
        "keras_npbatch: on JAX, Keras had taken the weights out of the model for its first step, "
        "so the model can't be used again, whatever the data. Build and compile it again (and "
        "set_weights, if you have kept get_weights())."
    )
    assert (note in caught.value.__notes__) == (backend == "jax")
    if backend != "jax":
        model.fit(ArrayDataset(X, Y), verbose=0)
        return
    warning = (
        "fit will fail ('NoneType' object is not callable): the model has no weights, since an "
        "error in the first step of an earlier call has left Keras without them, on JAX. Build and "
        "compile the model again."
    )
    with (
        pytest.warns(UserWarning, match=f"^{re.escape(warning)}$"),
        pytest.raises(TypeError, match="'NoneType' object is not callable"),
    ):
        model.fit(ArrayDataset(X, Y), verbose=0)


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_a_model_keeps_its_weights_where_evaluate_or_predict_fails_later(call):
    """On JAX, Keras itself puts them back at the end of these calls alone."""

    def fails_later(batch):
        if len(seen) >= 2:
            raise ValueError("boom")
        seen.append(1)
        return batch

    seen, model = [], dense()
    expected = model.predict(X, verbose=0)
    with pytest.raises(ValueError, match="boom"):
        getattr(model, call)(
            ArrayDataset(X, Y, batch_size=10, transform=fails_later, workers=0), verbose=0
        )
    np.testing.assert_array_equal(model.predict(X, verbose=0), expected)
    model.set_weights([np.zeros_like(each) for each in model.get_weights()])
    with pytest.raises(ValueError, match="boom") as caught:
        getattr(model, call)(ArrayDataset(X, Y, transform=fails), verbose=0)
    if keras.backend.backend() == "jax":  # not the weights of before
        assert any("Build and compile it again" in note for note in caught.value.__notes__)


def test_a_model_that_is_not_lost_is_not_said_to_be(backend):
    def fails_later(batch):
        if len(seen) >= 2:
            raise ValueError("boom")
        seen.append(1)
        return batch

    for is_fresh in (False, True):
        seen, model = [], dense()
        if not is_fresh:
            model.fit(X, Y, verbose=0)
        later = ArrayDataset(X, Y, batch_size=10, transform=fails_later, workers=0)
        with pytest.raises(ValueError, match="boom") as caught:
            model.fit(later, verbose=0)
        assert not any("on JAX" in note for note in caught.value.__notes__)
        model.fit(ArrayDataset(X, Y), verbose=0)


@pytest.mark.parametrize("remainder", ["keep", "spread", "pad", "drop"])
def test_a_lone_last_sample_is_warned_of_where_torch_normalises(backend, remainder):
    if backend != "torch":
        pytest.skip("Torch's layers run on Torch")
    import torch

    normalise = keras.layers.TorchModuleWrapper(torch.nn.BatchNorm1d(3))
    model = keras.Sequential([keras.Input((3,)), normalise, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = ArrayDataset(X[:33], Y[:33], batch_size=32, remainder=remainder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused = pytest.raises(ValueError, match="more than 1 value per channel")
        with refused if remainder == "keep" else contextlib.nullcontext():
            model.fit(dataset, verbose=0)
    told = [str(each.message) for each in caught if "last batch" in str(each.message)]
    assert told == (remainder == "keep") * [
        "the last batch of an epoch of the ArrayDataset has one sample, and Torch refuses to "
        "normalise over one ('Expected more than 1 value per channel when training'). Give the "
        "dataset remainder='spread', or 'drop'."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dense().fit(ArrayDataset(X[:33], Y[:33], batch_size=32), verbose=0)
