"""`Balanced`: equal numbers of each class in each batch, whatever the data have.

The classes take turns, in an order that is new each epoch, so any stretch of positions, and with it
any batch and any part of one, has equal numbers of each class, give or take one. Each class walks
through its rows pass by pass, so that each row comes equally often, give or take once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.cycle import Draws
from keras_npbatch.samplers.given import classes_of, digest, smallest_integers
from keras_npbatch.samplers.grouped import Grouped
from keras_npbatch.samplers.order import MAX_ROWS, Available, Order, Pieces, Rows, translated
from keras_npbatch.samplers.sampler import GivenSampler

__all__ = ["Balanced"]

_PIECE = 2**15


class Balanced(GivenSampler):
    """Equal numbers of each class in each batch, give or take one.

    Rare classes come again and again, frequent ones once an epoch, or less often if an epoch is
    made shorter. Within an epoch each row of a class comes equally often, give or take once: it is
    not left to chance. Predicted probabilities are then those of balanced data: correct them by the
    shares of the classes if you need them.

    Example:

    ```python
    train = keras_npbatch.ArrayDataset(x, y, sampler=keras_npbatch.samplers.Balanced(y))
    ```

    Args:
        labels: the class of each row of the whole data, shape `(num_rows,)`: integers or strings;
            or one-hot rows.
        per_class: samples of each class in an epoch. None: as many as the largest class has rows.
        num_samples: samples in an epoch, over all classes; instead of `per_class`.

    Raises:
        InvalidArgumentError: for labels that don't give each row one class; for a single class;
            for both numbers.
    """

    repeats = True

    def __init__(
        self, labels: Any, per_class: int | None = None, num_samples: int | None = None
    ) -> None:
        codes, classes = classes_of(labels, "labels of Balanced")
        if len(classes) < 2:
            raise InvalidArgumentError(
                f"labels of Balanced have one class, {classes[0]!r}; expected at least two: there "
                "is nothing to balance."
            )
        if per_class is not None and num_samples is not None:
            raise InvalidArgumentError(
                f"Balanced was given per_class={per_class} and num_samples={num_samples}; expected "
                "one of them."
            )
        if per_class is not None:
            per_class = whole_number("per_class of Balanced", per_class, least=1, most=MAX_ROWS)
        if num_samples is not None:
            num_samples = whole_number(
                "num_samples of Balanced", num_samples, least=1, most=MAX_ROWS
            )
        self._codes = smallest_integers(codes)
        self._per_class, self._num_samples = per_class, num_samples
        super().__init__(
            "labels of Balanced",
            len(codes),
            f"Balanced({len(classes)} classes of {len(codes)} rows, per_class={per_class}, "
            f"num_samples={num_samples}, {digest(self._codes)})",
        )

    def num_samples(self, rows: Available) -> int:
        """Samples in an epoch."""
        if self._num_samples is not None:
            return self._num_samples
        counts = self._grouped(rows).counts
        return len(counts) * (self._per_class or int(counts.max()))

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        grouped = self._grouped(rows)
        return translated(_Turns(grouped, self.num_samples(rows), seed, epoch), rows)

    def _grouped(self, rows: Available) -> Grouped:
        return self.table(rows, lambda all_rows: Grouped(self._codes[all_rows]))


class _Turns(Pieces):
    """The classes one after the other, again and again."""

    pieces_kept = 4

    def __init__(self, grouped: Grouped, num_positions: int, seed: int, epoch: int) -> None:
        self._count = len(grouped.counts)
        super().__init__(num_positions, _PIECE)
        self._grouped = grouped
        generator = rng.generator(seed, rng.Purpose.SAMPLER, epoch)
        self._turns = generator.permutation(self._count)
        self._draws = Draws(grouped.counts, seed, epoch, 1)

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one piece."""
        positions = np.arange(start, stop, dtype=np.int64)
        numbers = positions // self._count
        turns = positions - numbers * self._count
        by_class = np.argsort(smallest_integers(turns), kind="stable")  # sorted by counting
        classes, numbers = self._turns[turns[by_class]], numbers[by_class]
        found = np.empty(stop - start, np.int64)
        found[by_class] = self._grouped.numbers(classes, self._draws.members(classes, numbers))
        return found

    def positions(self, rows: Rows) -> Rows:
        """The first position of each of `rows`."""
        return np.array([next(iter(self.places(row).tolist()), -1) for row in rows], np.int64)

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        index, which = self._grouped.place_of(row)
        turn = int(np.flatnonzero(self._turns == index)[0])
        before = (self.num_positions - turn + self._count - 1) // self._count
        return self._draws.draws_of(index, which, before) * self._count + turn

    def times(self, start: int, stop: int) -> Rows:
        """How often the row at each of these positions came before: once in each pass."""
        numbers, turns = np.divmod(np.arange(start, stop, dtype=np.int64), self._count)
        return numbers // self._grouped.counts[self._turns[turns]]
