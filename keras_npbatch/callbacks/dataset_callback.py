"""`Watcher`: what the callbacks of this package have in common.

It knows which batches of the dataset each step was trained on: not those that Keras looked at to
build the model, nor those it has read ahead, nor those of validation.
"""

from __future__ import annotations

import copy
import os
import weakref
from typing import Any, ClassVar, Self

import keras

from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.errors import InvalidArgumentError, told
from keras_npbatch.fit.adapter import session_of
from keras_npbatch.fit.deliveries import Delivery, Watch
from keras_npbatch.fit.session import Session

__all__ = ["Watcher"]


class Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """A callback that is told the batches its dataset has given to training.

    A copy, also a deep one, watches the same dataset. What belongs to a `fit` under way is neither
    copied nor pickled.

    Args:
        dataset: the dataset that `fit` is given.

    Raises:
        InvalidArgumentError: if it is none of ours.
    """

    _of_one_fit: ClassVar[frozenset[str]] = frozenset(
        ("_epoch_iterator", "_model", "_session", "_watch")
    )
    """Attributes that stay behind when a callback is copied."""
    _session: Session
    """What serves this `fit`. (Asking for `self.model` at each step would take JAX long.)"""
    _epoch_iterator: weakref.ref[Any]
    """What Keras walks over epochs with."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self._refuse_others(dataset)
        self.dataset: Any = dataset
        self._last_step = -1
        self._forget_fit()

    def _refuse_others(self, dataset: Any) -> None:
        if isinstance(dataset, BatchDataset):
            return
        name = type(self).__name__
        first = ""
        if isinstance(dataset, str | os.PathLike):
            first = f" It comes first: {name}(dataset, {os.fspath(dataset)!r})."
        raise InvalidArgumentError(
            f"{name} was given {told(dataset)} to watch; expected the ArrayDataset or "
            f"BatchDataset that fit is given.{first}"
        )

    def _forget_fit(self) -> None:
        """Be as before the first `fit`, in what belongs to one."""
        self._model = None
        self._watch = self._new_watch()

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in self.__dict__.items() if name not in self._of_one_fit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_fit()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        state = self.__getstate__()
        for value in state.values():
            if isinstance(value, BatchDataset):
                # Shared, unless it has been copied already with what holds both. As KerasTuner
                # does for each trial: fit is given the original.
                memo.setdefault(id(value), value)
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(state, memo))
        return new

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to watch."""
        served = session_of(self.dataset, self.model)
        if served is None:
            raise InvalidArgumentError(
                f"{type(self).__name__} watches {self.dataset!r}, which fit was not given; "
                "expected the very dataset. One that repeat() returned is another: give that to "
                "both. The batches of a to_tf_dataset() are not watched."
            )
        epoch_iterator, self._session = served
        self._epoch_iterator = weakref.ref(epoch_iterator)
        self._watch = self._new_watch()
        self._session.watches.append(self._watch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras counts steps anew."""
        self._last_step = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tell the batches of the steps that have ended; with `steps_per_execution` several."""
        steps, self._last_step = batch - self._last_step, batch
        for delivery in self._watch.trained(steps):
            self.trained(delivery)

    def _new_watch(self) -> Watch:
        return Watch()

    def trained(self, delivery: Delivery) -> None:
        """A step on this batch has ended."""
