"""Batches for JAX: NumPy arrays, which JAX on a CPU takes without a copy if they are aligned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

import jax
import numpy as np
from keras.src.trainers.data_adapters import data_adapter_utils

from keras_npbatch.tensors.conversion import converted, in_native_order
from keras_npbatch.tree import Tree, leaves

__all__ = ["computes_on_cpu", "stacked", "to_arrays"]


def to_arrays(batches: Iterable[Tree]) -> Iterator[Tree]:
    """The batches with arrays for leaves; Keras converts leaves that are not arrays."""
    for batch in batches:
        found = batch if type(batch) is tuple else leaves(batch)
        dtypes = [leaf.dtype for leaf in found if type(leaf) is np.ndarray]
        if len(dtypes) == len(found) and all(map(_is_taken, dtypes)):
            yield batch
        else:
            yield from _converted(batch)
        del batch, found  # the caller has the only reference while the next one is made


def _converted(batch: Tree) -> Iterator[Tree]:
    """A batch that is nested, or has a leaf that is not an array or has a dtype that JAX lacks."""
    if all(type(leaf) is np.ndarray for leaf in leaves(batch)):
        return iter([converted(batch, _in_dtype_of_jax, "JAX")])
    return cast(Iterator[Tree], data_adapter_utils.get_jax_iterator([batch]))


def stacked(batches: Iterator[Tree], number: int) -> Iterator[Any]:
    """The batches, `number` of them stacked into one; those left over in the list Keras expects."""
    return cast(
        Iterator[Any],
        data_adapter_utils.super_batch_iterator(batches, number, stack_fn=np.stack),
    )


@cache
def _has_tensor(dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "V":  # bfloat16 and other dtypes of ml_dtypes
        return dtype.names is None
    return dtype.kind in "biufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


@cache
def _is_taken(dtype: np.dtype[Any]) -> bool:
    return dtype.isnative and _has_tensor(dtype)


def _in_dtype_of_jax(leaf: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not _has_tensor(leaf.dtype):
        raise TypeError(f"JAX has no dtype {leaf.dtype}")
    return in_native_order(leaf)


def computes_on_cpu() -> bool:
    """Whether a step runs on the CPU: in JAX's threads, while Python continues."""
    return bool(jax.default_backend() == "cpu")
