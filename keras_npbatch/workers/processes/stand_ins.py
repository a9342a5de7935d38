"""What the public classes are in a worker process: the same without Keras.

A user's module says `class Slides(keras_npbatch.BatchDataset)`. Where a worker imports it, that
name leads here, so that reading files needs neither Keras nor a framework.
"""

from __future__ import annotations

import sys
from typing import Any

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.loader import Batches

__all__ = ["ArrayDataset", "BatchDataset", "install"]


class BatchDataset(Batches):
    """In place of `keras_npbatch.BatchDataset`."""

    _workers: int
    _use_multiprocessing: bool
    _max_queue_size: int

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch, or None for an endless dataset."""
        return None if self._endless else self.plan.num_batches

    @property
    def workers(self) -> int:
        """Processes that make batches."""
        return self._workers

    @property
    def use_multiprocessing(self) -> bool:
        """True."""
        return self._use_multiprocessing

    @property
    def max_queue_size(self) -> int:
        """Batches made ahead at most."""
        return self._max_queue_size


class ArrayDataset(ArrayBatches, BatchDataset):
    """In place of `keras_npbatch.ArrayDataset`."""


def install() -> None:
    """Let the public names lead here, in this process."""
    package: Any = sys.modules[__name__.partition(".")[0]]
    package.BatchDataset = BatchDataset
    package.ArrayDataset = ArrayDataset
