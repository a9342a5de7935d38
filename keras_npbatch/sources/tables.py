"""Tables and columns of pandas, polars, Arrow and others: missing values, and how to convert them.

    refuse_nulls(frame, "x")       # column 'age' of x has no value in row 3 and 2 more, ...
    how_to_convert(series, "x")    # "Convert it: `x.to_numpy()`."

NumPy has no missing numbers. Converted, they would become NaN, and so would the loss, so they are
refused. A NaN in a column of floats is a value and passes. So does NaT in an array of NumPy; in
pandas it is how a date is missing, with a time zone or without, and refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.paths import Paths

__all__ = [
    "CONVERTED",
    "OTHERS_FILLED",
    "how_to_convert",
    "refuse_lists",
    "refuse_null_rows",
    "refuse_nulls",
]


CONVERTED = frozenset(("dask", "datasets", "polars", "pyarrow", "tensorstore"))
"""Packages for whose objects `how_to_convert` knows what to write."""


def refuse_null_rows(column: str, rows: Sequence[Any] | npt.NDArray[Any], filling: str) -> None:
    """Refuse a column if there are rows without a value.

    Args:
        column: what the column is called in the message.
        rows: the rows that have no value.
        filling: what to write to fill them.

    Raises:
        InvalidDataError: naming the column and the first row.
    """
    if not len(rows):
        return
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    raise InvalidDataError(
        f"{column} has no value in row {rows[0]}{more}, which would become NaN or an object; "
        f"expected a value in every row. Fill them ({filling}) or leave these rows "
        "out, and tell the model which were missing by an input or a sample_weight."
    )


def refuse_lists(path: str, least: int, most: int) -> None:
    """Refuse a column of lists of several lengths, which `Ragged` pads.

    Raises:
        InvalidDataError: always.
    """
    raise InvalidDataError(
        f"{path} is a column of lists of {least} to {most} values; expected lists of one length, "
        "which become an axis. Those of numbers are padded batch by batch: "
        "`keras_npbatch.sources.Ragged(column)`."
    )


def refuse_nulls(leaf: Any, path: str) -> None:
    """Refuse missing values in a table or column; nothing is converted.

    Raises:
        InvalidDataError: naming the column and the first row without a value.
    """
    package = type(leaf).__module__.partition(".")[0]
    columns = {"pandas": _of_pandas, "polars": _of_polars, "pyarrow": _of_arrow}.get(package)
    for name, rows, dtype in () if columns is None else columns(leaf):
        column = path if name is None else f"column {name!r} of {path}"
        refuse_null_rows(column, rows, _how_to_fill(package, dtype))


_Nulls = Iterator[tuple[Any, npt.NDArray[np.intp], Any]]
"""For each column: its name (None for a single one), the rows that have no value, its dtype."""

OTHERS_FILLED = "`keras_npbatch.sources.Filled(..., value)`"
"""How columns are filled that hold no numbers."""


def _how_to_fill(package: str, dtype: Any) -> str:
    """What to write to fill a column of this dtype."""
    if package == "pandas":
        return "`fillna(0)`" if dtype.kind in "iufc" else OTHERS_FILLED
    name = str(dtype).lower()
    is_number = name.startswith(("int", "uint", "float", "double", "halffloat", "null"))
    return "`fill_null(0)`" if is_number else OTHERS_FILLED


def _of_pandas(leaf: Any) -> _Nulls:
    if getattr(leaf, "ndim", 1) == 2:
        columns = [(name, leaf.iloc[:, number]) for number, name in enumerate(leaf.columns)]
    else:
        columns = [(None, leaf)]
    for name, column in columns:
        # NumPy's own numbers are never missing, and neither are those of sparse columns.
        dtype = column.dtype
        may_lack = dtype.kind in "OmM" if isinstance(dtype, np.dtype) else True
        if may_lack and type(dtype).__name__ != "SparseDtype":
            yield name, np.flatnonzero(np.asarray(column.isna())), dtype


def _of_polars(leaf: Any) -> _Nulls:
    if hasattr(leaf, "get_columns"):
        columns = [(column.name, column) for column in leaf.get_columns()]
    else:
        columns = [(None, leaf)] if hasattr(leaf, "null_count") else []  # a LazyFrame has no rows
    for name, column in columns:
        if hasattr(column, "is_null") and column.null_count():
            yield name, np.asarray(column.is_null().arg_true()), column.dtype


def _of_arrow(leaf: Any) -> _Nulls:
    if hasattr(leaf, "column_names"):
        columns = [(name, leaf.column(number)) for number, name in enumerate(leaf.column_names)]
    else:
        columns = [(None, leaf)]
    for name, column in columns:
        kind = getattr(column, "type", None)
        # The type of nothing but nulls can't be filled; `arrow_types.layout_of` says what to do.
        if getattr(column, "null_count", 0) and str(kind) != "null":
            yield name, np.flatnonzero(np.asarray(column.is_null())), kind


def how_to_convert(leaf: Any, path: str) -> str:
    """What to write for data that can't be read as they are: the last sentence of a message."""
    kind = type(leaf)
    package = kind.__module__.partition(".")[0]
    if package == "polars" and hasattr(leaf, "collect"):
        return f"Collect it: `{path}.collect()`."
    if package == "pyarrow" and hasattr(leaf, "read_all"):
        return f"Read it: `{path}.read_all()`."
    if package == "tensorstore":
        return (
            "Read it by rows in a `BatchDataset`: "
            "`def load(self, rows): return self.store[rows].read().result()`."
        )
    if package == "dask" and hasattr(leaf, "to_dask_array"):
        return f"Let dask count its rows: `{path}.to_dask_array(lengths=True)`."
    if package == "datasets" and isinstance(leaf, dict):
        return f"Choose a split of it: `{path}[{next(iter(leaf), 'train')!r}]`."
    if package == "datasets" and hasattr(leaf, "with_format"):
        return f"Write its rows to a file: `datasets.Dataset.from_generator(lambda: iter({path}))`."
    if package == "torch" and hasattr(leaf, "dataset"):
        return (
            "It makes batches of its own. Give its dataset: "
            f"`SampleDataset.of({path}.dataset, batch_size=...)`."
        )
    if package == "torch":
        return f"Its samples are read one by one: `SampleDataset.of({path}, batch_size=...)`."
    if package == "tensorflow":
        return (
            "It can only be iterated over: give it to `fit` itself, or what it was made of to the "
            "dataset."
        )
    if isinstance(leaf, Paths):
        return (
            f"Files, one a sample: `keras_npbatch.sources.Files({path}, read)`, with a function "
            "that reads one; the images of a folder: `folder.images`."
        )
    if package == "keras_npbatch" and hasattr(leaf, "images"):
        return f"Pass its parts: `ArrayDataset({path}.images, {path}.labels)`."
    if isinstance(leaf, str | os.PathLike):
        return _how_to_read(os.fspath(leaf))
    if hasattr(leaf, "__next__"):
        return (
            "It can only be iterated over. Put its samples into an array, or read them by their "
            "rows: `SampleDataset(load_sample, num_samples=N)`."
        )
    if hasattr(leaf, "batches_for"):
        return (
            "It is a dataset already: give it to `fit` itself, or make another one of its arrays."
        )
    name = _first_array(leaf)
    if name is not None:
        return f"It holds arrays by their names: give one of them, `{path}[{name!r}]`."
    if any(each.__name__ == "PyDataset" for each in kind.__mro__):
        return (
            "It makes batches of its own: fit takes it as it is. For more, derive its class from "
            "`keras_npbatch.BatchDataset`."
        )
    is_rows = hasattr(leaf, "__len__") and hasattr(leaf, "__getitem__")
    if is_rows and not isinstance(leaf, bytes | bytearray):
        return (
            f"Read it into an array, `np.asarray({path}[:])`, or one sample after the other: "
            f"`SampleDataset.of({path}, batch_size=...)`."
        )
    return (
        "Dicts, tuples and lists are nesting, so turn a list of values into an array: "
        "`np.asarray(values)`."
    )


def _first_array(leaf: Any) -> str | None:
    """A name in a file or group of arrays (HDF5, Zarr, `.npz`); None for anything else."""
    keys = getattr(leaf, "keys", None)
    if not callable(keys) or not hasattr(leaf, "__getitem__"):
        return None
    try:
        return next((key for key in keys() if isinstance(key, str)), None)
    except Exception:  # noqa: BLE001  # a closed file, say
        return None


_READERS = {
    ".npy": "np.load({path}, mmap_mode='r')",
    ".npz": "np.load({path})['name']",
    ".csv": "pandas.read_csv({path})",
    ".parquet": "keras_npbatch.sources.Parquet({path})",
    ".h5": "h5py.File({path})['name']",
    ".hdf5": "h5py.File({path})['name']",
    ".zarr": "zarr.open({path})['name']",
}
"""How files are read, by what their names end with."""


def _how_to_read(path: str | bytes) -> str:
    """What to write instead of the path of a file or folder."""
    path = os.fsdecode(path)
    shown, ending = repr(path), os.path.splitext(path)[1].lower()
    if ending in _READERS:
        return f"It is a path: give what it leads to, `{_READERS[ending].format(path=shown)}`."
    if os.path.isdir(path):
        return (
            "It is the path of a folder. Of images: "
            f"`folder = keras_npbatch.sources.ImageFolder({shown}, size=(128, 128))`, and "
            "`ArrayDataset(folder.images, folder.labels)`."
        )
    return (
        "Of a path, give what it leads to: read the file first, or one file a sample with "
        "`keras_npbatch.sources.Files(paths, read)`. Turn texts into an array: `np.asarray(texts)`."
    )
