"""`Filled`: a table or column with a value in place of those that are missing.

    x = {"age": keras_npbatch.sources.Filled(table["age"], 0), "age_is_missing": ...}

Missing values are a property of the data, whichever library keeps them. So the value to put in
their place wraps the data, in the same way for all libraries, and is not an argument of one source.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe

__all__ = ["UNFILLED", "Filled", "checked_value", "columns_filled", "unwrapped"]


_CATEGORIES_TOLD = 3


class _Unfilled(Enum):
    UNFILLED = "refuse what is missing"


UNFILLED: Any = _Unfilled.UNFILLED
"""In place of a value: missing values are refused."""


class Filled:
    """A table or a column whose missing values are read as `value`.

    Nothing is copied: only the rows of a batch are filled. Missing is what the library that keeps
    the data calls so: null in Arrow, Parquet, polars and Hugging Face's `datasets`, and there NaN
    is a number; in pandas what `isna()` finds, NaN and NaT too.

    Example:

    ```python
    ages = pyarrow.array([31, None, 25])
    keras_npbatch.ArrayDataset(keras_npbatch.sources.Filled(ages, 0), y)
    ```

    Args:
        data: a table or column of pandas, polars, Arrow, Parquet or `datasets`.
        value: what is read in place of a missing value. For a table: one value for all columns
            that can hold it, or a dict with the names of columns. For categories: one of them, or
            a new one, which gets the last code.

    Raises:
        InvalidArgumentError: if `value` is None.
        InvalidDataError: for other data; or, from the dataset, if a column can't hold the value.
    """

    def __init__(self, data: Any, value: Any) -> None:
        if value is None or (isinstance(value, Mapping) and None in value.values()):
            raise InvalidArgumentError(
                "the value of Filled is None, which is what is missing; expected a number, a text, "
                "a date, or a dict with a value for some columns."
            )
        if isinstance(data, Filled):
            raise InvalidArgumentError(
                "Filled was given a Filled; expected a table or column. Give one of them a dict "
                "with a value for each column."
            )
        _refuse_no_table(data, value)
        self.data, self.value = data, value

    def __repr__(self) -> str:
        return f"Filled({describe(self.data)}, {self.value!r})"


def _refuse_no_table(data: Any, value: Any) -> None:
    """Refuse data that are neither a table nor a column, where they are easily told.

    Raises:
        InvalidDataError: with what to write instead.
    """
    if isinstance(data, Mapping | list | tuple):
        remedy = "Put Filled around each part"
        if isinstance(data, Mapping):
            remedy += ": {name: Filled(column, 0) for name, column in data.items()}"
    elif isinstance(data, np.ndarray):
        remedy = "In an array nothing can be missing"
        if isinstance(data, np.ma.MaskedArray):
            remedy = f"Fill the array: data.filled({value!r})"
        elif data.dtype.kind in "fc":
            remedy += f", but numbers may be NaN: np.nan_to_num(data, nan={value!r})"
    else:
        return
    raise InvalidDataError(
        f"Filled was given {describe(data)}; expected a table or column of pandas, polars, Arrow, "
        f"Parquet or `datasets`. {remedy}."
    )


def unwrapped(leaf: Any) -> tuple[Any, Any]:
    """The data, and the value in place of what is missing in them, or `UNFILLED`."""
    return (leaf.data, leaf.value) if isinstance(leaf, Filled) else (leaf, UNFILLED)


def columns_filled(columns: dict[Any, Any], value: Any, path: str) -> dict[Any, Any]:
    """The columns of a table, each with its value.

    Raises:
        InvalidDataError: for the name of a column that there is not.
    """
    if value is UNFILLED:
        return columns
    if not isinstance(value, Mapping):
        return {name: Filled(column, _Perhaps(value)) for name, column in columns.items()}
    for name in value:
        if name not in columns:
            raise InvalidDataError(
                f"Filled has a value for column {name!r} of {path}, which has the columns "
                f"{', '.join(map(repr, columns))}; expected one of them."
            )
    return {
        name: Filled(column, value[name]) if name in value else column
        for name, column in columns.items()
    }


class _Perhaps:
    """One value for all columns of a table: those that can't hold it are not filled."""

    def __init__(self, value: Any) -> None:
        self.value = value


def checked_value(
    value: Any,
    dtype: np.dtype[Any],
    path: str,
    of: type = object,
    categories: Sequence[Any] = (),
) -> Any:
    """The value as a column of `dtype` holds it.

    Args:
        value: what `unwrapped` gave.
        dtype: the dtype of the column.
        path: of the leaf, for messages.
        of: for objects, their type.
        categories: those of the column, if it is one of categories.

    Returns:
        The value, or `UNFILLED` if it was given for the whole table and is nothing for this column.

    Raises:
        InvalidDataError: if the column can't hold the value.
    """
    if value is UNFILLED:
        return UNFILLED
    is_for_all = isinstance(value, _Perhaps)
    given = value.value if is_for_all else value
    fits, expected = _fits(given, dtype, of)
    if fits:
        if isinstance(given, datetime.datetime) and given.tzinfo is not None:
            given = given.astimezone(datetime.UTC).replace(tzinfo=None)  # as columns are read
        is_time = dtype.kind in "mM"
        return np.array(given, f"{dtype.kind}8").astype(dtype)[()] if is_time else given
    if is_for_all:
        return UNFILLED
    if categories:
        some = ", ".join(map(repr, categories[:_CATEGORIES_TOLD]))
        more = ", ..." if len(categories) > _CATEGORIES_TOLD else ""
        raise InvalidDataError(
            f"{path} is to be filled with {describe(given)}, and is a column of categories "
            f"({some}{more}); expected one of them, or a new one: {expected}. It is read as its "
            "code."
        )
    raise InvalidDataError(
        f"{path} is to be filled with {describe(given)}; expected {expected}, since its dtype is "
        f"{dtype}."
    )


def _fits(value: Any, dtype: np.dtype[Any], of: type) -> tuple[bool, str]:
    is_bool = isinstance(value, bool | np.bool_)
    is_number = isinstance(value, int | float | np.integer | np.floating) and not is_bool
    if dtype.kind == "b":
        return is_bool, "True or False"
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = is_number and value == np.floor(value) and limits.min <= value <= limits.max
        return bool(whole), f"a whole number from {limits.min} to {limits.max}"
    if dtype.kind in "fc":
        return is_number, "a number"
    if dtype.kind == "M":
        return isinstance(value, np.datetime64 | datetime.date), "a date"
    if dtype.kind == "m":
        return isinstance(value, np.timedelta64 | datetime.timedelta), "a span of time"
    return isinstance(value, of), f"a {of.__name__}"
