"""`Chosen`: rows of the data that were chosen by number, such as those of a fold.

    part = Chosen(1000, ("subset(3 rows)",), np.array([3, 5, 8]))
    part.rows(np.array([0, 1]))         # 3 and 5
    part.numbers(np.array([8, 9]))      # 2, and -1 for a row that was not chosen

It takes 8 bytes a row. A part of a split by fractions takes none; see `split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.split import Selection
from keras_npbatch.samplers.given import digest
from keras_npbatch.samplers.order import Available, Rows

__all__ = ["Chosen", "Part", "chosen_rows"]


class Chosen:
    """Some rows of the data, given by their numbers.

    Args:
        num_rows: rows in the whole data.
        names: how they were chosen, from the first choice to the last.
        rows: int64, increasing.
    """

    def __init__(self, num_rows: int, names: tuple[str, ...], rows: Rows) -> None:
        self.num_rows, self.names = num_rows, names
        rows.flags.writeable = False
        self._rows = rows
        self.num_samples = len(rows)
        self._digest = digest(rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chosen) and other.described == self.described

    def __hash__(self) -> int:
        return hash(self._digest)

    def __reduce__(self) -> Any:
        return Chosen, (self.num_rows, self.names, self._rows)

    @property
    def described(self) -> str:
        """Which rows are chosen, in words: equal words mean equal rows."""
        return f"{', then '.join(self.names)}, of {self.num_rows} rows, {self._digest}"

    def rows(self, numbers: Rows) -> Rows:
        """The rows with these numbers, from 0 to `num_samples - 1`."""
        found: Rows = self._rows[numbers]
        return found

    def numbers(self, rows: Rows) -> Rows:
        """The inverse of `rows`; -1 for a row that is not chosen."""
        found = np.minimum(np.searchsorted(self._rows, rows), self.num_samples - 1)
        return np.where(self._rows[found] == rows, found, -1)

    def below(self, rows: Rows) -> Rows:
        """How many chosen rows are below each of these numbers."""
        return np.searchsorted(self._rows, rows).astype(np.int64, copy=False)

    def split(self, fractions: Sequence[float], seed: int) -> list[Chosen]:
        """Disjoint parts of the chosen rows; see `Selection.split`."""
        return [
            Chosen(
                self.num_rows,
                (*self.names, part.names[-1]),
                self._rows[part.rows(np.arange(part.num_samples))],
            )
            for part in Selection(self.num_samples).split(fractions, seed)
        ]


Part: TypeAlias = Selection | Chosen
"""Some rows of the data."""


def chosen_rows(given: Any, available: Available) -> Rows:
    """The rows that a user chose, increasing.

    Args:
        given: row numbers, each once, in any order; or a boolean for each row of the whole data.
        available: the rows that can be chosen.

    Raises:
        InvalidArgumentError: for anything else, and for rows that are not available.
    """
    try:
        array = np.asarray(given)
    except ValueError:  # lists of different lengths
        array = np.empty((0, 0))
    num_rows = available.num_rows
    if array.dtype == np.bool_ and array.shape == (num_rows,):
        rows = np.flatnonzero(array)
        where = available.numbers(rows) >= 0
        rows = rows[where]
    elif array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
        raise InvalidArgumentError(
            f"rows is {describe(given)}; expected row numbers, integers of shape (n,), or a "
            f"boolean for each of the {num_rows} rows of the data."
        )
    else:
        array = np.sort(array)
        outside = array[(array < 0) | (array >= num_rows)]
        if len(outside):
            raise InvalidArgumentError(
                f"rows has {outside[0]}; expected row numbers from 0 to {num_rows - 1}."
            )
        rows = array.astype(np.int64)
        twice = rows[1:][rows[1:] == rows[:-1]]
        if len(twice):
            raise InvalidArgumentError(
                f"rows has {twice[0]} more than once; expected each row once. To have rows more "
                "often, give the dataset a sampler: Weighted or Balanced."
            )
        missing = rows[available.numbers(rows) < 0]
        if len(missing):
            raise InvalidArgumentError(
                f"rows has {missing[0]}, which is not in this part of the data; expected rows that "
                "are: rows_in_order() tells them."
            )
    if not len(rows):
        raise InvalidArgumentError("rows is empty; expected at least one row of the data.")
    return rows
