"""Keras's NumPy backend, which is none of the three that train: `predict` and `evaluate`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import keras_npbatch as npb

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "numpy", reason="for one backend: KERAS_BACKEND=numpy"
)

N, BATCH = 26, 4
RNG = np.random.default_rng(0)
X, Y = RNG.random((N, 3), "float32"), RNG.random((N, 1), "float32")


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"])
    return model


class Rows(npb.BatchDataset):
    def load(self, rows: Any) -> Any:
        return X[rows], Y[rows]


@pytest.mark.parametrize("workers", [0, 2, "auto"])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_predict_gives_each_row_in_the_order_of_the_data(
    model: Any, workers: Any, remainder: Any
) -> None:
    dataset = Rows(N, batch_size=BATCH, seed=1, workers=workers, remainder=remainder)
    expected = model.predict(X, batch_size=N, verbose=0)
    np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("workers", [0, 2, "auto"])
def test_evaluate_is_that_of_the_arrays(model: Any, workers: Any) -> None:
    dataset = Rows(N, batch_size=BATCH, seed=1, workers=workers)
    expected = model.evaluate(X, Y, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(model.evaluate(dataset, verbose=0), expected, rtol=1e-5)
    with_weights = npb.ArrayDataset(X, Y, np.arange(N, dtype="float32"), batch_size=BATCH)
    expected = model.evaluate(X, Y, sample_weight=np.arange(N), batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(model.evaluate(with_weights, verbose=0), expected, rtol=1e-5)
    assert dataset.epoch == with_weights.epoch == 0


def test_batches_come_as_numpy_arrays() -> None:
    batches = list(npb.ArrayDataset(X, Y, batch_size=BATCH, seed=1).get_numpy_iterator())
    assert {type(leaf) for batch in batches for leaf in batch} == {np.ndarray}
    assert sum(len(x) for x, _ in batches) == N


def test_fit_is_refused_by_keras_itself(model: Any) -> None:
    with pytest.raises(NotImplementedError, match="fit not implemented for NumPy backend"):
        model.fit(Rows(N, batch_size=BATCH), verbose=0)
