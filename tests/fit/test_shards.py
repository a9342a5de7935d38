"""Shards, one process after the other in this one; with real groups see tests/distributed."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, Shard
from keras_npbatch.errors import UnsupportedArgumentError

N = 50


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 3)).astype("float32"), rng.normal(size=(N, 1)).astype("float32")


def linear():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(
        keras.optimizers.SGD(0.1), "mse", weighted_metrics=[keras.metrics.MeanAbsoluteError()]
    )
    return model


@pytest.mark.parametrize("n", [12, 10, 7, 2, 1])
@pytest.mark.parametrize("with_weights", [False, True])
def test_the_mean_of_all_updates_is_that_of_one_process(arrays, n, with_weights):
    """What a process without a row of the last batch adds is nothing."""
    weights = np.random.default_rng(1).random(n).astype("float32") if with_weights else None
    data = (arrays[0][:n], arrays[1][:n], weights)
    alone = linear()
    alone.fit(ArrayDataset(*data, batch_size=12, seed=0), verbose=0)
    trained = []
    for index in range(3):
        dataset = ArrayDataset(*data, batch_size=4, seed=0, shard=Shard(index, 3))
        assert len(dataset) == 1
        model = linear()
        model.fit(dataset, verbose=0)
        trained.append(model.get_weights())
    for one, *all_ in zip(alone.get_weights(), *trained, strict=True):
        np.testing.assert_allclose(np.mean(all_, axis=0), one, rtol=1e-5, atol=1e-6)


def test_the_mean_of_all_evaluations_is_that_of_one_process(arrays):
    model = linear()
    alone = model.evaluate(ArrayDataset(*arrays, batch_size=12, shuffle=False), verbose=0)
    parts = [
        model.evaluate(
            ArrayDataset(*arrays, batch_size=4, shuffle=False, shard=(index, 3)), verbose=0
        )
        for index in range(3)
    ]
    np.testing.assert_allclose(np.mean(parts, axis=0)[0], alone[0], rtol=1e-5)


@pytest.mark.parametrize("remainder", [None, "pad", "drop", "spread"])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="threads"),
        pytest.param(
            {"workers": 2, "use_multiprocessing": True}, id="processes", marks=pytest.mark.more
        ),
    ],
)
def test_all_models_together_see_every_sample_once(make_model, fit, data, remainder, settings):
    epochs = [[], []]
    for index in range(3):
        dataset = ArrayDataset(
            *data(N),
            batch_size=4,
            seed=1,
            shard=(index, 3),
            remainder=remainder,
            **settings,
        )
        seen = fit(make_model(weighted=True), dataset, epochs=2)
        for epoch, ids, weights in zip(epochs, seen.epochs, seen.weights, strict=True):
            epoch += [one for one, weight in zip(ids, weights, strict=True) if weight > 0]
    for epoch in epochs:
        assert len(epoch) == (48 if remainder == "drop" else N)
        assert len(set(epoch)) == len(epoch)
    assert epochs[0] != epochs[1]


def test_predict_is_refused(make_model):
    x = np.zeros((N, 1), "float32")
    with pytest.raises(UnsupportedArgumentError, match=r"predict .* with a shard \(one of 3\)"):
        make_model(built=True).predict(
            ArrayDataset(x, batch_size=4, shuffle=False, shard=(0, 3)), verbose=0
        )
    dataset = ArrayDataset(x, batch_size=4, shuffle=False, shard=(0, 1))
    assert len(make_model(built=True).predict(dataset, verbose=0)) == N
