"""`Stream`: the seam between those who make batches ahead and those who take them.

stream: Stream = InlineStream(make, steps)      # or ThreadedStream, ProcessStream
for batch in stream: ...
stream.close()
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from keras_npbatch.tree import Tree

__all__ = ["Stream"]


class Stream(Protocol):
    """Batches in order, which can be ended early.

    A stream **must** deliver the batch of every step once and in order, raise the exception of a
    batch in the turn of that batch, and then end. It **may** make batches ahead, anywhere, and make
    one again. It **never** delivers a batch that it still refers to, so that the consumer has it
    alone, and never waits for the consumer.
    """

    def __iter__(self) -> Iterator[Tree]: ...

    def __next__(self) -> Tree: ...

    @property
    def ready(self) -> int:
        """Batches that need not be waited for."""

    def close(self) -> None:
        """Forget the rest; safe to call twice, also from another thread."""
