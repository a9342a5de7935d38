"""`remainder="pad"`: every batch has the full shape, and added rows change nothing that counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset

N, BATCH = 50, 8


@pytest.fixture
def make_dense():
    """A regression model whose loss differs from row to row; counts how often it is traced."""

    def make(optimizer="sgd", weighted=True):
        class Model(keras.Sequential):
            traces = 0

            def call(self, *args, **kwargs):
                type(self).traces += 1
                return super().call(*args, **kwargs)

        model = Model([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
        metrics = {"weighted_metrics": [keras.metrics.MeanAbsoluteError(name="mae")]}
        model.compile(optimizer, "mse", **(metrics if weighted else {}))
        return model

    return make


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 3)).astype("float32"), rng.normal(size=(N, 1)).astype("float32")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("with_weights", [False, True])
def test_weights_after_training_equal_those_of_keep(make_dense, arrays, optimizer, with_weights):
    weights = np.random.default_rng(1).random(N).astype("float32") if with_weights else None
    trained = []
    for remainder in ("keep", "pad"):
        model = make_dense(optimizer)
        dataset = ArrayDataset(*arrays, weights, batch_size=BATCH, seed=0, remainder=remainder)
        model.fit(dataset, epochs=4, verbose=0)
        trained.append(model.get_weights())
    for kept, padded in zip(*trained, strict=True):
        np.testing.assert_allclose(padded, kept, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("with_weights", [False, True])
def test_evaluated_loss_and_weighted_metrics_equal_those_of_keep(make_dense, arrays, with_weights):
    weights = np.random.default_rng(1).random(N).astype("float32") if with_weights else None
    model = make_dense()
    kept, padded = (
        model.evaluate(
            ArrayDataset(*arrays, weights, batch_size=BATCH, remainder=remainder), verbose=0
        )
        for remainder in ("keep", "pad")
    )
    np.testing.assert_allclose(padded, kept, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 6, 7])
def test_evaluating_some_steps_equals_that_of_keep(make_dense, arrays, steps):
    model = make_dense()
    kept, padded = (
        model.evaluate(
            ArrayDataset(*arrays, batch_size=BATCH, remainder=remainder), steps=steps, verbose=0
        )
        for remainder in ("keep", "pad")
    )
    np.testing.assert_allclose(padded, kept, rtol=1e-6)


@pytest.mark.parametrize("steps", [3, 7, 9, 20])
def test_evaluating_endless_data_equals_that_of_keep(make_dense, arrays, steps):
    model = make_dense()
    kept, padded = (
        model.evaluate(
            ArrayDataset(*arrays, batch_size=BATCH, remainder=remainder).repeat(),
            steps=steps,
            verbose=0,
        )
        for remainder in ("keep", "pad")
    )
    np.testing.assert_allclose(padded, kept, rtol=1e-6)


def test_tensors_of_the_backend_are_padded(make_model, fit, data):
    """As a layer of Keras returns them, when it is used as a transform."""
    scale = keras.layers.Rescaling(1.0)
    dataset = ArrayDataset(
        *data(N),
        batch_size=BATCH,
        remainder="pad",
        transform=lambda batch: (scale(batch[0]), batch[1]),
    )
    seen = fit(make_model(weighted=True), dataset)
    ids, weights = np.array(seen.epochs[0]), np.array(seen.weights[0])
    assert sorted(ids[weights > 0]) == list(range(N))


def test_validation_in_fit_equals_that_of_keep(make_dense, arrays):
    histories = []
    for remainder in ("keep", "pad"):
        dataset = ArrayDataset(*arrays, batch_size=BATCH, seed=0, remainder=remainder)
        history = make_dense().fit(dataset, validation_data=dataset, epochs=2, verbose=0).history
        histories.append([history["val_loss"], history["val_mae"]])
    np.testing.assert_allclose(*histories, rtol=1e-5)


def test_loss_that_fit_reports_weighs_all_batches_alike(make_dense, arrays):
    """The limit of what data alone can do, as the documentation tells it."""
    x, y = arrays
    dataset = ArrayDataset(x, y, batch_size=BATCH, seed=0, remainder="pad")
    model = make_dense(keras.optimizers.SGD(0.0))
    reported = model.fit(dataset, epochs=1, verbose=0).history["loss"][0]
    errors = (x.sum(1, keepdims=True) - y) ** 2
    of_batches = [errors[dataset.rows(step, 0)].mean() for step in range(len(dataset))]
    np.testing.assert_allclose(reported, np.mean(of_batches), rtol=1e-5)


def test_real_rows_are_those_of_keep_and_added_ones_weigh_nothing(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1, remainder="pad")
    seen = fit(make_model(weighted=True), dataset, epochs=2)
    for epoch in range(2):
        ids, weights = np.array(seen.epochs[epoch]), np.array(seen.weights[epoch])
        assert len(ids) == 7 * BATCH
        real = np.concatenate([dataset.rows(step, epoch) for step in range(7)])
        np.testing.assert_array_equal(ids[weights > 0], real)


@pytest.mark.parametrize("weights", [None, "int64"])
@pytest.mark.parametrize("weighted", [True, False])
def test_jax_compiles_the_step_once(make_dense, arrays, backend, weighted, weights):
    if backend != "jax":
        pytest.skip("counts what jax.jit traces")
    traces = {}
    weights = None if weights is None else np.ones(N, weights)
    for remainder in ("keep", "pad"):
        model = make_dense(weighted=weighted)
        dataset = ArrayDataset(*arrays, weights, batch_size=BATCH, seed=0, remainder=remainder)
        model.fit(dataset, verbose=0)
        traces[remainder] = type(model).traces
    assert traces["keep"] == traces["pad"] + 1


def test_pad_works_without_a_remainder(make_dense, arrays):
    x, y = arrays
    model = make_dense()
    model.fit(ArrayDataset(x[:48], y[:48], batch_size=BATCH, remainder="pad"), verbose=0)
