"""`evaluate` and `predict` read each sample once, in the order of the data, and move nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, errors
from tests.installed import needs_several_steps_at_once

N, BATCH = 50, 8


class Loader(BatchDataset):
    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


def make(kind, data, **settings):
    if kind == "arrays":
        return ArrayDataset(*data(N), batch_size=BATCH, seed=3, **settings)
    return Loader(N, batch_size=BATCH, seed=3, **settings)


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("kind", ["loader", "arrays"])
def test_predict_returns_rows_in_the_order_of_the_data(make_model, data, kind, workers, built):
    dataset = make(kind, data, workers=workers)
    predicted = make_model(built=built).predict(dataset, verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))
    assert dataset.epoch == 0


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "spread"])
def test_predict_gives_every_row_once_whatever_the_remainder(make_model, data, remainder):
    dataset = make("arrays", data, remainder=remainder)
    predicted = make_model().predict(dataset, verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))


def test_predict_works_without_targets(make_model, data):
    x, _ = data(N)
    predicted = make_model().predict(ArrayDataset(x, batch_size=BATCH), verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))


def test_predict_between_epochs_does_not_disturb_training(make_model, fit, data):
    dataset = make("arrays", data)

    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            predictions.append(len(self.model.predict(dataset, verbose=0)))

    predictions = []
    seen = fit(make_model(built=True), dataset, epochs=3, callbacks=[Predict()])
    assert predictions == [N] * 3
    for epoch, ids in enumerate(seen.epochs):
        assert ids == np.concatenate([dataset.rows(step, epoch) for step in range(7)]).tolist()


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_evaluate_sees_every_row_once(make_model, data, workers, built):
    dataset = make("loader", data, workers=workers)
    model = make_model(built=built)
    model.evaluate(dataset, verbose=0)
    log = model.metrics_flat[-1]
    seen = keras.ops.convert_to_numpy(log.ids)[: int(log.written)]
    np.testing.assert_array_equal(seen, np.arange(N))
    assert dataset.epoch == 0


def test_evaluate_equals_that_of_arrays(make_model, data):
    x, y = data(N)
    model = make_model(built=True)
    ours = model.evaluate(ArrayDataset(x, y, batch_size=BATCH), verbose=0)
    theirs = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("remainder", ["keep", "pad"])
@pytest.mark.parametrize("steps", [2, 7, 10])
def test_several_steps_at_once_read_every_row_once(
    make_model, data, backend, built, remainder, steps
):
    """Keras from 3.16 on asks for these batches stacked, on JAX."""
    needs_several_steps_at_once(backend)
    dataset = make("arrays", data, remainder=remainder)
    model = make_model(built=built, weighted=True, steps_per_execution=steps)
    model.evaluate(dataset, verbose=0)
    log = model.metrics_flat[-1]
    written = int(log.written)
    seen = keras.ops.convert_to_numpy(log.ids)[:written]
    weights = keras.ops.convert_to_numpy(log.weights)[:written]
    np.testing.assert_array_equal(seen[weights > 0], np.arange(N))
    predicted = model.predict(dataset, verbose=0)
    np.testing.assert_array_equal(predicted[:, 0], np.arange(N))
    assert dataset.epoch == 0


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_caller_that_cannot_be_told_gets_no_shuffled_rows(data, shuffle):
    """What a new Keras that hides its frames would look like."""
    from keras.src.trainers.epoch_iterator import EpochIterator

    dataset = ArrayDataset(*data(N), batch_size=BATCH, shuffle=shuffle)
    if shuffle:
        message = r"^Keras asks for batches, but it can't be told"
        with pytest.raises(errors.AmbiguousCallError, match=message):
            EpochIterator(dataset)
    else:
        first = next(iter(EpochIterator(dataset)))
        (batch,) = first[-1]  # (steps..., batches)
        np.testing.assert_array_equal(batch[1], np.arange(BATCH))
