"""`SampleDataset`: batches of samples that are read one by one.

    train = SampleDataset(load_sample, num_samples=len(paths), batch_size=64, workers=4)
    train = SampleDataset.of(torch_dataset, batch_size=64, workers=4)
    model.fit(train, epochs=10)

It is a `BatchDataset` whose `load(rows)` calls `load_sample(row)` for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from keras_npbatch.batches.cache_setting import Cache
from keras_npbatch.batches.chain import Functions
from keras_npbatch.batches.map_style import MapStyle
from keras_npbatch.batches.pad import Collate
from keras_npbatch.batches.sample_loader import SampleCore, overridden, sample_core_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.dataset.hints import refuses_unknown_settings
from keras_npbatch.dataset.members import refuse_fixed_member, refuse_hidden_members
from keras_npbatch.dataset.settings import begin_dataset
from keras_npbatch.errors import UnknownSettingError
from keras_npbatch.plan.plan import Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.stand_ins import stands_for
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["SampleDataset"]


class SampleDataset(BatchDataset):
    """Batches of samples that a function, a method or another dataset gives one by one.

    Write `load_sample(row)`, as a function or as the method of a subclass; `SampleDataset.of`
    takes a dataset of torch, grain or Hugging Face as it is. The samples of a batch are put
    together into arrays.

    Example:

    ```python
    def load_sample(row):
        return np.fromfile(paths[row], "float32"), labels[row]

    train = keras_npbatch.SampleDataset(load_sample, num_samples=len(paths), batch_size=64)
    model.fit(train, epochs=10)

    class Slides(keras_npbatch.SampleDataset):
        def __init__(self, paths, labels, **kwargs):
            super().__init__(num_samples=len(paths), **kwargs)
            self.paths, self.labels = paths, labels

        def load_sample(self, row):
            return np.fromfile(self.paths[row], "float32"), self.labels[row]
    ```

    A sample is `x`, `(x, y)` or `(x, y, sample_weight)`, each a leaf or a nesting of dicts and
    tuples. A leaf of shape `feature_shape` becomes one of shape `(batch_size, *feature_shape)`:
    - arrays, and what NumPy takes as arrays: tensors on the CPU, pictures of Pillow; their dtype
      stays;
    - numbers of Python, which become int64, float64 and bool;
    - strings and bytes, which become an array of objects;
    - lists of these numbers or strings, which become arrays. Other lists are nestings.

    All samples of a batch need one nesting, and each leaf one shape and dtype: crop or resize in
    `load_sample`, pad sequences of any length with `collate=keras_npbatch.pad(...)`. What is faster
    on whole batches goes into `transform=function`, what is written for one sample into
    `transform=keras_npbatch.each(function)`.

    Args:
        load_sample: `load_sample(row)` or `load_sample(row, rng)`: the sample of a row, an integer
            from 0 up. It may be called from several threads at once. `rng` is a
            `np.random.Generator` that depends on (seed, epoch, row) alone; `evaluate` and
            `predict` draw the numbers of epoch 0. None for a subclass with such a method.
        num_samples: samples in the data, from 1 to 2**62.
        batch_size: samples in a full batch. For this and all other settings, see
            `BatchDataset`.
        collate: `keras_npbatch.pad(...)`: pads each leaf that has an axis, as a sequence of any
            length; others for some leaves alone, such as `(pad(), None)` for `x`.
        use_multiprocessing: whether the workers are processes, for a `load_sample` that is mostly
            Python; as `num_workers` of torch are.

    Raises:
        InvalidArgumentError: for an invalid setting. While a batch is made, `InvalidBatchError` for
            a sample that differs from the others; the message gives its row.
    """

    @refuses_unknown_settings
    def __init__(
        self,
        load_sample: Callable[..., Tree] | None = None,
        *,
        num_samples: int | None = None,
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
            SampleCore,
            load_sample,
            num_samples,
            overridden=overridden(type(self), SampleDataset),
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

    @classmethod
    def of(cls, dataset: Any, **settings: Any) -> Self:
        """The samples of a dataset with `__len__` and `__getitem__`: of torch, grain, Hugging Face.

        `__getitems__(rows)`, which reads several samples at once, is used where there is one.

        Example:

        ```python
        # DataLoader(pictures, batch_size=64, shuffle=True, num_workers=4)
        train = keras_npbatch.SampleDataset.of(
            pictures, batch_size=64, workers=4, use_multiprocessing=True
        )
        ```

        Args:
            dataset: each of its items is a sample; see `SampleDataset`.
            **settings: see `BatchDataset`.

        Returns:
            The dataset, of `len(dataset)` samples.

        Raises:
            InvalidDataError: for a dataset that can only be iterated over, or whose items are
                batches or columns; the message says what to write.
        """
        if "num_samples" in settings:
            raise UnknownSettingError(
                f"{cls.__name__}.of has no setting num_samples: it is len(dataset). For a part of "
                f"the samples, write {cls.__name__}.of(dataset).subset(rows)."
            )
        read = MapStyle(dataset)
        return cls(read, num_samples=read.num_samples, **settings)

    def load_sample(self, row: int) -> Tree:
        """Read a sample: the method that a subclass writes, if no function was given.

        Write `load_sample(self, row, rng)` to draw random numbers.

        Args:
            row: from 0 to the number of rows in the data, exclusive.

        Returns:
            The sample: `x`, `(x, y)` or `(x, y, sample_weight)`, as the function that was given
            returns it, with the random numbers of the epoch that comes next.
        """
        return sample_core_of(self).one(row)

    def load(self, rows: Rows) -> Tree:
        """Read samples, and put them together.

        Args:
            rows: integers of shape `(n,)`: row numbers, in any order.

        Returns:
            The batch of these rows: `x`, `(x, y)` or `(x, y, sample_weight)`. If `load_sample`
            draws, with the random numbers of the epoch that comes next.

        Raises:
            IndexError: for a row that does not exist.
        """
        return sample_core_of(self).load(rows)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse a class that would hide a member of every dataset of samples."""
        super().__init_subclass__(**arguments)
        refuse_hidden_members(cls, SampleDataset)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to set the function; a `SampleDataset` takes it as an argument."""
        refuse_fixed_member(self, name, SampleDataset)
        super().__setattr__(name, value)


stands_for(SampleDataset, stand_ins.SampleDataset)
