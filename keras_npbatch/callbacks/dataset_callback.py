"""`DatasetCallback`: the base class of the callbacks here, and of your own. One of the four seams.

It knows which batches of the dataset each step was trained on. Batches that Keras only took to
build the model, has read ahead, or uses for validation are not among them.

A callback **must** take the dataset first, the very object that `fit` gets; call `super()` in
`on_train_begin`, `on_epoch_begin` and `on_train_batch_end`; name what belongs to one `fit` in
`_of_one_fit` and reset it in `_forget_fit`, so that copies and pickles leave it behind.

It **may** read all of a `Delivery`, and let workers compute figures from each batch by returning
`Watch(summarise)` from `_new_watch`; all watches of one `fit` must then ask for the same.

It **must never** count Keras's steps or epochs itself (`steps_per_execution`, building and reading
ahead make them differ), or write to a batch.
"""

from __future__ import annotations

import copy
import os
import weakref
from typing import Any, ClassVar, Self

import keras

from keras_npbatch.batches.core import core_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.adapter import session_of
from keras_npbatch.fit.deliveries import Delivery, Watch
from keras_npbatch.fit.session import Session

__all__ = ["DatasetCallback"]


class DatasetCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """A callback that gets the batches of its dataset that were trained on.

    Subclass it and write `trained(delivery)`. A `Delivery` has `epoch`, `step` and `rows`, the
    `batch` as it left the dataset, and how long training waited for it, `waited_s`. A copy, even a
    deep one, watches the same dataset. State that belongs to a running `fit` is neither copied nor
    pickled.

    Example:

    ```python
    class LastRows(keras_npbatch.callbacks.DatasetCallback):
        def trained(self, delivery):
            self.rows = delivery.rows

    last = LastRows(train)
    model.fit(train, callbacks=[last])
    print(last.rows)        # of the batch that the model was trained on last
    ```

    Args:
        dataset: the dataset passed to `fit`.

    Raises:
        InvalidArgumentError: if it is not a dataset of this library.
    """

    _needs_rows: ClassVar[bool] = False
    """Whether it looks at the rows of batches."""
    _of_one_fit: ClassVar[frozenset[str]] = frozenset(
        ("_epoch_iterator", "_model", "_session", "_watch")
    )
    """Attributes that are not copied with a callback."""
    _session: Session
    """The session of this `fit`. (Reading `self.model` at each step would be slow on JAX.)"""
    _epoch_iterator: weakref.ref[Any]
    """The iterator over epochs of this `fit`."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self._refuse_others(dataset)
        self.dataset: Any = dataset
        self._last_step = -1
        self._forget_fit()

    def _refuse_others(self, dataset: Any) -> None:
        name = type(self).__name__
        if isinstance(dataset, BatchDataset):
            if self._needs_rows and not core_of(dataset).has_rows:
                raise InvalidArgumentError(
                    f"{name} was given zipped datasets, whose batches have no rows in common; "
                    "expected a dataset whose batches are samples."
                )
            return
        first = ""
        if isinstance(dataset, str | os.PathLike):
            first = f" It comes first: {name}(dataset, {os.fspath(dataset)!r})."
        raise InvalidArgumentError(
            f"{name} was given {describe(dataset)} to watch; expected the ArrayDataset or "
            f"BatchDataset that fit is given.{first}"
        )

    def _forget_fit(self) -> None:
        """Reset the state that belongs to a `fit`."""
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
                # Shared, unless it has already been copied along with an object that holds both.
                # KerasTuner copies callbacks for each trial and passes the original to fit.
                memo.setdefault(id(value), value)
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(state, memo))
        return new

    def on_train_begin(self, logs: Any = None) -> None:
        """Start watching."""
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
        """Restart the step count, as Keras does."""
        self._last_step = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report the batches of the steps that ended; several with `steps_per_execution`."""
        steps, self._last_step = batch - self._last_step, batch
        for delivery in self._watch.trained(steps):
            self.trained(delivery)

    def _new_watch(self) -> Watch:
        return Watch()

    def trained(self, delivery: Delivery) -> None:
        """Called when the step on this batch has ended."""
