"""`ArrayDataset`: batches from arrays, memory maps, tables and anything else with rows.

    train = ArrayDataset({"image": images, "age": ages}, labels, batch_size=256, seed=0)
    model.fit(train, epochs=10)

It is a `BatchDataset` whose `load(rows)` gathers rows into reused buffers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from keras_npbatch.batches.array_loader import ArrayCore, array_core_of
from keras_npbatch.batches.cache_setting import Cache
from keras_npbatch.batches.chain import Functions
from keras_npbatch.batches.pad import Collate
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.dataset.hints import refuses_unknown_settings
from keras_npbatch.dataset.settings import begin_dataset
from keras_npbatch.plan.plan import Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.stand_ins import stands_for
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["ArrayDataset"]


class ArrayDataset(BatchDataset):
    """Batches from arrays: takes what `fit(x, y)` takes, and reshuffles it every epoch.

    The data stay where they are. Only the rows of the batches being made are copied.

    Example:

    ```python
    train = keras_npbatch.ArrayDataset(x, y, batch_size=256, seed=0)
    test = keras_npbatch.ArrayDataset(x_test, y_test, batch_size=256, shuffle=False)
    model.fit(train, validation_data=test, epochs=10)
    ```

    Args:
        x: inputs: any nesting of dicts, tuples and lists of NumPy arrays, memory maps, tables and
            columns (pandas, polars, Arrow, Parquet, Hugging Face, xarray, dask), scipy sparse
            matrices, or anything else with `shape`, `dtype` and row indexing (such as HDF5 and
            Zarr datasets), each of shape `(num_samples, *feature_shape)`. A table of columns of
            several types is a dict of them, except for a pandas DataFrame, which is a matrix; or a
            source of `keras_npbatch.sources`, for sequences of any length and windows of time
            series.
        y: targets, nested in the same ways, or None.
        sample_weight: weights, nested like `y`, or None. Can't be combined with `class_weight`.
        batch_size: samples in a full batch. For this and all other settings, see
            `BatchDataset`.
        collate: for object arrays of arrays, `keras_npbatch.pad(...)`; better, give
            `sources.Ragged` as `x`.
        workers: threads that make batches. If the arrays are in memory and no function is
            applied, the caller makes batches of up to 256 KB itself, whatever `workers` is.
            With `workers=1` it also makes larger ones in Keras's loop on JAX on a CPU, which
            has time for it.

    Raises:
        InvalidDataError: if the data can't be read by rows or differ in length; the message
            gives the path of the leaf.
        InvalidArgumentError: for an invalid setting.
    """

    @refuses_unknown_settings
    def __init__(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        *,
        batch_size: int = 32,
        shuffle: bool | None = None,
        sampler: Any = None,
        seed: int | None = None,
        remainder: Remainder | None = None,
        collate: Collate | None = None,
        transform: Functions | None = None,
        augment: Functions | None = None,
        class_weight: Mapping[Any, Any] | Sequence[Any] | None = None,
        shard: Shard | tuple[int, int] | Literal["auto"] | None = None,
        cache: Cache | None = None,
        on_error: Literal["raise", "set_aside"] = "raise",
        max_set_aside: float | None = None,
        workers: int | Literal["auto"] = 1,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        start_method: StartMethod | None = None,
        timeout: float | None = None,
        memory_limit: str | float | None = None,
    ) -> None:
        begin_dataset(
            self,
            ArrayCore,
            x,
            y,
            sample_weight,
            has_own_load=type(self).load is not ArrayDataset.load,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            seed=seed,
            remainder=remainder,
            collate=collate,
            transform=transform,
            augment=augment,
            class_weight=class_weight,
            shard=shard,
            cache=cache,
            on_error=on_error,
            max_set_aside=max_set_aside,
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
            start_method=start_method,
            timeout=timeout,
            memory_limit=memory_limit,
        )

    def load(self, rows: Rows) -> Tree:
        """Read rows of the arrays.

        Args:
            rows: integers of shape `(n,)`: row numbers, in any order.

        Returns:
            The batch of these rows: `x`, `(x, y)` or `(x, y, sample_weight)`.

        Raises:
            IndexError: for a row that does not exist.
        """
        return array_core_of(self).load(rows)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to set functions and weights; an `ArrayDataset` takes them as arguments."""
        if name in ("augment", "class_weight", "transform") and type(self) is ArrayDataset:
            raise AttributeError(
                f"ArrayDataset.{name} can't be set after construction. Make a new dataset, or "
                "let the function read a value that you change."
            )
        super().__setattr__(name, value)


stands_for(ArrayDataset, stand_ins.ArrayDataset)
