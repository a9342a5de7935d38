"""polars: rows are those of `to_list`, whatever the type, the chunks and the nulls."""

from __future__ import annotations

import datetime
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.sources import as_source, as_sources

pl = pytest.importorskip("polars")

WHOLE = st.integers(-100, 100)
PAIRS = st.tuples(WHOLE, WHOLE).map(list)
KINDS = {
    "int8": (pl.Int8, WHOLE, 5, "int8"),
    "uint64": (pl.UInt64, st.integers(0, 2**64 - 1), 5, "uint64"),
    "float32": (pl.Float32, st.floats(width=32), 0.5, "float32"),
    "bool": (pl.Boolean, st.booleans(), True, "bool"),
    "text": (pl.String, st.text(max_size=3), "?", "object"),
    "bytes": (pl.Binary, st.binary(max_size=3), b"?", "object"),
    "date": (pl.Date, st.dates(), datetime.date(2020, 1, 1), "datetime64[D]"),
    "time": (pl.Datetime("us"), st.datetimes(), datetime.datetime(2020, 1, 1), "datetime64[us]"),
    "span": (
        pl.Duration("us"),
        st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)),
        datetime.timedelta(1),
        "timedelta64[us]",
    ),
    "lists": (pl.List(pl.Int16), PAIRS, 9, "int16"),
    "arrays": (pl.Array(pl.Int32, 2), PAIRS, 9, "int32"),
    "arrays of arrays": (
        pl.Array(pl.Array(pl.Int8, 2), 2),
        st.tuples(PAIRS, PAIRS).map(list),
        9,
        "int8",
    ),
}


@st.composite
def series(draw, nulls=False):
    kind, values, fill, dtype = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    parts = draw(st.sampled_from([[1], [1, 0, 1]]))
    values = values | st.none() if nulls else values
    chunks = [pl.Series(draw(st.lists(values, min_size=n, max_size=4)), dtype=kind) for n in parts]
    return pl.concat(chunks, rechunk=False), fill, np.dtype(dtype)


def through_python(column, source, fill=None):
    out = np.empty(source.shape, source.dtype)
    for row, value in enumerate(column.to_list()):
        out[row] = fill if value is None else value
    return out


@settings(max_examples=60)
@given(data=st.data())
def test_rows_are_those_of_polars(data):
    column, _, dtype = data.draw(series())
    rows = np.array(data.draw(st.lists(st.integers(0, len(column) - 1), max_size=9)), np.int64)
    source = as_source(column, "x")
    assert source.dtype == dtype
    found = source.read(rows, np.empty)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, through_python(column, source)[rows])


@settings(max_examples=60)
@given(data=st.data())
def test_nulls_are_refused_by_their_row_or_filled(data):
    column, fill, _ = data.draw(series(nulls=True))
    rows = np.flatnonzero([value is None for value in column.to_list()])
    if len(rows):
        with pytest.raises(InvalidDataError, match=f"^x has no value in row {rows[0]}[ ,]"):
            as_source(column, "x")
    source = as_source(sources.Filled(column, fill), "x")
    found = source.read(np.arange(len(column)), np.empty)
    np.testing.assert_array_equal(found, through_python(column, source, fill))


def test_a_null_inside_a_list_is_found_and_filled():
    for kind in (pl.List(pl.Int8), pl.Array(pl.Int8, 2)):
        column = pl.Series([[1, 2], [3, 4], [5, None]], dtype=kind)
        with pytest.raises(InvalidDataError, match=r"^x has no value in row 2,"):
            as_source(column, "x")
        found = as_source(sources.Filled(column, 7), "x").read(np.array([2, 0]), np.empty)
        assert found.tolist() == [[5, 7], [1, 2]]


@pytest.mark.parametrize("kind", ["Categorical", "Enum"])
def test_categories_are_codes_from_0_up_whatever_polars_has_seen_before(kind):
    pl.Series(["seen", "before"], dtype=pl.Categorical)
    dtype = pl.Categorical if kind == "Categorical" else pl.Enum(["c", "a", "b", "never"])
    column = pl.Series(["b", "a", "b", "c"], dtype=dtype)
    names = sources.categories(column)
    assert names == (["b", "a", "c"] if kind == "Categorical" else ["c", "a", "b", "never"])
    codes = as_source(column, "x").read(np.array([3, 0, 1]), np.empty)
    assert codes.dtype == np.int8
    assert [names[code] for code in codes] == ["c", "b", "a"]
    missing = pl.Series(["b", None], dtype=dtype)
    filled = sources.Filled(missing, "?")
    names = sources.categories(filled)
    assert names[as_source(filled, "x").read(np.array([1]), np.empty)[0]] == "?"


def test_a_frame_of_numbers_of_one_type_is_a_matrix_and_others_are_dicts():
    frame = pl.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6], "c": [0.5, 1.5, 2.5]})
    x, y = ArrayDataset(frame.select("a", "b"), frame["c"], shuffle=False, batch_size=2)[1]
    assert (x.tolist(), y.tolist()) == ([[3, 6]], [2.5])
    batch = ArrayDataset(frame, shuffle=False).load(np.array([2, 0]))
    assert {name: column.tolist() for name, column in batch.items()} == {
        "a": [3, 1],
        "b": [6, 4],
        "c": [2.5, 0.5],
    }
    with pytest.raises(InvalidDataError, match="is a DataFrame with no columns"):
        as_sources(pl.DataFrame(), "x")


def test_numbers_are_read_from_the_memory_of_polars():
    column = pl.Series(np.arange(1000.0))
    source = as_source(column, "x")
    assert isinstance(source, TakenArray)
    assert np.shares_memory(source.array, column.to_numpy())


def test_neither_making_a_source_nor_reading_copies_the_whole():
    texts = pl.Series(["one text of some length"] * 2**18)
    wide = pl.Series(np.zeros((2**15, 64)), dtype=pl.Array(pl.Float64, 64))
    for data in (texts, wide, pl.Series([True] * 2**22), sources.Filled(wide, 0.0)):
        tracemalloc.start()
        try:
            as_source(data, "x").read(np.arange(0, 2**15, 300), np.empty)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert most < 2**20


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (
            lambda: pl.Series([1]).cast(pl.Decimal(10, 2)),
            "Decimal(precision=10, scale=2); expected numbers, dates, texts, categories or lists "
            "of them. Cast it to numbers: `column.cast(polars.Float64)`.",
        ),
        (
            lambda: pl.Series([1]).cast(pl.Time),
            "Time; expected numbers, dates, texts, categories or lists of them. Cast it to "
            "numbers: `column.cast(polars.Int64)`.",
        ),
        (
            lambda: pl.Series([{"a": 1}]),
            "Struct({'a': Int64}); expected numbers, dates, texts, categories or lists of them. "
            "Pass its fields as columns of their own: `frame.unnest(name)`.",
        ),
        (
            lambda: sources.Filled(pl.Series([None, None]), 0),
            "Null; expected numbers, dates, texts, categories or lists of them. All its values are "
            "missing: leave the column out, or write `column.fill_null(0)`.",
        ),
    ],
)
def test_types_that_numpy_has_nothing_for_are_refused(column, told):
    with pytest.raises(InvalidDataError) as caught:
        as_source(column(), "x")
    assert str(caught.value) == f"x is a column of polars' type {told}"


def test_lists_of_several_lengths_are_refused():
    with pytest.raises(InvalidDataError, match=r"^x is a column of lists of 0 to 3 values; expect"):
        as_source(pl.Series([[1, 2], [], [4, 5, 6]]), "x")


def test_a_column_without_rows_is_refused_as_data_without_rows():
    for kind in (pl.Float32, pl.String, pl.List(pl.Int8), pl.Array(pl.Int8, 2), pl.Categorical):
        with pytest.raises(InvalidDataError, match=r"^x has 0 rows"):
            ArrayDataset(pl.Series([], dtype=kind))
