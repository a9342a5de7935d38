"""What was seen of a batch: enough to compare it with others when its arrays are long gone."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.parts import Parts, unpack
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, told
from keras_npbatch.testing.subject import digests
from keras_npbatch.tree import Tree, flatten, leaves, leaves_with_paths

__all__ = ["Leaf", "Seen", "contents", "see"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What was seen of a leaf of a batch."""

    path: str
    """Where it is: `x['image']`."""
    told: str
    """What it is, for messages."""
    shape: tuple[int, ...] | None
    """Its shape; None for what has none."""
    dtype: str
    """Its dtype; for texts of a fixed length, their kind alone."""
    not_finite: int
    """How many of its values are NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a batch."""

    step: int
    """Which batch of its epoch."""
    fault: str | None
    """Why it is no batch, if it is none."""
    structure: Any
    """Its nesting; the same object for the same."""
    leaves: tuple[Leaf, ...]
    """Its leaves, in a fixed order."""
    digest: bytes
    """A key of the whole."""
    size: int
    """How many samples the leaves have, if they agree; else that of the first."""
    inputs: list[bytes]
    """A key of the inputs of each sample; none if the leaves disagree, or for padding."""
    targets: list[bytes]
    """A key of the targets and weights of each sample."""
    blank: Parts
    """For each part which samples have one value all over in each of its leaves: `(n,)` bool."""
    weightless: npt.NDArray[np.bool_]
    """Which samples have a weight of 0 in each leaf of sample_weight, as padding has: `(n,)`."""
    ids: list[Hashable]
    """What the user's `sample_id` told of each sample."""

    def wide(self, part: str) -> bool:
        """Whether a sample has several values in a part: one alone is often that of the next."""
        return any(
            math.prod(leaf.shape[1:]) > 1
            for leaf in self.leaves
            if leaf.shape and leaf.path.startswith(part)
        )

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """The shape of a sample in each leaf; padding to the longest makes it differ."""
        return tuple((leaf.shape or ())[1:] for leaf in self.leaves)


def see(
    batch: Tree, step: int, real_samples: int | None, sample_id: Callable[[Tree], Any] | None
) -> Seen:
    """What there is to see of a batch.

    Args:
        batch: what the dataset returned.
        step: where.
        real_samples: how many of its samples are no padding; None: all.
        sample_id: the user's.
    """
    try:
        parts, fault = unpack(batch, f"dataset[{step}]"), None
    except InvalidBatchError as error:
        parts, fault = Parts(None), str(error)
    seen = tuple(
        _leaf(path, leaf)
        for name, part in zip(Parts._fields, parts, strict=True)
        for path, leaf in leaves_with_paths(part, name)
    )
    if fault is None and not leaves(parts.x):
        fault = f"dataset[{step}] has no array in x"
    shapeless = next((leaf for leaf in seen if not leaf.shape), None)
    if fault is None and shapeless is not None:
        fault = (
            f"dataset[{step}] has {shapeless.told} for {shapeless.path}; expected an array whose "
            "first dimension counts samples"
        )
    if fault is not None:
        return Seen(step, fault, None, seen, b"", 0, [], [], Parts(None), np.array([]), [])
    sizes = {leaf.shape[0] for leaf in seen if leaf.shape}
    size = seen[0].shape[0] if seen[0].shape else 0
    real = size if real_samples is None else min(size, real_samples)
    comparable = real if len(sizes) == 1 else 0
    return Seen(
        step=step,
        fault=None,
        structure=flatten(batch)[1],
        leaves=seen,
        digest=digests.whole(batch),
        size=size,
        inputs=digests.samples(parts.x, comparable),
        targets=digests.samples((parts.y, parts.sample_weight), comparable),
        blank=Parts(*(digests.blank(part, comparable) for part in parts)),
        weightless=digests.weightless(parts.sample_weight, comparable),
        ids=[] if sample_id is None else _ids(sample_id(batch), size)[:real],
    )


def contents(seen: Seen) -> list[tuple[bytes, bytes]]:
    """A key of each sample: of its inputs, targets and weights."""
    return list(zip(seen.inputs, seen.targets, strict=True))


def _leaf(path: str, leaf: Any) -> Leaf:
    shape = getattr(leaf, "shape", None)
    if shape is None:
        return Leaf(path, told(leaf), None, type(leaf).__name__, 0)
    array = digests.as_array(leaf)
    not_finite = int(np.size(array) - np.isfinite(array).sum()) if array.dtype.kind in "fc" else 0
    # Of texts the longest decides; that of a batch means nothing.
    dtype = array.dtype.kind if array.dtype.kind in "US" else str(array.dtype)
    return Leaf(path, told(leaf), tuple(array.shape), dtype, not_finite)


def _ids(told_by_user: Any, size: int) -> list[Hashable]:
    ids = digests.as_array(told_by_user)
    if ids.ndim not in (1, 2) or len(ids) != size:
        raise InvalidArgumentError(
            f"sample_id(batch) returned {told(told_by_user)} for a batch of {size}; expected an "
            f"array of shape ({size},), or ({size}, k) for ids read from k parts of the batch."
        )
    return [tuple(row) if ids.ndim == 2 else row for row in ids.tolist()]
