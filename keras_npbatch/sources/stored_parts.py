"""`StoredParts`: joined parts that are read chunk by chunk, as one source in chunks.

    parts = Concatenated([h5["a"], h5["b"]])        # chunks of 64 rows, in both
    source = parts_source(parts, "x")
    source.chunk_starts                             # those of a, then those of b

Blocks of rows have chunks of any parts. So what is kept for them is kept here, for all parts
together: a part that kept this itself would hold it long after the blocks have moved on to other
parts. Otherwise each part reads its rows as it would alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.chunk_cache import ChunkCache
from keras_npbatch.sources.chunks_of_parts import (
    joined_reading,
    joined_starts,
    starts_in,
    unless_even,
)
from keras_npbatch.sources.scatter import new, scatter
from keras_npbatch.sources.source import Chunked, Empty, Prepared, Reading, Source, stamp_of

__all__ = ["Parts", "StoredParts", "parts_source"]


class Parts(ABC):
    """The base of a source whose rows are those of several parts, one after the other."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_in_memory: bool
    chunk_rows: int | None = None
    categories: list[Any] | None
    _starts: Rows
    """The first row of each part, and the number of all rows."""
    _sources: Mapping[int, Source]
    """The parts by their numbers, without those that are files to be mapped."""

    @abstractmethod
    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """The given rows, each read by its part."""


class StoredParts:
    """Parts, at least one of them read chunk by chunk; see `Chunked`.

    What has no chunks of its own counts as if it were stored in those of the largest size.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.shape, self.dtype, self.is_in_memory = parts.shape, parts.dtype, parts.is_in_memory
        self.categories = parts.categories
        self._chunked = {
            number: source
            for number, source in parts._sources.items()
            if isinstance(source, Chunked) and source.shape[0]
        }
        largest = max(source.chunk_rows or 0 for source in self._chunked.values())
        sizes = np.diff(parts._starts).tolist()
        self._starts = joined_starts(
            [self._starts_in(number, size, largest) for number, size in enumerate(sizes)]
        )
        self.chunk_rows: int | None = int(np.diff(self._starts).max())
        # Those that decode whole chunks. The others have their rows in memory maps.
        self._is_decoded = np.array(
            [isinstance(self._chunked.get(number), Prepared) for number in range(len(sizes))]
        )
        self._kept: ChunkCache | None = None
        """The chunks that blocks of rows need; None if there are no blocks."""

    def _starts_in(self, number: int, size: int, largest: int) -> Rows:
        source = self._chunked.get(number)
        if source is None or source.chunk_rows is None:
            return starts_in(size, largest)
        return starts_in(size, source.chunk_rows, source.chunk_starts)

    @property
    def chunk_starts(self) -> Rows | None:
        """The first row of each chunk, and the number of all rows, if chunks differ in size."""
        return unless_even(self._starts)

    @property
    def stamp(self) -> str | None:
        """What changes if the files do; see `stamp_of`."""
        return stamp_of(self._parts)

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block once; see `Chunked`."""
        if block_rows * blocks == 1:  # each part is read once, whole
            for source in self._chunked.values():
                source.keep(1, 1, ahead)
            return
        assert self.chunk_rows is not None
        is_along = block_rows == self.chunk_rows
        for number, source in self._chunked.items():
            if not self._is_decoded[number]:
                own = source.chunk_rows if is_along else None
                source.keep(own or block_rows, blocks, ahead)
        num_chunks = len(self._starts) - 1
        mean = self.shape[0] / num_chunks
        touched, of_block = 1, mean
        if not is_along:  # a block may begin and end within a chunk
            touched, of_block = 1 - int(-block_rows // mean), block_rows
        # Those of two groups, and of all that lie between one thread and another.
        most = min(touched * (2 * blocks - int(-ahead // of_block)), num_chunks)
        if self._kept is None or self._kept.chunks < most:
            self._kept = ChunkCache(most, self.chunk_rows, self.shape[1:], self.dtype)

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing: what is stored may have changed."""
        if self._kept is not None:
            self._kept.forget(pass_number)
        for source in self._chunked.values():
            source.forget(pass_number)

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        parts = [(source.shape[0], source.reading) for source in self._chunked.values()]
        return joined_reading(parts, self.shape[0], batch_size)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the rows, of chunks that are kept or part by part, into the order asked for."""
        if self._kept is None:
            return self._parts.read(rows, empty)
        decoded = self._is_decoded[np.searchsorted(self._parts._starts, rows, side="right") - 1]
        if not decoded.any():
            return self._parts.read(rows, empty)
        out = new((len(rows), *self.shape[1:]), self.dtype, empty)
        if decoded.all():
            self._gather(self._kept, rows, out)
            return out
        found = np.empty((int(decoded.sum()), *self.shape[1:]), self.dtype)
        self._gather(self._kept, rows[decoded], found)
        out[decoded] = found
        others = np.flatnonzero(~decoded)
        scatter(self._parts, rows[others], out, others)
        return out

    def _gather(self, kept: ChunkCache, rows: Rows, out: npt.NDArray[Any]) -> None:
        """Copy rows from chunks that are kept, where each takes as much room as the largest."""
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        kept.gather(numbers * kept.rows + rows - self._starts[numbers], out, self._decode)

    def _decode(self, number: int, into: npt.NDArray[Any]) -> None:
        """Read a whole chunk."""
        rows = np.arange(self._starts[number], self._starts[number + 1])
        scatter(self._parts, rows, into, np.arange(len(rows)))


def parts_source(leaf: Any, path: str) -> Source | None:
    """The source of joined parts, which they are themselves unless some have chunks; else None."""
    if not isinstance(leaf, Parts):
        return None
    stored = [source for source in leaf._sources.values() if isinstance(source, Chunked)]
    has_chunks = any(source.chunk_rows and source.shape[0] for source in stored)
    return StoredParts(leaf) if has_chunks else leaf
