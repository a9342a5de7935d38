"""`Stream`: the seam between what makes batches ahead and what takes them.

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
    """Batches in order; the iteration can be ended early.

    A stream **must** deliver the batch of every step once and in order. It **must** raise the
    exception of a batch when that batch's turn comes, and then end. It **may** make batches ahead,
    anywhere, and make one again. It **never** delivers a batch that it still refers to, so the
    consumer owns the only reference, and it **never** waits for the consumer.
    """

    def __iter__(self) -> Iterator[Tree]: ...

    def __next__(self) -> Tree: ...

    @property
    def ready(self) -> int:
        """The number of batches that are available without waiting."""

    def close(self) -> None:
        """Drop the remaining batches. Safe to call twice, and from another thread."""
