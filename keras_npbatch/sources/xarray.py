"""xarray DataArrays and Datasets as sources: the first dimension counts samples.

What is in memory is read as the array it is, dask arrays by their chunks, and what xarray has
opened from a file by slices and the file's chunks. Coordinates are not read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.arrays import array_source
from keras_npbatch.sources.dask import dask_source
from keras_npbatch.sources.slices import SlicedStorage
from keras_npbatch.sources.source import Source, refuse_scalar

__all__ = ["xarray_columns", "xarray_source"]


def xarray_columns(leaf: Any, path: str) -> dict[str, Any] | None:
    """The variables of an xarray Dataset; else None."""
    if not _is_xarray(leaf) or not hasattr(leaf, "data_vars"):
        return None
    variables = {str(name): variable for name, variable in leaf.data_vars.items()}
    firsts = {name: variable.dims[:1] for name, variable in variables.items()}
    if len(set(firsts.values())) != 1:
        told = ", ".join(f"{name!r}: {variables[name].dims}" for name in firsts)
        raise InvalidDataError(
            f"{path} is a Dataset of variables of the dimensions {told or 'none'}; expected one "
            "or more whose first dimension is the same, and counts samples. Choose variables "
            f"(`{path}[['a', 'b']]`), or bring that dimension to the front: "
            f"`{path}.transpose('sample', ...)`."
        )
    return variables


def xarray_source(leaf: Any, path: str) -> Source | None:
    """The source of an xarray DataArray or Variable; else None."""
    if not _is_xarray(leaf) or not hasattr(leaf, "dims") or not hasattr(leaf, "dtype"):
        return None
    refuse_scalar(leaf.shape, path)
    variable = getattr(leaf, "variable", leaf)
    # A name with an underscore: without it, all would be read as a file is, which is right too.
    if leaf.chunks is not None or getattr(variable, "_in_memory", False):
        data = leaf.data
        return dask_source(data, path) or array_source(data, path)
    return SlicedStorage(_OpenedVariable(variable), path)


def _is_xarray(leaf: Any) -> bool:
    return type(leaf).__module__.partition(".")[0] == "xarray"


class _OpenedVariable:
    """A variable in a file, as an array that is read by slices."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self.shape, self.dtype = variable.shape, np.dtype(variable.dtype)
        stored = variable.encoding.get("preferred_chunks") or {}
        self.chunks = tuple(stored.get(name, 0) for name in variable.dims) if stored else None

    def __getitem__(self, rows: slice) -> Any:
        return self._variable[rows].values  # of a new variable, so that nothing is kept here
