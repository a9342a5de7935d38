"""Batches of similar lengths, padded to few widths: the model is compiled once for each width."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.errors import UnsupportedArgumentError

RNG = np.random.default_rng(0)
LENGTHS = np.clip(RNG.lognormal(2, 0.8, 320).astype(int), 1, 60)
TEXTS = np.empty(len(LENGTHS), object)
for row, length in enumerate(LENGTHS):
    TEXTS[row] = RNG.integers(1, 9, length).astype("int32")
LABELS = RNG.integers(0, 2, len(LENGTHS)).astype("float32")
WIDTHS = (8, 16, 32, 60)


def padded_to(widths):
    def pad(batch):
        texts, labels = batch
        longest = max(map(len, texts))
        width = next((width for width in widths if width >= longest), longest)
        x = np.zeros((len(texts), width), "int32")
        for row, text in enumerate(texts):
            x[row, : len(text)] = text
        return x, labels

    return pad


@keras.saving.register_keras_serializable()
class Traced(keras.layers.Layer):
    """Notes the widths that it is traced for."""

    widths: ClassVar[set[int]] = set()

    def call(self, x):
        if isinstance(x.shape[1], int):
            Traced.widths.add(x.shape[1])
        return x


def widths_traced(widths, epochs):
    sampler = samplers.LengthBuckets(LENGTHS, batches_per_window=10)
    dataset = ArrayDataset(
        TEXTS, LABELS, batch_size=16, seed=0, sampler=sampler, transform=padded_to(widths)
    )
    layers = [keras.layers.Embedding(9, 2), Traced(), keras.layers.GlobalAveragePooling1D()]
    model = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", jit_compile=False)
    Traced.widths = set()
    history = model.fit(dataset, epochs=epochs, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    return Traced.widths


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of what JAX compiles")
def test_jax_compiles_for_no_more_shapes_than_there_are_widths():
    assert widths_traced(WIDTHS, epochs=3) <= set(WIDTHS)
    assert len(widths_traced((), epochs=1)) > len(WIDTHS)


def test_every_backend_trains_on_every_width():
    assert widths_traced(WIDTHS, epochs=1) <= set(WIDTHS)


def test_fit_in_the_order_of_the_data_is_refused_with_a_sampler():
    sampler = samplers.LengthBuckets(LENGTHS)
    dataset = ArrayDataset(LENGTHS[:, None], LABELS, batch_size=16, sampler=sampler)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(UnsupportedArgumentError) as told:
        model.fit(dataset, shuffle=False, verbose=0)
    assert str(told.value) == (
        "fit(shuffle=False) was given with the dataset (ArrayDataset), whose sampler=LengthBuckets "
        "decides the order; expected no shuffle. Leave it out, or make the dataset with "
        "shuffle=False instead of the sampler."
    )
