"""The public classes as they are in a worker process: the same, without Keras.

A user's module says `class Slides(keras_npbatch.BatchDataset)`. When a worker imports it, that name
refers to the class here, so reading files needs neither Keras nor a framework.

    stands_for(BatchDataset, stand_ins.BatchDataset)     # in the trainer: what is sent instead
    install()                                            # in a worker
"""

from __future__ import annotations

import sys
from typing import Any, Literal

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.joined import JoinedBatches
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.sample_loader import SampleBatches
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.batches.zipped import ZippedBatches

__all__ = [
    "ArrayDataset",
    "BatchDataset",
    "JoinedDataset",
    "SampleDataset",
    "ZippedDataset",
    "install",
    "stand_in_for",
    "stands_for",
]


_OF_WORKERS = ("workers", "use_multiprocessing", "max_queue_size", "start_method")
_MOST_AHEAD = 10


class BatchDataset(Batches):
    """Stands in for `keras_npbatch.BatchDataset`.

    A module that a worker imports may make datasets of its own, with settings of workers.
    """

    def __init__(
        self, *arguments: Any, timeout: Any = None, memory_limit: Any = None, **settings: Any
    ) -> None:
        who = {name: settings.pop(name) for name in _OF_WORKERS if name in settings}
        if who.get("max_queue_size") is None:
            who["max_queue_size"] = _MOST_AHEAD
        if settings.get("shard") == "auto":  # a worker is not one of the processes that train
            del settings["shard"]
        super().__init__(*arguments, **settings)
        core_of(self).settings = WorkerSettings(**{"workers": 1, **who}, timeout_s=timeout)

    @property
    def num_batches(self) -> int | None:
        """The number of batches in an epoch, or None for an endless dataset."""
        core = core_of(self)
        return None if core.endless else core.plan.num_batches

    @property
    def workers(self) -> int | Literal["auto"]:
        """The number of processes that make batches."""
        return _settings(self).workers

    @property
    def use_multiprocessing(self) -> bool:
        """Whether processes make the batches: True in a worker process."""
        return bool(_settings(self).use_multiprocessing)

    @property
    def max_queue_size(self) -> int:
        """The maximum number of batches made ahead."""
        return _settings(self).max_queue_size


class ArrayDataset(BatchDataset, ArrayBatches):
    """Stands in for `keras_npbatch.ArrayDataset`."""


class SampleDataset(BatchDataset, SampleBatches):
    """Stands in for `keras_npbatch.SampleDataset`."""


class JoinedDataset(BatchDataset, JoinedBatches):
    """Stands in for what `keras_npbatch.mix` and `concat` return."""


class ZippedDataset(BatchDataset, ZippedBatches):
    """Stands in for what `keras_npbatch.zip` returns."""


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
    package.mix, package.concat, package.zip = _mix, JoinedDataset, _zip


def _mix(datasets: Any, weights: Any, **settings: Any) -> JoinedDataset:
    return JoinedDataset(datasets, weights=weights, **settings)


def _zip(*datasets: Any, **settings: Any) -> ZippedDataset:
    named = {name: each for name, each in settings.items() if isinstance(each, Batches)}
    others = {name: value for name, value in settings.items() if name not in named}
    return ZippedDataset(datasets or named, **others)


def _settings(dataset: Batches) -> WorkerSettings:
    settings = core_of(dataset).settings
    assert settings is not None
    return settings
