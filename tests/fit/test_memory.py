"""Batches enter the framework without a copy, and what is kept never changes."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
from keras import ops

from keras_npbatch import ArrayDataset
from tests.inside import slots_of
from tests.keras_loaders import Looking

ROWS, BATCH, WIDTH = 640, 64, 2048  # batches of 512 KiB: each in a slot


@pytest.fixture
def wide():
    ids = np.arange(ROWS, dtype="float32")
    return np.repeat(ids[:, np.newaxis], WIDTH, axis=1), ids.astype("int32")


def framework_batches(dataset, backend):
    if backend == "tensorflow":
        return iter(dataset.get_tf_dataset())
    if backend == "torch":
        return iter(dataset.get_torch_dataloader())
    import jax

    # What Keras does with them: the arguments of a jitted step.
    return (tuple(map(jax.device_put, batch)) for batch in dataset.get_jax_iterator())


def address(tensor, backend):
    if backend == "tensorflow":
        return np.asarray(memoryview(tensor)).__array_interface__["data"][0]
    if backend == "torch":
        return tensor.data_ptr()
    return tensor.unsafe_buffer_pointer()


@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_share_the_memory_of_slots(wide, backend, workers, monkeypatch):
    dataset = ArrayDataset(*wide, batch_size=BATCH, workers=workers)
    addresses = set()
    lease = slots_of(dataset).lease

    def noting(shape, dtype):
        array = lease(shape, dtype)
        addresses.add(array.__array_interface__["data"][0])
        return array

    monkeypatch.setattr(slots_of(dataset), "lease", noting)
    for x, _ in framework_batches(dataset, backend):
        assert address(x, backend) in addresses


@pytest.mark.parametrize("to_keras", [False, True])
def test_a_batch_that_the_consumer_has_dropped_is_gone_when_the_next_is_made(backend, to_keras):
    dataset = Looking(40, batch_size=8, workers=0)
    if not to_keras:
        batches = iter(dataset)
    elif backend == "jax":
        batches = dataset.get_jax_iterator()
    else:
        batches = framework_batches(dataset, backend)
    for batch in batches:
        del batch
    assert dataset.saw == [False] * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_tensors_never_change(wide, backend, workers):
    dataset = ArrayDataset(*wide, batch_size=BATCH, seed=0, workers=workers, max_queue_size=2)
    kept = []
    for _ in range(3):
        kept.extend(framework_batches(dataset, backend))
    for number, (x, y) in enumerate(kept):
        rows = dataset.rows(number % 10, number // 10)
        np.testing.assert_array_equal(ops.convert_to_numpy(y), rows)
        np.testing.assert_array_equal(ops.convert_to_numpy(x)[:, -1], rows)
    del kept, x, y


def test_slots_come_back_when_tensors_are_gone(wide, backend):
    dataset = ArrayDataset(*wide, batch_size=BATCH, workers=0)
    for batch in framework_batches(dataset, backend):  # noqa: B007  # held for one turn
        assert slots_of(dataset).num_leased <= 3
    del batch
    gc.collect()  # JAX lets go of Python objects at the next chance, not at once
    assert slots_of(dataset).num_leased == 0


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_no_slot_is_reused_while_a_step_computes(wide, make_model, fit, workers):
    """Steps are dispatched asynchronously: a slot reused early would mix the rows of batches."""
    x, y = wide

    class Mean(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")

        def call(self, inputs):
            heavy = inputs
            for _ in range(3):
                heavy = ops.tanh(ops.matmul(heavy, ops.ones((WIDTH, WIDTH)) / WIDTH**2)) + heavy
            return self.dense(heavy[:, :1]) + ops.mean(inputs, axis=1, keepdims=True)

    model = Mean()
    dataset = ArrayDataset(x, y, batch_size=BATCH, seed=0, workers=workers, max_queue_size=2)
    model.compile("sgd", loss=lambda true, predicted: predicted * 0.0, metrics=[Difference()])
    history = model.fit(dataset, epochs=2, verbose=0).history
    assert max(history["difference"]) < 0.5


class Difference(keras.metrics.Metric):
    """The largest difference of target and prediction in an epoch."""

    def __init__(self):
        super().__init__(name="difference")
        self.largest = self.add_weight(shape=(), initializer="zeros", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        difference = ops.max(ops.abs(ops.cast(y_true, "float32") - ops.reshape(y_pred, (-1,))))
        self.largest.assign_add(ops.relu(-(self.largest - difference)))

    def result(self):
        return self.largest + 0.0
