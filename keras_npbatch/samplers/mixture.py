"""`Mixture`: several datasets with shares that hold all the way through an epoch.

    Mixture(walks, counts=[70, 30])     # an epoch of 100 samples; see `keras_npbatch.mix`

The samples of the first dataset have the numbers from 0 up, those of the second follow. Which
dataset comes at which position is a `Pattern`; each dataset is read in its own epochs, and goes on
where the last epoch of the mixture stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.order import Available, Order, Rows, WholeData
from keras_npbatch.samplers.pattern import Pattern, Spread
from keras_npbatch.samplers.sampler import TableSampler

__all__ = ["Mixture", "Walked"]


class Walked(Protocol):
    """A dataset that is walked through, epoch after epoch."""

    num_samples: int
    """How many samples it has."""
    told: str
    """What decides their order, in words."""

    def numbers(self, start: int, stop: int, seed: int) -> Rows:
        """The numbers of the samples at positions `start..stop-1`."""

    def places(self, number: int, start: int, stop: int, seed: int) -> Rows:
        """Every position from `start` to `stop - 1` at which a sample stands, less `start`."""


class Mixture(TableSampler):
    """Samples of several datasets: any prefix of an epoch has their shares, within one sample.

    Args:
        walks: the datasets.
        counts: how many samples of each an epoch has, each above 0.
    """

    repeats = True

    def __init__(self, walks: Sequence[Walked], counts: Sequence[int]) -> None:
        super().__init__()
        self._walks, self._counts = tuple(walks), np.array(counts, np.int64)
        self._ends = np.cumsum([walk.num_samples for walk in walks])

    @property
    def identity(self) -> str:
        """The datasets and their shares, in words."""
        parts = zip(self._counts.tolist(), self._walks, strict=True)
        return f"Mixture({', '.join(f'{count} by {walk.told}' for count, walk in parts)})"

    def num_samples(self, rows: Available) -> int:
        """Samples in an epoch.

        Raises:
            InvalidArgumentError: for a part of the data.
        """
        if not isinstance(rows, WholeData):
            raise InvalidArgumentError(
                "a mixture can't be split; expected its datasets to be: split each of them, and "
                "mix the parts."
            )
        return int(self._counts.sum())

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        pattern = self.table(rows, lambda _: Pattern(self._counts))
        members = _Walking(self._walks, self._counts, self._ends, seed, epoch)
        return Spread(pattern, members, seed, epoch)


class _Walking:
    """The samples of each dataset in an epoch of the mixture, in the order in which they come."""

    def __init__(
        self,
        walks: tuple[Walked, ...],
        counts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        seed: int,
        epoch: int,
    ) -> None:
        self._walks, self._ends, self._seed = walks, ends, seed
        self._starts = [epoch * count for count in counts.tolist()]
        self._stops = [(epoch + 1) * count for count in counts.tolist()]

    def _offset(self, index: int) -> int:
        return int(self._ends[index - 1]) if index else 0

    def rows(self, classes: npt.NDArray[np.int64], which: Rows) -> Rows:
        """The samples of some datasets; those of each dataset are consecutive."""
        found = np.empty(len(which), np.int64)
        for index in np.flatnonzero(np.bincount(classes)).tolist():
            here = np.flatnonzero(classes == index)
            first = self._starts[index] + int(which[here[0]])
            numbers = self._walks[index].numbers(first, first + len(here), self._seed)
            found[here] = numbers + self._offset(index)
        return found

    def places(self, row: int) -> tuple[int, Rows]:
        """The dataset of a sample, and which of its samples in this epoch it is."""
        index = int(np.searchsorted(self._ends, row, side="right"))
        start, stop = self._starts[index], self._stops[index]
        number = row - self._offset(index)
        return index, self._walks[index].places(number, start, stop, self._seed)
