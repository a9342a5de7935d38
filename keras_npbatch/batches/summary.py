"""What is in a batch, in figures: computed where it is made, and merged where they are wanted.

    make = summing(recipe, plan, summarise)
    batch, summary = make(epoch=2, step=7)
    summary.moments["x"].mean

A worker has the batch in its caches and time to spare; training has neither. So the worker, a
thread or a process, computes the figures and sends them with the batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.as_array import as_numbers
from keras_npbatch.batches.moments import Moments
from keras_npbatch.batches.parts import unpack
from keras_npbatch.batches.set_aside import Lacking
from keras_npbatch.plan.plan import Plan
from keras_npbatch.tree import Tree

__all__ = [
    "MOST_CLASSES",
    "Counts",
    "Summarise",
    "Summary",
    "Summed",
    "classes_in",
    "name_of",
    "named",
    "summarise",
    "summing",
]

Counts: TypeAlias = dict[int, int]
"""How many samples there are of each class, by its number."""

Summarise: TypeAlias = Callable[[Tree, int], Any]
"""`summarise(batch, samples)`: computes anything from a batch whose first `samples` rows are not
padding. It is sent to worker processes by name."""

MOST_CLASSES = 1000
"""Targets with more different values are taken for numbers, not classes."""


class Summed(NamedTuple):
    """A batch, and what was computed from it."""

    batch: Tree
    """The batch, or a `Lacking`."""
    summary: Any


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a batch."""

    samples: int
    """Samples, without padding."""
    num_bytes: int
    """Bytes of its arrays, with padding."""
    moments: dict[str, Moments]
    """The moments of each leaf of numbers, by names such as `x/image`."""
    classes: dict[str, Counts]
    """The counts of each leaf of class numbers or one-hot rows in `y`, by the same names."""


def summing(
    make: Callable[[int, int], Tree], plan: Plan, summarise: Summarise
) -> Callable[[int, int], Summed]:
    """A maker whose batches come with what `summarise` computes from them."""

    def make_and_summarise(epoch: int, step: int) -> Summed:
        made, samples = make(epoch, step), len(plan.rows(epoch, step))
        if isinstance(made, Lacking):
            return Summed(made, summarise(made.batch, samples - len(made.failures)))
        return Summed(made, summarise(made, samples))

    return make_and_summarise


def summarise(batch: Tree, samples: int) -> Summary:
    """The figures of a batch; the rows after the first `samples` are padding."""
    num_bytes = 0
    moments: dict[str, Moments] = {}
    classes: dict[str, Counts] = {}
    for name, leaf in named(batch):
        num_bytes += getattr(leaf, "nbytes", 0)
        if hasattr(leaf, "toarray"):  # a sparse matrix, which may be too large to be dense
            continue
        array = as_numbers(leaf)
        if array.dtype.kind not in "biuf":
            continue
        array = array[:samples]
        moments[name] = Moments.of(array)
        found = classes_in(array) if name == "y" or name.startswith("y/") else None
        if found is not None:
            classes[name] = found
    return Summary(samples, num_bytes, moments, classes)


def named(batch: Tree) -> list[tuple[str, Any]]:
    """The leaves, with names such as `x`, `x/image`, `y/0`."""
    parts = unpack(batch, "the dataset")
    return [(name_of(path), leaf) for path, leaf in parts.leaves_with_paths()]


def name_of(path: str) -> str:
    """`x/image` for the path `x['image']`."""
    return re.sub(r"\[('?)(.*?)\1\]", r"/\2", path)


def classes_in(array: npt.NDArray[Any]) -> Counts | None:
    """How many samples each class has; None if these are neither class numbers nor one-hot rows."""
    if array.ndim == 2 and array.shape[1] > 1:
        ones = array == 1
        if not (ones | (array == 0)).all() or not (ones.sum(axis=1) == 1).all():
            return None
        array = ones.argmax(axis=1)
    elif array.dtype.kind == "f" or array.ndim > 2:
        return None
    numbers = array.reshape(-1)
    if not len(numbers):
        return {}
    if numbers.min() >= 0 and numbers.max() < MOST_CLASSES:
        counts = np.bincount(numbers)
        (present,) = counts.nonzero()
        counts = counts[present]
    else:
        present, counts = np.unique(numbers, return_counts=True)
    if len(present) > MOST_CLASSES:
        return None
    return dict(zip(map(int, present.tolist()), counts.tolist(), strict=True))
