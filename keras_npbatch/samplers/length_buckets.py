"""`LengthBuckets`: batches of samples of nearly the same length, in a random order.

The shuffled order is cut into windows of some batches. In each window the rows are sorted by length
and cut into batches; then the batches are shuffled, and the rows within each. So each row comes
once, with new neighbours each epoch. The wider the window, the less padding, and the less random
the neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.samplers.given import digest, smallest_integers, values_of
from keras_npbatch.samplers.order import MAX_ROWS, Available, Order, Pieces, Rows, translated
from keras_npbatch.samplers.permutation import permutation
from keras_npbatch.samplers.sampler import GivenSampler

__all__ = ["LengthBuckets"]

_MOST_WINDOW = 10**6
_JITTER = 0.03
"""By how much of its length a row may be sorted too far back."""


class LengthBuckets(GivenSampler):
    """Each row once an epoch, in batches of nearly the same length: less padding.

    A batch is still padded, by `keras_npbatch.sources.Ragged` or by you, to its longest sample or
    to a width from a short list. The batch of all processes together has similar lengths, and the
    process's part of it too.

    Example:

    ```python
    lengths = [len(text) for text in texts]
    sampler = keras_npbatch.samplers.LengthBuckets(lengths)
    train = keras_npbatch.ArrayDataset(x, y, batch_size=64, sampler=sampler)
    ```

    Args:
        lengths: the length of each row of the whole data, shape `(num_rows,)`: whole numbers from
            0 up.
        batches_per_window: how many batches are sorted together. 1 sorts nothing.

    Raises:
        InvalidArgumentError: for lengths that are not whole numbers from 0 up.
    """

    uses_batch_size = True
    cuts_batches = True

    def __init__(self, lengths: Any, batches_per_window: int = 1000) -> None:
        _refuse_sequences(lengths)
        given = values_of(lengths, "lengths of LengthBuckets")
        is_float = given.dtype.kind == "f"
        if is_float:
            given = given.astype(np.float64)
        is_wrong = (given < 0) | (given > MAX_ROWS)
        if is_float:
            is_wrong |= given != np.floor(given)
        if is_wrong.any():
            wrong = int(is_wrong.argmax())
            raise InvalidArgumentError(
                f"lengths of LengthBuckets have {given[wrong]} at row {wrong}; expected whole "
                "numbers from 0 to 2**62."
            )
        self._lengths = smallest_integers(given.astype(np.int64))
        self._window = whole_number(
            "batches_per_window", batches_per_window, least=1, most=_MOST_WINDOW
        )
        super().__init__(
            "lengths of LengthBuckets",
            len(given),
            f"LengthBuckets({len(given)} lengths, batches_per_window={self._window}, "
            f"{digest(self._lengths)})",
        )

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        lengths = self.table(rows, lambda all_rows: self._lengths[all_rows])
        return translated(_Buckets(lengths, global_batch_size, self._window, seed, epoch), rows)

    def lengths_of(self, rows: Rows) -> Rows:
        """The length of each row."""
        return self._lengths[rows].astype(np.int64)


def _refuse_sequences(given: Any) -> None:
    """Refuse the sequences themselves.

    Raises:
        InvalidArgumentError: with the line that tells their lengths.
    """
    remedy = None
    if hasattr(given, "lengths"):
        remedy = "LengthBuckets(tokens.lengths)"
    elif isinstance(given, np.ndarray) and given.ndim > 1 and given.shape[1] > 1:
        remedy = "of rows that are padded with 0, LengthBuckets((tokens != 0).sum(axis=1))"
    elif isinstance(given, list | tuple) or _is_column(given):
        first = next(iter(given), 0)
        if isinstance(first, str | bytes | list | tuple) or np.ndim(first):
            remedy = "LengthBuckets([len(row) for row in tokens])"
    if remedy is not None:
        raise InvalidArgumentError(
            f"lengths of LengthBuckets are {describe(given)}, the sequences themselves; expected "
            f"the length of each: {remedy}."
        )


def _is_column(given: Any) -> bool:
    """Whether it is an array of one axis, or a column of pandas or polars."""
    is_array = isinstance(given, np.ndarray) or hasattr(given, "to_numpy")
    return is_array and len(getattr(given, "shape", ())) == 1


def _sorted_places(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The places of values from 0 up in increasing order; of equal ones, the first comes first."""
    # As whole numbers, such floats have the same order. Their last bits give way to the place: to
    # sort numbers takes a tenth of the time of a stable argsort.
    mask = np.uint64((1 << (len(values) - 1).bit_length()) - 1)
    keys = values.view(np.uint64) & ~mask | np.arange(len(values), dtype=np.uint64)
    keys.sort()
    return (keys & mask).view(np.intp)


class _Buckets(Pieces):
    """Windows of whole batches, sorted, cut and shuffled."""

    pieces_kept = 2

    def __init__(
        self, lengths: npt.NDArray[Any], global_batch_size: int, window: int, seed: int, epoch: int
    ) -> None:
        super().__init__(len(lengths), global_batch_size)
        self._lengths, self._seed, self._epoch = lengths, seed, epoch
        self._shuffled = permutation(
            len(lengths), rng.seed_sequence(seed, rng.Purpose.SAMPLER, epoch)
        )
        self._batches = -(-len(lengths) // global_batch_size)
        # Of nearly equal sizes: a small last window would be hardly sorted.
        self._windows = -(-self._batches // window)

    def index(self, position: int) -> int:
        """The window that a position is in."""
        batch = position // self.size
        return ((batch + 1) * self._windows - 1) // self._batches

    def span(self, index: int) -> tuple[int, int]:
        """The first position of a window, and the one after the last."""
        start = index * self._batches // self._windows * self.size
        stop = (index + 1) * self._batches // self._windows * self.size
        return start, min(stop, self.num_positions)

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one window."""
        generator = rng.generator(self._seed, rng.Purpose.SAMPLER, self._epoch, 1, start)
        rows = self._shuffled.rows(start, stop)
        # By length, but not quite: otherwise rows of a single window would have the same
        # neighbours in each epoch.
        lengths = self._lengths[rows] * (1 + _JITTER * generator.random(len(rows)))
        rows = rows[_sorted_places(lengths)]
        whole, short = divmod(stop - start, self.size)
        if short:  # the batch at the end of the epoch: any of the sorted ones
            begin = int(generator.integers(whole + 1)) * self.size
            last = rows[begin : begin + short]
            rows = np.concatenate([rows[:begin], rows[begin + short :]])
        batches = rows.reshape(whole, self.size)[generator.permutation(whole)]
        found = generator.permuted(batches, axis=1).reshape(-1)
        return np.concatenate([found, generator.permutation(last)]) if short else found

    def positions(self, rows: Rows) -> Rows:
        """The position of each of `rows`."""
        at = self._shuffled.positions(rows).tolist()
        found = []
        for row, position in zip(rows.tolist(), at, strict=True):
            index = self.index(position)
            found.append(self.span(index)[0] + int(np.flatnonzero(self.piece(index) == row)[0]))
        return np.array(found, np.int64)
