"""Sources that read whole chunks of rows, of any sizes, and keep the last ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.pieces import Pieces
from keras_npbatch.sources.slices import CHUNKS_KEPT
from keras_npbatch.sources.source import Empty, Reading, is_raw
from keras_npbatch.sources.stock import Stock
from keras_npbatch.sources.turns import Turns, others_last

__all__ = ["ChunkRows", "kept_chunks"]


def kept_chunks(starts: Rows) -> Stock[Any]:
    """A stock of chunks, given the first row of each and the number of all rows."""
    sizes = np.diff(starts)
    return Stock(CHUNKS_KEPT * int(sizes.max(initial=1)), sizes)


class ChunkRows(ABC):
    """The base of sources in chunks whose sizes may differ.

    Args:
        starts: the first row of each chunk, and the number of all rows; no chunk is empty.
        shape: of a row.
        dtype: of what is read.
        stock: keeps chunks; several sources may share one.
        pieces: the same chunks, if several sources share them.
    """

    is_in_memory = False

    def __init__(
        self,
        starts: Rows,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        stock: Stock[Any] | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self._starts = starts
        self._pieces = Pieces(starts) if pieces is None else pieces
        self.shape, self.dtype = (int(starts[-1]), *shape), dtype
        self.chunk_rows: int | None = int(np.diff(starts).max(initial=0)) or None
        self._stock: Stock[Any] = kept_chunks(starts) if stock is None else stock
        self._turns = Turns()

    @abstractmethod
    def decode(self, number: int) -> Any:
        """A whole chunk, which is kept."""

    @abstractmethod
    def pick(self, chunk: Any, rows: Rows) -> npt.NDArray[Any]:
        """Rows of a chunk, numbered from its first."""

    @property
    def chunk_starts(self) -> Rows | None:
        """The first row of each chunk, and the number of all rows, if chunks differ in size."""
        lengths = np.diff(self._starts)
        return None if (lengths[:-1] == self.chunk_rows).all() else self._starts

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block once; see `Chunked`."""
        assert self.chunk_rows is not None
        rows = ahead + 2 * blocks * block_rows  # the groups that `ahead` rows are in
        if block_rows * blocks == 1:
            rows = ahead + 2 * self.chunk_rows
        elif block_rows % self.chunk_rows:  # a block may begin and end within a chunk
            rows = -(-rows * (block_rows + 2 * self.chunk_rows) // block_rows)
        self._stock.most = max(self._stock.most, rows)

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing: what is stored may have changed."""
        self._stock.forget()

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        num_chunks = len(self._starts) - 1
        if self.chunk_rows is None or self.shape[0] <= self._stock.most:
            return None
        touched = num_chunks * (1 - (1 - 1 / num_chunks) ** batch_size)
        rows_read = touched * self.shape[0] / num_chunks
        return Reading(self.chunk_rows, touched, rows_read / batch_size)

    @property
    def kept_in(self) -> object:
        """What keeps its chunks, and those of other columns."""
        return self._stock

    def chunks_of(self, rows: Rows) -> Rows:
        """The chunks that some rows are in, each once."""
        return np.flatnonzero(np.diff(np.searchsorted(np.sort(rows), self._starts)))

    def expect(self, numbers: Rows, until: int) -> None:
        """Let other chunks make room before these; see `Prepared`."""
        self._stock.expect(numbers.tolist(), until)

    def prepare(self, number: int) -> None:
        """Decode a chunk before its rows are asked for; see `Prepared`."""
        self._stock.prepare(number, self.decode)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the chunks that have the rows, and put the rows into the order asked for."""
        shape = (len(rows), *self.shape[1:])
        out = empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)
        pieces = self._turns.turned(self._pieces.of(rows))
        if len(pieces) > 1:
            self._stock.need(number for number, _, _ in pieces)
        for number, at, inside in others_last(
            pieces, lambda each: self._stock.is_under_way(each[0])
        ):
            out[at] = self.pick(self._stock.get(number, self.decode), inside)
        return out
