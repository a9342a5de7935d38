"""`look_at`: the next batch of a dataset, made without leaving a trace, and its values as text.

    seen = look_at(train)
    seen.leaves["y"][0]       # of the first sample
    text_of(seen.leaves["x"][0])

What shows a dataset (in a notebook, in a picture) must not change what is trained on. So a copy is
read, in the calling thread, and the global generators are restored.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.parts import unpack
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree, leaves_with_paths

__all__ = ["Look", "look_at", "text_of"]

_VALUES_TOLD = 8
_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Look:
    """The first batch of the epoch that comes next."""

    epoch: int
    """The epoch."""
    rows: Rows | None
    """The rows of its samples; None for batches side by side, which have none."""
    leaves: dict[str, Any]
    """Its leaves, by paths such as `x['image']`."""

    @property
    def num_samples(self) -> int:
        """How many samples the leaves have in common."""
        sizes = [len(leaf) for leaf in self.leaves.values()]
        return min(sizes, default=0) if self.rows is None else len(self.rows)


def look_at(dataset: Any) -> Look:
    """Make the first batch of the epoch that comes next.

    Neither the dataset changes, nor its position, cache, workers, or a global generator. An
    exception of the user's code is raised as it is.
    """
    twin = _twin(dataset)
    core = core_of(twin)
    with rng.untouched(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # training gives these warnings too
        batch = twin[0]
        rows = twin.rows(0) if core.has_rows else None
    return Look(core.epoch, rows, _named(batch, core.has_rows))


def _twin(dataset: Any) -> Any:
    """A copy that shares the data, and nothing that reading them changes."""
    twin = copy.copy(dataset)
    core = core_of(twin)
    core.cache = None
    core.datasets = tuple(_twin(each) for each in core.datasets)
    return twin


def _named(batch: Tree, has_rows: bool) -> dict[str, Any]:
    if not has_rows:
        return dict(leaves_with_paths(batch, "batch"))
    return dict(unpack(batch, "the dataset").leaves_with_paths())


def text_of(value: Any) -> str:
    """One sample of a leaf as a short text: its value, its first values, or its shape and range."""
    if callable(getattr(value, "toarray", None)):  # a row of a sparse matrix
        value = value.toarray().reshape(-1)
    array = np.asarray(value)
    if array.ndim == 0:
        return _one(array[()])
    if array.ndim == 1:
        told = " ".join(_one(item) for item in array[:_VALUES_TOLD])
        return f"{told} ..." if len(array) > _VALUES_TOLD else told
    text = f"shape {array.shape}"
    if array.dtype.kind in "biuf" and array.size:
        text += f", {_one(array.min())} to {_one(array.max())}"
    return text


def _one(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    if isinstance(value, bytes):
        value = bytes(value)  # not one of NumPy's
    told = str(value) if isinstance(value, str | np.generic) else repr(value)
    text = " ".join(told.split())
    return f"{text[: _CHARACTERS - 3]}..." if len(text) > _CHARACTERS else text
