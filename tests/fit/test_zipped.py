"""Batches of two datasets side by side, in a training step of the user's own."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.errors import UnsupportedArgumentError


class Sums(keras.Model):
    """Adds up what it sees of each dataset, in metrics."""

    def __init__(self):
        super().__init__()
        self.seen = keras.metrics.Sum(name="seen"), keras.metrics.Sum(name="more")

    def build(self, shape=None):
        self.built = True

    def call(self, x):
        return x

    @property
    def metrics(self):
        return list(self.seen)

    def _noted(self, data):
        (x, y), more = data
        self.seen[0].update_state(x[:, 0] + keras.ops.cast(y, "float32"))
        self.seen[1].update_state(more)
        return {metric.name: metric.result() for metric in self.seen}

    if keras.backend.backend() == "jax":

        def train_step(self, state, data):
            trainable, rest, optimizer, metrics = state
            with keras.StatelessScope(
                list(zip(self.metrics_variables, metrics, strict=True))
            ) as scope:
                logs = self._noted(data)
                found = [scope.get_current_value(each) for each in self.metrics_variables]
            return logs, (trainable, rest, optimizer, found)

    else:

        def train_step(self, data):
            return self._noted(data)


def test_a_step_gets_a_batch_of_each():
    x, y = np.arange(20.0, dtype="f4")[:, np.newaxis], np.arange(20)
    more = np.arange(50.0, dtype="f4")
    zipped = npb.zip(
        npb.ArrayDataset(x, y, batch_size=5, seed=0),
        npb.ArrayDataset(more, batch_size=10, seed=1),
        until="longest",
    )
    model = Sums()
    model.compile("sgd")
    history = model.fit(zipped, epochs=4, verbose=0).history
    # 5 steps an epoch: the second dataset once, the first in five epochs for four.
    assert history["more"] == [more.sum()] * 4
    assert sum(history["seen"]) == 5 * 2 * x.sum()
    with pytest.raises(UnsupportedArgumentError, match="expected it for the dataset whose classes"):
        model.fit(zipped, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(UnsupportedArgumentError, match="shuffle"):
        model.fit(zipped, shuffle=False, verbose=0)
