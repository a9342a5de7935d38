"""`Draws`: the rows of each class in a random order, again and again, each pass in a new one.

    draws = Draws(sizes, seed, epoch)
    draws.members(classes, numbers)     # the row of a class that its draw of a number gives

After any number of draws of a class, each of its rows has come equally often, give or take once.
Nothing is kept: the rows of a small class are ordered by a hash, those of a larger one by a cipher.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.permutation import many_ciphers

__all__ = ["Draws"]

_SMALL = 64
"""Classes of up to this many rows are ordered by a hash: a cipher of few rows is less random."""


class Draws:
    """Endless passes over the rows of each class, each a permutation.

    Args:
        sizes: int64, rows of each class, from 1 up.
        seed: the seed.
        key: distinguishes these draws from other draws with that seed.
    """

    def __init__(self, sizes: npt.NDArray[np.int64], seed: int, *key: int) -> None:
        self._sizes = sizes
        sequence = rng.seed_sequence(seed, rng.Purpose.SAMPLER, *key)
        (self._key,) = sequence.generate_state(1, np.uint64)

    def members(self, classes: npt.NDArray[np.int64], numbers: Rows) -> Rows:
        """Which row of its class each draw gives.

        Args:
            classes: the class of each draw.
            numbers: the number of the draw among those of its class, from 0 up.
        """
        sizes = self._sizes[classes]
        passes = numbers // sizes
        places = numbers - passes * sizes
        # Adjacent draws are mostly of one pass: what it needs is made once for them.
        goes_on = (classes[1:] == classes[:-1]) & (passes[1:] == passes[:-1])
        begins = np.flatnonzero(np.append(True, ~goes_on)[: len(numbers)])
        runs = np.diff(begins, append=len(numbers))
        sizes, keys = sizes[begins], self._keys(classes[begins], passes[begins])
        found = np.empty(len(numbers), np.int64)
        for is_small, permuted in (
            (True, _of_small),
            (False, partial(many_ciphers, inverse=False)),
        ):
            these = (sizes <= _SMALL) == is_small
            if these.all():
                return permuted(places, runs, sizes, keys)
            if these.any():
                here = np.repeat(these, runs)
                found[here] = permuted(places[here], runs[these], sizes[these], keys[these])
        return found

    def draws_of(self, index: int, member: int, stop: int) -> Rows:
        """Which of the draws of a class before `stop` give one of its rows."""
        size = int(self._sizes[index])
        passes = np.arange(-(-stop // size), dtype=np.int64)
        keys = self._keys(np.full(len(passes), index), passes)
        sizes = np.full(len(passes), size)
        if size <= _SMALL:
            places = (_orders(keys, sizes) == member).argmax(axis=1)
        else:
            members = np.full(len(passes), member)
            places = many_ciphers(members, np.ones_like(sizes), sizes, keys, inverse=True)
        found: Rows = passes * size + places
        return found[found < stop]

    def _keys(self, classes: npt.NDArray[np.int64], passes: Rows) -> npt.NDArray[np.uint64]:
        """A key for each pass of each class."""
        # Each number is mixed before the next is added: sums of them would repeat.
        of_classes = rng.mixed(classes.astype(np.uint64) + self._key)
        return rng.mixed(of_classes ^ rng.mixed(passes.astype(np.uint64) + np.uint64(1)))


def _of_small(
    places: Rows,
    runs: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
) -> Rows:
    found: Rows = _orders(keys, sizes)[np.repeat(np.arange(len(runs)), runs), places]
    return found


def _orders(keys: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A permutation for each key, one in each line; values beyond its size mean nothing."""
    width = int(sizes.max(initial=1))
    numbers = np.arange(width, dtype=np.uint64)
    hashes = rng.mixed(keys[:, np.newaxis] + numbers) >> np.uint64(1)
    hashes[numbers >= sizes[:, np.newaxis]] = np.uint64(2**63)  # behind all others
    return np.argsort(hashes, kind="stable")
