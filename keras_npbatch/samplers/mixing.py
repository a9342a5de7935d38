"""`Mixing`: how far an order is from that of the data, from 0 to 1, and what it reads and holds.

    print(BlockShuffle(1024, blocks=16).describe(1_000_000))

There are two figures, and the worse one counts. **Runs**: the rows are taken for ten classes that
lie one after the other in the data, and the runs of equal classes are counted: in random order
there are `1 + sum n_c (n - n_c) / n` of them (A. M. Mood, "The distribution theory of runs", Annals
of Mathematical Statistics 11, 1940), in the order of the data ten. **Correlation**: the correlation
of the row at a position with the row at the next one, which is 0 for random order and 1 for the
order of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_npbatch.samplers.order import Rows

__all__ = ["Mixing", "mixing_of"]

_CLASSES = 10
_STRETCH = 2**14
"""Adjacent positions that are looked at together."""
_STRETCHES = 16
"""Stretches of the epoch that are looked at."""


@dataclass(frozen=True)
class Mixing:
    """How an epoch is mixed, and what it reads and holds."""

    score: float
    """1 for a full shuffle, 0 for the order of the data: the lower one of the next two."""
    runs: float
    """Runs of classes that lie together in the data, compared with those of a full shuffle."""
    correlation: float
    """1 less the correlation of each row number with the next one."""
    num_samples: int
    """Samples in an epoch."""
    rows_held: int | None
    """Rows of the storage that are held at once; None: any rows of the data."""
    bytes_read: int | None
    """Bytes that an epoch reads, if the size of a sample was given."""
    bytes_held: int | None
    """Bytes that are held at once, if they are bounded and the size of a sample was given."""

    def __str__(self) -> str:
        lines = [
            f"mixing {self.score:.3f} of 1 (class runs {self.runs:.3f}, serial correlation "
            f"{self.correlation:.3f})",
            f"reads {self.num_samples:,} samples an epoch{_in_bytes(self.bytes_read)}",
        ]
        if self.rows_held is not None:
            lines.append(f"holds {self.rows_held:,} rows at once{_in_bytes(self.bytes_held)}")
        return "\n".join(lines)


def mixing_of(
    read: Callable[[int, int], Rows],
    num_rows: int,
    num_samples: int,
    *,
    held_rows: int | None,
    sample_bytes: int | None,
) -> Mixing:
    """The figures of an order: of all its positions, or of 16 stretches of a long one.

    Args:
        read: gives the rows at positions `start..stop-1`.
        num_rows: rows in the data.
        num_samples: positions in the epoch.
        held_rows: see `Mixing.rows_held`.
        sample_bytes: the size of a sample.
    """
    if num_samples <= _STRETCH * _STRETCHES:
        stretches = [read(0, num_samples)]
    else:
        last = num_samples - _STRETCH
        begins = [last * number // (_STRETCHES - 1) for number in range(_STRETCHES)]
        stretches = [read(begin, begin + _STRETCH) for begin in begins]
    runs = expected = 0.0
    products = [np.empty(0)]
    middle, spread = (num_rows - 1) / 2, max((num_rows**2 - 1) / 12, 1e-12)
    num_classes = min(_CLASSES, num_rows)
    for rows in stretches:
        classes = rows * float(num_classes) // num_rows  # as floats: 64 bits may be too few
        runs += np.count_nonzero(np.diff(classes))
        # Of the whole data, not of the stretch: a stretch of one class is not a full shuffle.
        expected += (len(rows) - 1) * (1 - 1 / num_classes)
        centred = rows - middle
        products.append(centred[:-1] * centred[1:])
    joined = np.concatenate(products)
    correlated = float(joined.mean() / spread) if len(joined) else 0.0
    of_runs = min(1.0, runs / expected) if expected else 1.0
    of_correlation = 1 - min(1.0, abs(correlated))
    return Mixing(
        score=min(of_runs, of_correlation),
        runs=of_runs,
        correlation=of_correlation,
        num_samples=num_samples,
        rows_held=held_rows,
        bytes_read=None if sample_bytes is None else num_samples * sample_bytes,
        bytes_held=None if sample_bytes is None or held_rows is None else held_rows * sample_bytes,
    )


def _in_bytes(number: int | None) -> str:
    return "" if number is None else f", {number:,} bytes"
