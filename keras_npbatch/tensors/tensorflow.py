"""Batches as TensorFlow tensors, without a copy where TensorFlow can use the array's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import data_adapter_utils

from keras_npbatch.batches.slots import ALIGNMENT_BYTES, aligned_copy
from keras_npbatch.tensors.conversion import converted, in_native_order
from keras_npbatch.tree import Tree

__all__ = ["tensor_batches", "to_tensors"]

_SHARED_DTYPES = frozenset(
    np.dtype(name)
    for name in (
        "bool",
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)
"""The NumPy dtypes, in the machine's byte order, whose memory TensorFlow can share."""


def to_tensors(batch: Tree) -> Tree:
    """The batch with a tensor for each leaf.

    A tensor that shares an array's memory keeps the array alive until TensorFlow is done with it.
    """
    return converted(batch, _to_tensor, "TensorFlow")


def tensor_batches(
    batches: Iterator[Tree], convert: Callable[[Tree], Tree] = to_tensors
) -> Iterator[Tree]:
    """The batches with tensors for leaves.

    Args:
        batches: the batches with arrays.
        convert: converts one batch.

    Raises:
        RuntimeError: in place of an `OutOfRangeError` from the user's code, which Keras would take
            for the end of the data.
    """
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.OutOfRangeError as error:
            translated = RuntimeError(f"OutOfRangeError while a batch was made: {error.message}")
            for note in getattr(error, "__notes__", ()):
                translated.add_note(note)
            raise translated from error
        yield convert(batch)
        del batch  # the caller has the only reference while the next one is made


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        if leaf.dtype not in _SHARED_DTYPES:
            if leaf.dtype.kind == "T":  # NumPy's StringDType, which TensorFlow doesn't support
                leaf = leaf.astype(object)
            return tf.convert_to_tensor(in_native_order(leaf))
        # Takes half the time of convert_to_tensor with a copy, and a tenth without.
        shared = leaf if _is_shareable(leaf) else aligned_copy(leaf)
        return tf.experimental.dlpack.from_dlpack(shared.__dlpack__())
    if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor):
        return leaf
    if data_adapter_utils.is_scipy_sparse(leaf):
        return data_adapter_utils.scipy_sparse_to_tf_sparse(leaf)
    if data_adapter_utils.is_jax_sparse(leaf):
        return data_adapter_utils.jax_sparse_to_tf_sparse(leaf)
    return tf.convert_to_tensor(leaf)


def _is_shareable(array: np.ndarray[Any, Any]) -> bool:
    # TensorFlow's kernels abort the process on memory that is not aligned like its own
    # (tensorflow/core/framework/tensor.h, "Check failed: IsAligned()"), and TensorFlow does not
    # check this on conversion, so it is checked here.
    flags = array.flags
    return (
        flags.c_contiguous
        and flags.writeable  # before NumPy 2.1, dlpack could not express read-only memory
        and array.__array_interface__["data"][0] % ALIGNMENT_BYTES == 0
    )
