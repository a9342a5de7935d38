"""`Stratified`: each row once, and the classes in the same proportion all the way through an epoch.

Each class comes where the pattern puts it; which of its rows comes when is new each epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.cycle import Draws
from keras_npbatch.samplers.given import classes_of, digest, smallest_integers
from keras_npbatch.samplers.grouped import Grouped
from keras_npbatch.samplers.order import Available, Order, Rows, translated
from keras_npbatch.samplers.pattern import Pattern, Spread
from keras_npbatch.samplers.sampler import GivenSampler

__all__ = ["Stratified"]


class Stratified(GivenSampler):
    """Each row once an epoch, with each batch like the data: the classes in their proportion.

    In any prefix of an epoch each class is within one of its share, so in any batch within two.
    The rows of a rare class are spread evenly over the epoch. Which rows come when is new each
    epoch.

    Example:

    ```python
    train = keras_npbatch.ArrayDataset(x, y, sampler=keras_npbatch.samplers.Stratified(y))
    ```

    Args:
        labels: the class of each row of the whole data, shape `(num_rows,)`: integers or strings;
            or one-hot rows.

    Raises:
        InvalidArgumentError: for labels that don't give each row one class; for a single class.
    """

    def __init__(self, labels: Any) -> None:
        codes, classes = classes_of(labels, "labels of Stratified")
        if len(classes) < 2:
            raise InvalidArgumentError(
                f"labels of Stratified have one class, {classes[0]!r}; expected at least two. For "
                "one class shuffle=True does the same."
            )
        self._codes = smallest_integers(codes)
        super().__init__(
            "labels of Stratified",
            len(codes),
            f"Stratified({len(classes)} classes of {len(codes)} rows, {digest(self._codes)})",
        )

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        grouped, pattern = self.table(rows, self._table)
        return translated(Spread(pattern, _Drawn(grouped, seed, epoch), seed, epoch), rows)

    def _table(self, rows: Rows | slice) -> tuple[Grouped, Pattern]:
        grouped = Grouped(self._codes[rows])
        return grouped, Pattern(grouped.counts)


class _Drawn:
    """The rows of each class in a random order, each once."""

    def __init__(self, grouped: Grouped, seed: int, epoch: int) -> None:
        self._grouped = grouped
        self._draws = Draws(grouped.counts, seed, epoch, 2**63)

    def rows(self, classes: npt.NDArray[np.int64], which: Rows) -> Rows:
        """The rows of some members of their classes."""
        return self._grouped.numbers(classes, self._draws.members(classes, which))

    def places(self, row: int) -> tuple[int, Rows]:
        """The class of a row, and which of its members it is."""
        index, member = self._grouped.place_of(row)
        return index, self._draws.draws_of(index, member, int(self._grouped.counts[index]))
