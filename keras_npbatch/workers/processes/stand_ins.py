"""What the public classes are in a worker process: the same without Keras.

A user's module says `class Slides(keras_npbatch.BatchDataset)`. Where a worker imports it, that
name leads here, so that reading files needs neither Keras nor a framework.

    stands_for(BatchDataset, stand_ins.BatchDataset)     # in the trainer: what is sent instead
    install()                                            # in a worker
"""

from __future__ import annotations

import sys
from typing import Any

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.core import WorkerSettings, core_of
from keras_npbatch.batches.loader import Batches

__all__ = ["ArrayDataset", "BatchDataset", "install", "stand_in_for", "stands_for"]


class BatchDataset(Batches):
    """In place of `keras_npbatch.BatchDataset`."""

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch, or None for an endless dataset."""
        core = core_of(self)
        return None if core.endless else core.plan.num_batches

    @property
    def workers(self) -> int:
        """Processes that make batches."""
        return _settings(self).workers

    @property
    def use_multiprocessing(self) -> bool:
        """True."""
        return _settings(self).use_multiprocessing

    @property
    def max_queue_size(self) -> int:
        """Batches made ahead at most."""
        return _settings(self).max_queue_size


class ArrayDataset(ArrayBatches, BatchDataset):
    """In place of `keras_npbatch.ArrayDataset`."""


_stand_ins: dict[type, type] = {}


def stands_for(public: type, stand_in: type) -> None:
    """Note what is sent to worker processes in place of a class."""
    _stand_ins[public] = stand_in


def stand_in_for(kind: type) -> type | None:
    """What is sent in place of a class, if it is not sent itself."""
    return _stand_ins.get(kind)


def install() -> None:
    """Let the public names lead here, in this process."""
    package: Any = sys.modules[__name__.partition(".")[0]]
    package.BatchDataset = BatchDataset
    package.ArrayDataset = ArrayDataset


def _settings(dataset: Batches) -> WorkerSettings:
    settings = core_of(dataset).settings
    assert settings is not None
    return settings
