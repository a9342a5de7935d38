"""The public classes as they are in a worker process: the same, without Keras.

A user's module says `class Slides(keras_npbatch.BatchDataset)`. When a worker imports it, that name
refers to the class here, so reading files needs neither Keras nor a framework.

    stands_for(BatchDataset, stand_ins.BatchDataset)     # in the trainer: what is sent instead
    install()                                            # in a worker
"""

from __future__ import annotations

import sys
from typing import Any

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.core import WorkerSettings, core_of
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.sample_loader import SampleBatches

__all__ = ["ArrayDataset", "BatchDataset", "SampleDataset", "install", "stand_in_for", "stands_for"]


class BatchDataset(Batches):
    """Stands in for `keras_npbatch.BatchDataset`."""

    @property
    def num_batches(self) -> int | None:
        """The number of batches in an epoch, or None for an endless dataset."""
        core = core_of(self)
        return None if core.endless else core.plan.num_batches

    @property
    def workers(self) -> int:
        """The number of processes that make batches."""
        return _settings(self).workers

    @property
    def use_multiprocessing(self) -> bool:
        """Whether processes make the batches: True in a worker process."""
        return _settings(self).use_multiprocessing

    @property
    def max_queue_size(self) -> int:
        """The maximum number of batches made ahead."""
        return _settings(self).max_queue_size


class ArrayDataset(ArrayBatches, BatchDataset):
    """Stands in for `keras_npbatch.ArrayDataset`."""


class SampleDataset(SampleBatches, BatchDataset):
    """Stands in for `keras_npbatch.SampleDataset`."""


_stand_ins: dict[type, type] = {}


def stands_for(public: type, stand_in: type) -> None:
    """Register the class that is sent to worker processes in place of `public`."""
    _stand_ins[public] = stand_in


def stand_in_for(kind: type) -> type | None:
    """The class that is sent in place of `kind`, or None if `kind` itself is sent."""
    return _stand_ins.get(kind)


def install() -> None:
    """Make the public names refer to these classes, in this process."""
    package: Any = sys.modules[__name__.partition(".")[0]]
    package.BatchDataset = BatchDataset
    package.ArrayDataset = ArrayDataset
    package.SampleDataset = SampleDataset


def _settings(dataset: Batches) -> WorkerSettings:
    settings = core_of(dataset).settings
    assert settings is not None
    return settings
