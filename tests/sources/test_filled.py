"""Filled: what is put in place of a missing value is what its column can hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError
from keras_npbatch.sources.filled import UNFILLED, Filled, checked_value, columns_filled, unwrapped

ANY = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.text(max_size=2), st.dates()
)


@given(value=ANY, dtype=st.sampled_from(["int8", "uint64", "float32", "bool", "datetime64[D]"]))
def test_a_value_is_held_exactly_or_refused(value, dtype):
    dtype = np.dtype(dtype)
    try:
        held = checked_value(value, dtype, "x")
    except InvalidDataError:
        assert dtype.kind != "f" or not isinstance(value, float)
        if dtype.kind in "iu" and type(value) is int:
            assert not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
        return
    out = np.zeros(1, dtype)
    with np.errstate(over="ignore"):
        out[0] = held
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out[0], np.float32(value))
    else:
        assert out[0] == (np.datetime64(value) if dtype.kind == "M" else value)


@pytest.mark.parametrize(
    ("value", "dtype", "told"),
    [
        (0.5, "int8", "0.5 (float); expected a whole number from -128 to 127, since its dtype is "),
        ("a", "float32", "'a' (str); expected a number, since its dtype is "),
        (0, "bool", "0 (int); expected True or False, since its dtype is "),
        (0, "datetime64[s]", "0 (int); expected a date, since its dtype is "),
        (0, "timedelta64[s]", "0 (int); expected a span of time, since its dtype is "),
        (0, "object", "0 (int); expected a str, since its dtype is "),
    ],
)
def test_a_value_that_a_column_can_t_hold_is_refused(value, dtype, told):
    with pytest.raises(InvalidDataError) as caught:
        checked_value(value, np.dtype(dtype), "x", str)
    assert str(caught.value) == f"x is to be filled with {told}{dtype}."


def test_one_value_is_for_the_columns_that_can_hold_it():
    of_all = columns_filled({"a": 1, "b": 2}, "text", "x")
    values = [unwrapped(column)[1] for column in of_all.values()]
    assert checked_value(values[0], np.dtype("int8"), "x") is UNFILLED
    assert checked_value(values[1], np.dtype(object), "x", str) == "text"
    some = columns_filled({"a": 1, "b": 2}, {"b": 5}, "x")
    assert (some["a"], unwrapped(some["b"])) == (1, (2, 5))


def test_the_name_of_no_column_is_refused():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"age": [1], "name": ["a"]})
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(Filled(table, {"agee": 0}))
    assert str(caught.value) == (
        "Filled has a value for column 'agee' of x, which has the columns 'age', 'name'; expected "
        "one of them."
    )


TABLES = "expected a table or column of pandas, polars, Arrow, Parquet or `datasets`."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            np.array([1, np.nan]),
            "ndarray of shape (2,) and dtype float64; " + TABLES + " In an array nothing can be "
            "missing, but numbers may be NaN: np.nan_to_num(data, nan=0).",
        ),
        (
            np.arange(3),
            f"ndarray of shape (3,) and dtype int64; {TABLES} In an array nothing can be missing.",
        ),
        (
            np.ma.masked_array([1, 2], [False, True]),
            f"MaskedArray of shape (2,) and dtype int64; {TABLES} Fill the array: data.filled(0).",
        ),
        (
            {"a": np.zeros(2)},
            "a dict of 1 items; " + TABLES + " Put Filled around each part: {name: Filled(column, "
            "0) for name, column in data.items()}.",
        ),
        ([1, None], f"[1, None] (list); {TABLES} Put Filled around each part."),
    ],
    ids=["floats", "integers", "masked", "dict", "list"],
)
def test_what_is_no_table_is_refused_where_it_is_filled(data, message):
    with pytest.raises(InvalidDataError) as caught:
        Filled(data, 0)
    assert str(caught.value) == f"Filled was given {message}"


def test_other_data_in_which_nothing_is_missing_are_refused():
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(Filled(range(3), 0))
    assert str(caught.value) == (
        "x is Filled(range(0, 3) (range), 0); expected a table or column of pandas, polars, Arrow, "
        "Parquet or `datasets` in Filled. In other data nothing can be missing: pass them as they "
        "are."
    )


def test_no_value_is_no_value():
    pa = pytest.importorskip("pyarrow")
    column = pa.array([1])
    for value in (None, {"a": 1, "b": None}):
        with pytest.raises(InvalidArgumentError, match=r"^the value of Filled is None, which is"):
            Filled(column, value)
    with pytest.raises(InvalidArgumentError, match=r"^Filled was given a Filled; expected a table"):
        Filled(Filled(column, 0), 0)


def test_categories_are_filled_with_a_category():
    pd = pytest.importorskip("pandas")
    for names, told in ((["b", "a"], "'a', 'b'"), (list("abcde"), "'a', 'b', 'c', ...")):
        column = pd.Series([*names, None], dtype="category")
        with pytest.raises(InvalidDataError) as caught:
            ArrayDataset(Filled(column, 0))
        assert str(caught.value) == (
            f"x is to be filled with 0 (int), and is a column of categories ({told}); expected one "
            "of them, or a new one: a str. It is read as its code."
        )


def test_categories_are_told_of_codes_alone():
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(InvalidDataError) as caught:
        sources.categories(pa.array(["a", "b"]))
    assert str(caught.value) == (
        "the column is StringArray of 2 items, which has no categories; expected a dictionary of "
        "Arrow, a category of pandas, a Categorical or Enum of polars, or a ClassLabel. Make "
        "categories of it first, as `column.astype('category')` does in pandas."
    )
    many = pa.array([f"{number}" for number in range(127)] + [None]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(many.indices.cast("int8"), many.dictionary)
    filled = Filled(pa.concat_arrays([column, column]), "new")  # the last code that int8 holds
    x = ArrayDataset(filled, shuffle=False, batch_size=256)[0]
    assert x.dtype == np.int8
    assert x[-1] == 127
