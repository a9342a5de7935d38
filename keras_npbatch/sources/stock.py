"""`Stock`: the last chunks that were decoded, shared by threads.

    stock = Stock(most=4)
    stock.get(7, decode)        # decode(7), or what it gave before

Storage in chunks reads and decodes a whole chunk whatever is asked for, so it is kept for the rows
of the next batches. Several threads that need the same chunk decode it once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Stock"]

_Chunk = TypeVar("_Chunk")


class Stock(Generic[_Chunk]):
    """Chunks by their numbers, at most `most` of them; the one not used for longest goes first."""

    def __init__(self, most: int) -> None:
        self.most = most
        """How many chunks are kept; what is changed holds from the next chunk on."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()
        self._decoding: dict[int, threading.Event] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"most": self.most}  # chunks are not sent: a worker process decodes its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def __contains__(self, number: int) -> bool:
        return number in self._chunks

    def __len__(self) -> int:
        return len(self._chunks)

    def forget(self) -> None:
        """Keep nothing: what is stored may have changed."""
        with self._lock:
            self._chunks.clear()

    def get(self, number: int, decode: Callable[[int], _Chunk]) -> _Chunk:
        """A chunk, kept or decoded; by one thread, for all that wait for it."""
        done = threading.Event()
        while True:
            try:  # Ctrl-C may come anywhere: whoever waits must not wait for ever
                with self._lock:
                    if number in self._chunks:
                        self._chunks.move_to_end(number)
                        return self._chunks[number]
                    waited_for = self._decoding.setdefault(number, done)
                if waited_for is not done:
                    waited_for.wait()
                    continue  # kept now, or the other thread has failed
                found = decode(number)
                with self._lock:
                    self._chunks[number] = found
                    while len(self._chunks) > self.most:
                        self._chunks.popitem(last=False)
                return found
            finally:
                with self._lock:
                    if self._decoding.get(number) is done:
                        del self._decoding[number]
                        done.set()
