"""The model that is fed, the time of its epochs, and the proof that it saw every sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from benchmarks.workloads import Workload, WrongCoverageError

__all__ = ["Trainer", "check_fit", "convolutional", "wide"]

_CLASSES = 10
_HIDDEN_UNITS = 512
_LEARNING_RATE = 1e-7
"""So small that the model stays as it is. With a usual one it diverges, and its gradients become
denormal numbers, over which Torch on a CPU takes three times as long (not so on a constant batch,
which the model learns by heart)."""


class Trainer:
    """A model that is trained on one feed.

    Args:
        workload: the shape of the samples.
        arguments: of `fit`.
        make_model: what makes the model; by default the smallest there is.
    """

    def __init__(
        self,
        workload: Workload,
        arguments: dict[str, Any],
        make_model: Callable[[Workload], keras.Model] | None = None,
    ) -> None:
        self._arguments = arguments
        self._model = (make_model or _model)(workload)
        self._model.compile(keras.optimizers.SGD(_LEARNING_RATE), _loss)

    def seconds_of_epoch(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> float:
        """The time of the second of two epochs, with these callbacks.

        From the end of the first to the end of the second: with the change of the epoch, which
        comes once an epoch, and without what comes once a `fit`.
        """
        ends = _EpochEnds()
        self._model.fit(**self._arguments, epochs=2, verbose=0, callbacks=[*callbacks, ends])
        first, second = ends.times
        return second - first


def check_fit(workload: Workload, arguments: dict[str, Any]) -> None:
    """Trains for an epoch and refuses it unless each sample was seen once, at any step.

    Raises:
        WrongCoverageError: telling how many were.
    """
    model = _model(workload)
    model.compile("sgd", _loss, metrics=[_SeenOnce(workload.num_samples)])
    history = model.fit(**arguments, epochs=1, verbose=0).history
    seen_once = int(history["seen_once"][-1])
    if seen_once != workload.num_samples:
        raise WrongCoverageError(f"{seen_once} of {workload.num_samples} samples were seen once")


def _model(workload: Workload, hidden: Sequence[keras.Layer] = ()) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.Input(workload.feature_shape, dtype=workload.dtype)]
    if workload.dtype == "uint8":
        layers.append(keras.layers.Rescaling(1 / 255))
    layers += [keras.layers.Flatten(), *hidden, keras.layers.Dense(_CLASSES)]
    return keras.Sequential(layers)


def wide(workload: Workload) -> keras.Model:
    """The smallest with a layer that makes its steps long."""
    return _model(workload, [keras.layers.Dense(_HIDDEN_UNITS, activation="relu")])


def convolutional(workload: Workload) -> keras.Model:
    """The small network for images of Keras's first examples."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(workload.feature_shape, dtype=workload.dtype),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(_CLASSES),
        ]
    )


def _loss(numbers: Any, logits: Any) -> Any:
    """Cross entropy, with the last digit of a sample's number for its class."""
    classes = ops.cast(numbers, "int32") % _CLASSES
    return keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)


class _SeenOnce(keras.Metric):
    """How many samples were seen exactly once, told by their numbers."""

    def __init__(self, num_samples: int) -> None:
        super().__init__(name="seen_once", dtype="int32")
        self._num_samples = num_samples
        self._times_seen = self.add_variable((num_samples,), "zeros", dtype="int32")

    def update_state(self, numbers: Any, logits: Any, sample_weight: Any = None) -> None:
        numbers = ops.reshape(ops.cast(numbers, "int32"), (-1,))
        seen = ops.segment_sum(ops.ones_like(numbers), numbers, self._num_samples)
        self._times_seen.assign(self._times_seen + seen)

    def result(self) -> Any:
        return ops.sum(ops.cast(self._times_seen == 1, "int32"))


class _EpochEnds(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.times.append(time.perf_counter())
