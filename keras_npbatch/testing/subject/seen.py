"""What was seen of a batch: enough to compare it with others after its arrays are gone."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.as_array import as_array, as_numbers
from keras_npbatch.batches.parts import Parts, unpack
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, describe
from keras_npbatch.testing.subject import digests
from keras_npbatch.tree import Tree, flatten, leaves

__all__ = ["Leaf", "Seen", "contents", "see"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What was seen of a leaf of a batch."""

    path: str
    """Its path, such as `x['image']`."""
    told: str
    """Its description, for messages."""
    shape: tuple[int, ...] | None
    """Its shape, or None if it has none."""
    dtype: str
    """Its dtype; for strings of a fixed length, only the kind."""
    not_finite: int
    """Number of its values that are NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a batch."""

    step: int
    """Its step in the epoch."""
    fault: str | None
    """Why it is not a valid batch; None if it is."""
    structure: Any
    """Its nesting; equal nestings have equal structures."""
    leaves: tuple[Leaf, ...]
    """Its leaves, in a fixed order."""
    digest: bytes
    """A key of the whole batch."""
    size: int
    """Number of samples in the leaves; if they differ, in the first leaf."""
    inputs: list[bytes]
    """A key of the inputs of each sample, without padding; empty if leaves differ in size."""
    targets: list[bytes]
    """A key of the targets and weights of each sample."""
    blank: Parts
    """For each part, which samples have a single value in each of its leaves: `(n,)` bool."""
    weightless: npt.NDArray[np.bool_]
    """Which samples have a weight of 0 in each leaf of sample_weight, like padding: `(n,)`."""
    ids: list[Hashable]
    """The user's `sample_id` of each sample."""

    def wide(self, part: str) -> bool:
        """Whether a sample has several values in a part; single values often match by chance."""
        return any(
            math.prod(leaf.shape[1:]) > 1
            for leaf in self.leaves
            if leaf.shape and leaf.path.startswith(part)
        )

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """The shape of a sample in each leaf; it differs if samples are padded to the longest."""
        return tuple((leaf.shape or ())[1:] for leaf in self.leaves)


def see(
    batch: Tree, step: int, real_samples: int | None, sample_id: Callable[[Tree], Any] | None
) -> Seen:
    """Describe a batch.

    Args:
        batch: what the dataset returned.
        step: its step.
        real_samples: number of its samples that are not padding; None: all but those at its end
            that weigh nothing, and are blank or repeat others.
        sample_id: the user's function, or None.
    """
    try:
        parts, fault = unpack(batch, f"dataset[{step}]"), None
    except InvalidBatchError as error:
        parts, fault = Parts(None), str(error)
    seen = tuple(_leaf(path, leaf) for path, leaf in parts.leaves_with_paths())
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
    if real_samples is None and len(sizes) == 1:
        real_samples = _num_real(parts, size)
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
    """A key of the inputs, and one of the targets and weights, of each sample."""
    return list(zip(seen.inputs, seen.targets, strict=True))


def _num_real(parts: Parts, size: int) -> int:
    weightless = digests.weightless(parts.sample_weight, size)
    if not size or not weightless[-1]:
        return size
    inputs, blank = digests.samples(parts.x, size), digests.blank(parts.x, size)
    while size > 1 and weightless[size - 1]:
        if not blank[size - 1] and inputs[size - 1] not in inputs[: size - 1]:
            break
        size -= 1
    return size


def _leaf(path: str, leaf: Any) -> Leaf:
    shape = getattr(leaf, "shape", None)
    if shape is None:
        return Leaf(path, describe(leaf), None, type(leaf).__name__, 0)
    array = as_array(leaf)
    values = as_numbers(leaf)
    not_finite = int(values.size - np.isfinite(values).sum()) if values.dtype.kind in "fc" else 0
    # The longest string of a batch decides the length in the dtype, which means nothing.
    dtype = array.dtype.kind if array.dtype.kind in "US" else str(array.dtype)
    return Leaf(path, describe(leaf), tuple(array.shape), dtype, not_finite)


def _ids(told_by_user: Any, size: int) -> list[Hashable]:
    ids = as_array(told_by_user)
    if ids.ndim not in (1, 2) or len(ids) != size:
        raise InvalidArgumentError(
            f"sample_id(batch) returned {describe(told_by_user)} for a batch of {size}; expected "
            f"an array of shape ({size},), or ({size}, k) for ids read from k parts of the batch."
        )
    return [tuple(row) if ids.ndim == 2 else row for row in ids.tolist()]
