"""The random generators of one batch: one for a function of the batch, one for each sample.

    numbers = Generators(plan, epoch=2, step=7, rows=rows)
    numbers.of_batch(Purpose.TRANSFORM)                     # of (seed, epoch, step) and the shard
    numbers.of_samples(Purpose.TRANSFORM_OF_SAMPLE)         # of (seed, epoch, row), one a row

What a sample draws does not depend on the batch that it is in, so not on the batch size, the shard
or the workers. If a sampler repeats rows, the k-th time that a row comes in an epoch has the k-th
draw of this row: a rare row that comes ten times is augmented in ten ways.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keras_npbatch import rng
from keras_npbatch.plan.plan import Plan
from keras_npbatch.rng import Purpose
from keras_npbatch.samplers.order import Rows

__all__ = ["Generators", "of_rows"]


@dataclass(frozen=True)
class Generators:
    """The generators of a batch; each call makes fresh ones."""

    plan: Plan
    """Which rows are in which batch."""
    epoch: int
    """The epoch of the batch."""
    step: int
    """The step of the batch."""
    rows: Rows
    """The rows of the batch; one, if a shard has no part of it and pads it with this row."""
    whole: Generators | None = None
    """The generators of the whole batch, if these are for some of its samples."""
    here: Rows | None = None
    """The places of these rows in that batch."""
    times: Rows | None = None
    """How often each row came before in the epoch; None: as the plan or `whole` says."""

    def of_some(self, here: Rows, rows: Rows, seed: int) -> Generators:
        """The generators of some samples, for the dataset that they are from.

        Args:
            here: their places in the batch.
            rows: what their dataset calls them.
            seed: the seed of their dataset.
        """
        plan = replace(self.plan, seed=seed)
        return Generators(plan, self.epoch, self.step, rows, self, here)

    def of_batch(self, purpose: Purpose, link: int = 0) -> np.random.Generator:
        """The generator of the whole batch; the first shard has the one of a run without shards.

        Args:
            purpose: what it is for.
            link: the number of the function in a chain of them.
        """
        index = self.plan.shard.index
        place: tuple[int, ...] = (self.epoch, self.step)
        if index or link:  # keys of other lengths never meet
            place = (*place, index)
        if link:
            place = (*place, link)
        return rng.generator(self.plan.seed, purpose, *place)

    def of_samples(self, purpose: Purpose, link: int = 0) -> list[np.random.Generator]:
        """The generator of each sample, in the order of `rows`; the arguments as for `of_batch`."""
        return of_rows(self.plan.seed, purpose, self.epoch, self.rows, self._times, link)

    @cached_property
    def _times(self) -> Rows:
        """How often each row came before in the epoch."""
        if self.times is not None:
            return self.times
        if self.whole is not None:
            times: Rows = self.whole._times[self.here]
            return times
        start, stop = self.plan.span(self.step)
        if start == stop:
            start, _ = self.plan.global_span(self.step)
        return self.plan.times(self.epoch, start, start + len(self.rows))


def of_rows(
    seed: int, purpose: Purpose, epoch: int, rows: Rows, times: Rows, link: int = 0
) -> list[np.random.Generator]:
    """The generator of each row, for the time that it comes in an epoch."""
    return rng.sample_generators(rng.seed_sequence(seed, purpose, epoch, link), rows, times)
