"""Tables and columns: missing values are refused by column and row, others with what to write."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.sources.sources import as_source

N = 12


def column(values: Any, kind: str) -> Any:
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in kind:
        pytest.importorskip("pyarrow")
    return pandas.Series(pandas.array(values, dtype=kind))


KINDS = {
    **dict.fromkeys(("Int64", "UInt8", "Float32", "Float64", "category"), 1),
    **dict.fromkeys(("int64[pyarrow]", "double[pyarrow]"), 1),
    **dict.fromkeys(("boolean", "bool[pyarrow]"), True),
    **dict.fromkeys(("string", "string[pyarrow]"), "text"),
    "datetime64[ns, UTC]": "2020-01-01",
    "period[D]": "2020-01-01",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_value_of_pandas_is_refused_by_column_and_row(kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    series = column([KINDS[kind]] * 5 + [None] + [KINDS[kind]] * 6, kind)
    table = pandas.DataFrame({"real": np.zeros(N), "age": series})
    ones = np.ones((N, 1))
    for make, name in (
        (lambda: ArrayDataset(series, ones), "x"),
        (lambda: ArrayDataset(series.array, ones), "x"),
        (lambda: ArrayDataset(ones, series), "y"),
        (lambda: ArrayDataset({"q": table["age"]}, ones), "x['q']"),
        (lambda: ArrayDataset(table, ones), "column 'age' of x"),
        (lambda: ArrayDataset(table[["age"]], ones), "column 'age' of x"),
    ):
        with pytest.raises(InvalidDataError) as caught:
            make()
        assert str(caught.value) == (
            f"{name} has no value in row 5, which would become NaN or an object; expected a value "
            "in every row. Fill them (`fillna(0)`) or leave these rows out, and tell the model "
            "which were missing by an input or a sample_weight."
        )


@pytest.mark.parametrize("kind", KINDS)
def test_columns_without_missing_values_are_read(kind: str) -> None:
    series = column([KINDS[kind]] * N, kind)
    assert as_source(series, "x").read(np.arange(3), np.empty).shape == (3, 1)


def test_the_first_of_several_rows_is_named_and_how_many_there_are() -> None:
    with pytest.raises(InvalidDataError, match=r"^x has no value in row 1 and 2 more, which"):
        as_source(column([1, None, None, 2, None], "Int64"), "x")


def test_nan_and_nat_of_numpys_dtypes_are_values() -> None:
    pandas = pytest.importorskip("pandas")
    for series in (
        pandas.Series([np.nan, 1.0]),
        pandas.Series([pandas.NaT, pandas.Timestamp("2020")]),
        pandas.Series(pandas.arrays.SparseArray([np.nan, 1.0])),
    ):
        found = as_source(series, "x").read(np.array([0]), np.empty)
        assert np.isnan(found).all() or np.isnat(found).all()


def test_a_missing_value_of_polars_is_refused_by_column_and_row() -> None:
    polars = pytest.importorskip("polars")
    series = polars.Series("age", [1, 2, None, 4, None])
    with pytest.raises(InvalidDataError, match=r"^x has no value in row 2 and 1 more, which"):
        as_source(series, "x")
    table = polars.DataFrame({"real": [0.0] * 5, "age": series})
    with pytest.raises(InvalidDataError, match=r"^column 'age' of x has .*`fill_null\(0\)`"):
        as_source(table, "x")


def test_a_missing_value_of_arrow_is_refused_by_column_and_row() -> None:
    arrow = pytest.importorskip("pyarrow")
    for array in (
        arrow.array([1, 2, None, 4, None]),
        arrow.chunked_array([[1, 2], [None, 4, None]]),
    ):
        with pytest.raises(InvalidDataError, match=r"^x has no value in row 2 and 1 more, which"):
            as_source(array, "x")
        table = arrow.table({"real": [0.0] * 5, "age": array})
        with pytest.raises(InvalidDataError, match=r"^column 'age' of x has .*`fill_null\(0\)`"):
            as_source(table, "x")


def leaves_to_convert() -> dict[str, Any]:
    data = np.arange(6, dtype="float32").reshape(3, 2)
    found: dict[str, Any] = {}
    try:
        import polars

        found["polars Series"] = polars.Series("a", data[:, 0]), data[:, 0]
        found["polars DataFrame"] = polars.DataFrame({"a": data[:, 0], "b": data[:, 1]}), data
        found["polars LazyFrame"] = polars.DataFrame({"a": data[:, 0]}).lazy(), data[:, :1]
    except ImportError:
        pass
    try:
        import pyarrow

        found["Arrow array"] = pyarrow.array(data[:, 0]), data[:, 0]
        found["Arrow chunks"] = pyarrow.chunked_array([data[:2, 0], data[2:, 0]]), data[:, 0]
        found["Arrow lists"] = pyarrow.FixedSizeListArray.from_arrays(data.ravel(), 2), data
        columns = {"a": data[:, 0], "b": data[:, 1]}
        found["Arrow table"] = pyarrow.table(columns), columns
    except ImportError:
        pass
    found["rows alone"] = Rows(data), data
    found["range"] = range(3), np.arange(3)
    return found


class Rows:
    """Rows without a shape or a dtype, as a column of Hugging Face's datasets."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Any:
        return self.data[key]


@pytest.mark.parametrize(
    "name",
    [
        *("polars Series", "polars DataFrame", "polars LazyFrame"),
        *("Arrow array", "Arrow chunks", "Arrow lists", "Arrow table", "rows alone", "range"),
    ],
)
def test_what_can_t_be_read_is_refused_with_the_line_to_write(name: str) -> None:
    if name not in leaves_to_convert():
        pytest.skip("it is not installed")
    leaf, expected = leaves_to_convert()[name]
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(leaf, np.ones(3))
    message = str(caught.value)
    assert "\n" not in message
    line = re.findall("`([^`]*)`", message.partition("row indexing. ")[2] or message)[0]
    converted = eval(line, {"x": leaf, "np": np})  # the line of the message, as users write it
    if isinstance(expected, dict):
        assert converted.keys() == expected.keys()
    else:
        np.testing.assert_array_equal(converted, expected)
    ArrayDataset(converted, np.ones(3))


class Store:
    """Has the module of tensorstore's, and a dtype that NumPy does not know."""

    shape, dtype = (3, 2), "float99"

    def __getitem__(self, rows: Any) -> Any:
        raise NotImplementedError


Store.__module__ = "tensorstore"


class HuggingFace(Rows):
    """Has the module of Hugging Face's datasets."""

    def with_format(self, name: str) -> Any:
        raise NotImplementedError


HuggingFace.__module__ = "datasets.arrow_dataset"


class Variables:
    """Has the module of xarray's datasets."""

    data_vars: Any = ()


Variables.__module__ = "xarray.core.dataset"


@pytest.mark.parametrize(
    ("leaf", "line"),
    [
        (Store(), "`def load(self, rows): return self.store[rows].read().result()`."),
        (HuggingFace([]), "Pass its columns: `x.with_format('numpy')['name'][:]`."),
        (Variables(), "Pass its variables: `dict(x.data_vars)`."),
    ],
)
def test_data_of_other_packages_is_refused_with_the_line_to_write(leaf: Any, line: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(leaf, "x")
    assert str(caught.value).endswith(line)


def test_a_table_is_told_by_its_shape_in_one_line() -> None:
    pandas = pytest.importorskip("pandas")
    assert describe(pandas.DataFrame({"a": [1, 2]})) == "DataFrame of shape (2, 1)"
    assert describe("several\n lines") == r"'several\n lines' (str)"

    class Array:
        """As one of Arrow: it has neither shape nor dtype."""

        def __array__(self) -> Any:
            return np.zeros(3)

        def __len__(self) -> int:
            return 3

    assert describe(Array()) == "Array of 3 items"

    class Printed:
        def __repr__(self) -> str:
            return "one\n  two"

    assert describe(Printed()) == "one two (Printed)"
