"""Batches as TensorFlow tensors, without a copy where TensorFlow can take the memory as it is."""

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
"""The dtypes of NumPy, in the machine's byte order, whose memory TensorFlow shares."""


def to_tensors(batch: Tree) -> Tree:
    """The batch with a tensor for each leaf.

    A tensor that shares an array's memory holds the array until TensorFlow has done with it.
    """
    return converted(batch, _to_tensor, "TensorFlow")


def tensor_batches(
    batches: Iterator[Tree], convert: Callable[[Tree], Tree] = to_tensors
) -> Iterator[Tree]:
    """The batches with tensors for leaves.

    Args:
        batches: those with arrays.
        convert: what makes tensors of one.

    Raises:
        RuntimeError: for an `OutOfRangeError` of the user's code. It would reach Keras as the end
            of the data.
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
        del batch  # the caller's alone, while the next is made


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        if leaf.dtype not in _SHARED_DTYPES:
            if leaf.dtype.kind == "T":  # NumPy's StringDType, which TensorFlow does not know
                leaf = leaf.astype(object)
            return tf.convert_to_tensor(in_native_order(leaf))
        # Half the time of convert_to_tensor where it must be copied, a tenth where not.
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
    # TensorFlow's kernels abort the process on memory that is not aligned as its own is
    # (tensorflow/core/framework/tensor.h, "Check failed: IsAligned()"), and nothing checks it
    # on the way in: so it is checked here.
    flags = array.flags
    return (
        flags.c_contiguous
        and flags.writeable  # dlpack had no word for read-only memory before NumPy 2.1
        and array.__array_interface__["data"][0] % ALIGNMENT_BYTES == 0
    )
