"""`Walk`: the samples of a dataset in the order of its epochs, one epoch after the other.

    walk = Walk(plan)
    walk.numbers(0, 8)        # the first eight samples of its epoch 0
    walk.numbers(98, 105)     # with 100 samples: the last two of epoch 0, five of epoch 1

A mixture reads each of its datasets like this, so that each row comes once in each of their epochs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import Rows

__all__ = ["Walk"]


class Walk:
    """Epoch after epoch of a plan, by position.

    Args:
        plan: which samples an epoch has, and in which order; batches and shards don't matter.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = replace(plan, shard=Shard(), skip=0, remainder="keep")
        self.num_samples = plan.num_samples
        """How many samples there are; they are numbered from 0 up in the order of the data."""
        self.epoch_size = plan.epoch_size
        """Positions in an epoch."""
        self.in_epoch = f"{plan.sampler.identity} of {plan.num_samples}, seed {plan.seed}"
        """What decides the order, in words."""

    def numbers(self, start: int, stop: int) -> Rows:
        """The numbers of the samples at positions `start..stop-1`."""
        found = [np.empty(0, np.int64)]
        while start < stop:
            epoch, first = divmod(start, self.epoch_size)
            last = min(first + stop - start, self.epoch_size)
            found.append(self._plan.numbers(self._plan.order(epoch).rows(first, last)))
            start += last - first
        return np.concatenate(found)

    def places(self, number: int, start: int, stop: int) -> Rows:
        """Every position from `start` to `stop - 1` at which a sample stands."""
        (row,) = self._plan.available.rows(np.array([number], np.int64)).tolist()
        epochs = range(start // self.epoch_size, -(-stop // self.epoch_size))
        each = [self._plan.order(epoch).places(row) + epoch * self.epoch_size for epoch in epochs]
        found = np.concatenate([np.empty(0, np.int64), *each])
        return found[(found >= start) & (found < stop)]
