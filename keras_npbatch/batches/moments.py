"""Count, mean, variance and range of many values, computed in parts and merged exactly.

    both = Moments.of(first).merged(Moments.of(second))     # as Moments.of(all of them)

The variance is kept as the sum of squared differences from the mean, and merged as Chan, Golub and
LeVeque do ("Algorithms for computing the sample variance", The American Statistician 37, 1983).
Sums of squares would lose all digits where the mean is large and the spread small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Moments"]

_AT_ONCE = 64 * 1024
"""Values taken at once: their float64 copy stays in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Figures of some values; NaN and infinite ones are counted and otherwise left out."""

    count: int = 0
    """How many are finite."""
    mean: float = 0.0
    """Their mean."""
    squares: float = 0.0
    """The sum of their squared differences from the mean."""
    least: float = math.inf
    """The smallest."""
    most: float = -math.inf
    """The largest."""
    zeros: int = 0
    """How many are 0."""
    nans: int = 0
    """How many are NaN."""
    infinite: int = 0
    """How many are infinite."""

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Moments:
        """The moments of all values of an array of numbers."""
        values = array.reshape(-1)
        found = cls()
        for start in range(0, len(values), _AT_ONCE):
            found = found.merged(cls._of_some(values[start : start + _AT_ONCE]))
        return found

    @classmethod
    def _of_some(cls, values: npt.NDArray[Any]) -> Moments:
        nans = infinite = 0
        least, most = values.min(), values.max()
        if not (math.isfinite(least) and math.isfinite(most)):
            finite = np.isfinite(values)
            nans = int(np.isnan(values).sum())
            infinite = len(values) - int(finite.sum()) - nans
            values = values[finite]
            if not len(values):
                return cls(nans=nans, infinite=infinite)
            least, most = values.min(), values.max()
        count = len(values)
        wide = values.astype(np.float64)
        mean = float(np.add.reduce(wide)) / count
        wide -= mean
        wide *= wide
        return cls(
            count=count,
            mean=mean,
            # Not a dot product: the order in which BLAS adds depends on its number of threads.
            squares=float(np.add.reduce(wide)),
            least=float(least),
            most=float(most),
            # Counting the bools is four times as fast as counting the nonzero floats.
            zeros=int(np.count_nonzero(values == 0)) if least <= 0 <= most else 0,
            nans=nans,
            infinite=infinite,
        )

    def merged(self, other: Moments) -> Moments:
        """The moments of the values of both."""
        count = self.count + other.count
        apart = other.mean - self.mean
        share = other.count / count if count else 0.0
        return Moments(
            count=count,
            mean=self.mean + apart * share,
            squares=self.squares + other.squares + apart * apart * self.count * share,
            least=min(self.least, other.least),
            most=max(self.most, other.most),
            zeros=self.zeros + other.zeros,
            nans=self.nans + other.nans,
            infinite=self.infinite + other.infinite,
        )

    def figures(self) -> dict[str, float]:
        """The figures by the names that `BatchStatistics` reports."""
        total = self.count + self.nans + self.infinite
        nothing = math.nan  # without a finite value there is no mean
        return {
            "mean": self.mean if self.count else nothing,
            "std": math.sqrt(self.squares / self.count) if self.count else nothing,
            "min": self.least if self.count else nothing,
            "max": self.most if self.count else nothing,
            "zeros": self.zeros / total if total else nothing,
            "nan": float(self.nans),
            "inf": float(self.infinite),
        }
