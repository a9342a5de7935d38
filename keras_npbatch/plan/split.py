"""Splits: which part each row of the data is in, a function of (fractions, seed, row) alone.

    training, validation = Selection(10**12).split((0.8, 0.2), seed=0)
    validation.rows(np.arange(3))       # its first three rows, in the order of the data
    validation.numbers(rows)            # the inverse: which of its samples they are, -1 for none

It uses neither the number of rows nor a permutation: rows appended to the data leave the earlier
ones where they were, and any row is looked up in O(1), in data of any size.

The data are cut in two, and the rest again, once for each further part; see `halves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.halves import Half, cut
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS

__all__ = ["Selection", "shares_of"]

_MOST_PARTS = 100
_LARGEST_DENOMINATOR = 10**6
"""Fractions are rounded to the nearest with a denominator up to this: 0.1 is 1/10."""
_SMALLEST = Fraction(1, _LARGEST_DENOMINATOR)
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Selection:
    """Some rows of the data, numbered in the order of the data.

    Up to `MATERIALISED_ROWS` of them are kept (8 bytes a row), like a permutation of that size.
    """

    num_rows: int
    """Rows in the whole data."""
    names: tuple[str, ...] = ()
    """Which part of which split it is, from the first split to the last."""
    halves: tuple[Half, ...] = ()
    """The cuts that lead to it, starting from the whole data."""
    num_samples: int = field(init=False, compare=False)
    """How many rows are selected."""
    _kept: list[Rows] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size = int(self.below(np.array([self.num_rows], np.int64))[0])
        object.__setattr__(self, "num_samples", size)

    def __reduce__(self) -> Any:
        # Kept rows are not sent: they are made again where they are needed.
        return Selection, (self.num_rows, self.names, self.halves)

    @property
    def described(self) -> str:
        """Which rows are selected, in words: equal words mean equal rows."""
        return f"{', then '.join(self.names)}, of {self.num_rows} rows"

    def rows(self, numbers: Rows) -> Rows:
        """The rows with these numbers, from 0 to `num_samples - 1`; rows rise with numbers."""
        if self.num_samples > MATERIALISED_ROWS:
            return self._computed(numbers)
        if not self._kept:  # two threads may both make them: they make the same, so no lock
            self._kept.append(self._all())
        found: Rows = self._kept[0][numbers]
        return found

    def _all(self) -> Rows:
        rows = np.arange(self.num_samples, dtype=np.int64)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            rows[part] = self._computed(rows[part])
        return rows

    def _computed(self, numbers: Rows) -> Rows:
        for half in reversed(self.halves):
            numbers = half.outer(numbers)
        return numbers

    def numbers(self, rows: Rows) -> Rows:
        """The inverse of `rows`; -1 for a row that is not selected."""
        for half in self.halves:
            rows = half.inner(rows)
        return rows

    def below(self, rows: Rows) -> Rows:
        """How many selected rows are below each of these numbers."""
        for half in self.halves:
            rows = half.size(rows)
        return rows

    def split(self, fractions: Sequence[float], seed: int) -> list[Selection]:
        """Disjoint parts of the selected rows, all of them together.

        Args:
            fractions: the fraction of the selected rows in each part. If they sum to less than 1,
                the rest is one more part.
            seed: a whole number from 0 up.

        Raises:
            InvalidArgumentError: for impossible fractions, or a part without a row.
        """
        shares = shares_of(fractions)
        seed = whole_number("seed", seed, least=0, most=rng.MAX_SEED)
        name = f"split({', '.join(str(float(share)) for share in shares)}, seed={seed})"
        ways: list[tuple[Half, ...]] = []
        rest, left = self.halves, Fraction(1)
        for share in shares[:-1]:
            here, there = cut(share / left, seed, rest)
            ways.append((*rest, here))
            rest, left = (*rest, there), left - share
        parts: list[Selection] = []
        for index, way in enumerate([*ways, rest]):
            part = Selection(self.num_rows, (*self.names, f"part {index} of {name}"), way)
            if part.num_samples == 0:
                raise InvalidArgumentError(
                    f"part {index} of {name}, counted from 0, would have none of the "
                    f"{self.num_samples} samples; expected at least one. Use more even fractions, "
                    "fewer parts, or more data."
                )
            parts.append(part)
        return parts


def shares_of(fractions: Sequence[Any]) -> list[Fraction]:
    """The fractions of all parts, exact, summing to 1.

    Raises:
        InvalidArgumentError: for impossible fractions.
    """
    shares: list[Fraction] = []
    for fraction in fractions:
        is_number = isinstance(fraction, int | float | np.number | Fraction)
        if not is_number or isinstance(fraction, bool | np.bool_) or not 0 < fraction < 1:
            raise InvalidArgumentError(
                f"split was given {describe(fraction)}; expected the fraction of the samples in "
                "each part, above 0 and below 1, each an argument of its own: split(0.8, 0.1, 0.1)."
            )
        shares.append(Fraction(float(fraction)).limit_denominator(_LARGEST_DENOMINATOR))
    total = sum(shares, Fraction(0))
    error = len(shares) * _SMALLEST
    if shares and abs(1 - total) < error:  # floating-point error, or digits after the sixth
        shares[-1] += 1 - total
    elif total < 1:
        shares.append(1 - total)
    given = f"split({', '.join(map(str, fractions))})"
    if not 2 <= len(shares) <= _MOST_PARTS:
        raise InvalidArgumentError(
            f"{given} makes {len(shares)} part{'s' if len(shares) > 1 else ''}; expected two to "
            f"{_MOST_PARTS}: at least one fraction, the rest is a part of its own."
        )
    if min(shares) < _SMALLEST:
        raise InvalidArgumentError(
            f"{given} has a fraction below {float(_SMALLEST)}; expected none that is smaller."
        )
    if total - 1 >= error:
        raise InvalidArgumentError(
            f"the fractions of {given} sum to {float(total):.9g}; expected 1, or less: then the "
            "rest is a part of its own."
        )
    return shares
