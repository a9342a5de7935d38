"""A column of lists of Hugging Face's `datasets` as arrays: views of the files that it maps.

parts, which, starts, lengths, is_in_memory = lists_of(dataset["tokens"])

Rows are found through the row numbers that `select`, `shuffle` or `filter` have left. A worker
process gets the paths of the files, and maps them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrow_lists import parts_of
from keras_npbatch.sources.huggingface import is_huggingface_column, refuse_unread, rows_left

__all__ = ["MappedLists", "lists_of"]

_Array = npt.NDArray[Any]


class MappedLists(Sequence[_Array]):
    """The time steps of each chunk of a column.

    Args:
        dataset: the `datasets.Dataset`.
        name: of the column.
        parts: its arrays, as `parts_of` gives them.
    """

    def __init__(self, dataset: Any, name: str, parts: list[_Array]) -> None:
        self._dataset, self._name, self._parts = dataset, name, parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: Any) -> Any:
        return self._parts[number]

    def __getstate__(self) -> dict[str, Any]:
        # The memory of Arrow is not sent: the dataset says where its files are.
        return {"_dataset": self._dataset, "_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._parts = parts_of(self._dataset.data.column(self._name), rows_left(self._dataset))[0]


def lists_of(data: Any) -> tuple[Sequence[_Array], Rows | None, Rows, Rows, bool] | None:
    """What `parts_of` gives, and whether it is in memory; None if not a column of `datasets`.

    Raises:
        InvalidDataError: if it has no list of numbers in each row that is left.
    """
    if not is_huggingface_column(data):
        return None
    refuse_unread(data, "data of Ragged")
    dataset, name = data.source, data.column_name
    rows = rows_left(dataset)
    try:
        parts, which, starts, lengths = parts_of(dataset.data.column(name), rows)
    except InvalidDataError as error:
        if rows is None or "time step" not in str(error):
            raise
        raise InvalidDataError(
            f"{error} If it is a row that was left out, write the others anew: "
            "`dataset.flatten_indices()`."
        ) from error
    if rows is not None:
        which = None if which is None else which[rows]
        starts, lengths = starts[rows], lengths[rows]
    if not dataset.cache_files:
        return parts, which, starts, lengths, True
    return MappedLists(dataset, name, parts), which, starts, lengths, False
