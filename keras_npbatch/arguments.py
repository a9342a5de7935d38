"""Argument checks that several rooms share."""

from __future__ import annotations

import dis
import operator
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["is_called", "number_of_batches", "row_numbers", "whole_number"]


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """`value` as an int; refuses anything but a whole number from `least` to `most`."""
    number: int | None
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bound = f"from {least} up" if most is None else f"from {least} to {most}"
        raise InvalidArgumentError(f"{name} is {describe(value)}; expected a whole number {bound}.")
    return number


def row_numbers(rows: Any, num_rows: int) -> npt.NDArray[np.int64]:
    """`rows` as int64; refuses anything but row numbers from 0 to `num_rows - 1`."""
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"rows is {describe(rows)}; expected whole numbers of shape (n,)."
        )
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < num_rows:
        raise IndexError(
            f"rows go from {rows.min()} to {rows.max()}; expected numbers from 0 to {num_rows - 1}"
        )
    numbers: npt.NDArray[np.int64] = rows.astype(np.int64, copy=False)
    return numbers


def number_of_batches(dataset: Any) -> int | None:
    """`num_batches` of a `PyDataset`, None if it is endless; refuses one that can't say."""
    try:
        found = dataset.num_batches
        return None if found is None else operator.index(found)
    except InvalidArgumentError:  # raised by one of ours, with a full message
        raise
    except Exception as error:  # a user's length may raise anything
        raise InvalidArgumentError(
            f"{type(dataset).__name__} can't tell how many batches it has "
            f"({type(error).__name__}: {error}); expected a number. Write __len__."
        ) from error


def is_called() -> bool:
    """Whether the property that calls this is itself being called: `dataset.shuffle(500)`.

    Python compiles such a line as a method call. False where that can't be determined.
    """
    frame = sys._getframe(2)
    code, at = frame.f_code.co_code, frame.f_lasti
    name = dis.opname[code[at]]
    # Python 3.12 marks the LOAD_ATTR of a method with the lowest bit of its argument.
    return name == "LOAD_METHOD" or (
        sys.version_info >= (3, 12) and name == "LOAD_ATTR" and bool(code[at + 1] & 1)
    )
