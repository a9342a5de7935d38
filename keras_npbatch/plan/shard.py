"""`Shard`: the part of every global batch that one training process reads.

    Shard(index=1, count=4).part(0, 10)     # (3, 6): of 10 positions, three for the second of four

Each batch of an epoch is divided, never the list of batches. So all processes have the same number
of steps, whatever the sizes, and the samples of a step are the same for any count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["Shard", "even_locate", "even_part"]

_MOST_SHARDS = 2**20


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` equal parts of every global batch.

    A global batch is the batches of all shards at one step, concatenated. If the samples don't
    divide evenly, the first shards get one more.

    Example:

    ```python
    train = keras_npbatch.ArrayDataset(x, y, batch_size=64, seed=0, shard=Shard(rank, 4))
    train.num_batches       # the same on every rank: 256 samples are a step of all four
    ```

    Args:
        index: which part, from 0 to `count - 1`: the rank of the process.
        count: how many parts: the number of processes that train together.

    Raises:
        InvalidArgumentError: for anything but such numbers.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        count = whole_number("count of a Shard", self.count, least=1, most=_MOST_SHARDS)
        index = whole_number("index of a Shard", self.index, least=0, most=count - 1)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "count", count)

    def part(self, start: int, stop: int) -> tuple[int, int]:
        """The positions of this shard among `start..stop-1`: the first, and the one after the last.

        The sizes of all shards' parts differ by at most one.
        """
        return even_part(self.index, self.count, start, stop)

    def locate(self, position: int, total: int) -> tuple[int, int]:
        """Which shard has a position among `0..total-1`, and where in its part.

        Args:
            position: from 0 to `total - 1`.
            total: how many positions there are.
        """
        return even_locate(self.count, position, total)

    @classmethod
    def of(cls, value: Any) -> Shard:
        """`value` as a shard: a `Shard`, `(index, count)`, or None for the only one.

        Raises:
            InvalidArgumentError: for anything else.
        """
        if value is None:
            return cls()
        if isinstance(value, Shard):
            return value
        if isinstance(value, tuple | list) and len(value) == 2:
            return cls(*value)
        raise InvalidArgumentError(
            f"shard is {describe(value)}; expected keras_npbatch.Shard(index, count), (index, "
            "count), or 'auto' to ask the framework which process of how many this is."
        )


def even_part(index: int, count: int, start: int, stop: int) -> tuple[int, int]:
    """Part `index` of `count` of the numbers `start..stop-1`; sizes differ by at most one."""
    size, larger = divmod(stop - start, count)
    begin = start + index * size + min(index, larger)
    return begin, begin + size + (index < larger)


def even_locate(count: int, position: int, total: int) -> tuple[int, int]:
    """Which of `count` parts of `0..total-1` has a position, and where: inverts `even_part`."""
    size, larger = divmod(total, count)
    in_larger = larger * (size + 1)
    if position < in_larger:
        return divmod(position, size + 1)
    index, within = divmod(position - in_larger, size)
    return larger + index, within
