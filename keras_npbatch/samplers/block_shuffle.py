"""`BlockShuffle`: blocks of adjacent rows in a random order, a few of them mixed at a time.

For data that the storage reads in chunks: a full shuffle touches about as many chunks as a batch
has rows, and reads each of them again and again. Here each block is read once an epoch.

A block is `block_rows` adjacent rows of the data, or a chunk, if chunks differ in size. The blocks
are shuffled and taken in groups of `blocks`; the rows of a group are shuffled together. Of the
whole data, the order takes no memory; of a part of a split, and of chunks that differ, 8 bytes a
block.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.order import (
    MAX_ROWS,
    Available,
    Order,
    Pieces,
    Rows,
    WholeData,
    translated,
)
from keras_npbatch.samplers.permutation import permutation
from keras_npbatch.samplers.sampler import TableSampler

__all__ = ["BlockShuffle"]

_BLOCK_ROWS = 1024
"""Of data that is not stored in chunks."""
_MOST_MIXED = 2**26
"""The most rows that are mixed at a time: half a gigabyte of row numbers, twice."""
_AT_ONCE = 2**16


class BlockShuffle(TableSampler):
    """Each row once an epoch, read in blocks: for data in chunks (HDF5, Zarr), or on a disk.

    `blocks` blocks are mixed at a time, so at any moment an epoch reads from only that many. More
    and smaller blocks mix better: `BlockShuffle(1024).describe(num_rows)` tells.

    Example:

    ```python
    sampler = keras_npbatch.samplers.BlockShuffle(block_rows=1024, blocks=16)
    train = keras_npbatch.ArrayDataset(h5["x"], h5["y"], sampler=sampler)
    ```

    Args:
        block_rows: rows of a block. None: the rows of a chunk of the data, or 1024 if they are not
            stored in chunks.
        blocks: how many blocks are mixed at a time.

    Raises:
        InvalidArgumentError: for anything but numbers from 1 up, or a block larger than the data.
    """

    def __init__(self, block_rows: int | None = None, blocks: int = 16) -> None:
        super().__init__()
        if block_rows is not None:
            block_rows = whole_number("block_rows", block_rows, least=1, most=MAX_ROWS)
        self._block_rows = block_rows
        self._blocks = whole_number("blocks", blocks, least=1, most=_MOST_MIXED)
        self._starts: Rows | None = None
        if self._blocks * (block_rows or 1) > _MOST_MIXED:
            raise InvalidArgumentError(
                f"BlockShuffle mixes {self._blocks} blocks of {block_rows} rows; expected at most "
                f"{_MOST_MIXED} rows together. Use fewer blocks, or smaller ones."
            )

    @property
    def identity(self) -> str:
        """The sampler in words."""
        if self._starts is not None:
            digest = hashlib.blake2b(self._starts.tobytes(), digest_size=4).hexdigest()
            chunks = f"{len(self._starts) - 1} chunks, {digest}"
            return f"BlockShuffle(blocks={self._blocks} of {chunks})"
        return f"BlockShuffle(block_rows={self._block_rows}, blocks={self._blocks})"

    def along(self, chunk_starts: Rows) -> BlockShuffle:
        """This sampler with the chunks as its blocks, unless it was given a block size."""
        if self._block_rows is not None:
            return self
        found = copy.copy(self)  # without its tables
        largest = int(np.diff(chunk_starts).max())
        found._blocks = max(1, min(self._blocks, _MOST_MIXED // largest))
        found._starts = chunk_starts
        return found

    def checked(self, num_rows: int, chunk_rows: int | None) -> BlockShuffle:
        """This sampler with a block size, which fits the data."""
        if self._starts is not None:
            return self
        if self._block_rows is None:
            found = copy.copy(self)  # of a class that derives from this one too
            most = _MOST_MIXED // self._blocks
            found._block_rows = min(chunk_rows or _BLOCK_ROWS, num_rows, most)
            return found
        if self._block_rows > num_rows:
            raise InvalidArgumentError(
                f"block_rows is {self._block_rows}, and the data have {num_rows} rows; expected at "
                "most that many. Data of one block are shuffled whole: shuffle=True."
            )
        return self

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        size = self.blocks_held[0]
        if self._starts is None and isinstance(rows, WholeData):
            groups: _Groups = _WholeGroups(rows.num_rows, size, self._blocks, seed, epoch)
        else:
            starts = self._starts
            firsts = self.table(
                rows,
                lambda _: (
                    _first_numbers(rows, size)
                    if starts is None
                    else _with_rows(rows.below(starts[:-1]), rows)
                ),
            )
            groups = _Groups(firsts, size, self._blocks, seed, epoch)
        return translated(groups, rows)

    @property
    def blocks_held(self) -> tuple[int, int]:
        """Rows of a block, and blocks that are mixed at a time."""
        if self._starts is not None:
            return int(np.diff(self._starts).max()), self._blocks
        return self._block_rows or _BLOCK_ROWS, self._blocks


def _first_numbers(rows: Available, size: int) -> Rows:
    """The number of the first row in each block that has one, and of all rows."""
    num_blocks = -(-rows.num_rows // size)
    parts = []
    for start in range(0, num_blocks, _AT_ONCE):
        edges = np.arange(start, min(start + _AT_ONCE, num_blocks), dtype=np.int64) * size
        parts.append(rows.below(edges))
    return _with_rows(np.concatenate(parts), rows)


def _with_rows(firsts: Rows, rows: Available) -> Rows:
    """The numbers of the first rows, without blocks that have none; and of all rows."""
    firsts = np.append(firsts, rows.num_samples)
    has_rows = np.append(np.diff(firsts) > 0, True)
    found: Rows = firsts[has_rows]
    return found


class _Groups(Pieces):
    """Groups of shuffled blocks, for any available rows: a table of where each group begins."""

    pieces_kept = 2

    def __init__(self, rows: Any, size: int, blocks: int, seed: int, epoch: int) -> None:
        self._mixed, self._seed, self._epoch = blocks, seed, epoch
        super().__init__(self.begin(rows, size), size)
        self._shuffled = permutation(
            self.num_blocks, rng.seed_sequence(seed, rng.Purpose.SAMPLER, epoch)
        )
        self.lay()

    def begin(self, rows: Any, size: int) -> int:
        """Note where each block begins; the number of all rows."""
        self._firsts, self._ends = rows[:-1], rows[1:]
        self.num_blocks = len(self._firsts)
        return int(rows[-1])

    def lay(self) -> None:
        """Find where each group begins."""
        sizes = (self._ends - self._firsts)[self._shuffled.rows(0, self.num_blocks)]
        of_groups = np.add.reduceat(sizes, np.arange(0, self.num_blocks, self._mixed))
        self._begins = np.concatenate([[0], np.cumsum(of_groups)])

    def bounds(self, blocks: Rows) -> tuple[Rows, Rows]:
        """The number of the first row of each block, and the one after the last."""
        return self._firsts[blocks], self._ends[blocks]

    def block_of(self, number: int) -> int:
        """The block of a row."""
        return int(np.searchsorted(self._firsts, number, side="right")) - 1

    def index(self, position: int) -> int:
        """The group that a position is in."""
        return int(np.searchsorted(self._begins, position, side="right")) - 1

    def span(self, index: int) -> tuple[int, int]:
        """The first position of a group, and the one after the last."""
        return int(self._begins[index]), int(self._begins[index + 1])

    def group(self, position: int) -> tuple[int, int]:
        """The positions of the group that a position is in."""
        return self.span(self.index(position))

    def make(self, start: int, stop: int) -> Rows:
        """The rows of one group."""
        group = self.index(start)
        first = group * self._mixed
        blocks = self._shuffled.rows(first, min(first + self._mixed, self.num_blocks))
        begins, ends = self.bounds(blocks)
        rows = np.concatenate(
            [
                np.arange(begin, end, dtype=np.int64)
                for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
            ]
        )
        generator = rng.generator(self._seed, rng.Purpose.SAMPLER, self._epoch, 1, group)
        generator.shuffle(rows)
        return rows

    def positions(self, rows: Rows) -> Rows:
        """The position of each of `rows`."""
        found = []
        for row in rows.tolist():
            block = np.array([self.block_of(row)], np.int64)
            group = int(self._shuffled.positions(block)[0]) // self._mixed
            found.append(self.span(group)[0] + int(np.flatnonzero(self.piece(group) == row)[0]))
        return np.array(found, np.int64)


class _WholeGroups(_Groups):
    """The same for all rows of the data, without a table: only the last block may be shorter."""

    def begin(self, rows: Any, size: int) -> int:
        """Count the blocks of this many rows."""
        self.num_blocks = -(-rows // size)
        self._lacking = self.num_blocks * size - rows
        return int(rows)

    def lay(self) -> None:
        """Find the group of the shorter block."""
        last = np.array([self.num_blocks - 1], np.int64)
        self._shorter = int(self._shuffled.positions(last)[0]) // self._mixed

    def bounds(self, blocks: Rows) -> tuple[Rows, Rows]:
        """The number of the first row of each block, and the one after the last."""
        begins = blocks * self.size
        return begins, np.minimum(begins + self.size, self.num_positions)

    def block_of(self, number: int) -> int:
        """The block of a row."""
        return number // self.size

    def index(self, position: int) -> int:
        """The group that a position is in."""
        whole = self._mixed * self.size
        group = position // whole
        return group if group < self._shorter else (position + self._lacking) // whole

    def span(self, index: int) -> tuple[int, int]:
        """The first position of a group, and the one after the last."""
        whole = self._mixed * self.size
        start = index * whole - (self._lacking if index > self._shorter else 0)
        stop = (index + 1) * whole - (self._lacking if index >= self._shorter else 0)
        return start, min(stop, self.num_positions)
