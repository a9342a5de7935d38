"""`Grouped`: the available rows by class, in one table.

grouped = Grouped(codes)         # the class of each row
grouped.counts                    # rows of each class
grouped.members(2)                # the numbers of the rows of class 2, increasing
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.given import smallest_integers
from keras_npbatch.samplers.order import Rows

__all__ = ["Grouped"]


class Grouped:
    """Rows by class: from 1 byte a row to 4, or 8 from 2**32 rows on.

    Args:
        codes: the class of each available row, from 0 up. Classes without a row are left out.
    """

    def __init__(self, codes: npt.NDArray[Any]) -> None:
        counts = np.bincount(codes)
        self.classes = np.flatnonzero(counts)
        """The classes that have a row."""
        self.counts = counts[self.classes].astype(np.int64)
        self.begins = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        # Small integers are sorted by counting.
        self._members = smallest_integers(np.argsort(codes, kind="stable"))
        self._codes = codes

    def members(self, index: int) -> npt.NDArray[Any]:
        """The numbers of the rows of one class, increasing."""
        return self._members[self.begins[index] : self.begins[index + 1]]

    def place_of(self, number: int) -> tuple[int, int]:
        """The class of a row, and which of its members it is."""
        index = int(np.searchsorted(self.classes, int(self._codes[number])))
        return index, int(np.searchsorted(self.members(index), number))

    def numbers(self, indices: npt.NDArray[np.int64], which: Rows) -> Rows:
        """The numbers of some members, each of its class."""
        found: Rows = self._members[self.begins[indices] + which].astype(np.int64)
        return found
