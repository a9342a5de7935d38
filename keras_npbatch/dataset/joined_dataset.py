"""`mix` and `concat`: one dataset of several.

train = mix([common, rare], weights=[0.7, 0.3], batch_size=64)
everything = concat([first_year, second_year], batch_size=64)
model.fit(train, epochs=10)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from keras_npbatch.batches.chain import Functions
from keras_npbatch.batches.joined import JoinedCore, Origin, joined_core_of
from keras_npbatch.batches.loader import Batches
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.dataset.hints import refuses_unknown_settings
from keras_npbatch.dataset.settings import begin_dataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.plan import Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.shares import Until
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.stand_ins import stands_for
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["JoinedDataset", "concat", "mix"]


class JoinedDataset(BatchDataset):
    """Batches with samples of several datasets: what `mix` and `concat` return."""

    @refuses_unknown_settings
    def __init__(
        self,
        datasets: Sequence[Batches],
        *,
        weights: Sequence[float] | None = None,
        until: Until = "first",
        batch_size: int = 32,
        shuffle: bool | None = None,
        sampler: Any = None,
        seed: int | None = None,
        remainder: Remainder | None = None,
        transform: Functions | None = None,
        augment: Functions | None = None,
        class_weight: Mapping[Any, Any] | Sequence[Any] | None = None,
        shard: Shard | tuple[int, int] | Literal["auto"] | None = None,
        workers: int | Literal["auto"] = 1,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        start_method: StartMethod | None = None,
        timeout: float | None = None,
        memory_limit: str | float | None = None,
    ) -> None:
        begin_dataset(
            self,
            JoinedCore,
            datasets,
            weights=weights,
            until=until,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
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
            memory_limit=memory_limit,
        )

    def load(self, rows: Rows) -> Tree:
        """Read samples of the datasets, as in the first batch of training.

        Args:
            rows: integers of shape `(n,)`: samples of the first dataset from 0 up, then those of
                the second, and so on.
        """
        return joined_core_of(self).load(rows)

    def origin(self, rows: Rows) -> Origin:
        """Where samples come from.

        Example:

        ```python
        train = keras_npbatch.mix([common, rare], weights=[0.7, 0.3])
        came_from = train.origin(train.rows(step=0))
        came_from.datasets      # 0 for a sample of `common`, 1 for one of `rare`
        came_from.rows          # its row in the data of that dataset
        ```

        Args:
            rows: integers of shape `(n,)`, as `rows(step)` returns them.

        Returns:
            `datasets` and `rows`, int64 arrays of shape `(n,)`.
        """
        return joined_core_of(self).origin(rows)


_Function = TypeVar("_Function", bound=Callable[..., JoinedDataset])


def _takes_a_list(function: _Function) -> _Function:
    """Make a function that takes a list of datasets say what to write if they come one by one."""

    @functools.wraps(function)
    def checked(*datasets: Any, **settings: Any) -> JoinedDataset:
        if datasets and isinstance(datasets[0], Batches):
            name = function.__name__
            weights = ", weights=[0.7, 0.3]" if name == "mix" else ""
            several = "datasets one by one" if len(datasets) > 1 else "a dataset"
            raise InvalidArgumentError(
                f"{name} was given {several}; expected a list of datasets: {name}([a, b]{weights})."
            )
        return function(*datasets, **settings)

    return checked  # type: ignore[return-value]  # the same signature


@_takes_a_list
def mix(
    datasets: Sequence[BatchDataset],
    weights: Sequence[float] | None = None,
    *,
    until: Until = "first",
    **settings: Any,
) -> JoinedDataset:
    """Mix datasets: each has its share of every batch.

    The samples of all of them come together in a batch. Any prefix of an epoch, and so any batch,
    has the shares within one sample (of the shares, rounded to whole samples of an epoch). Each
    dataset is read in its own epochs, with its own sampler and seed: an epoch of the mixture goes
    on where the one before stopped, and no row comes again before all rows have come.

    Samples get what their dataset gives them: its `transform`, `augment` and `class_weight`. Its
    `batch_size`, `remainder` and workers don't matter. `evaluate` and `predict` read each sample
    once: those of the first dataset, then those of the second.

    Example:

    ```python
    train = keras_npbatch.mix([common, rare], weights=[0.7, 0.3], batch_size=64, seed=0)
    model.fit(train, epochs=10)
    ```

    Args:
        datasets: datasets whose batches have the same leaves, shapes and dtypes.
        weights: the share of each, numbers above 0 of any scale.
        until: when an epoch ends: with the `"first"` dataset that has given all its samples, with
            the `"longest"`, or after a number of samples.
        **settings: see `BatchDataset`; there is no `sampler` and no `shuffle`.

    Returns:
        The dataset. `origin(rows)` says which sample is from which dataset.

    Raises:
        InvalidArgumentError: for datasets that can't be mixed, or weights that can't be kept. While
            a batch is made, `InvalidBatchError` if the datasets give different leaves.
    """
    for name in ("sampler", "shuffle"):
        if settings.get(name) is not None:
            raise InvalidArgumentError(
                f"{name} was given to mix; expected it for the datasets: each is read in its own "
                "order."
            )
    if weights is None:
        raise InvalidArgumentError(
            "weights is None; expected the share of each dataset. Where each sample should come "
            "once, write concat."
        )
    return JoinedDataset(datasets, weights=weights, until=until, **settings)


@_takes_a_list
def concat(datasets: Sequence[BatchDataset], **settings: Any) -> JoinedDataset:
    """Join datasets into one: each of their samples comes once an epoch.

    The samples of the first dataset have the numbers from 0 up, those of the second follow, and so
    on. They are shuffled together, or come as `sampler=` says. Samples get what their dataset gives
    them: its `transform`, `augment` and `class_weight`; its other settings don't matter. Of data in
    chunks, the blocks of `BlockShuffle` are the chunks of all datasets.

    Example:

    ```python
    train = keras_npbatch.concat([first_year, second_year], batch_size=64, seed=0)
    model.fit(train, epochs=10)
    ```

    Args:
        datasets: datasets whose batches have the same leaves, shapes and dtypes. Arrays of one kind
            are joined without a dataset for each by `keras_npbatch.sources.Concatenated`.
        **settings: see `BatchDataset`.

    Returns:
        The dataset. `origin(rows)` says which sample is from which dataset.

    Raises:
        InvalidArgumentError: for datasets that can't be joined. While a batch is made,
            `InvalidBatchError` if the datasets give different leaves.
    """
    return JoinedDataset(datasets, **settings)


stands_for(JoinedDataset, stand_ins.JoinedDataset)
