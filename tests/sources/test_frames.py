"""pandas: a Series of pandas' own dtypes is converted row by row; a DataFrame stays one matrix."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from keras_npbatch import sources
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.sources import as_source

pd = pytest.importorskip("pandas")
ROWS = np.array([2, 0, 2])


def read(leaf):
    found = as_source(leaf, "x").read(ROWS, np.empty)
    assert found.dtype == as_source(leaf, "x").dtype
    return found


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        ([1, 2, 3], "Int16", "int16"),
        ([1, 2, 3], "UInt64", "uint64"),
        ([0.5, 1.5, 2.5], "Float32", "float32"),
        ([True, False, True], "boolean", "bool"),
        (["a", "b", "c"], "string", "object"),
        ([1, 2, 3], "int8[pyarrow]", "int8"),
        ([True, False, True], "bool[pyarrow]", "bool"),
        (["a", "b", "c"], "string[pyarrow]", "object"),
        (["2020-01-01", "2021-02-03", "2022-03-04"], "datetime64[s, UTC]", "datetime64[s]"),
    ],
)
def test_columns_of_pandas_own_dtypes_are_numpys(values, kind, dtype):
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    values = pd.to_datetime(values, utc=True) if "datetime" in kind else values
    series = pd.Series(values).astype(kind)
    found = read(series)
    assert found.dtype == np.dtype(dtype)
    expected = np.array([values[row] for row in ROWS.tolist()], object)
    if "datetime" in kind:
        expected = np.array([each.tz_localize(None) for each in expected], dtype)
    assert found.shape == (3, 1)
    assert found[:, 0].tolist() == expected.tolist()


def test_a_time_with_a_zone_is_told_in_utc():
    series = pd.Series(pd.to_datetime(["2020-01-01"] * 3).tz_localize("Europe/Paris"))
    assert read(series)[0, 0] == np.datetime64("2019-12-31T23:00")


def test_a_series_of_categories_is_its_codes_and_a_frame_their_values():
    series = pd.Series(pd.Categorical([30, 10, 30], categories=[10, 20, 30]))
    assert read(series).tolist() == [[2], [2], [2]]
    assert sources.categories(series) == [10, 20, 30]
    assert sources.categories(series.array) == [10, 20, 30]
    assert read(pd.DataFrame({"c": series, "n": [0.5, 1.5, 2.5]})).tolist() == [
        [30, 2.5],
        [30, 0.5],
        [30, 2.5],
    ]


def test_what_pandas_calls_missing_is_filled():
    frame = pd.DataFrame(
        {
            "nan": [1.5, 2.5, np.nan],
            "na": pd.array([1, 2, None], "Int64"),
            "category": pd.Categorical([10, 20, None]),
            "time": pd.to_datetime(["2020", "2021", None]),
            "text": pd.array(["a", "b", None], "string"),
        }
    )
    values = {"nan": -1, "na": -2, "category": 20, "text": "?"}
    for name, value in values.items():
        found = read(sources.Filled(frame[name], value))[0, 0]
        assert found == (1 if name == "category" else value)
    found = read(sources.Filled(frame["time"], np.datetime64("1999-01-01")))
    assert found[0, 0] == np.datetime64("1999-01-01")
    del values["text"]
    numbers = read(sources.Filled(frame[["nan", "na", "category"]], values))
    assert numbers.dtype == np.float64
    assert numbers.tolist() == [[-1, -2, 20], [1.5, 1, 10], [-1, -2, 20]]
    with pytest.raises(InvalidDataError, match=r"^column 'na' of x has no value in row 2,"):
        read(sources.Filled(frame[["nan", "na"]], {"nan": 0}))


def test_neither_making_a_source_nor_reading_converts_the_whole():
    numbers = pd.array(np.arange(2**21), "Int64")
    series = {
        "nullable": pd.Series(numbers),
        "frame": pd.DataFrame({"a": numbers, "b": np.zeros(2**21)}),
        "category": pd.Series(pd.Categorical.from_codes(np.arange(2**21) % 100, range(100))),
        "zone": pd.Series(pd.to_datetime(np.arange(2**21), utc=True)),
    }
    for name, leaf in series.items():
        tracemalloc.start()
        try:
            as_source(leaf, "x").read(ROWS, np.empty)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # Whether a value is missing is a byte a row, and for a date a comparison of all.
        assert most < 2**23, name


def test_columns_of_lists_keep_their_axis():
    pa = pytest.importorskip("pyarrow")
    lists = pd.Series([[1, 2], [3, 4], [5, 6]], dtype=pd.ArrowDtype(pa.list_(pa.int8(), 2)))
    assert read(lists).tolist() == [[5, 6], [1, 2], [5, 6]]
