"""A leaf of a batch as a NumPy array, whatever made it.

    as_array(torch.ones(3, dtype=torch.bfloat16))       # float32 (3,)

`np.asarray` fails for tensors of Torch with a gradient or a dtype that NumPy lacks, and makes an
array of one object of a sparse matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_array", "as_numbers"]


def as_array(leaf: Any) -> npt.NDArray[Any]:
    """A leaf of a batch as a NumPy array, also from tensors, tables and sparse matrices."""
    if hasattr(leaf, "toarray"):
        leaf = leaf.toarray()
    elif hasattr(leaf, "resolve_conj"):
        return _of_torch(leaf)
    array: npt.NDArray[Any] = np.asarray(leaf)
    return array


def as_numbers(leaf: Any) -> npt.NDArray[Any]:
    """The same, with the small dtypes of `ml_dtypes`, such as bfloat16, as float32."""
    array = as_array(leaf)
    return array.astype(np.float32) if array.dtype.type.__module__ == "ml_dtypes" else array


def _of_torch(tensor: Any) -> npt.NDArray[Any]:
    plain = tensor.detach().cpu().to_dense().resolve_conj().resolve_neg()
    try:
        found = plain.numpy()
    except TypeError:  # bfloat16 and the like, which NumPy lacks
        found = plain.float().numpy()
    array: npt.NDArray[Any] = found
    return array
