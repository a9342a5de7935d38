"""`Shuffle`: each row once, every epoch in a new random order. What `shuffle=True` means."""

from __future__ import annotations

from keras_npbatch.samplers.order import Available, Order, translated
from keras_npbatch.samplers.permutation import draws_long, shuffled
from keras_npbatch.samplers.sampler import Sampler

__all__ = ["Shuffle"]


class Shuffle(Sampler):
    """Each row once, in a new order each epoch: what `shuffle=True` means.

    Every order is equally likely up to 2**20 rows; above, it is computed on demand, without memory.

    Example:

    ```python
    keras_npbatch.ArrayDataset(x, y, sampler=keras_npbatch.samplers.Shuffle())
    ```
    """

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        return translated(shuffled(rows.num_samples, seed=seed, epoch=epoch), rows)

    def draws_long(self, rows: Available) -> bool:
        """Whether drawing the permutation takes longer than starting a thread for it."""
        return draws_long(rows.num_samples)

    @property
    def identity(self) -> str:
        """The sampler in words."""
        return "Shuffle()"
