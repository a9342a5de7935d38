"""`zip`: batches of several datasets side by side, for steps that need more than one.

train = zip(labelled, unlabelled)
for (x, y), unlabelled_x in train: ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Literal

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.zipped import Steps, ZippedCore, steps_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.dataset.settings import begin_dataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.shares import Until
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.stand_ins import stands_for
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["ZippedDataset", "zip_datasets"]


_OF_THE_DATASETS = frozenset(signature(BatchDataset.__init__).parameters)
"""The settings of the datasets, which might be taken for the names of some."""


class ZippedDataset(BatchDataset):
    """Batches of several datasets side by side: what `keras_npbatch.zip` returns."""

    def __init__(
        self,
        datasets: Sequence[BatchDataset] | Mapping[str, BatchDataset],
        *,
        until: Until = "first",
        workers: int | Literal["auto"] = 1,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        start_method: StartMethod | None = None,
        timeout: float | None = None,
        memory_limit: str | float | None = None,
    ) -> None:
        begin_dataset(
            self,
            ZippedCore,
            datasets,
            until=until,
            shard=None,
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
            start_method=start_method,
            timeout=timeout,
            memory_limit=memory_limit,
        )

    def load(self, rows: Rows) -> Tree:
        """There are no rows in common: read whole batches, `dataset[step]`."""
        raise NotImplementedError(
            "datasets that are zipped have no rows in common; expected dataset[step]."
        )

    def steps_of(self, step: int, epoch: int | None = None) -> Steps:
        """Which batch of each dataset comes at a step.

        Example:

        ```python
        train = keras_npbatch.zip(labelled=labelled, unlabelled=unlabelled)
        epoch, step = train.steps_of(1)["unlabelled"]
        rows = unlabelled.rows(step, epoch)
        ```

        Args:
            step: from 0 to `num_batches - 1`.
            epoch: from 0 up; by default the one that comes next.

        Returns:
            `(epoch, step)` for each dataset: a tuple of them, or a dict by name.
        """
        return steps_of(self, step, self.epoch if epoch is None else epoch)

    def __repr__(self) -> str:
        """The datasets, and how many batches an epoch has."""
        core = core_of(self)
        assert isinstance(core, ZippedCore)
        names = core.names or ("",) * len(core.datasets)
        parts = [
            f"{name}{'=' if name else ''}{dataset!r}"
            for name, dataset in zip(names, core.datasets, strict=True)
        ]
        return f"<{core.name}: {core.plan.num_batches} batches of {', '.join(parts)}>"


def zip_datasets(
    *datasets: BatchDataset,
    until: Until = "first",
    workers: int | Literal["auto"] = 1,
    use_multiprocessing: bool | None = None,
    max_queue_size: int | None = None,
    start_method: StartMethod | None = None,
    timeout: float | None = None,
    memory_limit: str | float | None = None,
    **named: BatchDataset,
) -> ZippedDataset:
    """Zip datasets: a batch of each at every step, for training with labelled and unlabelled data.

    The batches may differ in size, structure and dtype. Each dataset is read in its own epochs,
    with all its settings, such as `batch_size`, `sampler`, `transform` and `remainder`: where it
    has come to its end its next epoch begins, whatever the others do, so each of its rows comes
    once in each of its epochs. Its workers don't matter; those of the whole make all batches.

    Keras's own training step reads two batches as inputs and targets; write a `train_step` that
    takes them apart. `evaluate` reads the batches that it would read from each dataset.

    Example:

    ```python
    labelled = keras_npbatch.ArrayDataset(x, y, batch_size=32)
    unlabelled = keras_npbatch.ArrayDataset(more_x, batch_size=224)
    for (x_batch, y_batch), more in keras_npbatch.zip(labelled, unlabelled):
        ...
    for batch in keras_npbatch.zip(labelled=labelled, unlabelled=unlabelled):
        x_batch, y_batch = batch["labelled"]
    ```

    Args:
        *datasets: two or three datasets, whose batches come as a tuple.
        until: when an epoch ends: with the `"first"` or the `"longest"` of the datasets, or after a
            number of batches.
        workers: see `BatchDataset`, as for the settings that follow.
        use_multiprocessing: whether the workers are processes.
        max_queue_size: the most batches made ahead.
        start_method: how worker processes start.
        timeout: seconds after which a worker process that owes a batch is replaced.
        memory_limit: the most memory that `workers="auto"` may take.
        **named: instead of `datasets`, any number by name, whose batches come as a dict.

    Returns:
        The dataset. `steps_of(step)` says which batch of each dataset comes when.

    Raises:
        InvalidArgumentError: for fewer than two datasets, or datasets with different shards.
    """
    for name, given in named.items():
        if name in _OF_THE_DATASETS and not isinstance(given, BatchDataset):
            raise InvalidArgumentError(
                f"{name} was given to zip; expected it for each of the datasets, whose batches "
                f"come as they are: ArrayDataset(x, y, {name}=...)."
            )
    if datasets and named:
        several = "s" if len(datasets) > 1 else ""
        raise InvalidArgumentError(
            f"zip was given {len(datasets)} dataset{several} and {', '.join(named)} by name; "
            "expected all of them by name, or none."
        )
    return ZippedDataset(
        datasets or named,
        until=until,
        workers=workers,
        use_multiprocessing=use_multiprocessing,
        max_queue_size=max_queue_size,
        start_method=start_method,
        timeout=timeout,
        memory_limit=memory_limit,
    )


stands_for(ZippedDataset, stand_ins.ZippedDataset)
