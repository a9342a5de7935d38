"""`InOrder`: each row once, in the order of the data. What `shuffle=False` means."""

from __future__ import annotations

from keras_npbatch.samplers.order import Available, DataOrder, Order, translated
from keras_npbatch.samplers.sampler import Sampler

__all__ = ["InOrder"]


class InOrder(Sampler):
    """Each row once, in the order of the data: what `shuffle=False` means.

    `evaluate` and `predict` read in this order whatever the sampler of the dataset is.

    Example:

    ```python
    keras_npbatch.ArrayDataset(x, y, sampler=keras_npbatch.samplers.InOrder())
    ```
    """

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of every epoch."""
        return translated(DataOrder(), rows)

    @property
    def identity(self) -> str:
        """The sampler in words."""
        return "InOrder()"
