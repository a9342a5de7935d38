"""`cut`: the numbers from 0 up, cut in two: a share of them, and the others.

    picked, rest = cut(Fraction(2, 5), seed=0, halves=())
    picked.outer(np.array([0, 1, 2]))     # its first three numbers: array([3, 4, 5])
    picked.inner(np.arange(5))            # the inverse: array([-1, -1, -1, 0, 1])

The data are cut in two by stratified random sampling, one row from each stratum (W. G. Cochran,
"Sampling Techniques", 3rd ed. 1977, chapter 5). For a fraction p/q of at most 1/2, each block of q
rows has p strata: stratum k holds the places from `floor(k q / p)` up to but not including
`floor((k + 1) q / p)`, and a keyed hash picks one place in each. If q / p is not a whole number,
strata differ in size; therefore each block is turned, as a ring, by a hash of its own, and each row
is picked with probability p/q. Of the first n rows, for every n, n p / q are picked, give or take
less than two.

For 2/5 a block has the places 0 to 4, and its strata are {0, 1} and {2, 3, 4}. In the first block
of this cut the hash picks the places 0 and 4, and turns the block by 1:

    number                  0  1  2  3  4
    its place in the block  1  2  3  4  0
    picked                           x  x
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_npbatch import rng
from keras_npbatch.samplers.order import Rows

__all__ = ["Half", "cut"]

_LARGEST_BLOCK = 10**9
"""Products of two such numbers fit 64 bits."""


@dataclass(frozen=True, slots=True)
class Half:
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


def cut(share: Fraction, seed: int, halves: tuple[Half, ...]) -> tuple[Half, Half]:
    """The two sides of a cut: `share` of the numbers that `halves` lead to, and the others."""
    smaller = min(share, 1 - share).limit_denominator(_LARGEST_BLOCK)
    way = [1 + half.is_picked for half in halves]
    words = rng.seed_sequence(seed, rng.Purpose.SPLIT, *way).generate_state(2, np.uint64)
    keys = int(words[0]), int(words[1])
    picked, rest = (
        Half(smaller.numerator, smaller.denominator, keys, is_picked) for is_picked in (True, False)
    )
    return (picked, rest) if share <= 1 - share else (rest, picked)
