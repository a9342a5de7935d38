"""The sources of the data: one for each leaf, of the first kind that takes it.

    source = as_source(np.load("images.npy", mmap_mode="r"), path="x")
    source.read(rows, empty=np.empty)      # the rows, in the order asked for

A source reads the rows it is asked for and nothing else: the data are never copied as a whole,
whether they are an array, a memory map, a view with strides, a table or a dataset in a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.sources.arrays import array_source
from keras_npbatch.sources.arrow import arrow_columns, arrow_source
from keras_npbatch.sources.dask import dask_source
from keras_npbatch.sources.filled import Filled
from keras_npbatch.sources.frames import frame_source
from keras_npbatch.sources.huggingface import huggingface_columns, huggingface_source
from keras_npbatch.sources.parquet import parquet_columns, parquet_source, read_together
from keras_npbatch.sources.polars import polars_columns, polars_source
from keras_npbatch.sources.ragged import (
    Ragged,
    ragged_source,
    ragged_sources,
    refuse_other_packing,
)
from keras_npbatch.sources.slices import sliced_source
from keras_npbatch.sources.source import Source, own_source
from keras_npbatch.sources.sparse import sparse_source
from keras_npbatch.sources.storage import storage_source
from keras_npbatch.sources.stored_parts import parts_source
from keras_npbatch.sources.tables import how_to_convert, refuse_nulls
from keras_npbatch.sources.windows import Windows, aligned_leaves, windows_source
from keras_npbatch.sources.xarray import xarray_columns, xarray_source
from keras_npbatch.tree import Tree, leaves, leaves_with_paths, map_with_paths

__all__ = ["SOURCES", "TABLES", "as_source", "as_sources", "num_rows", "of_one_dataset"]

_MOST_INPUTS_IN_A_LIST = 16

SOURCES: tuple[Callable[[Any, str], Source | None], ...] = (
    ragged_source,
    windows_source,
    parts_source,
    frame_source,
    sparse_source,
    array_source,
    arrow_source,
    parquet_source,
    polars_source,
    huggingface_source,
    xarray_source,
    dask_source,
    sliced_source,
    own_source,
    storage_source,
)
"""Every kind of source: each function gives one for data of its kind, and None for others."""

TABLES: tuple[Callable[[Any, str], dict[str, Any] | None], ...] = (
    arrow_columns,
    parquet_columns,
    polars_columns,
    huggingface_columns,
    xarray_columns,
)
"""Every kind of table that is a dict of its columns: each function gives it, or None for others."""


def as_source(leaf: Any, path: str) -> Source:
    """The source that reads `leaf`.

    Args:
        leaf: a NumPy array or memory map; a pandas Series (read as one column, as Keras does) or
            DataFrame; a table of numbers or a column of Arrow, Parquet or polars; a column of
            Hugging Face's `datasets`; an array of xarray or dask; a scipy sparse matrix; a
            TensorFlow, JAX or Torch tensor (viewed as a NumPy array once); a dataset of HDF5, Zarr
            or TensorStore; a source itself, such as those of `keras_npbatch.sources`; or anything
            with `shape`, `dtype` and row indexing.
        path: the leaf's path for messages, such as `x['image']`.

    Raises:
        InvalidDataError: if it can't be read by rows, or is a table or column of pandas, polars or
            Arrow in which values are missing.
    """
    refuse_nulls(leaf, path)
    for kind in SOURCES:
        source = kind(leaf, path)
        if source is not None:
            return source
    if isinstance(leaf, Filled):
        raise InvalidDataError(
            f"{path} is {leaf!r}; expected a table or column of pandas, polars, Arrow, Parquet or "
            "`datasets` in Filled. In other data nothing can be missing: pass them as they are."
        )
    raise InvalidDataError(
        f"{path} is {describe(leaf)}; expected an array: anything with `shape`, `dtype` and "
        f"row indexing. {how_to_convert(leaf, path)}"
    )


def as_sources(tree: Tree, root: str) -> Tree:
    """The same nesting with a source for each leaf, or a dict of them for a leaf that is several.

    Raises:
        InvalidDataError: for a leaf that can't be read by rows, or a list that looks like a list
            of samples: each would be read as an input of the model, by the rows within it.
    """
    if isinstance(tree, list) and len(tree) > _MOST_INPUTS_IN_A_LIST:
        if all(isinstance(item, str | os.PathLike) for item in tree):
            raise InvalidDataError(
                f"{root} is a list of {len(tree)} paths or texts, which would be as many inputs of "
                "the model; expected an array. Texts: "
                f"`np.asarray({root})`. Files, one a sample: "
                f"`keras_npbatch.sources.Files({root}, read)`, with a function that reads one."
            )
        if all(isinstance(item, int | float | np.number) for item in tree):
            raise InvalidDataError(
                f"{root} is a list of {len(tree)} numbers, which would be as many inputs of the "
                f"model; expected an array. Write `np.asarray({root})`."
            )
        raise InvalidDataError(
            f"{root} is a list of {len(tree)} items, which would be as many inputs of the model; "
            "expected arrays whose first dimension counts samples. Make one array of samples "
            f"(`np.stack`), or `keras_npbatch.sources.Ragged({root})` if their lengths differ; if "
            "they are inputs, pass a tuple."
        )
    tree = map_with_paths(_columns_of, tree, root)
    return map_with_paths(_sources_of, tree, root)


def _sources_of(path: str, leaf: Any) -> Source | dict[str, Source]:
    return ragged_sources(leaf) if isinstance(leaf, Ragged) else as_source(leaf, path)


def of_one_dataset(**trees: Tree) -> dict[str, Tree]:
    """The same trees of sources, as they are read by one dataset.

    Windows have only the rows that all of them have, and columns of the same Parquet files are
    read together.

    Raises:
        InvalidDataError: for windows that can't be aligned, or sequences that are packed otherwise.
    """
    every = {
        path: source
        for root, tree in trees.items()
        for path, source in leaves_with_paths(tree, root)
    }
    refuse_other_packing(every)
    read_together(list(every.values()))
    found = {path: source for path, source in every.items() if isinstance(source, Windows)}
    if len(found) < 2:
        return trees
    made = aligned_leaves(found)
    return {
        root: map_with_paths(lambda path, source: made.get(path, source), tree, root)
        for root, tree in trees.items()
    }


def _columns_of(path: str, leaf: Any) -> Tree:
    """The columns of a table of several kinds of data; any other leaf itself."""
    for kind in TABLES:
        columns = kind(leaf, path)
        if columns is not None:
            refuse_nulls(leaf, path)  # while the table is known by its path
            return columns
    return leaf


def num_rows(**trees: Tree) -> int:
    """How many rows the sources of all `trees` have.

    Raises:
        InvalidDataError: if there is no leaf, or two leaves differ in their number of rows.
    """
    counted = [
        (path, source.shape[0])
        for root, tree in trees.items()
        for path, source in leaves_with_paths(tree, root)
    ]
    if not leaves(trees.get("x")):
        raise InvalidDataError("x has no leaf; expected at least one array to read samples from.")
    first_path, first = counted[0]
    for path, rows in counted:
        if rows != first:
            raise InvalidDataError(
                f"{path} has {rows} rows, but {first_path} has {first}; expected the same number "
                f"in every leaf. {_how_to_agree(trees, path)}"
            )
    return int(first)


def _how_to_agree(trees: Mapping[str, Tree], other: str) -> str:
    windows = [
        (path, source)
        for root, tree in trees.items()
        for path, source in leaves_with_paths(tree, root)
        if isinstance(source, Windows)
    ]
    if windows:
        (path, source), stride = windows[0], ""
        if source.stride != 1:
            stride = f", stride={source.stride}"
        told = f"Windows({other}, length=1, offset={source.own_reach}{stride})"
        return (
            f"The rows of {path} are windows, not time steps. For the value right after each "
            f"window, write keras_npbatch.sources.{told}; for a value that belongs to a window, "
            "give an array with a row for each window."
        )
    sources = [source for tree in trees.values() for source in leaves(tree)]
    if any(isinstance(source, Ragged) and source.is_packed for source in sources):
        return (
            "A row of packed sequences has several of them. Pack what belongs to time steps too: "
            "`Ragged(tags, pad_to=..., pack=True).values`. So is what belongs to a whole sequence: "
            "repeat it for each time step, with a sample_weight of 1 at the last one and 0 "
            "elsewhere."
        )
    for root, tree in trees.items():
        if isinstance(tree, list):
            return (
                f"{root} is a list, so each of its items is read as an input of the model; if they "
                "are samples, make one array of them (`np.stack`), or "
                f"`keras_npbatch.sources.Ragged({root})` if their lengths differ."
            )
    return "Check how they were selected."
