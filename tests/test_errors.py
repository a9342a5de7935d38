"""Errors: their builtin bases, and how values and rows are told in messages."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from keras_npbatch import errors
from keras_npbatch.errors import KerasNpBatchError, describe, describe_error, describe_rows

BASES = {
    "AmbiguousCallError": RuntimeError,
    "ClosedError": RuntimeError,
    "CoverageError": RuntimeError,
    "FaultyDatasetError": AssertionError,
    "InvalidArgumentError": ValueError,
    "InvalidBatchError": ValueError,
    "InvalidDataError": ValueError,
    "InvalidStateError": ValueError,
    "MissingExtraError": ImportError,
    "NonFiniteError": ArithmeticError,
    "RanksDisagreeError": RuntimeError,
    "SetAsideError": RuntimeError,
    "SharedMemoryError": MemoryError,
    "UnknownSettingError": TypeError,
    "UnsendableError": TypeError,
    "UnsupportedArgumentError": ValueError,
    "WorkerDiedError": RuntimeError,
    "WorkerError": RuntimeError,
    "WorkerStartError": errors.WorkerDiedError,
}


def test_the_public_errors_are_these() -> None:
    assert errors.__all__ == sorted([*BASES, "KerasNpBatchError"])


@pytest.mark.parametrize("name", BASES)
def test_an_error_is_the_builtin_it_specialises_and_one_of_ours(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, KerasNpBatchError)
    assert issubclass(kind, BASES[name])
    with pytest.raises(BASES[name], match="x is 3"):
        raise kind("x is 3")
    with pytest.raises(KerasNpBatchError):
        raise kind("x is 3")


@pytest.mark.parametrize("name", [*BASES, "KerasNpBatchError"])
def test_an_error_says_what_it_is_for_and_survives_a_pickle(name: str) -> None:
    """A worker process sends its errors pickled."""
    kind = getattr(errors, name)
    assert kind.__doc__
    again = pickle.loads(pickle.dumps(kind("x is 3")))
    assert type(again) is kind
    assert str(again) == "x is 3"


class OneRowArray:
    """Like an array, not NumPy's."""

    shape = (1, 2)
    dtype = "float8"

    def __repr__(self) -> str:
        return "OneRowArray()"


class Table:
    """A table has a shape, and a dtype for each column."""

    shape = (3, 2)

    def __repr__(self) -> str:
        return "Table()"


class Column:
    """What only NumPy can make an array of."""

    def __len__(self) -> int:
        return 7

    def __array__(self) -> Any:
        raise AssertionError("read for a message")

    def __repr__(self) -> str:
        return "Column()"


class TwoLines:
    def __repr__(self) -> str:
        return "two\n  lines"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3 (int)"),
        (-1.5, "-1.5 (float)"),
        (True, "True (bool)"),
        (None, "None (NoneType)"),
        ("keep", "'keep' (str)"),
        ((1, "a"), "(1, 'a') (tuple)"),
        (np.zeros((2, 3), np.float32), "ndarray of shape (2, 3) and dtype float32"),
        (np.arange(5), "ndarray of shape (5,) and dtype int64"),
        (np.array(5, np.int8), "ndarray of shape () and dtype int8"),
        (np.array(["a", "bc"]), "ndarray of shape (2,) and dtype <U2"),
        (OneRowArray(), "OneRowArray of shape (1, 2) and dtype float8"),
        (Table(), "Table of shape (3, 2)"),
        (Column(), "Column of 7 items"),
        ([np.arange(3), 4], "a list of 2 items"),
        ((4, np.arange(3), 5), "a tuple of 3 items"),
        ({"a": np.arange(3)}, "a dict of 1 items"),
        ({"a": 3}, "{'a': 3} (dict)"),
        (int, "the class int"),
        (TwoLines(), "two lines (TwoLines)"),
        # 60 characters are told in full, of more the first 57.
        ("x" * 58, repr("x" * 58) + " (str)"),
        ("x" * 59, "'" + "x" * 56 + "... (str)"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16... (list)"),
    ],
    ids=str,
)
def test_a_value_is_told_by_its_text_and_type_an_array_by_its_shape(value: Any, text: str) -> None:
    assert describe(value) == text


@pytest.mark.parametrize("value", [np.int64(-1), np.float64(2.5), np.bool_(True), np.str_("kep")])
def test_a_numpy_scalar_is_told_by_its_value(value: Any) -> None:
    """`batch_size is int64 of shape ()` hides what is wrong with it."""
    assert str(value) in describe(value)


@pytest.mark.parametrize("value", [np.ndarray, OneRowArray, int])
def test_a_class_given_for_a_value_is_told(value: Any) -> None:
    assert value.__name__ in describe(value)


def test_the_contents_of_an_array_are_never_told() -> None:
    for value in (np.array([123456]), np.array(123456), np.ma.masked_array([123456])):
        assert "123456" not in describe(value)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "[]"),
        ([3], "[3]"),
        (np.array([3, 1, 2]), "[3, 1, 2]"),
        (range(8), "[0, 1, 2, 3, 4, 5, 6, 7]"),
        (range(9), "[0, 1, 2, 3, 4, 5, 6, 7, ...] (9 rows)"),
        (np.arange(1000) + 2**62, None),
    ],
    ids=["none", "one", "three", "eight", "nine", "thousand"],
)
def test_the_first_eight_rows_are_told_and_how_many_there_are(rows: Any, text: str | None) -> None:
    if text is None:
        text = f"[{', '.join(str(2**62 + k) for k in range(8))}, ...] (1000 rows)"
    assert describe_rows(rows) == describe_rows(iter(rows)) == text


class SilentError(Exception):
    """Its text can't be told."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "most", "told"),
    [
        (ValueError("a\n  b"), None, "ValueError: a b"),
        (ValueError(), None, "ValueError"),
        (ValueError("x" * 50), 20, "ValueError: xxxxx..."),
        (ValueError("x" * 8), 20, "ValueError: xxxxxxxx"),
        (ValueError("x" * 9), 20, "ValueError: xxxxx..."),
        (SilentError(), None, "SilentError: <its text can't be told>"),
    ],
)
def test_an_error_of_the_user_is_told_in_a_line(
    error: Exception, most: int | None, told: str
) -> None:
    assert describe_error(error, most) == told
