"""`Cycle`: the rows of a class again and again, each pass in a new order.

    cycle = Cycle(3, (seed, epoch, 0))
    cycle.rows(0, 7)        # 0, 1 and 2 in some order, again in another, and one of a third pass

After any number of draws each row has come equally often, give or take once.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from keras_npbatch import rng
from keras_npbatch.samplers.order import Listed, Order, Rows
from keras_npbatch.samplers.permutation import permutation

__all__ = ["Cycle"]

_UNIT = 4096
"""Passes over fewer rows than this are drawn together."""
_UNITS_KEPT = 3


class Cycle:
    """Endless passes over `range(size)`, each a permutation.

    Args:
        size: from 1 up.
        seed: the seed.
        key: what makes this cycle another one than others of that seed.
    """

    def __init__(self, size: int, seed: int, *key: int) -> None:
        self.size, self._seed, self._key = size, seed, key
        self._passes = max(1, _UNIT // size)
        self._length = self._passes * size
        self._units: OrderedDict[int, Order] = OrderedDict()

    def rows(self, start: int, stop: int) -> Rows:
        """The draws from `start` to `stop - 1`."""
        parts = [np.empty(0, np.int64)]
        for number in range(start // self._length, -(-stop // self._length)):
            first = number * self._length
            unit = self._unit(number)
            parts.append(unit.rows(max(start - first, 0), min(stop - first, self._length)))
        return np.concatenate(parts)

    def places(self, row: int, stop: int) -> Rows:
        """At which of the draws before `stop` a row comes."""
        units = range(-(-stop // self._length))
        parts = [self._unit(number).places(row) + number * self._length for number in units]
        found = np.concatenate([np.empty(0, np.int64), *parts])
        return found[found < stop]

    def _unit(self, number: int) -> Order:
        found = self._units.get(number)
        if found is None:
            sequence = rng.seed_sequence(self._seed, rng.Purpose.SAMPLER, *self._key, number)
            if self._passes == 1:
                found = permutation(self.size, sequence)
            else:
                generator = np.random.Generator(np.random.PCG64(sequence))
                passes = np.tile(np.arange(self.size, dtype=np.int64), (self._passes, 1))
                found = Listed(generator.permuted(passes, axis=1).reshape(-1))
            self._units[number] = found
            while len(self._units) > _UNITS_KEPT:
                try:
                    self._units.popitem(last=False)
                except KeyError:
                    break
        return found
