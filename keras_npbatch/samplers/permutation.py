"""Permutations of `range(n)` with random access: what a shuffled epoch is made of.

`order.rows(start, stop)` gives the rows at the positions `start..stop-1`, and
`order.positions(rows)` the positions of given rows, both without walking through the rest:

    order = shuffled(10**12, seed=0, epoch=3)
    order.rows(10**11, 10**11 + 4)     # four row numbers, in microseconds, from a few kilobytes

`n` alone decides how. Up to `MATERIALISED_ROWS` rows the permutation is drawn uniformly and kept
(8 bytes a row, so at most 8 MiB), which is the cheapest way at that size. Above, it is a keyed
cipher on the domain `range(n)`: no memory, no start-up time, the same in every process.

The cipher is a mixed-radix ("unbalanced, generalised") Feistel network with cycle walking, after
J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 4: a
position is written as (left, right) with respect to the radices `a * b >= n`, and in each round a
keyed hash of one half is added to the other half, modulo its radix. `a` and `b` are near `sqrt(n)`,
so fewer than one value in `sqrt(n)` falls outside `range(n)` and must be enciphered again. The
round function is the finaliser of a 64-bit mixing hash (multiply, xor-shift, multiply); it is
built for good statistics, not for secrecy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.samplers.order import Order, Pieces, Rows

__all__ = [
    "MATERIALISED_ROWS",
    "Cipher",
    "Materialised",
    "draws_long",
    "many_ciphers",
    "permutation",
    "shuffled",
]

MATERIALISED_ROWS = 2**20
"""Up to this many rows a permutation is kept as an array; part of the reproducible result."""

_LONG_ROWS = 2**15
"""From this size on, drawing a permutation takes longer than starting a thread: 0.3 ms."""

_ROUNDS = 6
_BLOCK_ROWS = 8192
"""Positions enciphered together: fewer cost more per row, more don't fit the processor's cache."""

_LONG_RUN = 512
"""From this many values on, a cipher of its own for each run is faster than one of arrays."""

_HASH_MULTIPLIER_1 = np.uint64(0x9E3779B97F4A7C15)
_HASH_MULTIPLIER_2 = np.uint64(0xD6E8FEB86659FD93)
_HALF_WORD_BITS = np.uint64(32)


_Numbers: TypeAlias = np.uint64 | npt.NDArray[np.uint64]


class Materialised(Order):
    """A uniformly drawn permutation, kept as an array."""

    def __init__(self, permutation: Rows) -> None:
        permutation.flags.writeable = False
        self._rows = permutation
        self._positions: Rows | None = None

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`; a read-only view."""
        return self._rows[start:stop]

    def positions(self, rows: Rows) -> Rows:
        """The position of each of `rows`; the inverse is computed at the first call."""
        # Two threads may both compute it: they get the same, and the last assignment stands.
        if self._positions is None:
            positions = np.empty_like(self._rows)
            positions[self._rows] = np.arange(len(positions))
            self._positions = positions
        found: Rows = self._positions[rows]
        return found


class Feistel:
    """The network of the cipher: numbers, or an array of one number for each value.

    Args:
        left_radix: of the left half of a position.
        right_radix: of the right half; their product is at least the number of rows.
        keys: the key of each round.
    """

    def __init__(self, left_radix: _Numbers, right_radix: _Numbers, keys: Sequence[_Numbers]):
        self._left_radix, self._right_radix, self._keys = left_radix, right_radix, keys

    def encipher(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Each value once through the network."""
        left = values // self._right_radix
        right = values - left * self._right_radix
        for number, key in enumerate(self._keys):
            if number % 2 == 0:
                added = _hashed(right, key, self._left_radix)
                added += left
                # (s - radix) wraps around to a huge number unless s >= radix: minimum is modulo.
                np.minimum(added, added - self._left_radix, out=left)
            else:
                added = _hashed(left, key, self._right_radix)
                added += right
                np.minimum(added, added - self._right_radix, out=right)
        left *= self._right_radix
        left += right
        return left

    def decipher(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """The inverse of `encipher`."""
        left = values // self._right_radix
        right = values - left * self._right_radix
        for number, key in reversed(list(enumerate(self._keys))):
            if number % 2 == 0:
                left -= _hashed(right, key, self._left_radix)
                np.minimum(left, left + self._left_radix, out=left)
            else:
                right -= _hashed(left, key, self._right_radix)
                np.minimum(right, right + self._right_radix, out=right)
        left *= self._right_radix
        left += right
        return left


class Cipher(Pieces):
    """A keyed permutation of `range(num_rows)`, computed on demand.

    Args:
        num_rows: `1 <= num_rows <= MAX_ROWS`.
        keys: uint64 round keys, one per round.
    """

    def __init__(self, num_rows: int, keys: npt.NDArray[np.uint64]) -> None:
        super().__init__(num_rows, _BLOCK_ROWS)
        left_radix = math.isqrt(num_rows - 1) + 1
        self._num_rows = np.uint64(num_rows)
        right_radix = np.uint64(-(-num_rows // left_radix))
        network = Feistel(np.uint64(left_radix), right_radix, list(keys))
        self._encipher, self._decipher = network.encipher, network.decipher

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one piece."""
        return self.at(np.arange(start, stop, dtype=np.int64))

    def at(self, positions: Rows) -> Rows:
        """The row at each of these positions."""
        return self._walk(self._encipher, positions)

    def positions(self, rows: Rows) -> Rows:
        """The position of each of `rows`."""
        return self._walk(self._decipher, rows)

    def _walk(self, once: _Step, values: Rows) -> Rows:
        """`once` of each value, applied again to those that fall outside `range(num_rows)`."""
        result = once(values.astype(np.uint64))
        while True:
            outside = np.flatnonzero(result >= self._num_rows)
            if not len(outside):
                return result.view(np.int64)
            result[outside] = once(result[outside])


def many_ciphers(
    values: Rows,
    runs: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    *,
    inverse: bool,
) -> Rows:
    """Each value in one of several permutations: the first values in the first, and so on.

    Args:
        values: each in `range(size)` of its permutation.
        runs: how many values are of each permutation.
        sizes: the size of each.
        keys: the key of each.
        inverse: whether to find the position of a value instead of the value at a position.
    """
    if len(values) >= _LONG_RUN * len(runs):  # then each in turn, since numbers are faster
        of_runs, begin = np.empty(len(values), np.int64), 0
        for run, size, key in zip(runs.tolist(), sizes.tolist(), keys, strict=True):
            cipher = Cipher(size, _round_keys(key))
            these = slice(begin, begin + run)
            of_runs[these] = (cipher.positions if inverse else cipher.at)(values[these])
            begin += run
        return of_runs
    num_rows = sizes.astype(np.uint64)
    left_radix = np.sqrt(sizes - 1).astype(np.uint64) + np.uint64(1)
    right_radix = (num_rows + left_radix - np.uint64(1)) // left_radix
    of_rounds = _round_keys(keys[:, np.newaxis]).T
    result, which = values.astype(np.uint64), np.repeat(np.arange(len(runs)), runs)
    where: slice | npt.NDArray[np.intp] = slice(None)
    while len(which):
        of_these = [key[which] for key in of_rounds]
        network = Feistel(left_radix[which], right_radix[which], of_these)
        once = network.decipher if inverse else network.encipher
        found = once(result[where])
        result[where] = found
        outside = np.flatnonzero(found >= num_rows[which])
        where = outside if isinstance(where, slice) else where[outside]
        which = which[outside]
    return result.view(np.int64)


def _round_keys(keys: _Numbers) -> npt.NDArray[np.uint64]:
    """The keys of the rounds, made of one key."""
    return rng.mixed(np.add(keys, np.arange(_ROUNDS, dtype=np.uint64)))


def _hashed(half: npt.NDArray[np.uint64], key: _Numbers, radix: _Numbers) -> npt.NDArray[np.uint64]:
    """A keyed hash of each half, in `range(radix)`, with `radix <= 2**31`."""
    mixed = half + key
    mixed *= _HASH_MULTIPLIER_1
    mixed ^= mixed >> _HALF_WORD_BITS
    mixed *= _HASH_MULTIPLIER_2
    mixed >>= _HALF_WORD_BITS
    mixed *= radix
    mixed >>= _HALF_WORD_BITS
    return mixed


class _Step(Protocol):
    def __call__(self, values: npt.NDArray[np.uint64], /) -> npt.NDArray[np.uint64]: ...


def shuffled(num_rows: int, *, seed: int, epoch: int) -> Order:
    """The shuffled order of one epoch: a function of `(num_rows, seed, epoch)` alone.

    Args:
        num_rows: `1 <= num_rows <= MAX_ROWS`.
        seed: whole number from 0 up.
        epoch: whole number from 0 up.

    Returns:
        An order; every permutation is equally likely up to `MATERIALISED_ROWS` rows.
    """
    return permutation(num_rows, rng.seed_sequence(seed, rng.Purpose.ORDER, epoch))


def permutation(num_rows: int, sequence: np.random.SeedSequence) -> Order:
    """A permutation of `range(num_rows)`, a function of the words of a seed sequence.

    Args:
        num_rows: `1 <= num_rows <= MAX_ROWS`.
        sequence: a new one for each permutation.
    """
    if num_rows <= MATERIALISED_ROWS:
        generator = np.random.Generator(np.random.PCG64(sequence))
        return Materialised(generator.permutation(num_rows).astype(np.int64, copy=False))
    return Cipher(num_rows, sequence.generate_state(_ROUNDS, np.uint64).astype(np.uint64))


def draws_long(num_rows: int) -> bool:
    """Whether drawing the order of this many rows takes long enough to be worth a thread."""
    return _LONG_ROWS <= num_rows <= MATERIALISED_ROWS
