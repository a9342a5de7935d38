"""Models with masks train on `Ragged` as on arrays that were padded by hand."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_npbatch import ArrayDataset, SampleDataset, pad, samplers
from keras_npbatch.sources import Ragged, Windows
from tests.keras_loaders import Texts

RNG = np.random.default_rng(0)
N = 40
LENGTHS = RNG.integers(1, 12, N)
TEXTS = [RNG.integers(1, 9, n).astype("int32") for n in LENGTHS]
LABELS = RNG.integers(0, 2, N).astype("float32")[:, np.newaxis]
BY_HAND = np.zeros((N, 12), "int32")
for row, text in enumerate(TEXTS):
    BY_HAND[row, : len(text)] = text


def lstm():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def with_inputs(beside):
    """A model with two inputs, which takes the mean over the time steps that are real."""
    keras.utils.set_random_seed(0)
    values = keras.Input((None,), dtype="int32", name="values")
    other = keras.Input((None,) if beside == "mask" else (), dtype="float32", name=beside)
    embedded = layers.Embedding(9, 4)(values)
    if beside == "mask":
        pooled = ops.sum(embedded * other[..., None], axis=1) / ops.sum(other, axis=1)[:, None]
    else:
        embedded = embedded * ops.cast(values > 0, "float32")[..., None]
        pooled = ops.sum(embedded, axis=1) / other[:, None]
    model = keras.Model({"values": values, beside: other}, layers.Dense(1)(pooled))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def run(model, train):
    losses = model.fit(train, epochs=2, verbose=0).history["loss"]
    return [*losses, model.evaluate(train, verbose=0)], model.predict(train, verbose=0)


@pytest.mark.parametrize(("pad_to", "remainder"), [(None, "pad"), ((8, 12), "keep")], ids=str)
def test_an_lstm_with_a_mask_has_the_loss_of_arrays_padded_by_hand(pad_to, remainder):
    settings = {"batch_size": 15, "seed": 0, "remainder": remainder}
    losses, predicted = run(lstm(), ArrayDataset(Ragged(TEXTS, pad_to=pad_to), LABELS, **settings))
    expected, of_arrays = run(lstm(), ArrayDataset(BY_HAND, LABELS, **settings))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(predicted, of_arrays, rtol=1e-4, atol=1e-5)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("kind", ["list", "samples", "processes"])
def test_what_a_loader_returned_is_trained_on_as_arrays_padded_by_hand(kind):
    chosen = {"batch_size": 15, "seed": 0, "collate": (pad((8, 12)), None)}
    if kind == "samples":
        train = SampleDataset(lambda row: (TEXTS[row], LABELS[row]), num_samples=N, **chosen)
    else:
        train = Texts(TEXTS, LABELS, workers=2, use_multiprocessing=kind == "processes", **chosen)
    losses, predicted = run(lstm(), train)
    expected, of_arrays = run(lstm(), ArrayDataset(BY_HAND, LABELS, batch_size=15, seed=0))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(predicted, of_arrays, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beside", ["lengths", "mask"])
def test_lengths_or_a_mask_are_inputs_of_a_functional_model(beside):
    tokens = Ragged(TEXTS, lengths=True if beside == "lengths" else "mask")
    losses, _ = run(with_inputs(beside), ArrayDataset(tokens, LABELS, batch_size=16, seed=0))
    inputs = {"values": BY_HAND, beside: LENGTHS if beside == "lengths" else BY_HAND > 0}
    expected, _ = run(with_inputs(beside), ArrayDataset(inputs, LABELS, batch_size=16, seed=0))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_targets_of_time_steps_weigh_nothing_where_they_are_padding():
    """By `mean_with_sample_weight`: the mean over the time steps that are real."""
    tags = Ragged([text % 3 for text in TEXTS])
    train = ArrayDataset(Ragged(TEXTS), tags, tags.weights, batch_size=16, seed=0)
    model = keras.Sequential([layers.Embedding(9, 4), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(keras.optimizers.Adam(0.1), loss)
    model.fit(train, epochs=10, verbose=0)
    logits = ops.convert_to_numpy(model(BY_HAND))
    rows, steps = np.nonzero(BY_HAND)
    right = logits[rows, steps].argmax(axis=1) == BY_HAND[rows, steps] % 3
    assert right.mean() > 0.9
    at_once = ArrayDataset(Ragged(TEXTS), tags, tags.weights, batch_size=N)
    reached = model.evaluate(at_once, verbose=0)
    by_hand = loss(BY_HAND % 3, model(BY_HAND), sample_weight=BY_HAND > 0)
    np.testing.assert_allclose(reached, ops.convert_to_numpy(by_hand), rtol=1e-4)


def attending():
    """A model that tells for each time step what its sequence is about."""
    keras.utils.set_random_seed(0)
    values = keras.Input((None,), dtype="int32", name="values")
    ids = keras.Input((None,), dtype="int32", name="segment_ids")
    positions = keras.Input((None,), dtype="int32", name="positions")
    x = layers.Embedding(9, 8)(values) + layers.Embedding(12, 8)(positions)
    same = ops.equal(ids[:, :, None], ids[:, None, :])
    x = x + layers.MultiHeadAttention(2, 4)(x, x, attention_mask=same)
    inputs = {"values": values, "segment_ids": ids, "positions": positions}
    model = keras.Model(inputs, layers.Dense(3)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(keras.optimizers.SGD(1.0), loss)
    return model


def test_packed_sequences_are_trained_on_as_each_in_a_row_of_its_own():
    """Attention stays within a sequence, and its positions are counted from its beginning."""
    tags = [(text + len(text)) % 3 for text in TEXTS]
    runs = []
    for width, pack in ((12, False), (30, True)):
        tokens = Ragged(TEXTS, pad_to=width, pack=pack)
        if not pack:
            names = ("values", "segment_ids", "positions")
            inputs = {name: getattr(tokens, name) for name in names}
        targets = Ragged(tags, pad_to=width, pack=pack).values
        train = ArrayDataset(
            tokens if pack else inputs, targets, tokens.weights, batch_size=N, seed=0
        )
        model = attending()
        losses = model.fit(train, epochs=4, verbose=0).history["loss"]
        logits, known = model.predict(train, verbose=0), {}
        for row in range(len(tokens)):
            ends = np.cumsum([LENGTHS[number] for number in tokens.sequences_in(row)])
            parts = np.split(logits[row], ends)
            known |= dict(zip(tokens.sequences_in(row).tolist(), parts, strict=False))
        runs.append((losses, known, len(tokens)))
    (losses, known, rows), (packed_losses, packed_known, packed_rows) = runs
    np.testing.assert_allclose(packed_losses, losses, rtol=1e-4)
    assert losses[-1] < losses[0]
    assert packed_rows * 30 < 1.05 * LENGTHS.sum() < rows * 12 / 1.5
    for number in range(N):
        length = LENGTHS[number]
        np.testing.assert_allclose(packed_known[number], known[number][:length], atol=1e-4)


@keras.saving.register_keras_serializable()
class Traced(layers.Layer):
    """Notes the widths that it is traced for."""

    widths: ClassVar[list[int]] = []

    def call(self, x):
        if isinstance(x.shape[1], int):
            Traced.widths.append(x.shape[1])
        return x


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of what JAX compiles")
def test_jax_compiles_at_most_once_for_each_width():
    tokens = Ragged(TEXTS, pad_to=(4, 8, 12))
    sampler = samplers.LengthBuckets(tokens.lengths, batches_per_window=8)
    train = ArrayDataset(tokens, LABELS, batch_size=5, seed=0, sampler=sampler)
    model = keras.Sequential(
        [layers.Embedding(9, 2), Traced(), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    )
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(train, epochs=1, verbose=0)
    Traced.widths = []
    model.make_train_function(force=True)
    model.fit(train, epochs=3, verbose=0)
    assert set(Traced.widths) == {4, 8, 12}
    # Of each width a trace of the forward pass, and none in later epochs.
    assert len(Traced.widths) == len(set(Traced.widths))


def test_a_forecast_is_trained_on_windows():
    series = np.sin(np.arange(400) / 5).astype("float32")[:, np.newaxis]
    inputs, targets = Windows(series, 20), Windows(series[:, 0], 3, offset=20)
    data = ArrayDataset(inputs, targets, batch_size=32, seed=0)
    model = keras.Sequential([keras.Input((20, 1)), layers.Flatten(), layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(data, epochs=5, verbose=0)
    assert model.evaluate(data, verbose=0) < 0.05
    assert len(model.predict(data, verbose=0)) == data.num_samples == 400 - 22
