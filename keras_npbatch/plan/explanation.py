"""`Explanation`: the rows that every training process reads at one step.

print(Explanation.of(plan, epoch=0, step=2))
# step 2 of 3 in epoch 0: 2 of 10 samples, remainder='pad'
#   shard 0 of 2: rows [7], 1 padded
#   shard 1 of 2: rows [0], 1 padded
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import describe_rows
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.order import Rows

__all__ = ["Explanation"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which samples each process reads at one step; `str()` shows them."""

    epoch: int
    """The epoch, from 0 up."""
    step: int
    """The step in it."""
    num_batches: int
    """Steps in an epoch."""
    num_samples: int
    """Samples in an epoch."""
    remainder: str
    """What happens to samples that don't fill a batch."""
    shards: tuple[Rows, ...]
    """The rows of each shard's batch, int64 `(samples in it,)`, without padding."""
    padding: tuple[int, ...]
    """How many samples of weight 0 are added to each shard's batch."""
    padding_waste: float | None = None
    """The part of the global batch that is padding if it is padded to its longest sample, from 0 to
    1; None if the sampler knows no lengths."""

    @classmethod
    def of(cls, plan: Plan, epoch: int, step: int) -> Explanation:
        """The explanation of a step.

        Args:
            plan: the plan of any shard.
            epoch: from 0 up.
            step: from 0 to `num_batches - 1`.

        Raises:
            InvalidArgumentError: for an epoch or step that does not exist.
        """
        epoch = whole_number("epoch", epoch, least=0)
        step = whole_number("step", step, least=0, most=plan.num_batches - 1)
        order = plan.order(epoch)
        plans = [plan.of_shard(index) for index in range(plan.shard.count)]
        shards = tuple(order.rows(*each.span(step)) for each in plans)
        is_padded = plan.remainder == "pad"
        return cls(
            epoch=epoch,
            step=step,
            num_batches=plan.num_batches,
            num_samples=plan.epoch_size,
            remainder=plan.remainder,
            shards=shards,
            padding=tuple(plan.batch_size - len(rows) if is_padded else 0 for rows in shards),
            padding_waste=plan.sampler.padding_waste(np.concatenate(shards)),
        )

    @property
    def rows(self) -> Rows:
        """The rows of the global batch: the rows of all shards, concatenated."""
        return np.concatenate(self.shards)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        count = len(self.shards)
        lines = [
            f"step {self.step} of {self.num_batches} in epoch {self.epoch}: "
            f"{sum(map(len, self.shards))} of {self.num_samples} samples, "
            f"remainder={self.remainder!r}"
        ]
        for index, (rows, padding) in enumerate(zip(self.shards, self.padding, strict=True)):
            padded = f", {padding} padded" if padding else ""
            lines.append(f"  shard {index} of {count}: rows {describe_rows(rows)}{padded}")
        if self.padding_waste is not None:
            lines.append(f"  padded to the longest sample, {self.padding_waste:.1%} is padding")
        return "\n".join(lines)
