"""Short keys of batches and samples, to compare many of them without keeping any.

whole(batch)            # changes with any bit, dtype, shape, or the structure
samples(batch, 32)      # one key for each of its 32 samples, from their contents alone
"""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.as_array import as_array, as_numbers
from keras_npbatch.tree import Tree, flatten, leaves

__all__ = ["blank", "samples", "weightless", "whole"]

_DIGEST_BYTES = 16


def whole(batch: Tree) -> bytes:
    """A key of everything in a batch that a model could notice."""
    found, structure = flatten(batch)
    key = hashlib.blake2b(repr(structure).encode(), digest_size=_DIGEST_BYTES)
    for leaf in found:
        array = as_array(leaf)
        key.update(f"{array.dtype.str}{array.shape}".encode())
        key.update(_contents(array))
    return key.digest()


def samples(batch: Tree, num_samples: int) -> list[bytes]:
    """A key for each sample, made of its values in every leaf of `batch`."""
    arrays = [as_array(leaf) for leaf in leaves(batch)]
    return [_of_sample(arrays, number) for number in range(num_samples)]


def blank(part: Tree, num_samples: int) -> npt.NDArray[np.bool_]:
    """Which samples of a part have a single value in each leaf, like samples never written."""
    found = np.ones(num_samples, bool)
    for leaf in leaves(part):
        rows = as_numbers(leaf)[:num_samples]
        if rows.dtype.kind not in "biufc" or not rows.size:
            return np.zeros(num_samples, bool)
        rows = rows.reshape(num_samples, -1)
        found &= (rows == rows[:, :1]).all(axis=1)
    return found


def weightless(sample_weight: Tree, num_samples: int) -> npt.NDArray[np.bool_]:
    """Which samples have a weight of 0 in each leaf; none if there are no weights."""
    weights = [as_array(leaf)[:num_samples] for leaf in leaves(sample_weight)]
    if not weights or not num_samples:
        return np.zeros(num_samples, bool)
    found = np.ones(num_samples, bool)
    for weight in weights:
        found &= (weight == 0).reshape(num_samples, -1).all(axis=1)
    return found


def _of_sample(arrays: list[npt.NDArray[Any]], number: int) -> bytes:
    key = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for array in arrays:
        key.update(_contents(array[number : number + 1]))
    return key.digest()


def _contents(array: npt.NDArray[Any]) -> bytes:
    if array.dtype.hasobject or array.dtype.kind == "T":
        return pickle.dumps(array.tolist())
    # Bytes between numbers may hold anything.
    if array.dtype.names is not None:
        return b"".join(_contents(array[name]) for name in array.dtype.names)
    if array.dtype.char in "gG":
        return repr(array.tolist()).encode()
    return array.tobytes()
