"""What is known of the chunks of data that are joined from parts.

Where they begin:

    starts = [starts_in(1500, 64, None), starts_in(1700, 64, None)]
    joined_starts(starts)       # 0, 64, ..., 1472, 1500, 1564, ..., 3164, 3200

And what a shuffle of all rows reads of them, by what it reads of each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Reading

__all__ = ["joined_reading", "joined_starts", "starts_in", "unless_even"]


def starts_in(num_rows: int, chunk_rows: int, chunk_starts: Rows | None = None) -> Rows:
    """The first row of each chunk, and the number of all rows.

    Args:
        num_rows: of the data.
        chunk_rows: rows of a chunk.
        chunk_starts: what is asked for, if chunks differ in size.
    """
    if chunk_starts is not None:
        return chunk_starts
    return np.append(np.arange(0, num_rows, chunk_rows, dtype=np.int64), num_rows)


def joined_starts(parts: Sequence[Rows]) -> Rows:
    """The same of parts, one after the other."""
    ends = np.cumsum([0, *(starts[-1] for starts in parts)], dtype=np.int64)
    begun = [starts[:-1] + before for starts, before in zip(parts, ends[:-1], strict=True)]
    return np.concatenate([*begun, ends[-1:]])


def unless_even(starts: Rows) -> Rows | None:
    """The same starts; None if all chunks but the last, which may be shorter, are of one size."""
    sizes = np.diff(starts)
    return None if (sizes[:-1] == sizes.max(initial=0)).all() else starts


def joined_reading(
    parts: Iterable[tuple[int, Callable[[int], Reading | None]]], num_rows: int, batch_size: int
) -> Reading | None:
    """What batches of rows from all over the data read, if they read chunks again and again.

    Args:
        parts: the rows of each part that is read in chunks, and what tells the same of it alone.
        num_rows: of all parts.
        batch_size: rows of a batch.
    """
    largest, chunks, rows = 0, 0.0, float(batch_size)
    for size, reading in parts:
        mine = batch_size * size / num_rows
        asked = max(1, round(mine))
        found = reading(asked)
        if found is not None:
            largest = max(largest, found.chunk_rows)
            chunks += found.chunks * mine / asked
            rows += (found.times - 1) * mine
    return Reading(largest, chunks, rows / batch_size) if largest else None
