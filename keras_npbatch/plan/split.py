"""Splits: which part each row of the data is in, a function of (fractions, seed, row) alone.

    training, validation = Selection(10**12).split((0.8, 0.2), seed=0)
    validation.rows(np.arange(3))       # its first three rows, in the order of the data
    validation.numbers(rows)            # the inverse: which of its samples they are, -1 for none

It uses neither the number of rows nor a permutation: rows appended to the data leave the earlier
ones where they were, and any row is looked up in O(1), in data of any size.

The data are cut in two by stratified random sampling, one row from each stratum (W. G. Cochran,
"Sampling Techniques", 3rd ed. 1977, chapter 5). For a fraction p/q of at most 1/2, each block of q
rows has p strata: stratum k holds the places from `floor(k q / p)` up to but not including
`floor((k + 1) q / p)`, and a keyed hash picks one place in each. If q / p is not a whole number,
strata differ in size; so each block is turned, as a ring, by a hash of its own, and each row is
picked with probability p/q. Of the first n rows, for every n, n p / q are picked, give or take less
than two. More than two parts are cut off one after the other.
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
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS

__all__ = ["Selection", "shares_of"]

_MOST_PARTS = 100
_LARGEST_DENOMINATOR = 10**6
"""Fractions are rounded to the nearest with a denominator up to this: 0.1 is 1/10."""
_SMALLEST = Fraction(1, _LARGEST_DENOMINATOR)
_ROWS_AT_ONCE = 8192
_LARGEST_BLOCK = 10**9
"""Products of two such numbers fit 64 bits."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One of the two sides of a cut through the numbers from 0 up."""

    picked: int
    block: int
    """`picked` of every `block` numbers are picked; at most half."""
    keys: tuple[int, int]
    """The key of the hash that picks numbers, and of the hash that turns a block."""
    is_picked: bool
    """Whether this is the side of the picked numbers, or the rest."""

    @property
    def share(self) -> int:
        """How many numbers of a block are on this side."""
        return self.picked if self.is_picked else self.block - self.picked

    def size(self, totals: Rows) -> Rows:
        """How many of the numbers below each total are on this side."""
        block, left = _divided(totals, self.block)
        begin, _ = self._turn(block)
        end = begin + left
        wrapped = np.maximum(end - self.block, 0)
        here = self._below(block, np.minimum(end, self.block)) - self._below(block, begin)
        picked = block * self.picked + here + self._below(block, wrapped)
        return picked if self.is_picked else totals - picked

    def outer(self, numbers: Rows) -> Rows:
        """Translate numbers on this side to numbers in the whole."""
        block, place = _divided(numbers, self.share)
        shift, before = self._turn(block)
        place = _turned(place + before, self.share)
        if self.is_picked:
            turned = self._pick(block, place)
        else:
            stratum = self._stratum(place, self.share)
            turned = place + stratum
            turned += turned >= self._pick(block, stratum)
        return block * self.block + _turned(turned - shift + self.block, self.block)

    def inner(self, numbers: Rows) -> Rows:
        """The inverse of `outer`; -1 for numbers on the other side, and for -1."""
        block, place = _divided(numbers, self.block)
        shift, before = self._turn(block)
        turned = _turned(place + shift, self.block)
        stratum = self._stratum(turned, self.block)
        pick = self._pick(block, stratum)
        place = stratum if self.is_picked else turned - stratum - (turned > pick)
        inner = block * self.share + _turned(place - before + self.share, self.share)
        is_here = (turned == pick) == self.is_picked
        return np.where(is_here & (numbers >= 0), inner, -1)

    def _turn(self, block: Rows) -> tuple[Rows, Rows]:
        """By how many places a block is turned, and how many of this side wrap around its end."""
        if self.picked == 1:  # in a single stratum each place is equally likely without a turn
            nothing = np.zeros(1, np.int64)
            return nothing, nothing
        shift = _hashed(block, self.keys[1], self.block)
        picked = self._below(block, shift)
        return shift, picked if self.is_picked else shift - picked

    def _below(self, block: Rows, turned: Rows) -> Rows:
        """How many numbers are picked before a place in the turned block."""
        stratum = self._stratum(turned, self.block)
        return stratum + (self._pick(block, stratum) < turned)

    def _stratum(self, place: Rows, size: int) -> Rows:
        """The stratum of a place among `size`: the last one that begins at or before it."""
        return ((place + 1) * self.picked - 1) // size

    def _pick(self, block: Rows, stratum: Rows) -> Rows:
        """Which place of a stratum is picked."""
        begin = stratum * self.block // self.picked
        size = (stratum + 1) * self.block // self.picked - begin
        return begin + _hashed(block * self.picked + stratum, self.keys[0], size)


def _divided(numbers: Rows, by: int) -> tuple[Rows, Rows]:
    whole = numbers // by  # NumPy replaces `//` by a scalar with multiplications, but not divmod
    return whole, numbers - whole * by


def _turned(place: Rows, size: int) -> Rows:
    """A place wrapped onto a ring; it is past the end by less than a turn."""
    return place - size * (place >= size)  # takes a third of the time of `%`


def _hashed(numbers: Rows, key: int, below: Rows | int) -> Rows:
    """A hash of each number, from 0 to `below - 1`; `below` is at most 2**31."""
    upper = rng.mixed(numbers.astype(np.uint64) + np.uint64(key)) >> np.uint64(32)
    return ((upper * np.asarray(below, np.uint64)) >> np.uint64(32)).astype(np.int64)


@dataclass(frozen=True)
class Selection:
    """Some rows of the data, numbered in the order of the data.

    Up to `MATERIALISED_ROWS` of them are kept (8 bytes a row), like a permutation of that size.
    """

    num_rows: int
    """Rows in the whole data."""
    names: tuple[str, ...] = ()
    """Which part of which split it is, from the first split to the last."""
    halves: tuple[_Half, ...] = ()
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
        ways: list[tuple[_Half, ...]] = []
        rest, left = self.halves, Fraction(1)
        for share in shares[:-1]:
            here, there = _cut(share / left, seed, rest)
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


def _cut(share: Fraction, seed: int, halves: tuple[_Half, ...]) -> tuple[_Half, _Half]:
    """The two sides of a cut: `share` of the numbers that `halves` lead to, and the others."""
    smaller = min(share, 1 - share).limit_denominator(_LARGEST_BLOCK)
    way = [1 + half.is_picked for half in halves]
    words = rng.seed_sequence(seed, rng.Purpose.SPLIT, *way).generate_state(2, np.uint64)
    keys = int(words[0]), int(words[1])
    picked, rest = (
        _Half(smaller.numerator, smaller.denominator, keys, is_picked)
        for is_picked in (True, False)
    )
    return (picked, rest) if share <= 1 - share else (rest, picked)
