"""What the model saw: sample ids, collected inside the compiled step of a real `fit`.

A plugin for the tests that run once for each backend, in a process of their own with
`KERAS_NPBATCH_BACKEND` set (see tests/conftest.py and tests/test_on_backends.py).
"""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import ops

BACKEND = os.environ["KERAS_NPBATCH_BACKEND"]
assert keras.backend.backend() == BACKEND


NEUTRAL = frozenset(
    (
        *("test_arguments.py", "test_augment.py", "test_auto.py", "test_class_weight.py"),
        *("test_docstrings.py", "test_failures.py", "test_first_batch.py", "test_fit_in_order.py"),
        *("test_folds.py", "test_owned.py", "test_picture.py"),
        *("test_resuming.py", "test_sample_dataset.py", "test_samplers.py", "test_shards.py"),
        "test_with_keras.py",
    )
)
"""Files about what is the same on every backend: one runs them, the others with `-m more`."""


ONCE = (
    "fit/test_pages.py",
    "fit/test_processes.py",
    "callbacks/input_monitor/test_callback.py",
    "callbacks/test_copies.py::test_a_search_of_keras_tuner",
)
"""What takes long and tells little of a backend: only the one that runs all tests has it."""


def pytest_collection_modifyitems(config, items):
    runs_all = "torch" if find_spec("torch") else "jax"
    if runs_all == BACKEND:
        return
    once = [item for item in items if any(name in item.nodeid for name in ONCE)]
    config.hook.pytest_deselected(items=once)
    items[:] = [item for item in items if item not in once]
    for item in items:
        if item.path.name in NEUTRAL:
            item.add_marker(pytest.mark.more)
    for item in combined_again(items):
        item.add_marker(pytest.mark.more)


def combined_again(items):
    """The tests whose arguments have each been in a test before, with others.

    Which combinations matter is no matter of the backend: the one that runs all tests has them all,
    the others one for each value of each argument, and the rest with `-m more`.
    """
    tested = {}
    for item in items:
        values = getattr(getattr(item, "callspec", None), "params", {})
        before = tested.setdefault((item.path, item.originalname), [])
        if values and all(any(other[name] is values[name] for other in before) for name in values):
            yield item
        before.append(values)


@pytest.fixture
def backend():
    return BACKEND


@keras.saving.register_keras_serializable("tests")
class Log(keras.metrics.Metric):
    """Writes down each target, and its sample weight, in the order the model gets them."""

    def __init__(self, capacity=4096, name="log"):
        super().__init__(name=name, dtype="float32")
        self.ids = self.add_weight(
            shape=(capacity,), initializer="zeros", dtype="int32", name="ids"
        )
        self.weights = self.add_weight(
            shape=(capacity,), initializer="zeros", dtype="float32", name="weights"
        )
        self.written = self.add_weight(shape=(), initializer="zeros", dtype="int32", name="written")

    def update_state(self, y_true, y_pred, sample_weight=None):
        ids = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        count = ops.shape(ids)[0]
        weights = ops.ones((count,)) if sample_weight is None else ops.reshape(sample_weight, (-1,))
        at = ops.reshape(self.written + ops.arange(count, dtype="int32"), (-1, 1))
        self.ids.assign(ops.scatter_update(self.ids, at, ids))
        self.weights.assign(ops.scatter_update(self.weights, at, ops.cast(weights, "float32")))
        self.written.assign_add(ops.cast(count, "int32"))

    def result(self):
        return ops.cast(self.written, "float32")

    def reset_state(self):
        """Keras resets metrics at each epoch; this one goes on."""


class Seen(keras.callbacks.Callback):
    """The ids of each epoch of training, and of each run of validation."""

    def __init__(self):
        super().__init__()
        self.epochs, self.validations = [], []
        self.weights = []
        self.steps = []
        self._from = 0

    def _log(self):
        return next(m for m in self.model.metrics_flat if isinstance(m, Log))

    def _new(self):
        log = self._log()
        start, self._from = self._from, int(log.written)
        part = slice(start, self._from)
        ids = ops.convert_to_numpy(log.ids)[part].tolist()
        return ids, ops.convert_to_numpy(log.weights)[part].tolist()

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1

    def on_test_begin(self, logs=None):
        self._take_training()

    def on_test_end(self, logs=None):
        self.validations.append(self._new()[0])

    def on_epoch_end(self, epoch, logs=None):
        if len(self.epochs) < len(self.steps):
            self._take_training()

    def on_train_end(self, logs=None):
        if len(self.epochs) < len(self.steps):
            self._take_training()

    def _take_training(self):
        if not self.steps:  # evaluate alone
            return
        ids, weights = self._new()
        if len(self.epochs) < len(self.steps):
            self.epochs.append(ids)
            self.weights.append(weights)


class Model(keras.Model):
    """One dense layer that begins as the identity; unbuilt until it gets a batch."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")

    def call(self, x):
        return self.dense(x)

    @property
    def metrics_flat(self):
        found = []
        for metric in self.metrics:
            found.extend(getattr(metric, "metrics", [metric]))
        return found


def loss(y_true, y_pred):
    """Bounded, and different for each id."""
    return ops.square(y_pred / 100.0 - ops.cast(y_true % 7, "float32"))


@pytest.fixture
def make_model():
    """`make_model(built=False, **compile)`: a model that logs what it sees."""

    def make(*, built=False, weighted=False, learning_rate=0.01, **compile_arguments):
        model = Model()
        kind = "weighted_metrics" if weighted else "metrics"
        model.compile(
            optimizer=keras.optimizers.SGD(learning_rate),
            loss=loss,
            **{kind: [Log()]},
            **compile_arguments,
        )
        if built:
            x = np.zeros((2, 1), "float32")
            model.fit(x, np.zeros((2, 1), "float32"), batch_size=2, verbose=0)
            for metric in model.metrics_flat:
                if isinstance(metric, Log):
                    metric.written.assign(0)
            model.dense.kernel.assign([[1.0]])
            model.dense.bias.assign([0.0])
        return model

    return make


@pytest.fixture
def fit():
    """`fit(model, data, **arguments)`: a real fit; returns what the model saw."""

    def run(model, data, **arguments):
        seen = Seen()
        callbacks = [seen, *arguments.pop("callbacks", ())]
        model.fit(data, verbose=0, callbacks=callbacks, **arguments)
        return seen

    return run


@pytest.fixture
def data():
    """`data(n)`: x and y whose every row is its own number."""

    def make(num_samples=50):
        ids = np.arange(num_samples)
        return ids.astype("float32")[:, np.newaxis], ids.astype("int32")

    return make
