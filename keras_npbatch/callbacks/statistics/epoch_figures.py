"""`EpochFigures`: merges the figures of batches into those of an epoch, or of a validation.

figures = EpochFigures()
figures.add(summary, delivery)          # of each batch
figures.overall("data")                 # {"data/batches": 1.0, ...}
of_leaves(figures.moments)              # {"data/x/mean": 0.5, ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from keras_npbatch.batches.class_counts import add_counts
from keras_npbatch.batches.moments import Moments
from keras_npbatch.batches.summary import MOST_CLASSES, Counts, Summary
from keras_npbatch.fit.deliveries import Delivery

__all__ = ["EpochFigures", "of_classes", "of_leaves"]


class EpochFigures:
    """The figures of an epoch, or of a validation, so far."""

    def __init__(self) -> None:
        self.began = self.ended = perf_counter()
        self.waited_s = 0.0
        self.length = self.padded_length = 0
        """Of all samples, and when each batch is padded to its longest, if the sampler knows it."""
        self.batches = self.samples = self.num_bytes = 0
        self.moments: dict[str, Moments] = {}
        self.classes: dict[str, Counts] = {}
        self._numbers: set[str] = set()
        """Leaves with too many values to be classes."""

    def add(self, found: Summary, delivery: Delivery) -> None:
        """Add the figures of a batch."""
        lengths = delivery.plan.sampler.lengths_of(delivery.rows)
        if lengths is not None:
            self.length += int(lengths.sum())
            self.padded_length += len(lengths) * int(lengths.max(initial=0))
        self.batches += 1
        self.samples += found.samples
        self.num_bytes += found.num_bytes
        self.waited_s += delivery.waited_s
        for name, of_batch in found.moments.items():
            before = self.moments.get(name)
            self.moments[name] = of_batch if before is None else before.merged(of_batch)
        for name, counts in found.classes.items():
            if name not in self._numbers:
                total = self.classes.setdefault(name, {})
                add_counts(total, counts)
                if len(total) > MOST_CLASSES:
                    self._numbers.add(name)
                    del self.classes[name]
        self.ended = perf_counter()

    def overall(self, root: str) -> dict[str, float]:
        """The figures that are not of a single leaf."""
        took_s = max(self.ended - self.began, 1e-9)
        waste = {}
        if self.padded_length:
            waste = {f"{root}/padding_waste": 1 - self.length / self.padded_length}
        return waste | {
            f"{root}/batches": float(self.batches),
            f"{root}/samples": float(self.samples),
            f"{root}/bytes": float(self.num_bytes),
            f"{root}/samples_per_second": self.samples / took_s,
            f"{root}/wait_share": min(self.waited_s / took_s, 1.0),
        }


def of_leaves(moments: Mapping[str, Moments], root: str = "data") -> dict[str, float]:
    """The figures of each leaf, by name."""
    return {
        f"{root}/{name}/{figure}": value
        for name, found in moments.items()
        for figure, value in found.figures().items()
    }


def of_classes(classes: Mapping[str, Counts], root: str = "data") -> dict[str, float]:
    """The counts of each class, by name."""
    return {
        f"{root}/{name}/class_{number}": float(count)
        for name, counts in classes.items()
        for number, count in sorted(counts.items())
    }
