"""Where chunks begin, in data that are joined of parts.

starts = [starts_in(1500, 64, None), starts_in(1700, 64, None)]
joined_starts(starts)       # 0, 64, ..., 1472, 1500, 1564, ..., 3164, 3200
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_npbatch.samplers.order import Rows

__all__ = ["joined_starts", "starts_in", "unless_even"]


def starts_in(num_rows: int, chunk_rows: int, chunk_starts: Rows | None) -> Rows:
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
