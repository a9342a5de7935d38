"""`categories`: what the codes of a column stand for.

Codes of two columns mean the same only if their categories do: what joins columns asks
`what_differs` first.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.sources.source import Source
from keras_npbatch.sources.sources import as_source

__all__ = ["categories", "categories_of", "what_differs"]

_NOTHING = object()


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
    found = categories_of(as_source(column, "the column"))
    if found is None:
        raise InvalidDataError(
            f"the column is {describe(column)}, which has no categories; expected a dictionary of "
            "Arrow, a category of pandas, a Categorical or Enum of polars, or a ClassLabel. Make "
            "categories of it first, as `column.astype('category')` does in pandas."
        )
    return list(found)


def categories_of(source: Source) -> list[Any] | None:
    """The categories of a source; None if it is not read as codes."""
    found = getattr(source, "categories", None)
    return None if found is None else list(found)


def what_differs(
    categories: list[Any] | None,
    name: str,
    others: list[Any] | None,
    other_name: str,
    joined: str,
) -> str | None:
    """Why columns can't be joined, and what to do, for an error; None if their codes mean the same.

    Args:
        categories: of a column, or None.
        name: of that column.
        others: the categories of another one, or None.
        other_name: of that one.
        joined: what is joined, such as `parts`.
    """
    if categories == others:
        return None
    if categories is None or others is None:
        coded, plain = (name, other_name) if others is None else (other_name, name)
        return (
            f"{coded} is read as codes of categories, and {plain} as it is; expected categories in "
            f"all {joined}, or in none. Give the numbers the same categories, or pass the codes as "
            "an array, if they mean the same."
        )
    pairs = enumerate(zip_longest(categories, others, fillvalue=_NOTHING))
    code, here, there = next((code, *pair) for code, pair in pairs if pair[0] != pair[1])
    return (
        f"{name} and {other_name} are read as codes of different categories: {code} stands for "
        f"{_told(here)} in one and for {_told(there)} in the other; expected the same categories "
        "in the same order. Give both the same list: polars' Enum, pandas' CategoricalDtype or "
        "union_categoricals. Or read them as one: pa.chunked_array([...]), or Parquet([...]) of "
        "all files."
    )


def _told(category: Any) -> str:
    return "nothing" if category is _NOTHING else repr(category)
