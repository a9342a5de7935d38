"""`ArrayDataset`: batches from arrays, memory maps, tables and whatever has rows.

    train = ArrayDataset({"image": images, "age": ages}, labels, batch_size=256, seed=0)
    model.fit(train, epochs=10)

It is a `BatchDataset` whose `load(rows)` gathers rows into reused buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.dataset.hints import refuses_unknown_settings
from keras_npbatch.plan.plan import Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.sources.sources import TakenArray
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.launch import StartMethod

__all__ = ["ArrayDataset"]

_CHEAP_BATCH_BYTES = 256 * 1024
"""A gather of less than this costs less than handing its result over from another thread."""


class ArrayDataset(ArrayBatches, BatchDataset):
    """Batches from arrays: what `fit(x, y)` takes, read by rows, reshuffled every epoch.

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
        batch_size: samples in a full batch. This and all other settings are those of
            `BatchDataset`.
        workers: threads that make batches. From arrays in memory, batches up to 256 KB that
            nothing is done to are made by the caller whatever `workers` is, and with `workers=1`
            larger ones too in Keras's loop on JAX on a CPU, which has time for it.

    Raises:
        InvalidDataError: if the data can't be read by rows or differ in length; the message
            names the leaf by its path.
        InvalidArgumentError: for a setting that makes no sense.
    """

    _in_worker = stand_ins.ArrayDataset

    @refuses_unknown_settings
    def __init__(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        remainder: Remainder | None = None,
        transform: Callable[..., Tree] | None = None,
        augment: Callable[..., Tree] | None = None,
        class_weight: Mapping[int, float] | None = None,
        shard: Shard | tuple[int, int] | Literal["auto"] | None = None,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        start_method: StartMethod | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            remainder=remainder,
            transform=transform,
            augment=augment,
            class_weight=class_weight,
            shard=shard,
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
            start_method=start_method,
            timeout=timeout,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """As in a `BatchDataset`; what a class of your own may have is a setting here."""
        if name in ("augment", "class_weight", "transform") and type(self) is ArrayDataset:
            raise AttributeError(
                f"ArrayDataset.{name} can't be set after construction. Make a new dataset, or "
                "let the function read a value that you change."
            )
        super().__setattr__(name, value)

    @property
    def _is_cheap(self) -> bool:
        return self._is_small and self._is_in_memory

    @property
    def _is_made_meanwhile(self) -> bool:
        is_gathered = self._are_arrays and self._is_in_memory and self._recipe(self.plan).finished
        if not is_gathered or keras.backend.backend() != "jax":
            return False
        from keras_npbatch.tensors import jax

        return jax.computes_on_cpu()

    @property
    def _is_small(self) -> bool:
        return self._recipe(self.plan).finished and self._batch_bytes <= _CHEAP_BATCH_BYTES

    @property
    def _are_arrays(self) -> bool:
        return all(isinstance(source, TakenArray) for source in self._sources)

    @property
    def _is_in_memory(self) -> bool:
        return all(source.is_in_memory for source in self._sources)

    @property
    def _batches_together(self) -> int:
        # Not from storage whose reading may fail: the note would name several batches.
        if not (self._is_small and self._are_arrays):
            return 1
        return max(1, _CHEAP_BATCH_BYTES // max(1, self._batch_bytes))

    def _most_ahead(self, workers: int) -> int:
        # Gathers from memory take equally long. More than one that is ready, beside those that
        # are being made, would only drive other data from the processor's caches.
        most = super()._most_ahead(workers)
        takes_equally_long = self._is_in_memory and self._recipe(self.plan).finished
        return min(most, workers + 1) if takes_equally_long else most

    @property
    def _batch_bytes(self) -> int:
        of_a_sample = sum(
            int(np.prod(source.shape[1:])) * source.dtype.itemsize for source in self._sources
        )
        return int(of_a_sample * self.batch_size)
