"""A model that notes what it is trained on, and what else the scripts for TensorFlow share."""

import keras
import numpy as np
import tensorflow as tf

import keras_npbatch as npb

BATCH = 8
"""Samples in a global batch."""


class Notes:
    """What each replica was trained on, in its order: the samples that weigh anything."""

    def __init__(self):
        self._seen = {}

    def add(self, replica, ids):
        self._seen.setdefault(int(replica), []).extend(ids.tolist())

    def take(self):
        """Those since the last time, by replica."""
        seen, self._seen = self._seen, {}
        return [ids for _, ids in sorted(seen.items())]


def note(notes, ids, weights):
    """Write down the samples of a batch when a replica is trained on it."""
    if weights is not None:
        ids = tf.boolean_mask(ids, weights > 0)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    tf.numpy_function(notes.add, [replica, ids], [])


class Model(keras.Model):
    """One dense layer that begins as the identity."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")
        self.notes = Notes()

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        _, ids, weights = keras.utils.unpack_x_y_sample_weight(data)
        note(self.notes, ids, weights)
        return super().train_step(data)


class ModelOfProcesses(Model):
    """Keras reduces what a step returns over its first axis, which scalars don't have."""

    def train_step(self, data):
        return _with_an_axis(super().train_step(data))

    def test_step(self, data):
        return _with_an_axis(super().test_step(data))


def _with_an_axis(results):
    return {name: tf.expand_dims(value, 0) for name, value in results.items()}


def losses(ids, predicted):
    """Different for each sample."""
    ids = tf.cast(tf.reshape(ids, (-1, 1)) % 7, tf.float32)
    return tf.square(predicted / 100.0 - ids)


def compiled(model, **arguments):
    """The model, ready to be trained."""
    model.compile(keras.optimizers.SGD(0.1), losses, weighted_metrics=["mae"], **arguments)
    return model


def dataset(num_samples, batch_size=BATCH, seed=3, **settings):
    """A dataset each of whose rows is its own number."""
    ids = np.arange(num_samples)
    x = ids.astype("float32")[:, np.newaxis]
    return npb.ArrayDataset(x, ids, batch_size=batch_size, seed=seed, **settings)


class Epochs(keras.callbacks.Callback):
    """What the model noted in each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.notes.take())


def trained(model, data, **arguments):
    """What came of a `fit` from the first weights on, as JSON takes it."""
    if model.dense.built:  # a model that is traced already spares a second
        model.set_weights([np.ones((1, 1)), np.zeros(1)])
    model.notes.take()  # of a training that failed
    epochs = Epochs()
    history = model.fit(data, verbose=0, callbacks=[epochs], **arguments).history
    return {"seen": epochs.seen, "weights": weights_of(model), "history": history}


def weights_of(model):
    """The numbers of a model."""
    return [number for weight in model.get_weights() for number in weight.ravel().tolist()]


def told(error):
    """An error, for the test."""
    return f"{type(error).__name__}: {error}"
