"""Batches as Torch tensors that share the memory of the arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch

from keras_npbatch.tree import Tree, map_leaves

__all__ = ["to_tensors"]

_SHARED_DTYPES = frozenset(
    np.dtype(name)
    for name in (
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    )
)
"""The dtypes that Torch and Keras have alike; Keras widens others (uint32 becomes int64)."""


def to_tensors(batch: Tree) -> Tree:
    """The batch with a tensor for each leaf, on the device that Keras uses.

    A tensor that shares an array's memory holds the array.
    """
    return map_leaves(_to_tensor, batch)


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype in _SHARED_DTYPES:
        # Keras would copy an array (`np.array` in its convert_to_tensor), but not a tensor.
        # Torch refuses negative strides and warns of memory that must not be written to.
        if not leaf.flags.c_contiguous or not leaf.flags.writeable:
            leaf = np.array(leaf, order="C")
        leaf = torch.from_numpy(leaf)
    return keras.ops.convert_to_tensor(leaf)
