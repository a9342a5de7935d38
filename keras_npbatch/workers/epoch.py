"""`walk`: the batches of an epoch, counted; the one loop of all who hand them on.

with contextlib.closing(walk(stream, first, last)) as epoch:
for step, batch in epoch:
...
del batch
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from keras_npbatch.errors import ClosedError
from keras_npbatch.tree import Tree
from keras_npbatch.workers.stream import Stream

__all__ = ["walk"]


def walk(stream: Stream, first: int, last: int) -> Generator[tuple[int, Tree], None, None]:
    """The batches of a stream, each with its step. At the end, early or not, it closes the stream.

    Args:
        stream: the batches of an epoch, from step `first` on.
        first: the step of the first batch.
        last: the last step of the epoch.

    Raises:
        ClosedError: if the stream ends before that: somebody has closed the dataset.
    """
    step = first - 1
    with contextlib.closing(stream):
        # Counted by hand: enumerate would hold the batch while it asks for the next.
        for batch in stream:
            step += 1
            yield step, batch
            del batch  # the consumer's alone, while the next is made
    if step < last:
        raise ClosedError(
            f"the dataset was closed after {step + 1} of {last + 1} batches of an epoch that "
            "was under way. Close it when all iteration is over."
        )
