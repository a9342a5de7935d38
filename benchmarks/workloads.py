"""What is fed: data of three shapes, from many tiny samples to few large ones, and a memory map.

    x, y = WORKLOADS["C"].data()

`y` holds the number of each sample, so that a pass can be checked: every number once, and next to
each number the features that belong to it.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

__all__ = ["FOLDER", "WORKLOADS", "Arrays", "Workload", "WrongCoverageError", "check_coverage"]

FOLDER = "KERAS_NPBATCH_BENCHMARKS_FOLDER"
"""The environment variable that names the folder of files, which the command makes and removes."""

Arrays = tuple[npt.NDArray[Any], npt.NDArray[np.int32]]
"""`(x, y)` of the whole data, or of a batch."""

_SEED = 20_240_501
_COMPARED_FEATURES = 16
_PART_BYTES = 2**26
_ROOM = 1.25
"""A file needs so many times its size: on the disk, and in memory, where it is read from."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The shape of some data, and how it is batched."""

    name: str
    """A letter, for the command line and the tables."""
    num_samples: int
    feature_shape: tuple[int, ...]
    dtype: str
    batch_size: int
    is_mapped: bool = False
    """Whether the features lie in a file, read through a memory map from the page cache."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of the features of a sample."""
        return math.prod(self.feature_shape) * np.dtype(self.dtype).itemsize

    @property
    def batch_bytes(self) -> int:
        """Bytes of the features of a full batch."""
        return self.sample_bytes * self.batch_size

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, a short last one included."""
        return -(-self.num_samples // self.batch_size)

    def tiny(self) -> Workload:
        """The same in a few batches, the last one short: to see that everything runs."""
        return replace(self, num_samples=self.batch_size * 3 + self.batch_size // 2)

    def at_most(self, *, batches: int, num_bytes: int) -> Workload:
        """The same with an epoch that is not longer than this."""
        samples = min(batches * self.batch_size, num_bytes // self.sample_bytes)
        return replace(self, num_samples=min(samples, self.num_samples))

    def data(self) -> Arrays:
        """The same data each time: random features, and the number of each sample."""
        numbers = np.arange(self.num_samples, dtype=np.int32)
        if self.is_mapped:
            return self._mapped(), numbers
        return self._features(np.random.default_rng(_SEED), self.num_samples), numbers

    def no_room(self) -> str | None:
        """Why there is no room for the file, or None."""
        if not self.is_mapped:
            return None
        needed = _ROOM * self.num_samples * self.sample_bytes
        disk = shutil.disk_usage(os.environ[FOLDER]).free
        memory = psutil.virtual_memory().available
        for what, free in (("on the disk of the temporary folder", disk), ("of memory", memory)):
            if free < needed:
                return f"it needs {needed / 1e9:.1f} GB {what}, {free / 1e9:.1f} GB are free"
        return None

    def _features(self, rng: np.random.Generator, num_samples: int) -> npt.NDArray[Any]:
        shape = (num_samples, *self.feature_shape)
        if np.dtype(self.dtype).kind == "f":
            return rng.random(shape, dtype=self.dtype)
        return rng.integers(0, 256, shape, dtype=self.dtype)

    def _mapped(self) -> npt.NDArray[Any]:
        file = Path(os.environ[FOLDER]) / f"{self.name}-{self.num_samples}.npy"
        if not file.exists():
            rng, begun = np.random.default_rng(_SEED), file.with_suffix(".begun")
            shape = (self.num_samples, *self.feature_shape)
            array = np.lib.format.open_memmap(begun, mode="w+", dtype=self.dtype, shape=shape)
            part = max(1, _PART_BYTES // self.sample_bytes)
            for start in range(0, self.num_samples, part):
                rows = array[start : start + part]
                rows[...] = self._features(rng, len(rows))
            array.flush()  # or the disk would be written to while something is measured
            begun.rename(file)
        return np.load(file, mmap_mode="r")


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("T", 1_000_000, (32,), "float32", batch_size=256),
        Workload("C", 50_000, (32, 32, 3), "float32", batch_size=256),
        Workload("I", 8_000, (224, 224, 3), "uint8", batch_size=64),
        Workload("M", 28_000, (224, 224, 3), "uint8", batch_size=64, is_mapped=True),
    )
}


class WrongCoverageError(AssertionError):
    """A pass lost, repeated or mixed up samples: its time means nothing."""


def check_coverage(batches: Iterable[Arrays], x: npt.NDArray[Any]) -> None:
    """Walks over one epoch and refuses it unless it holds each sample of `x` once, in any order.

    Raises:
        WrongCoverageError: telling how many samples came how often.
    """
    seen = np.zeros(len(x), np.int64)
    features = x.reshape(len(x), -1)[:, :_COMPARED_FEATURES]
    for x_batch, y_batch in batches:
        numbers = np.asarray(y_batch)
        np.add.at(seen, numbers, 1)
        came = np.asarray(x_batch).reshape(len(numbers), -1)[:, :_COMPARED_FEATURES]
        if not np.array_equal(came, features[numbers]):
            raise WrongCoverageError("features came with the number of another sample")
    if not (seen == 1).all():
        raise WrongCoverageError(
            f"of {len(seen)} samples {(seen == 0).sum()} never came, {(seen > 1).sum()} came "
            "more than once"
        )
