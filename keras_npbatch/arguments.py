"""Argument checks that several rooms share."""

from __future__ import annotations

import dis
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, UnknownSettingError, describe, describe_error

__all__ = [
    "advice_on",
    "is_called",
    "number_of_batches",
    "refuses_unknown_arguments",
    "row_numbers",
    "told_of_unknown",
    "whole_number",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """`value` as an int; refuses anything but a whole number from `least` to `most`."""
    number: int | None
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        bound = f"from {least} up" if most is None else f"from {least} to {most}"
        message = f"{name} is {describe(value)}; expected a whole number {bound}."
        if isinstance(value, float) and value.is_integer() and value >= least:  # of a division
            message += f" Write {int(value)}; to divide whole numbers, a // b."
        raise InvalidArgumentError(message)
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
            f"({describe_error(error)}); expected a number. Write __len__."
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


# -------------------------------------------------------------------- names of other libraries


def refuses_unknown_arguments(words: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Make a function or an `__init__` answer an unknown name of an argument with the right one.

    The signature is kept, for `inspect`, `help` and type checkers.

    Args:
        words: names that other libraries have for its arguments, with the advice; see `advice_on`.
    """

    def decorated(function: _Function) -> _Function:
        parameters = inspect.signature(function).parameters
        is_init = function.__name__ == "__init__"
        known = [
            name
            for name, parameter in parameters.items()
            if name != "self" and parameter.kind is not parameter.VAR_POSITIONAL
        ]

        @functools.wraps(function)
        def checked(*args: Any, **given: Any) -> Any:
            unknown = {key: value for key, value in given.items() if key not in known}
            if unknown:
                name = type(args[0]).__name__ if is_init else function.__name__
                advice = [advice_on(key, value, known, words) for key, value in unknown.items()]
                raise UnknownSettingError(told_of_unknown(name, "argument", unknown, known, advice))
            return function(*args, **given)

        return checked  # type: ignore[return-value]  # the same signature

    return decorated


def told_of_unknown(
    name: str,
    noun: str,
    unknown: Iterable[str],
    known: Iterable[str],
    advice: Iterable[str | None],
) -> str:
    """A message about unknown names.

    Args:
        name: the class or function that was called.
        noun: what it was given: "argument" or "setting".
        unknown: the names that it does not have.
        known: those that it has.
        advice: what to write, for each unknown name; None if there is none.
    """
    told, advice = list(unknown), list(advice)
    text = f"{name} has no {noun}{'s' if len(told) > 1 else ''} {', '.join(told)}."
    if None in advice:
        text += f" Expected {', '.join(known)}."
    return " ".join([text, *dict.fromkeys(one for one in advice if one)])


def advice_on(key: str, value: Any, known: Iterable[str], words: Mapping[str, str]) -> str | None:
    """What to write instead of an unknown argument; None if no name is close.

    Args:
        key: its name.
        value: its value.
        known: the names that there are.
        words: names of other libraries, with the advice; `{value}` is the value if it is short,
            else N, and `{rest}` what a fraction leaves of 1.
    """
    if key in words:
        is_fraction = isinstance(value, float) and 0 < value < 1
        return words[key].format(
            value=_shown(value), rest=f"{1 - value:g}" if is_fraction else "0.8"
        )
    near = get_close_matches(key.lower(), known, n=1)
    return f"Did you mean {near[0]}?" if near else None


def _shown(value: Any) -> str:
    is_short = type(value) in (int, float, bool)
    if isinstance(value, tuple | list):
        is_short = 0 < len(value) <= 4 and all(type(item) is int for item in value)
    return repr(value) if is_short else "N"
