"""The model sees the batch as it was loaded, whatever the loader does to its memory afterwards."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_npbatch import BatchDataset
from tests.keras_loaders import Refilling

N, BATCH = 48, 8


def as_torch(buffer):
    import torch

    return torch.from_numpy(buffer)


def as_tensorflow(buffer):
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(buffer.__dlpack__())


def as_jax(buffer):
    import jax

    return jax.numpy.asarray(buffer)


def as_array_of_torch(buffer):
    return as_torch(buffer).numpy()


as_tensor = {"torch": as_torch, "tensorflow": as_tensorflow, "jax": as_jax}.get(
    keras.backend.backend()
)


class Same(keras.Model):
    """Notes the largest difference between the inputs and the targets of its batches."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="zeros", use_bias=False)
        self.difference = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        return self.dense(x[:, :1]) + ops.concatenate([x[:, :1], x[:, -1:]], axis=1)


def loss(true, predicted):
    return ops.max(ops.abs(ops.cast(ops.reshape(true, (-1, 1)), "float32") - predicted), axis=-1)


WORKERS = [
    pytest.param({"workers": 0}, id="no worker"),
    pytest.param({"workers": 1}, id="one thread"),
    pytest.param({"workers": 2, "use_multiprocessing": True}, id="processes"),
]


@pytest.fixture
def model():
    made = Same()
    made.compile(keras.optimizers.SGD(0.0), loss)
    return made


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("way", [Refilling.itself, Refilling.mirrored])
def test_a_buffer_that_is_filled_again_is_seen_as_it_was_loaded(way, workers, model):
    with Refilling(way, **workers) as dataset:
        history = model.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
        assert history["loss"] == [0, 0]
        assert history["val_loss"] == [0, 0]
        assert model.evaluate(dataset, verbose=0) == 0
        np.testing.assert_array_equal(model.predict(dataset, verbose=0)[:, 1], np.arange(N))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tensor_over_a_buffer_is_seen_as_it_was_loaded(workers, model):
    dataset = Refilling(as_tensor, workers=workers)
    assert model.fit(dataset, epochs=2, verbose=0).history["loss"] == [0, 0]
    for x, y in list(dataset):
        np.testing.assert_array_equal(ops.convert_to_numpy(x)[:, -1], y)


def test_an_array_over_a_tensor_is_seen_as_it_was_loaded(backend, model):
    if backend != "torch":
        pytest.skip("that is Torch's")
    dataset = Refilling(as_array_of_torch, workers=1)
    assert model.fit(dataset, epochs=2, verbose=0).history["loss"] == [0, 0]


def test_a_tf_dataset_has_the_buffer_as_it_was_loaded(backend):
    if backend != "tensorflow":
        pytest.skip("it is TensorFlow's")
    for way in (Refilling.itself, as_tensor):
        batches = Refilling(way, workers=1).to_tf_dataset()
        for x, y in list(batches):
            np.testing.assert_array_equal(x[:, -1], y)


def test_what_the_model_does_to_its_batch_does_not_reach_the_loader(backend):
    """Torch alone has tensors that can be written to."""
    if backend != "torch":
        pytest.skip("that is Torch's")

    class Writing(keras.layers.Layer):
        def call(self, x):
            if x.device.type == "cpu":
                x.mul_(0)
            return x

    class Cached(BatchDataset):
        kept = np.ones((BATCH, 2), "float32")

        def load(self, rows):
            return self.kept, rows

    model = keras.Sequential([Writing(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(Cached(N, batch_size=BATCH), verbose=0)
    assert Cached.kept.all()
