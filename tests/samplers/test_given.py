"""What samplers are given for each row: taken in any form, or refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.given import (
    check_length,
    classes_of,
    digest,
    smallest_integers,
    values_of,
)

few = settings(deadline=None, derandomize=True, max_examples=100)


def objects(*values: Any) -> npt.NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


# --- classes -----------------------------------------------------------------------------------

ends = st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1])


@few
@given(labels=st.lists(st.integers(-5, 5) | st.integers(-(2**62), 2**62) | ends, min_size=1))
def test_classes_are_numbered_in_their_order(labels: list[int]) -> None:
    codes, names = classes_of(labels, "labels")
    assert names == sorted(set(labels))
    assert [names[code] for code in codes.tolist()] == labels
    assert codes.dtype == np.int64


@few
@given(
    labels=st.lists(
        st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=3), min_size=1
    )
)
def test_so_are_strings(labels: list[str]) -> None:
    for given_ in (labels, objects(*labels)):
        codes, names = classes_of(given_, "labels")
        assert names == sorted(set(labels))
        assert [names[code] for code in codes.tolist()] == labels


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ([True, False, True], [1, 0, 1], [0, 1]),
        (np.array([3, 250], np.uint8), [0, 1], [3, 250]),
        (np.array([-100, 100], np.int8), [0, 1], [-100, 100]),
        (np.array([2**64 - 1, 2**64 - 3, 2**64 - 1], np.uint64), [1, 0, 1], [2**64 - 3, 2**64 - 1]),
        (np.array([2**64 - 1, 0], np.uint64), [1, 0], [0, 2**64 - 1]),
        ([[2], [1], [2]], [1, 0, 1], [1, 2]),
        ([[1, 0], [0, 1], [0, 1]], [0, 1, 1], [0, 1]),
        (np.eye(4)[[3, 1]], [1, 0], [1, 3]),
        ([[True, False], [False, True]], [0, 1], [0, 1]),
        ([2.0, -1.0, -0.0, 0.0], [2, 0, 1, 1], [-1, 0, 2]),
        ([2.0**60, 0.0], [1, 0], [0.0, 2.0**60]),
        ([b"a", b"b"], [0, 1], ["a", "b"]),
        (objects(1, np.int8(2), True, np.bool_(False)), [1, 2, 1, 0], [0, 1, 2]),
        (objects("a", np.str_("b")), [0, 1], ["a", "b"]),
        (objects(b"b", np.bytes_(b"a")), [1, 0], ["a", "b"]),
        (objects("é".encode(), b"b"), [1, 0], ["b", "é"]),
        (np.array(["é".encode(), b"b"]), [1, 0], ["b", "é"]),
    ],
)
def test_every_form_of_labels_is_taken(labels: Any, codes: list[int], names: list[Any]) -> None:
    found, of_classes = classes_of(labels, "labels")
    assert (found.tolist(), of_classes) == (codes, names)


EXPECTED = (
    "; expected one label for each row: integers or strings of shape (num_rows,), or one-hot rows."
)
OBJECTS = "; expected all strings or all integers of 64 bits."


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], f"[] (list){EXPECTED}"),
        (3, f"3 (int){EXPECTED}"),
        (np.zeros((2, 2, 2)), f"ndarray of shape (2, 2, 2) and dtype float64{EXPECTED}"),
        (np.zeros((2, 0)), f"ndarray of shape (2, 0) and dtype float64{EXPECTED}"),
        ([1j], f"[1j] (list){EXPECTED}"),
        ([1.0, "a"], f"objects of float, str{OBJECTS}"),
        (objects(1, "a"), f"objects of int, str{OBJECTS}"),
        ([1, "a"], f"objects of int, str{OBJECTS}"),
        (("a", 0.5), f"objects of float, str{OBJECTS}"),
        (objects(2**70), f"objects of int{OBJECTS}"),
        (
            [[1], [2, 3]],
            "[[1], [2, 3]] (list); expected one value for each row, of shape (num_rows,).",
        ),
        *(
            (
                array,
                f"ndarray of shape (2, 2) and dtype {array.dtype}; expected one label for each "
                "row, or one-hot rows.",
            )
            for array in (np.array([[2, 0], [0, 1]]), np.full((2, 2), np.nan), np.full((2, 2), "a"))
        ),
    ],
)
def test_labels_that_give_no_class_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        classes_of(labels, "labels of It")
    assert str(error.value) == f"labels of It are {message}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            0.5,
            "expected whole numbers or strings. Cut numbers into classes, for example with "
            "np.digitize(values, edges).",
        ),
        *(
            (
                value,
                "expected a value for each row. Give these rows one of their own, or leave them "
                "out of the data.",
            )
            for value in (float("nan"), float("inf"))
        ),
    ],
)
def test_numbers_that_are_no_class_are_told_with_their_row(value: float, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        classes_of([1.0, value], "labels of It")
    assert str(error.value) == f"labels of It have {value} at row 1; {message}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "None"),
        (float("nan"), "nan"),
        (np.float32("nan"), "nan"),
        (pd.NA, "<NA>"),
        (pd.NaT, "NaT"),
    ],
)
def test_missing_labels_are_told_with_their_row(value: Any, told: str) -> None:
    for others in (("a", "b"), (1, 2)):
        labels = objects(others[0], value, others[1], value)
        with pytest.raises(InvalidArgumentError) as error:
            classes_of(labels, "labels of It")
        assert str(error.value) == (
            f"labels of It have {told} at row 1; expected a value for each row. Give these rows "
            "one of their own, or leave them out of the data."
        )


def test_names_of_classes_are_whole_numbers_where_floats_are_exact() -> None:
    for most, kind in ((2.0**53 - 1, int), (2.0**53, float), (-(2.0**53), float)):
        assert [type(name) for name in classes_of([0.0, most], "labels")[1]] == [kind] * 2


@pytest.mark.parametrize("take", [classes_of, values_of])
def test_values_that_are_masked_are_refused(take: Any) -> None:
    masked = np.ma.masked_equal([1, 2, 3], 2)
    with pytest.raises(InvalidArgumentError) as error:
        take(masked, "labels of It")
    assert str(error.value) == (
        "labels of It are a masked array with values masked; expected a value for each row. Fill "
        "it: `.filled(value)`."
    )
    found = take(np.ma.masked_equal([1, 2, 3], 7), "labels of It")
    assert np.array_equal(found if take is values_of else found[1], [1, 2, 3])


@pytest.mark.parametrize(("row", "classes"), [([1, 1, 0], 2), ([0, 0, 0], 0)])
def test_rows_with_several_classes_or_none_are_refused(row: list[int], classes: int) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        classes_of([[0, 1, 0], row, row], "labels of It")
    assert str(error.value) == (
        f"labels of It have {classes} classes at row 1; expected one for each row. For rows of "
        "several classes there is the sampler Weighted: give it a weight for each row, for example "
        "the sum over its classes of 1 / rows of the class."
    )


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has no StringDType")
def test_strings_of_numpys_own_type_are_taken_none_missing() -> None:
    kind = np.dtypes.StringDType
    found, names = classes_of(np.array(["b", "a", "b"], kind()), "labels")
    assert (found.tolist(), names) == ([1, 0, 1], ["a", "b"])
    missing = np.array(["b", None], kind(na_object=None))
    with pytest.raises(InvalidArgumentError, match=r"^labels have None at row 1; expected a value"):
        classes_of(missing, "labels")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_whole_numbers_may_be_floats(dtype: str) -> None:
    codes, names = classes_of(np.array([2, 0, 2, 2048], dtype), "labels")
    assert codes.tolist() == [1, 0, 1, 2]
    assert names == [0, 2, 2048]


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64"])
def test_values_keep_their_type(dtype: str) -> None:
    for shape in ((2,), (2, 1)):
        found = values_of(np.array([0, 1], dtype).reshape(shape), "weights")
        assert found.tolist() == [0, 1]
        assert found.dtype == dtype


def test_long_doubles_are_doubles() -> None:
    found = values_of(np.array([0.5, 2], np.longdouble), "weights")
    assert found.tolist() == [0.5, 2]
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(
            (value, f"are {told}; expected one number for each row, of shape (num_rows,).")
            for value, told in (
                ([], "[] (list)"),
                (1.0, "1.0 (float)"),
                (["a"], "['a'] (list)"),
                (np.ones((2, 2)), "ndarray of shape (2, 2) and dtype float64"),
                (objects(1, 2), "ndarray of shape (2,) and dtype object"),
            )
        ),
        (
            [[1], [2, 3]],
            "are [[1], [2, 3]] (list); expected one value for each row, of shape (num_rows,).",
        ),
        *(
            (
                [1.0, value, value],
                f"have {value} at row 1; expected finite numbers. Give such rows a value, also "
                "those that a subset leaves out.",
            )
            for value in (float("nan"), float("inf"), float("-inf"))
        ),
    ],
)
def test_what_is_no_number_for_each_row_is_refused(values: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        values_of(values, "weights of It")
    assert str(error.value) == f"weights of It {message}"


def test_there_must_be_one_for_each_row() -> None:
    check_length(3, 3, "labels of It")
    for number in (2, 4):
        with pytest.raises(InvalidArgumentError) as error:
            check_length(number, 3, "labels of It")
        assert str(error.value) == (
            f"labels of It are {number} values, and the data have 3 rows; expected one for each "
            "row of the whole data, also for a part of a split."
        )


# --- digests and dtypes ------------------------------------------------------------------------


def test_a_digest_tells_contents_and_dtype() -> None:
    arrays = [np.arange(4), np.arange(4)[::-1], np.arange(3), np.arange(4, dtype="uint8")]
    assert len({digest(array) for array in arrays}) == 4
    assert digest(np.arange(8)[::2]) == digest(np.arange(0, 8, 2))
    assert digest(arrays[0], arrays[1]) != digest(arrays[1], arrays[0])
    # As it stands in saved states.
    assert digest(np.array([0, 1, 1], np.uint8)) == "21a8fb707650020c"


@pytest.mark.parametrize(
    ("most", "dtype"),
    [
        *((0, "uint8"), (255, "uint8"), (256, "uint16"), (2**16 - 1, "uint16")),
        *((2**16, "uint32"), (2**32 - 1, "uint32"), (2**32, "int64")),
    ],
)
def test_integers_are_kept_in_the_smallest_type(most: int, dtype: str) -> None:
    found = smallest_integers(np.array([0, most]))
    assert found.dtype == dtype
    assert found.tolist() == [0, most]
