"""Splits: which rows of the data are in which part, a function of (seed, row) alone.

    training, validation = Selection(10**12).split((0.8, 0.2), seed=0)
    validation.rows(np.arange(3))       # its first three rows, in the order of the data
    validation.numbers(rows)            # the inverse: which of its samples they are, -1 for none

No number of rows and no permutation comes into it: rows that are appended to the data move none
that was there, and any row is looked up in O(1), in data of any size.

Data are cut in two by stratified random sampling, one from each stratum (W. G. Cochran, "Sampling
Techniques", 3rd ed. 1977, chapter 5): for a fraction of p/q at most 1/2, stratum k is the rows from
`floor(k q / p)` to before `floor((k + 1) q / p)`, and a keyed hash of k says which one of them is
picked. So each row is picked with a probability of about p/q, and of the first n rows, whatever n
is, `floor(n p / q)` or one more are. More than two parts are cut one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, told
from keras_npbatch.order import MATERIALISED_ROWS, Order, Rows

__all__ = ["Selected", "Selection"]

_MOST_PARTS = 100
_LARGEST_DENOMINATOR = 10**6
"""Fractions are taken for those of whole numbers up to here: 0.1 is 1/10."""
_SMALLEST = Fraction(1, _LARGEST_DENOMINATOR)
_ROWS_AT_ONCE = 8192
_LARGEST_OF_A_CUT = 10**9
"""Products of two such numbers fit 64 bits."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One of the two sides of a cut through numbers from 0 up."""

    numerator: int
    denominator: int
    """The fraction of the numbers that are picked, at most 1/2."""
    key: int
    """Of the hash that picks them."""
    is_picked: bool
    """Whether it is the side of those that are picked, or the rest."""

    def size(self, total: int) -> int:
        """How many of the numbers below `total` are on this side."""
        last = np.array([total], np.int64)
        stratum = self._stratum_of(last)
        picked = int(stratum[0]) + int(self._pick(stratum)[0] < total)
        return picked if self.is_picked else total - picked

    def outer(self, numbers: Rows) -> Rows:
        """The numbers of the whole that have these numbers on this side."""
        if self.is_picked:
            return self._pick(numbers)
        stratum = _quotient(numbers, self.numerator, self.denominator - self.numerator)
        outer = numbers + stratum
        return outer + (outer >= self._pick(stratum))

    def inner(self, numbers: Rows) -> Rows:
        """The inverse of `outer`; -1 for those on the other side, and for -1."""
        stratum = self._stratum_of(numbers)
        pick = self._pick(stratum)
        is_here = (numbers == pick) == self.is_picked
        inner = stratum if self.is_picked else numbers - stratum - (numbers > pick)
        return np.where(is_here & (numbers >= 0), inner, -1)

    def _stratum_of(self, numbers: Rows) -> Rows:
        return _quotient(numbers, self.numerator, self.denominator)

    def _begin(self, stratum: Rows) -> Rows:
        return _floor(stratum, self.denominator, self.numerator)

    def _pick(self, stratum: Rows) -> Rows:
        begin = self._begin(stratum)
        size = (self._begin(stratum + 1) - begin).astype(np.uint64)
        upper = rng.mixed(stratum.astype(np.uint64) + np.uint64(self.key)) >> np.uint64(32)
        return begin + ((upper * size) >> np.uint64(32)).astype(np.int64)


def _floor(numbers: Rows, numerator: int, denominator: int) -> Rows:
    """`floor(numbers * numerator / denominator)` without a product that 64 bits don't hold."""
    whole = numbers // denominator  # by a scalar NumPy multiplies, which divmod does not
    rest = numbers - whole * denominator
    floor: Rows = whole * numerator + rest * numerator // denominator
    return floor


def _quotient(numbers: Rows, numerator: int, denominator: int) -> Rows:
    """The largest k with `floor(k * denominator / numerator) <= numbers`."""
    whole = (numbers + 1) // denominator
    rest = numbers + 1 - whole * denominator
    quotient: Rows = whole * numerator + (rest * numerator - 1) // denominator
    return quotient


@dataclass(frozen=True)
class Selection:
    """Rows of the data, by numbers that count them in the order of the data.

    Up to `MATERIALISED_ROWS` of them are kept (8 bytes a row), as a permutation of so many is.
    """

    num_rows: int
    """Rows in the whole data."""
    names: tuple[str, ...] = ()
    """Of which part of which split it is, from the first split to the last."""
    halves: tuple[_Half, ...] = ()
    """The cuts that lead to it, from the whole data on."""

    def __reduce__(self) -> Any:
        # Kept rows stay behind: they are made again where they are needed.
        return Selection, (self.num_rows, self.names, self.halves)

    @cached_property
    def num_samples(self) -> int:
        """How many rows are selected."""
        size = self.num_rows
        for half in self.halves:
            size = half.size(size)
        return size

    @property
    def described(self) -> str:
        """Which rows they are, in words that are the same for the same rows alone."""
        return f"{', then '.join(self.names)}, of {self.num_rows} rows"

    def rows(self, numbers: Rows) -> Rows:
        """The rows with these numbers, from 0 to `num_samples - 1`; they increase with them."""
        if self.num_samples <= MATERIALISED_ROWS:
            found: Rows = self._kept[numbers]
            return found
        return self._computed(numbers)

    @cached_property
    def _kept(self) -> Rows:
        rows = np.arange(self.num_samples, dtype=np.int64)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            rows[part] = self._computed(rows[part])
        rows.flags.writeable = False
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

    def split(self, fractions: Sequence[float], seed: int) -> list[Selection]:
        """Disjoint parts of the selected rows, all of them together.

        Args:
            fractions: of the selected rows in each part. If they sum to less than 1, the rest is
                a last part.
            seed: a whole number from 0 up.

        Raises:
            InvalidArgumentError: for fractions that can't be had, or a part without a row.
        """
        shares = _shares(fractions)
        seed = whole_number("seed", seed, least=0, most=rng.MAX_SEED)
        name = f"split({', '.join(str(float(share)) for share in shares)}, seed={seed})"
        parts: list[Selection] = []
        rest, left, halves = self, Fraction(1), self.halves
        for index, share in enumerate(shares):
            part = rest
            if index < len(shares) - 1:
                here, there = _cut(share / left, seed, len(halves))
                part = Selection(self.num_rows, (), (*halves, here))
                halves, left = (*halves, there), left - share
                rest = Selection(self.num_rows, (), halves)
            named = Selection(self.num_rows, (*self.names, f"part {index} of {name}"), part.halves)
            if named.num_samples == 0:
                raise InvalidArgumentError(
                    f"part {index} of {name}, counted from 0, would have none of the "
                    f"{self.num_samples} samples; expected at least one. Use more even fractions, "
                    "fewer parts, or more data."
                )
            parts.append(named)
        return parts


def _shares(fractions: Sequence[Any]) -> list[Fraction]:
    shares: list[Fraction] = []
    for fraction in fractions:
        is_number = isinstance(fraction, int | float | np.number | Fraction)
        if not is_number or isinstance(fraction, bool | np.bool_) or not 0 < fraction < 1:
            raise InvalidArgumentError(
                f"split was given {told(fraction)}; expected the fraction of the samples in each "
                "part, above 0 and below 1, each an argument of its own: split(0.8, 0.1, 0.1). For "
                "a number of samples: split(number / dataset.num_samples)."
            )
        shares.append(Fraction(float(fraction)).limit_denominator(_LARGEST_DENOMINATOR))
    total = sum(shares, Fraction(0))
    if shares and abs(1 - total) < _SMALLEST:  # the error of floats, or of their seventh digits
        shares[-1] += 1 - total
    elif total < 1:
        shares.append(1 - total)
    given = f"split({', '.join(map(str, fractions))})"
    if not 2 <= len(shares) <= _MOST_PARTS:
        raise InvalidArgumentError(
            f"{given} makes {len(shares)} parts; expected two to {_MOST_PARTS}: at least one "
            "fraction, the rest is a part of its own."
        )
    if min(shares) < _SMALLEST:
        raise InvalidArgumentError(
            f"{given} has a fraction below {float(_SMALLEST)}; expected none that is smaller."
        )
    if total - 1 >= _SMALLEST:
        raise InvalidArgumentError(
            f"the fractions of {given} sum to {float(total):.9g}; expected 1, or less: then the "
            "rest is a part of its own."
        )
    return shares


def _cut(share: Fraction, seed: int, depth: int) -> tuple[_Half, _Half]:
    """The two sides of a cut: a share of the numbers, and the others."""
    smaller = min(share, 1 - share).limit_denominator(_LARGEST_OF_A_CUT)
    (key,) = rng.seed_sequence(seed, rng.Purpose.SPLIT, depth).generate_state(1, np.uint64)
    picked, rest = (
        _Half(smaller.numerator, smaller.denominator, int(key), is_picked)
        for is_picked in (True, False)
    )
    return (picked, rest) if share <= 1 - share else (rest, picked)


class Selected:
    """The order of a part of the data: an order of its numbers, told in rows."""

    def __init__(self, order: Order, selection: Selection) -> None:
        self._order, self._selection = order, selection

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`."""
        return self._selection.rows(self._order.rows(start, stop))

    def positions(self, rows: Rows) -> Rows:
        """The position of each of `rows`, which are in the part."""
        return self._order.positions(self._selection.numbers(rows))
