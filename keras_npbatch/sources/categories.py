"""`categories`: what the codes of a column stand for."""

from __future__ import annotations

from typing import Any

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.sources.sources import as_source

__all__ = ["categories"]


def categories(column: Any) -> list[Any]:
    """The categories of a column that is read as codes: code 0 is the first, and so on.

    Example:

    ```python
    names = keras_npbatch.sources.categories(table["city"])
    layer = keras.layers.Embedding(len(names), 8)
    ```

    Args:
        column: a dictionary of Arrow or Parquet, a Categorical or Enum of polars, a category of
            pandas, a `ClassLabel` of `datasets`; or one of them in `Filled`.

    Raises:
        InvalidDataError: if it is not read as codes.
    """
    found = getattr(as_source(column, "the column"), "categories", None)
    if found is None:
        raise InvalidDataError(
            f"the column is {describe(column)}, which has no categories; expected a dictionary of "
            "Arrow, a category of pandas, a Categorical or Enum of polars, or a ClassLabel. Make "
            "categories of it first, as `column.astype('category')` does in pandas."
        )
    return list(found)
