"""`Walk`: the samples of a dataset in the order of its epochs, one epoch after the other.

    walk = Walk(plan)
    walk.numbers(0, 8, seed=0)        # the first eight samples of its epoch 0
    walk.numbers(98, 105, seed=0)     # with 100 samples: two of epoch 0, five of epoch 1

A mixture reads each of its datasets like this, so that each row comes once in each of their epochs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_npbatch import rng
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.order import Rows

__all__ = ["Walk"]


class Walk:
    """Epoch after epoch of a plan, by position.

    Args:
        plan: which samples an epoch has, and in which order; batches and shards don't matter.
        index: the number of the dataset among those of the mixture, if its seed was drawn and is
            to follow that of the mixture. None: the seed of the plan decides.
    """

    def __init__(self, plan: Plan, index: int | None = None) -> None:
        self._plan, self._index = plan, index
        self.num_samples = plan.num_samples
        """How many samples there are; they are numbered from 0 up in the order of the data."""
        self.epoch_size = plan.epoch_size
        """Positions in an epoch."""
        seed = "" if index is not None else f", seed {plan.seed}"
        size = f", batches of {plan.global_batch_size}" if plan.sampler.uses_batch_size else ""
        self.told = f"{plan.sampler.identity} of {plan.num_samples}{size}{seed}"
        """What decides the order, in words."""

    def numbers(self, start: int, stop: int, seed: int) -> Rows:
        """The numbers of the samples at positions `start..stop-1`.

        Args:
            start: from 0 up.
            stop: from `start` up.
            seed: the seed of the mixture.
        """
        plan, found = self._with(seed), [np.empty(0, np.int64)]
        while start < stop:
            epoch, first = divmod(start, self.epoch_size)
            last = min(first + stop - start, self.epoch_size)
            found.append(plan.numbers(plan.order(epoch).rows(first, last)))
            start += last - first
        return np.concatenate(found)

    def places(self, number: int, start: int, stop: int, seed: int) -> Rows:
        """Every position from `start` to `stop - 1` at which a sample stands, less `start`."""
        plan = self._with(seed)
        (row,) = plan.available.rows(np.array([number], np.int64)).tolist()
        epochs = range(start // self.epoch_size, -(-stop // self.epoch_size))
        # Counted from `start`: in a late epoch, positions themselves may have more than 64 bits.
        each = [
            plan.order(epoch).places(row) + (epoch * self.epoch_size - start) for epoch in epochs
        ]
        found = np.concatenate([np.empty(0, np.int64), *each])
        return found[(found >= 0) & (found < stop - start)]

    def _with(self, seed: int) -> Plan:
        if self._index is None:
            return self._plan
        seed = rng.component_seed(seed, self._index)
        plan = self._plan  # another thread may set another
        if plan.seed != seed:
            self._plan = plan = replace(plan, seed=seed)
        return plan
