"""`JoinedChunks`: the last chunks as records in one block of memory: a batch is taken at once.

    joined = JoinedChunks(starts, [("age", np.dtype("f4"), ()), ("height", np.dtype("f4"), ())])
    chunk = joined.new(7, most=10_000)           # memory for chunk 7
    chunk.records["age"] = ...
    joined.show({7: chunk}, joined.times_forgotten)
    joined.take(rows, numbers)["age"]            # None: a row is in a chunk that is not shown

A batch of a group of blocks has rows of all its chunks. Taking each column from each chunk costs a
call of NumPy for each pair of them, and a cache miss for each value. As a record, a row is one or
two misses, and a batch one call.

The memory of a chunk is used again when nothing refers to the chunk any more. So a thread that
takes rows holds what was shown as it began, and nobody waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows

__all__ = ["Chunk", "JoinedChunks"]

_SPARE = 8
"""Chunks: those that threads decode before the ones they replace are gone."""
_NOWHERE = -(2**62)


class Chunk:
    """A chunk, whose memory is free when this object is gone.

    Args:
        records: its rows.
        block: what they lie in; None if they have memory of their own.
        begin: where in the block.
    """

    def __init__(self, records: npt.NDArray[Any], block: _Block | None, begin: int) -> None:
        self.records, self.block, self.begin = records, block, begin
        self.others: dict[int, Any] = {}
        """What is kept of it besides."""

    def __del__(self) -> None:
        if self.block is not None:  # in any thread, and in the middle of anything: no lock
            self.block.returned.append((self.begin, self.begin + len(self.records)))


class _Block:
    """Memory for chunks, and which of it is free."""

    def __init__(self, rows: int, dtype: np.dtype[Any]) -> None:
        self.records = np.empty(rows, dtype)
        self.returned: deque[tuple[int, int]] = deque([(0, rows)])
        self._free: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def new(self, rows: int) -> Chunk | None:
        """Memory for a chunk, the first that is free; None if there is none."""
        with self._lock:
            while self.returned:
                self._free.append(self.returned.popleft())
            free: list[tuple[int, int]] = []
            for begin, end in sorted(self._free):
                if free and free[-1][1] == begin:
                    begin = free.pop()[0]
                free.append((begin, end))
            self._free = free
            for place, (begin, end) in enumerate(free):
                if end - begin >= rows:
                    free[place] = begin + rows, end
                    return Chunk(self.records[begin : begin + rows], self, begin)
        return None


class _Shown(NamedTuple):
    """What rows are taken from. It never changes."""

    chunks: dict[int, Chunk]
    shifts: Rows
    """For each chunk, what leads from the number of a row to its place."""
    block: _Block | None


class JoinedChunks:
    """Chunks of rows.

    Args:
        starts: the first row of each chunk, and the number of all rows.
        fields: of a record: the name, dtype and shape of each.
    """

    def __init__(
        self, starts: Rows, fields: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]
    ) -> None:
        self._starts, self._fields = starts, fields
        self._largest = int(np.diff(starts).max(initial=1))
        self._block: _Block | None = None
        self._changing = threading.Lock()
        self.times_forgotten = 0
        self._set({})

    def __reduce__(self) -> Any:
        return JoinedChunks, (self._starts, self._fields)  # a worker process has its own

    def forget(self) -> None:
        """Show no chunk; the memory stays for others."""
        with self._changing:
            self.times_forgotten += 1
            self._set({})

    def new(self, number: int, most: int) -> Chunk:
        """Memory for a chunk.

        Args:
            number: of the chunk.
            most: how many rows of chunks are kept.
        """
        rows = int(self._starts[number + 1] - self._starts[number])
        needed = min(most, int(self._starts[-1])) + _SPARE * self._largest
        with self._changing:
            if self._block is None or len(self._block.records) < needed:
                self._block = _Block(needed, np.dtype(list(self._fields)))
            block = self._block
        return block.new(rows) or Chunk(np.empty(rows, block.records.dtype), None, 0)

    def show(self, chunks: Mapping[int, Chunk], times_forgotten: int) -> None:
        """Take rows from these chunks too, those that lie in the block.

        Args:
            chunks: some chunks.
            times_forgotten: as it was before they were decoded: else they are of an earlier epoch.
        """
        with self._changing:
            if times_forgotten == self.times_forgotten:
                self._set({**self._shown.chunks, **chunks})

    def drop(self, is_kept: Callable[[int], bool]) -> None:
        """Stop showing chunks that are no longer kept."""
        if all(map(is_kept, self._shown.chunks)):
            return
        with self._changing:
            self._set(
                {number: each for number, each in self._shown.chunks.items() if is_kept(number)}
            )

    def _set(self, chunks: Mapping[int, Chunk]) -> None:
        block = self._block
        shifts = np.full(len(self._starts) - 1, _NOWHERE, np.int64)
        shown = {number: chunk for number, chunk in chunks.items() if chunk.block is block}
        for number, chunk in shown.items():
            shifts[number] = chunk.begin - self._starts[number]
        self._shown = _Shown(shown, shifts, block if shown else None)

    def take(
        self, rows: Rows, numbers: Rows, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any] | None:
        """The records of rows; None if one is in a chunk that is not shown.

        Args:
            rows: their numbers.
            numbers: of the chunks that they are in.
            out: memory for as many records.
        """
        shown = self._shown
        at = rows + shown.shifts[numbers]
        if shown.block is None or at.min(initial=0) < 0:
            return None
        return shown.block.records.take(at, 0, out, "clip")
