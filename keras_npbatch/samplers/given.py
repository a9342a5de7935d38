"""Checks of what a sampler is given for each row of the data: labels, weights, lengths.

codes, names = classes_of(["cat", "dog", "cat"], "labels of Stratified")      # [0, 1, 0]
digest(codes)                                                                   # in a saved state
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["check_length", "classes_of", "digest", "smallest_integers", "values_of"]


def digest(*arrays: npt.NDArray[Any]) -> str:
    """A digest of the contents of arrays."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(str(array.dtype).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def check_length(num_given: int, num_rows: int, what: str) -> None:
    """Refuse labels, weights or lengths that are not those of the data.

    Raises:
        InvalidArgumentError: if there isn't one for each row.
    """
    if num_given != num_rows:
        raise InvalidArgumentError(
            f"{what} are {num_given} values, and the data have {num_rows} rows; expected one for "
            "each row of the whole data, also for a part of a split."
        )


def values_of(given: Any, what: str) -> npt.NDArray[Any]:
    """The given values as an array with one number for each row.

    Raises:
        InvalidArgumentError: for anything else.
    """
    array = _column(given, what)
    if array.ndim != 1 or array.dtype.kind not in "biuf" or not len(array):
        raise InvalidArgumentError(
            f"{what} are {describe(given)}; expected one number for each row, of shape (num_rows,)."
        )
    if array.dtype.itemsize > 8:  # of more digits than weights need
        array = array.astype(np.float64)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InvalidArgumentError(
            f"{what} have {array[row]} at row {row}; expected finite numbers. Give such rows a "
            "value, also those that a subset leaves out."
        )
    return array


def classes_of(labels: Any, what: str) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """The class of each row as a number from 0 up, and the classes.

    Args:
        labels: integers, booleans, strings, or one-hot rows.
        what: the argument, for messages.

    Raises:
        InvalidArgumentError: for labels that don't give each row one class.
    """
    array = _column(labels, what)
    if array.ndim == 2 and array.shape[1]:
        array = _from_one_hot(array, what)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "biufUSTO":
        raise InvalidArgumentError(
            f"{what} are {describe(labels)}; expected one label for each row: integers or strings "
            "of shape (num_rows,), or one-hot rows."
        )
    if array.dtype.kind == "f":
        _refuse_fractions(array, what)
    # Equal labels have equal names, whatever their dtype: a hash of its name places a group.
    if array.dtype.kind == "f" and float(np.abs(array).max()) < 2**53:
        array = array.astype(np.int64)
    elif array.dtype.kind == "S":
        array = np.char.decode(array)
    if array.dtype.kind == "O" or hasattr(array.dtype, "na_object"):
        array = _from_objects(array.astype(object), what)
    if array.dtype.kind in "biu":
        values = array.astype(np.int64) if array.dtype != np.uint64 else array
        least, most = int(values.min()), int(values.max())
        if most - least < 4 * len(values) + 1024:  # counting is faster than sorting
            shifted = (values - values.dtype.type(least)).astype(np.int64)
            present = np.flatnonzero(np.bincount(shifted))
            numbers = np.zeros(most - least + 1, np.int64)
            numbers[present] = np.arange(len(present))
            return numbers[shifted], [int(each) + least for each in present]
    names, codes = np.unique(array, return_inverse=True)
    return codes.astype(np.int64, copy=False), names.tolist()


def _refuse_fractions(array: npt.NDArray[Any], what: str) -> None:
    _refuse_missing(array, ~np.isfinite(array), what)
    fractions = np.flatnonzero(array != np.floor(array))
    if len(fractions):
        raise InvalidArgumentError(
            f"{what} have {array[fractions[0]]} at row {fractions[0]}; expected whole numbers or "
            "strings. Cut numbers into classes, for example with np.digitize(values, edges)."
        )


def _refuse_missing(array: npt.NDArray[Any], missing: npt.NDArray[np.bool_], what: str) -> None:
    rows = np.flatnonzero(missing)
    if len(rows):
        raise InvalidArgumentError(
            f"{what} have {array[rows[0]]} at row {rows[0]}; expected a value for each row. Give "
            "these rows one of their own, or leave them out of the data."
        )


def smallest_integers(numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Numbers from 0 up in the smallest dtype that holds them."""
    most = int(numbers.max())
    for dtype in (np.uint8, np.uint16, np.uint32):
        if most <= np.iinfo(dtype).max:
            return numbers.astype(dtype)
    return numbers


def _column(given: Any, what: str) -> npt.NDArray[Any]:
    """What was given as an array, without a second axis of length 1."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise InvalidArgumentError(
            f"{what} are a masked array with values masked; expected a value for each row. Fill "
            "it: `.filled(value)`."
        )
    try:
        array = np.asarray(given)
        are_strings = array.dtype.kind == "U" and isinstance(given, list | tuple)
        if are_strings and not all(isinstance(each, str) for each in given):
            array = np.array(given, object)  # NumPy has made strings of the others
    except ValueError as error:  # lists of different lengths
        raise InvalidArgumentError(
            f"{what} are {describe(given)}; expected one value for each row, of shape (num_rows,)."
        ) from error
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _from_one_hot(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    is_number = array.dtype.kind in "biuf"
    if not is_number or not ((array == 0) | (array == 1)).all():
        raise InvalidArgumentError(
            f"{what} are {describe(array)}; expected one label for each row, or one-hot rows."
        )
    several = np.flatnonzero(np.count_nonzero(array, axis=1) != 1)
    if len(several):
        row = int(several[0])
        raise InvalidArgumentError(
            f"{what} have {np.count_nonzero(array[row])} classes at row {row}; expected one for "
            "each row. For rows of several classes there is the sampler Weighted: give it a weight "
            "for each row, for example the sum over its classes of 1 / rows of the class."
        )
    found: npt.NDArray[Any] = np.argmax(array, axis=1)
    return found


def _from_objects(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    kinds = {type(each) for each in array.tolist()}
    if kinds <= {str, np.str_}:
        return array.astype(str)
    if kinds <= {bytes, np.bytes_}:  # strings of HDF5
        return np.array([each.decode() for each in array.tolist()])
    if all(issubclass(kind, int | np.integer | np.bool_) for kind in kinds):
        with contextlib.suppress(OverflowError):
            return array.astype(np.int64)
    _refuse_missing(array, np.array([_is_missing(each) for each in array.tolist()]), what)
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InvalidArgumentError(
        f"{what} are objects of {names}; expected all strings or all integers of 64 bits."
    )


def _is_missing(value: Any) -> bool:
    """Whether it stands for a value that is missing: None, NaN, or NA and NaT of pandas."""
    is_nan = isinstance(value, float | np.floating) and bool(np.isnan(value))
    return value is None or is_nan or type(value).__name__ in {"NAType", "NaTType"}
