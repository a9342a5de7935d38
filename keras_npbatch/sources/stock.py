"""`Stock`: the last chunks that were decoded, shared by threads.

    stock = Stock(most=4)
    stock.get(7, decode)        # decode(7), or what it gave before

Storage in chunks reads and decodes a whole chunk whatever is asked for, so it is kept for the rows
of the next batches. Several threads that need the same chunk decode it once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from keras_npbatch.samplers.order import Rows

__all__ = ["Stock"]

_Chunk = TypeVar("_Chunk")


class Stock(Generic[_Chunk]):
    """Chunks by their numbers; if there are too many, those no longer needed go first.

    Of those needed equally long, or for an unknown time, the one used longest ago goes.

    Args:
        most: how many chunks are kept, or how many rows if `sizes` is given.
        sizes: the rows of each chunk, if they differ.
    """

    def __init__(self, most: int, sizes: Rows | None = None) -> None:
        self.most = most
        """What is changed here holds from the next chunk on."""
        self._sizes = sizes
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()
        self._decoding: dict[int, threading.Event] = {}
        self._held = 0
        self._times_forgotten = 0
        self._until: dict[int, int] = {}
        """The position in the order up to which a chunk is needed, if that is known."""

    def __getstate__(self) -> dict[str, Any]:
        return {
            "most": self.most,
            "_sizes": self._sizes,
        }  # chunks are not sent: a worker process decodes its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def __contains__(self, number: int) -> bool:
        return number in self._chunks

    def __len__(self) -> int:
        return len(self._chunks)

    def is_under_way(self, number: int) -> bool:
        """Whether a thread decodes it at this moment."""
        return number in self._decoding

    def forget(self) -> None:
        """Keep nothing: what is stored may have changed."""
        with self._lock:
            self._chunks.clear()
            self._held = 0
            self._until.clear()
            self._times_forgotten += 1  # what is being decoded is not kept

    def _size(self, number: int) -> int:
        return 1 if self._sizes is None else int(self._sizes[number])

    def expect(self, numbers: Iterable[int], until: int) -> None:
        """Chunks are needed up to a position in the order: others make room before them."""
        with self._lock:
            for number in numbers:
                self._until[number] = max(until, self._until.get(number, 0))

    def prepare(self, number: int, decode: Callable[[int], _Chunk]) -> None:
        """Decode a chunk before it is asked for, unless a thread does so or has."""
        if number not in self._chunks and number not in self._decoding:
            self.get(number, decode)

    def need(self, numbers: Iterable[int]) -> None:
        """Let other chunks make room before those of these that are kept."""
        with self._lock:
            for number in numbers:
                if number in self._chunks:
                    self._chunks.move_to_end(number)

    def get(self, number: int, decode: Callable[[int], _Chunk]) -> _Chunk:
        """A chunk, kept or decoded; by one thread, for all that wait for it."""
        with self._lock:
            if number in self._chunks:
                self._chunks.move_to_end(number)
                return self._chunks[number]
        done = threading.Event()
        while True:
            try:  # Ctrl-C may come anywhere: whoever waits must not wait forever
                with self._lock:
                    if number in self._chunks:
                        self._chunks.move_to_end(number)
                        return self._chunks[number]
                    waited_for = self._decoding.setdefault(number, done)
                    times_forgotten = self._times_forgotten
                if waited_for is not done:
                    waited_for.wait()
                    continue  # kept now, or the other thread has failed
                found = decode(number)
                with self._lock:
                    if self._times_forgotten != times_forgotten:
                        return found
                    self._held += self._size(number)
                    self._chunks[number] = found
                    while self._held > self.most and len(self._chunks) > 1:
                        oldest = min(self._chunks, key=lambda each: self._until.get(each, 0))
                        del self._chunks[oldest]
                        self._held -= self._size(oldest)
                return found
            finally:
                with self._lock:
                    if self._decoding.get(number) is done:
                        del self._decoding[number]
                        done.set()
