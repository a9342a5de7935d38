"""Checks of arguments that several layers share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from keras_npbatch.errors import InvalidArgumentError, told

__all__ = ["number_of_batches", "whole_number"]


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """`value` as an int; refuses what is no whole number between `least` and `most`."""
    number: int | None
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bound = f"from {least} up" if most is None else f"from {least} to {most}"
        raise InvalidArgumentError(f"{name} is {told(value)}; expected a whole number {bound}.")
    return number


def number_of_batches(dataset: Any) -> int | None:
    """`num_batches` of a `PyDataset`, None if it is endless; refuses what can't tell it."""
    try:
        found = dataset.num_batches
        return None if found is None else operator.index(found)
    except InvalidArgumentError:  # of one of ours, which tells it all
        raise
    except Exception as error:  # whatever a length of the user's may raise
        raise InvalidArgumentError(
            f"{type(dataset).__name__} can't tell how many batches it has "
            f"({type(error).__name__}: {error}); expected a number. Write __len__."
        ) from error
