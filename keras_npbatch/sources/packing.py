"""Which sequences share a row of a packed `Ragged`: few rows, and little padding.

    bins = packed(np.array([3, 5, 2, 4]), width=8)
    bins.sequences, bins.edges     # e.g. [1, 0, 3, 2], [0, 2, 4]: rows of 5 + 3 and 4 + 2

Best fit: the longest sequence first, each into the row with the least room that still has room for
it. The sequences of a window are packed together. Windows follow one another in a shuffled order of
the sequences, so that what lies together in the data is not always packed together. The bins are a
function of the lengths and the width alone: the same in every process, epoch and run.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from keras_npbatch import rng
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.progress import counted

__all__ = ["Bins", "packed"]

_WINDOW = 2**14
"""Sequences that are packed together; a window leaves about one row that is not full."""


@dataclass(frozen=True, slots=True)
class Bins:
    """The sequences in each row."""

    sequences: Rows
    """The numbers of the sequences, row after row."""
    edges: Rows
    """Where in `sequences` each row begins, and where the last one ends."""

    def __len__(self) -> int:
        return len(self.edges) - 1

    def of(self, rows: Rows) -> tuple[Rows, Rows]:
        """The sequences of some rows, one after the other, and how many each row has."""
        starts, counts = self.edges[rows], self.edges[rows + 1] - self.edges[rows]
        ends = np.cumsum(counts)
        at = np.repeat(starts - (ends - counts), counts) + np.arange(counts.sum())
        return self.sequences[at], counts


def packed(lengths: Rows, width: int) -> Bins:
    """The sequences of these lengths, each in one of as few rows of this width as best fit finds.

    Args:
        lengths: from 1 to `width`.
        width: time steps in a row.
    """
    order = rng.generator(0, rng.Purpose.PACKING).permutation(len(lengths))
    numbers, count = np.empty(len(order), np.int64), 0
    with counted(range(0, len(order), _WINDOW), "packing sequences") as starts:
        for start in starts:
            window = order[start : start + _WINDOW]
            falling = np.argsort(-lengths[window], kind="stable")
            found = np.array(_best_fit(lengths[window[falling]].tolist(), width))
            numbers[start + falling] = count + found
            count += int(found.max()) + 1
    # In a row, sequences stand in the shuffled order, not by their lengths.
    sequences = order[np.argsort(numbers, kind="stable")]
    edges = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=count))])
    return Bins(sequences.astype(np.int64), edges.astype(np.int64))


def _best_fit(lengths: list[int], width: int) -> list[int]:
    """The number of the row of each sequence."""
    with_room: dict[int, list[int]] = defaultdict(list)
    rooms = 0  # bit r is set if some row has room for r more steps
    found, count = [], 0
    for length in lengths:
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            rows = with_room[room]
            row = rows.pop()
            if not rows:
                rooms ^= 1 << room
        else:
            room, row = width, count
            count += 1
        room -= length
        if room:
            with_room[room].append(row)
            rooms |= 1 << room
        found.append(row)
    return found
