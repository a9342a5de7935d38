"""Datasets of Hugging Face as sources: a dict of their columns, read from Arrow without a format.

A column is read from the tables of Arrow that `datasets` maps into memory, through the row numbers
that `select`, `shuffle` or `filter` have left. In a worker process it is opened by path, since
`datasets` sends its tables so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrow import column_source
from keras_npbatch.sources.filled import UNFILLED, columns_filled, unwrapped
from keras_npbatch.sources.source import Empty, Source

__all__ = [
    "HuggingFaceColumn",
    "huggingface_columns",
    "huggingface_source",
    "is_huggingface_column",
    "refuse_unread",
    "rows_left",
]


class HuggingFaceColumn:
    """A column of a `datasets.Dataset`.

    Args:
        dataset: the dataset.
        name: of the column.
        path: of the leaf, for messages.
        value: what is read in place of a null.
    """

    chunk_rows: int | None = None

    def __init__(self, dataset: Any, name: str, path: str, value: Any = UNFILLED) -> None:
        self._dataset, self._name, self._path, self._value = dataset, name, path, value
        self._open()
        self.shape = (len(dataset), *self._column.shape[1:])
        self.dtype = self._column.dtype
        self.is_in_memory = not dataset.cache_files
        self.categories = getattr(dataset.features[name], "names", None)
        """The names of the classes, if it is a `ClassLabel`."""
        if self.categories is None:
            self.categories = getattr(self._column, "categories", None)

    def _open(self) -> None:
        self._rows = rows = rows_left(self._dataset)
        column = self._dataset.data.column(self._name)
        try:
            self._column = column_source(
                column.chunks, column.type, self._path, self._value, chosen=rows
            )
        except InvalidDataError as error:
            if rows is None or "lists" not in str(error):
                raise
            raise InvalidDataError(
                f"{error} If only rows that were left out differ, write the others anew: "
                "`dataset.flatten_indices()`."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        # The memory of Arrow is not sent: the dataset says where its files are.
        left_behind = ("_column", "_rows")
        return {name: value for name, value in vars(self).items() if name not in left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Find the rows in the table, and read them."""
        if self._rows is not None:
            rows = self._rows[rows].astype(np.int64)
        return self._column.read(rows, empty)


def rows_left(dataset: Any) -> Rows | None:
    """The rows of its tables that a dataset has, in their order; None: all."""
    # A name with an underscore: if it were gone, this must fail, not read other rows.
    indices = dataset._indices
    if indices is None:
        return None
    return np.concatenate([np.asarray(chunk) for chunk in indices.column(0).chunks])


def _is_dataset(data: Any) -> bool:
    package = type(data).__module__.partition(".")[0]
    return package == "datasets" and hasattr(data, "features") and hasattr(data, "data")


def is_huggingface_column(data: Any) -> bool:
    """Whether it is a column of a `datasets.Dataset`."""
    package = type(data).__module__.partition(".")[0]
    is_column = package == "datasets" and hasattr(data, "source") and hasattr(data, "column_name")
    return is_column and _is_dataset(data.source)


def huggingface_columns(leaf: Any, path: str) -> dict[str, Any] | None:
    """The columns of a `datasets.Dataset` that its format chooses; else None."""
    dataset, value = unwrapped(leaf)
    if not _is_dataset(dataset):
        return None
    names = list(dataset.format["columns"])
    if not names:
        raise InvalidDataError(f"{path} is a Dataset with no columns; expected at least one.")
    return columns_filled({name: dataset[name] for name in names}, value, path)


def huggingface_source(leaf: Any, path: str) -> Source | None:
    """The source of a column of a `datasets.Dataset`; else None."""
    data, value = unwrapped(leaf)
    if not is_huggingface_column(data):
        return None
    refuse_unread(data, path)
    return HuggingFaceColumn(data.source, data.column_name, path, value)


def refuse_unread(data: Any, path: str) -> None:
    """Refuse a column that `datasets` changes or decodes when it is read.

    Raises:
        InvalidDataError: saying what to write.
    """
    if data.source.format["type"] == "custom":
        raise InvalidDataError(
            f"{path} is a column of a Dataset with a transform, which would not be called; "
            "expected one without. Take it off, `dataset.with_format(None)`, and give the function "
            "to the dataset of batches: `transform=`."
        )
    kind = data.source.features[data.column_name]
    if hasattr(kind, "decode_example") and getattr(kind, "decode", False):
        raise InvalidDataError(
            f"{path} is a column of {type(kind).__name__}, whose items are decoded one by one; "
            "expected numbers, dates, texts, categories or lists of them. Read the samples: "
            "`keras_npbatch.SampleDataset.of(dataset)`."
        )
