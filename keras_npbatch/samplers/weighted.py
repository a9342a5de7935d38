"""`Weighted`: each row as often as its weight says, not by lot.

Systematic sampling (W. G. Madow, "On the theory of systematic sampling, II", Annals of Mathematical
Statistics 20, 1949): the weights are laid end to end, and `num_samples` points with equal distances
are laid over them, from a random offset on. A row is drawn for each point on its weight, so the
row with weight w comes floor or ceil of `num_samples * w / sum(weights)` times. The offset is new
each epoch, and the draws are then shuffled.

Weights are scaled to whole numbers that sum to at most 2**61, so the points are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.samplers.given import digest, smallest_integers, values_of
from keras_npbatch.samplers.order import Available, Order, Pieces, Rows, WholeData, translated
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS, permutation
from keras_npbatch.samplers.sampler import GivenSampler, Sampler

__all__ = ["Weighted"]

_PIECE = 8192
_MOST_BITS = 61
_MOST_SAMPLES = 2**31 - 1


class Weighted(GivenSampler):
    """Each row as often as its weight says: floor or ceil of its share of the epoch.

    `num_samples` draws are divided over the rows in proportion to their weights. Which rows get
    the fractions changes each epoch, so that over epochs each row has its share. A row with weight
    0 never comes.

    Example:

    ```python
    weights = np.where(is_rare, 10.0, 1.0)
    train = keras_npbatch.ArrayDataset(x, y, sampler=keras_npbatch.samplers.Weighted(weights))
    ```

    Args:
        weights: a number for each row of the whole data, shape `(num_rows,)`, from 0 up, of any
            scale. For rows with several labels, combine theirs to one weight.
        num_samples: samples in an epoch, up to 2**31 - 1. None: as many as there are rows.

    Raises:
        InvalidArgumentError: for weights that are not finite, below 0, or all 0.
    """

    repeats = True

    def __init__(self, weights: Any, num_samples: int | None = None) -> None:
        if isinstance(weights, Mapping):
            raise InvalidArgumentError(
                f"weights of Weighted are {describe(weights)}; expected one number for each row. "
                "Of weights of classes make those of rows: "
                "Weighted([weights[label] for label in labels])."
            )
        given = values_of(weights, "weights of Weighted")
        if given.min() < 0:
            row = int(given.argmin())
            raise InvalidArgumentError(
                f"weights of Weighted have {given[row]} at row {row}; expected numbers from 0 up."
            )
        if not given.any():
            raise InvalidArgumentError(
                "weights of Weighted are all 0, so no row would come; expected a weight above 0."
            )
        if num_samples is not None:
            num_samples = whole_number(
                "num_samples of Weighted", num_samples, least=1, most=_MOST_SAMPLES
            )
        # Of the weights themselves and their sums, one suffices: 8 bytes a row.
        self._ends = np.cumsum(_scaled(given))
        self._num_samples = num_samples
        super().__init__(
            "weights of Weighted",
            len(given),
            f"Weighted({len(given)} weights, num_samples={num_samples}, {digest(self._ends)})",
        )

    def checked(self, num_rows: int, chunk_rows: int | None) -> Sampler:
        """This sampler, if it has a weight for each row, and not too many."""
        if self._num_samples is None and num_rows > _MOST_SAMPLES:
            raise InvalidArgumentError(
                f"the data have {num_rows} rows, and an epoch of Weighted at most {_MOST_SAMPLES} "
                "samples; expected a num_samples up to that."
            )
        return super().checked(num_rows, chunk_rows)

    def num_samples(self, rows: Available) -> int:
        """Samples in an epoch."""
        self._ends_of(rows)  # refuses a part without a weight
        return rows.num_samples if self._num_samples is None else self._num_samples

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        return translated(_Points(self._ends_of(rows), self.num_samples(rows), seed, epoch), rows)

    def _ends_of(self, rows: Available) -> npt.NDArray[np.int64]:
        """Where the weight of each row ends, if they are laid end to end."""
        ends = self._ends
        if not isinstance(rows, WholeData):
            ends = self.table(rows, lambda some: np.cumsum(np.diff(self._ends, prepend=0)[some]))
        if not ends[-1]:
            raise InvalidArgumentError(
                f"weights of Weighted are all 0 for the {rows.num_samples} rows of this part, so "
                "no row would come; expected a weight above 0."
            )
        return ends


def _scaled(weights: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Whole numbers in proportion to the weights, whose sum fits."""
    if weights.dtype.kind in "biu" and int(weights.max()) * len(weights) < 2**_MOST_BITS:
        return weights.astype(np.int64)
    values = weights.astype(np.float64)
    _, exponent = np.frexp(values.max())
    # Their sum may be up to `len(values)` times the largest.
    bits = _MOST_BITS - len(values).bit_length() - int(exponent)
    scaled: npt.NDArray[np.int64] = np.rint(np.ldexp(values, bits)).astype(np.int64)
    return scaled


class _Points(Pieces):
    """Draws at points with equal distances over the weights, shuffled."""

    def __init__(
        self, ends: npt.NDArray[np.int64], num_samples: int, seed: int, epoch: int
    ) -> None:
        super().__init__(num_samples, _PIECE)
        self._ends, self._total = ends, int(ends[-1])
        sequence, of_shuffle = rng.seed_sequence(seed, rng.Purpose.SAMPLER, epoch).spawn(2)
        # Point j lies at (j * total + offset) / num_samples.
        self._offset = int(np.random.Generator(np.random.PCG64(sequence)).integers(self._total))
        self._step, self._rest = divmod(self._total, num_samples)
        self._shuffled = permutation(num_samples, of_shuffle)
        self._drawn: npt.NDArray[Any] | None = None
        if num_samples <= MATERIALISED_ROWS:
            # To look up rising points one after the other takes a third of the time.
            drawn = self._rows_at(np.arange(num_samples, dtype=np.int64))
            self._drawn = smallest_integers(drawn)

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one piece."""
        points = self._shuffled.rows(start, stop)
        if self._drawn is None:
            return self._rows_at(points)
        return self._drawn[points].astype(np.int64)

    def _rows_at(self, points: Rows) -> Rows:
        """The row on whose weight each point lies."""
        # In two parts, so that nothing exceeds 64 bits: rest and points are below num_samples.
        at = points * self._step + (points * self._rest + self._offset) // self.num_positions
        return np.searchsorted(self._ends, at, side="right").astype(np.int64, copy=False)

    def positions(self, rows: Rows) -> Rows:
        """The first position of each of `rows`."""
        return np.array([next(iter(self.places(row).tolist()), -1) for row in rows], np.int64)

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        begin = int(self._ends[row - 1]) if row else 0
        first, stop = self._first_from(begin), self._first_from(int(self._ends[row]))
        return np.sort(self._shuffled.positions(np.arange(first, stop, dtype=np.int64)))

    def _first_from(self, at: int) -> int:
        """The first point that lies at `at` or after it."""
        exact = Fraction(at * self.num_positions - self._offset, self._total)
        return max(0, min(-(-exact.numerator // exact.denominator), self.num_positions))
