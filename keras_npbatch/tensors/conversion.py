"""Converts a batch to tensors leaf by leaf; the error names a leaf that has no tensor.

converted(batch, to_tensor, "Torch")
# InvalidBatchError: x['day'] is ndarray of shape (8,) and dtype datetime64[D]; expected ...
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, NoReturn

import numpy as np

from keras_npbatch.batches.parts import unpack
from keras_npbatch.errors import InvalidBatchError, describe
from keras_npbatch.tree import Tree, map_leaves

__all__ = ["converted", "in_native_order", "refuse", "remedy"]


def converted(batch: Tree, to_tensor: Callable[[Any], Any], framework: str) -> Tree:
    """The batch with `to_tensor(leaf)` for each leaf.

    Raises:
        InvalidBatchError: if the framework does not take a leaf; it names the first such leaf.
    """
    try:
        return map_leaves(to_tensor, batch)
    except Exception as error:  # each framework raises its own exceptions
        for path, leaf in unpack(batch, "the dataset").leaves_with_paths():
            try:
                to_tensor(leaf)
            except Exception as of_leaf:  # noqa: BLE001  # each framework raises its own
                refuse(path, leaf, framework, of_leaf)
        raise error


def refuse(path: str, leaf: Any, framework: str, cause: Exception | None = None) -> NoReturn:
    """Raise an error that says what a framework does not take, and what to give it instead.

    Raises:
        InvalidBatchError: always.
    """
    taken = "numbers, booleans or strings" if framework == "TensorFlow" else "numbers or booleans"
    raise InvalidBatchError(
        f"{path} is {describe(leaf)}, which {framework} has no tensor for; expected {taken}. "
        f"{remedy(leaf)}"
    ) from cause


def in_native_order(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array in the machine's byte order; a copy if its own is another."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def remedy(leaf: Any) -> str:
    """A sentence on what to do about a leaf for which a framework has no tensor."""
    if callable(getattr(leaf, "toarray", None)):
        return "Make sparse matrices dense, in load or in a transform: .toarray()."
    dtype = np.asarray(leaf).dtype
    firsts = np.asarray(leaf)[:1].ravel().tolist() if dtype.kind == "O" else []
    first = next((each for each in firsts if isinstance(each, str | bytes)), [*firsts, None][0])
    if dtype.kind in "Mm":
        return "Convert dates to whole numbers: .astype('int64')."
    if isinstance(first, date):
        return "Convert dates to whole numbers: .astype('datetime64[s]').astype('int64')."
    columns = _columns_of_texts(leaf) if dtype.kind == "O" else ""
    if dtype.kind in "UST" or isinstance(first, str | bytes) or columns:
        return (
            f"{columns}Encode texts as numbers, with keras.layers.TextVectorization or "
            "StringLookup on all data before training, or in a transform."
        )
    if dtype.kind == "O":
        if isinstance(first, list | tuple | np.ndarray):
            return (
                "Pad sequences of different lengths to one: "
                "keras.utils.pad_sequences(sequences, padding='post')."
            )
        return "Convert it: .astype('float32'), or leave it out in a transform."
    narrower = {"u": "int64", "f": "float64", "c": "complex128"}.get(dtype.kind)
    if narrower is not None:
        return f"Convert it: .astype('{narrower}')."
    return "Convert it, or leave it out in a transform."


def _columns_of_texts(leaf: Any) -> str:
    """A sentence on which columns of a table have texts, if others have none."""
    array = np.asarray(leaf)
    if array.ndim != 2:
        return ""
    columns = [any(isinstance(each, str | bytes) for each in column) for column in array.T]
    if all(columns) or not any(columns):
        return ""
    numbers = ", ".join(str(number) for number, has_texts in enumerate(columns) if has_texts)
    return f"Texts are in column {numbers} (the first is 0). "
