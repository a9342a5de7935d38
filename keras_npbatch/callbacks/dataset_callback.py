"""`DatasetCallback`: the base class of the callbacks here, and of your own. One of the four seams.

It knows which batches of the dataset each step was trained on. Batches that Keras only took to
build the model, has read ahead, or uses for validation are not among them.

A callback **must** take the dataset first, the very object that `fit` gets; call `super()` in
`on_train_begin`, `on_epoch_begin` and `on_train_batch_end`.

It **may** read all of a `Delivery`, and call its own attributes what it likes: all of ours is in
one, a `Watching`. The callbacks of this library have a kind of `Watching` of their own. It holds
their private state, names what belongs to one `fit` in `of_one_fit` and resets it in `forget_fit`,
so that copies and pickles leave it behind, and lets workers compute figures from each batch by
returning `Watch(summarise)` from `new_watch`.

It **must never** count Keras's steps or epochs itself (`steps_per_execution`, building and reading
ahead make them differ), or write to a batch.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import keras

from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.callbacks.watching import Watching, refuse_to_watch, watching_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.fit.deliveries import Delivery

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

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        refuse_to_watch(type(self).__name__, dataset)
        self.dataset: Any = dataset
        self.__dict__[ATTRIBUTE] = Watching(self, dataset)

    def __getstate__(self) -> dict[str, Any]:
        """Attributes, and what is kept between two `fit`."""
        return {name: value for name, value in vars(self).items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes, and give this object a state of its own."""
        self.__dict__.update(state)
        self._model = None
        watching = state.get(ATTRIBUTE)
        if isinstance(watching, Watching):
            self.__dict__[ATTRIBUTE] = watching.copy_for(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        state = self.__getstate__()
        for value in (*state.values(), watching_of(self, Watching).dataset):
            if isinstance(value, BatchDataset):
                # Shared, unless it has already been copied along with an object that holds both.
                # KerasTuner copies callbacks for each trial and passes the original to fit.
                memo.setdefault(id(value), value)
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(state, memo))
        return new

    def on_train_begin(self, logs: Any = None) -> None:
        """Start watching."""
        watching_of(self, Watching).begin(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restart the step count, as Keras does."""
        watching_of(self, Watching).last_step = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report the batches of the steps that ended; several with `steps_per_execution`."""
        for delivery in watching_of(self, Watching).ended(batch):
            self.trained(delivery)

    def trained(self, delivery: Delivery) -> None:
        """Called when the step on this batch has ended."""
