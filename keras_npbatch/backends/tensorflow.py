"""Batches as TensorFlow tensors, without a copy where TensorFlow can take the memory as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import data_adapter_utils

from keras_npbatch.execution.slots import ALIGNMENT_BYTES
from keras_npbatch.tree import Tree, map_leaves

__all__ = ["to_tensors"]

_SHARED_KINDS = frozenset("biufc")
"""Kinds of NumPy dtypes whose memory TensorFlow shares: bool, integers, floats, complex."""


def to_tensors(batch: Tree) -> Tree:
    """The batch with a tensor for each leaf.

    A tensor that shares an array's memory holds the array until TensorFlow has done with it.
    """
    return map_leaves(_to_tensor, batch)


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        if _shareable(leaf):
            return tf.experimental.dlpack.from_dlpack(leaf.__dlpack__())
        return tf.convert_to_tensor(leaf)
    if data_adapter_utils.is_scipy_sparse(leaf):
        return data_adapter_utils.scipy_sparse_to_tf_sparse(leaf)
    return tf.convert_to_tensor(leaf)


def _shareable(array: np.ndarray[Any, Any]) -> bool:
    # TensorFlow's kernels abort the process on memory that is not aligned as its own is
    # (tensorflow/core/framework/tensor.h, "Check failed: IsAligned()"), and nothing checks it
    # on the way in: so it is checked here.
    flags = array.flags
    return (
        array.dtype.kind in _SHARED_KINDS
        and array.dtype.isnative
        and array.dtype.itemsize <= 16
        and flags.c_contiguous
        and flags.writeable
        and array.__array_interface__["data"][0] % ALIGNMENT_BYTES == 0
    )
