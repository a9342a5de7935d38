"""`ArrayDataset`: batches from arrays, memory maps, tables and whatever has rows.

    train = ArrayDataset({"image": images, "age": ages}, labels, batch_size=256, seed=0)
    model.fit(train, epochs=10)

It is a `BatchDataset` whose `load(rows)` gathers rows into reused buffers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_npbatch.assemble import Parts, pack
from keras_npbatch.dataset import BatchDataset
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, told
from keras_npbatch.execution.slots import Slots
from keras_npbatch.order import Rows
from keras_npbatch.plan import Plan
from keras_npbatch.recipe import Recipe
from keras_npbatch.sources import as_sources, num_rows
from keras_npbatch.tree import Tree, flatten

__all__ = ["ArrayDataset"]

_CHEAP_BATCH_BYTES = 256 * 1024
"""A gather of less than this costs less than handing its result over from another thread."""

_SLOTS_BESIDE_QUEUE = 4
"""Batches in the hands of the model and of the workers, beside those that wait in the queue."""


class ArrayDataset(BatchDataset):
    """Batches from arrays: what `fit(x, y)` takes, read by rows, shuffled anew every epoch.

    The data stay where they are: nothing is copied but the rows of the batches that are made.

    Example:

    ```python
    train = keras_npbatch.ArrayDataset(x, y, batch_size=256, seed=0)
    test = keras_npbatch.ArrayDataset(x_test, y_test, batch_size=256, shuffle=False)
    model.fit(train, validation_data=test, epochs=10)
    ```

    Args:
        x: inputs: any nesting of dict, tuple and list of NumPy arrays, memory maps, pandas
            columns, scipy sparse matrices, or anything with `shape`, `dtype` and row indexing
            (HDF5 and Zarr datasets); each of shape `(num_samples, *feature_shape)`.
        y: targets, nested likewise, or None.
        sample_weight: weights, nested as `y` is, or None. Not together with `class_weight`.
        **settings: those of `BatchDataset` but `num_samples`.

    Raises:
        InvalidDataError: if the data can't be read by rows or differ in length; the message
            names the leaf by its path.
        InvalidArgumentError: for a setting that makes no sense.
    """

    def __init__(
        self, x: Tree, y: Tree = None, sample_weight: Tree = None, **settings: Any
    ) -> None:
        if "num_samples" in settings:
            raise InvalidArgumentError(
                f"num_samples is {told(settings['num_samples'])}; an ArrayDataset counts the "
                "rows of its arrays. Select the rows, or leave num_samples out."
            )
        if sample_weight is not None and settings.get("class_weight") is not None:
            raise InvalidArgumentError(
                "sample_weight and class_weight were both given; expected one of them. Multiply "
                "the class weights into sample_weight."
            )
        parts = Parts(
            as_sources(x, "x"), as_sources(y, "y"), as_sources(sample_weight, "sample_weight")
        )
        rows = num_rows(**parts._asdict())
        if rows == 0:
            raise InvalidDataError(
                "x has 0 rows: there is nothing to make a batch of. Check how the data was "
                "selected."
            )
        self._sources, self._structure = flatten(pack(parts))
        super().__init__(rows, **settings)

    def load(self, rows: Rows) -> Tree:
        """Read rows of the arrays.

        Args:
            rows: whole numbers of shape `(n,)`, each in `range(num_samples)`, in any order.

        Returns:
            The batch of these rows: `x`, `(x, y)` or `(x, y, sample_weight)`.

        Raises:
            IndexError: for a row that is not there.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"rows is {told(rows)}; expected whole numbers of shape (n,)."
            )
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.num_samples:
            raise IndexError(
                f"rows go from {rows.min()} to {rows.max()}; expected numbers from 0 to "
                f"{self.num_samples - 1}"
            )
        return self._gather(rows.astype(np.int64, copy=False))

    def _gather(self, rows: Rows) -> Tree:
        lease = self._slots.lease
        return self._structure.unflatten([source.read(rows, lease) for source in self._sources])

    def _loading(self, plan: Plan) -> Recipe:
        if type(self).load is not ArrayDataset.load:
            return super()._loading(plan)
        # The rows of a plan are in range, so they need no check.
        nothing_to_do = (
            self._transform is None and self._class_weight is None and plan.remainder != "pad"
        )
        return Recipe(
            plan, self._gather, self._transform, self._class_weight, finished=nothing_to_do
        )

    @property
    def _is_cheap(self) -> bool:
        if not self._recipe(self.plan).finished:
            return False
        bytes_of_a_sample = sum(
            int(np.prod(source.shape[1:])) * source.dtype.itemsize for source in self._sources
        )
        return bool(bytes_of_a_sample * self.batch_size <= _CHEAP_BATCH_BYTES)

    def _start(self, epoch: int) -> None:
        super()._start(epoch)
        self._slots = Slots(kept=self.max_queue_size + self.workers + _SLOTS_BESIDE_QUEUE)

    def __getstate__(self) -> dict[str, Any]:
        """Settings, data and the epoch that comes next."""
        state = super().__getstate__()
        del state["_slots"]
        return state

    def close(self) -> None:
        """End all passes under way and let their memory go. Safe to call twice."""
        super().close()
        self._slots.clear()
