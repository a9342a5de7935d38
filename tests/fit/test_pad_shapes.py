"""`remainder="pad"` equals `"keep"` whatever the axes of losses, metrics and weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import losses, metrics, ops

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import UnsupportedArgumentError
from keras_npbatch.fit.weighing import Weighing

N, BATCH, TIME = 10, 4, 4  # positions are as many as the samples of a batch


def data(*outputs, shape=(TIME,)):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, *shape, 2)).astype("float32")
    numbers = {
        "labels": rng.integers(0, 3, (N, *shape)),
        "numbers": rng.normal(size=(N, *shape, 1)).astype("float32"),
    }
    y = [numbers[output] for output in outputs]
    for targets in y:
        targets[-3:] = 2  # of the batch that is padded: other values than of the others
    return x, y


def model_of(*outputs, nest=list, loss=None, weighted_metrics=None, shape=(TIME,)):
    inputs = keras.Input((*shape, 2))
    made = {}
    for number, output in enumerate(outputs):
        start = keras.initializers.RandomUniform(-1, 1, seed=number)
        units, activation = (3, "softmax") if output == "labels" else (1, None)
        made[output] = keras.layers.Dense(units, activation, kernel_initializer=start, name=output)(
            inputs
        )
    of = {"labels": "sparse_categorical_crossentropy", "numbers": "mse"}
    nested = made if nest is dict else nest(made.values()) if len(made) > 1 else made[outputs[0]]
    if loss is None:
        chosen = {output: of[output] for output in outputs}
        loss = (
            chosen if nest is dict else list(chosen.values()) if len(made) > 1 else of[outputs[0]]
        )
    model = keras.Model(inputs, nested)
    model.compile(keras.optimizers.SGD(0.1), loss, weighted_metrics=weighted_metrics)
    return model


def assert_trained_alike(make, *arrays, **settings):
    """The same weights after training with both, and the same evaluated figures."""
    settings = {"batch_size": BATCH, "seed": 0, **settings}
    seen = []
    for remainder in ("keep", "pad"):
        dataset = ArrayDataset(*arrays, remainder=remainder, **settings)
        model = make()
        model.fit(dataset, epochs=2, verbose=0)
        seen.append([*model.get_weights(), *np.ravel(model.evaluate(dataset, verbose=0))])
    for kept, padded in zip(*seen, strict=True):
        np.testing.assert_allclose(padded, kept, rtol=1e-5, atol=1e-6)


def test_a_model_of_a_class_is_traced_although_jax_has_taken_its_weights():
    """Traced it must be: `F1Score` takes weights of one axis, unlike the targets' shape."""

    class Labeller(keras.Model):
        def __init__(self):
            super().__init__()
            self.middle = keras.layers.Dense(
                3, "softmax", kernel_initializer=keras.initializers.RandomUniform(-1, 1, seed=0)
            )

        def call(self, x):
            return ops.mean(self.middle(x), axis=1)

    def make():
        model = Labeller()
        model.compile(
            keras.optimizers.SGD(0.1),
            "categorical_crossentropy",
            weighted_metrics=[metrics.F1Score(average="macro")],
        )
        return model

    x, _ = data("labels")
    assert_trained_alike(make, x, np.eye(3, dtype="float32")[np.arange(N) % 3])


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # MeanIoU on JAX
def test_sequences_and_labels_of_positions():
    """Of one model, so that one compilation looks at both, and at metrics of every kind."""
    x, y = data("labels", "numbers")
    overlap = [metrics.MeanIoU(3, sparse_y_pred=False, dtype="float32")]
    if keras.version().startswith("3.7.") and keras.backend.backend() == "torch":
        overlap = []  # it fails with arrays too
    make = lambda: model_of(  # noqa: E731
        "labels",
        "numbers",
        weighted_metrics=[
            [metrics.SparseCategoricalAccuracy(), *overlap],
            [metrics.RootMeanSquaredError()],
        ],
    )
    assert_trained_alike(make, x, tuple(y))


@pytest.mark.more
@pytest.mark.parametrize("nest", [dict, tuple, list])
@pytest.mark.parametrize("weights", ["samples", "positions", "some", "one"])
def test_several_outputs_and_weights(nest, weights):
    x, (labels, numbers) = data("labels", "numbers")
    y = {"labels": labels, "numbers": numbers} if nest is dict else (labels, numbers)
    rng = np.random.default_rng(1)
    given = {
        "samples": None,
        "positions": [rng.random((N, TIME)), rng.random((N, TIME, 1))],
        "some": [None, rng.random((N, TIME))],
        "one": rng.random((N, TIME)),
    }[weights]
    if isinstance(given, list):
        given = (
            dict(zip(("labels", "numbers"), given, strict=True)) if nest is dict else tuple(given)
        )
    assert_trained_alike(lambda: model_of("labels", "numbers", nest=nest), x, y, given)


@pytest.mark.more
@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight"])
def test_reductions(reduction):
    x, (y,) = data("numbers")
    loss = losses.MeanSquaredError(reduction=reduction)
    assert_trained_alike(lambda: model_of("numbers", loss=loss), x, y)


@pytest.mark.more
def test_a_loss_that_has_one_value_for_a_sample_whatever_its_axes():
    def of_samples(y, predicted):
        return ops.mean(ops.square(y - predicted), axis=(1, 2))

    x, (y,) = data("numbers")
    assert_trained_alike(lambda: model_of("numbers", loss=of_samples), x, y)


@pytest.mark.more
def test_f1_takes_weights_of_samples_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 2)).astype("float32")
    y = np.eye(3, dtype="int64")[rng.integers(0, 3, N)]

    def make():
        start = keras.initializers.RandomUniform(-1, 1, seed=0)
        dense = keras.layers.Dense(3, "softmax", kernel_initializer=start)
        model = keras.Sequential([keras.Input((2,)), dense])
        model.compile(
            "sgd", "categorical_crossentropy", weighted_metrics=[metrics.F1Score("micro")]
        )
        return model

    assert_trained_alike(make, x, y)


def test_gradients_of_shards_are_those_of_the_whole():
    """One step from the mean of what the shards' models learn, as processes do that average."""
    x, (y,) = data("numbers")
    x, y = x[:7], y[:7]
    whole = model_of("numbers")
    whole.fit(ArrayDataset(x, y, batch_size=7, shuffle=False), verbose=0)
    parts = []
    for index in range(2):
        model = model_of("numbers")
        shard = ArrayDataset(x, y, batch_size=4, shuffle=False, shard=(index, 2))
        model.fit(shard, verbose=0)
        parts.append(model.get_weights())
    for expected, *of_shards in zip(whole.get_weights(), *parts, strict=True):
        np.testing.assert_allclose(np.mean(of_shards, 0), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (losses.Dice(), "gives no value for each sample"),
        (losses.Circle(), "gives no value for each sample"),
        (lambda y, predicted: ops.mean(ops.square(y - predicted)), "gives no value for each"),
    ],
    ids=["Dice", "Circle", "a mean over the batch"],
)
def test_what_no_weights_can_leave_out_is_refused(loss, told):
    x, (y,) = data("numbers")
    if isinstance(loss, losses.Circle):
        y = np.zeros(N, "int64")
        model = keras.Sequential([keras.Input((TIME, 2)), keras.layers.Flatten()])
        model.add(keras.layers.Dense(3))
        model.compile("sgd", loss)
    else:
        model = model_of("numbers", loss=loss)
    dataset = ArrayDataset(x, y, batch_size=BATCH, remainder="pad")
    with pytest.raises(UnsupportedArgumentError) as caught:
        model.fit(dataset, verbose=0)
    text = str(caught.value)
    assert text.startswith("remainder='pad' gives padded rows a sample_weight of 0, and the loss '")
    assert told in text
    assert text.endswith(
        "or use remainder='drop', or 'keep' or 'spread' where batches may differ in size."
    )


class AddsLoss(keras.layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(x))
        return x


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (keras.layers.Dense(1, name="sparse", activity_regularizer="l2"), "here sparse"),
        (AddsLoss(name="own"), "here own"),
        (keras.layers.Dense(1, kernel_regularizer="l2"), None),
    ],
    ids=["activity_regularizer", "add_loss", "kernel_regularizer"],
)
def test_losses_of_layers_count_padded_rows_which_is_told(layer, told):
    model = keras.Sequential([keras.Input((2,)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.zeros((N, 2), "float32")
    whole = ArrayDataset(x[:8], x[:8, :1], batch_size=BATCH, remainder="pad")
    Weighing("fit", model)(whole.plan, whole[0], 0)  # nothing is padded, so nothing is told
    dataset = ArrayDataset(x, x[:, :1], batch_size=BATCH, remainder="pad")
    if told is None:
        Weighing("fit", model)(dataset.plan, dataset[0], 0)
        return
    with pytest.warns(UserWarning, match=told) as warned:
        Weighing("fit", model)(dataset.plan, dataset[0], 0)
    assert str(warned[0].message) == (
        "remainder='pad' gives padded rows a sample_weight of 0, but the losses that layers add "
        f"themselves (activity_regularizer, add_loss; {told}) have no weights: they count padded "
        "rows as samples. For the figures without them, use remainder='drop', or 'keep' or "
        "'spread' where batches may differ in size."
    )


def test_a_model_is_not_traced_again_at_each_step_of_data_that_need_no_padding():
    calls = []

    def mean(y, predicted):
        calls.append(1)
        return ops.mean(ops.square(y - predicted))

    x, (y,) = data("numbers")
    dataset = ArrayDataset(x[:8], y[:8], batch_size=BATCH, remainder="pad")
    weigh = Weighing("fit", model_of("numbers", loss=mean))
    weigh(dataset.plan, dataset[0], 0)
    traced = len(calls)
    assert traced > 0
    weigh(dataset.plan, dataset[1], 1)
    assert len(calls) == traced


def test_masked_predictions_are_refused():
    tokens = np.random.default_rng(0).integers(0, 5, (N, TIME))
    model = keras.Sequential(
        [
            keras.Input((TIME,), dtype="int32"),
            keras.layers.Embedding(5, 2, mask_zero=True),
            keras.layers.Dense(5, "softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(UnsupportedArgumentError, match="divided by the positions that the mask"):
        model.fit(ArrayDataset(tokens, tokens, batch_size=BATCH, remainder="pad"), verbose=0)
