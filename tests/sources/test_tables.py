"""Tables and columns: missing values are refused by column and row, others with what to write."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.samplers import BlockShuffle
from keras_npbatch.sources import Filled, Parquet
from keras_npbatch.sources.paths import Paths
from keras_npbatch.sources.sources import as_source
from keras_npbatch.tree import leaves_with_paths

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
    "datetime64[ns]": "2020-01-01",
    "timedelta64[s]": "3 days",
    "object": "text",
    "period[D]": "2020-01-01",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_value_of_pandas_is_refused_by_column_and_row(kind: str) -> None:
    pandas = pytest.importorskip("pandas")
    series = column([KINDS[kind]] * 5 + [None] + [KINDS[kind]] * 6, kind)
    table = pandas.DataFrame({"real": np.zeros(N), "age": series})
    ones = np.ones((N, 1))
    is_number = type(KINDS[kind]) is int and kind != "category"
    filling = "fillna(0)" if is_number else "keras_npbatch.sources.Filled(..., value)"
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
            f"in every row. Fill them (`{filling}`) or leave these rows out, and tell the model "
            "which were missing by an input or a sample_weight."
        )


@pytest.mark.parametrize("kind", KINDS)
def test_columns_without_missing_values_are_read(kind: str) -> None:
    series = column([KINDS[kind]] * N, kind)
    assert as_source(series, "x").read(np.arange(3), np.empty).shape == (3, 1)


def test_the_first_of_several_rows_is_named_and_how_many_there_are() -> None:
    with pytest.raises(InvalidDataError, match=r"^x has no value in row 1 and 2 more, which"):
        as_source(column([1, None, None, 2, None], "Int64"), "x")


def test_nan_in_floats_and_nat_in_arrays_of_numpy_are_values() -> None:
    pandas = pytest.importorskip("pandas")
    for data in (
        pandas.Series([np.nan, 1.0]),
        np.array(["NaT", "2020"], "datetime64[s]"),
        pandas.Series(pandas.arrays.SparseArray([np.nan, 1.0])),
    ):
        found = as_source(data, "x").read(np.array([0]), np.empty)
        assert np.isnan(found).all() or np.isnat(found).all()


@pytest.mark.parametrize("missing", [None, float("nan")], ids=str)
def test_a_text_that_is_missing_among_objects_is_refused_or_filled(missing: Any) -> None:
    """With NaN, as `read_csv` has it before pandas 3."""
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(["a", missing, "b"], dtype=object)
    with pytest.raises(InvalidDataError, match=r"^x has no value in row 1, which"):
        ArrayDataset(series)
    assert ArrayDataset(Filled(series, "?"), shuffle=False)[0].tolist() == [["a"], ["?"], ["b"]]


def test_an_object_that_is_a_list_or_an_array_is_a_value() -> None:
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([[None], np.array([np.nan, 1.0])], dtype=object)
    assert as_source(series, "x").shape == (2, 1)


def test_a_missing_value_of_polars_is_refused_by_column_and_row() -> None:
    polars = pytest.importorskip("polars")
    series = polars.Series("age", [1, 2, None, 4, None])
    with pytest.raises(InvalidDataError, match=r"^x has no value in row 2 and 1 more, which"):
        as_source(series, "x")
    table = polars.DataFrame({"real": [0.0] * 5, "age": series})
    with pytest.raises(InvalidDataError, match=r"^column 'age' of x has .*`fill_null\(0\)`"):
        as_source(table, "x")


@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_what_the_message_says_of_missing_values_fills_them(package: str) -> None:
    module = pytest.importorskip(package)
    texts, numbers, flags = ["a", None, "b"], [1, None, 2], [True, None, False]
    if package == "pandas":
        kinds = ("category", "string", "Int64", "boolean")
        values = (texts, texts, numbers, flags)
        columns = [
            module.Series(each, dtype=kind) for each, kind in zip(values, kinds, strict=True)
        ]
    elif package == "polars":
        columns = [module.Series(each) for each in (texts, numbers, flags)]
        columns.append(module.Series(texts, dtype=module.Categorical))
    else:
        columns = [module.array(each) for each in (texts, numbers, flags)]
        columns.append(module.array(texts).dictionary_encode())
    for values in columns:
        with pytest.raises(InvalidDataError) as caught:
            as_source(values, "x")
        told = str(caught.value).split("`")[1]
        if told.startswith("fill"):
            filled = eval(f"values.{told}")  # what a user would write
        else:
            assert told == "keras_npbatch.sources.Filled(..., value)"
            filled = Filled(values, values[0] if package != "pyarrow" else values[0].as_py())
        found = as_source(filled, "x").read(np.arange(3), np.empty).ravel()
        assert found[1] == (0 if told.startswith("fill") else found[0])


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

        found["polars LazyFrame"] = polars.DataFrame({"a": data[:, 0]}).lazy(), data[:, :1]
    except ImportError:
        pass
    try:
        import pyarrow

        columns = pyarrow.table({"a": data[:, 0], "b": data[:, 1]})
        found["Arrow reader"] = columns.to_reader(), data
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


@pytest.mark.parametrize("name", ["polars LazyFrame", "Arrow reader", "rows alone", "range"])
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
    np.testing.assert_array_equal(converted, expected)
    ArrayDataset(converted, np.ones(3))


class Samples:
    """A dataset of torch, as users write it: its module is theirs."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return np.zeros(2), row


def holders_and_advice(folder: Path) -> dict[str, tuple[Any, str]]:
    """What holds or makes samples and is no array, with what to write."""
    np.savez(folder / "a.npz", x=np.zeros((3, 2)))
    by_name = "It holds arrays by their names: give one of them, `data['x']`."
    by_row = "`SampleDataset.of(data, batch_size=...)`."
    found: dict[str, tuple[Any, str]] = {
        "npz": (np.load(folder / "a.npz"), by_name),
        "paths": (
            Paths(["a.jpg", "b.jpg"]),
            "Files, one a sample: `keras_npbatch.sources.Files(data, read)`, with a function that "
            "reads one; the images of a folder: `folder.images`.",
        ),
        "samples": (
            Samples(),
            "Read it into an array, `np.asarray(data[:])`, or one sample after the other: "
            f"{by_row}",
        ),
    }
    with contextlib.suppress(ImportError):
        import h5py

        file = h5py.File(folder / "a.h5", "w")
        file["x"] = np.zeros((3, 2))
        found["HDF5"] = file, by_name
    with contextlib.suppress(ImportError):
        import zarr

        group = zarr.open_group(folder / "a.zarr", mode="w")
        group.create_array("x", data=np.zeros((3, 2)))
        found["Zarr"] = group, by_name
    with contextlib.suppress(ImportError):
        from torch.utils import data

        found["torch"] = data.Dataset(), f"Its samples are read one by one: {by_row}"
        loader: Any = data.DataLoader(Samples())  # type: ignore[arg-type]
        found["loader of torch"] = (
            loader,
            "It makes batches of its own. Give its dataset: "
            "`SampleDataset.of(data.dataset, batch_size=...)`.",
        )
    return found


@pytest.mark.parametrize(
    "kind", ["npz", "paths", "samples", "HDF5", "Zarr", "torch", "loader of torch"]
)
def test_what_holds_samples_and_is_no_array_is_refused_with_what_to_write(
    kind: str, tmp_path: Path
) -> None:
    found = holders_and_advice(tmp_path)
    try:
        if kind not in found:
            pytest.skip("it is not installed")
        holder, advice = found[kind]
        with pytest.raises(InvalidDataError) as caught:
            as_source(holder, "data")
        assert str(caught.value).endswith(f"row indexing. {advice}")
    finally:
        for each, _ in found.values():
            getattr(each, "close", lambda: None)()


class Pipeline:
    """Has the module of a pipeline of TensorFlow's."""


Pipeline.__module__ = "tensorflow.python.data.ops.batch_op"


def test_a_pipeline_of_tensorflow_is_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(Pipeline(), "x")
    assert str(caught.value).endswith(
        "It can only be iterated over: give it to `fit` itself, or what it was made of to the "
        "dataset."
    )


class Store:
    """Has the module of tensorstore's, and a dtype that NumPy does not know."""

    shape, dtype = (3, 2), "float99"

    def __getitem__(self, rows: Any) -> Any:
        raise NotImplementedError


Store.__module__ = "tensorstore"


def test_data_of_other_packages_is_refused_with_the_line_to_write() -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(Store(), "x")
    line = "`def load(self, rows): return self.store[rows].read().result()`."
    assert str(caught.value).endswith(line)


def every_table(folder: Path) -> dict[str, Any]:
    """Columns of every kind of table that is installed, with nulls that are filled."""
    found: dict[str, Any] = {}
    row = np.arange(MANY)
    numbers, codes = row / 2, [f"text {number % 5}" for number in range(MANY)]
    missing = row % 7 == 0
    with contextlib.suppress(ImportError):
        import pandas

        whole = pandas.array(np.where(missing, None, row), "Int64")
        found["pandas"] = Filled(pandas.Series(whole), -1)
        found["pandas category"] = pandas.Series(codes, dtype="category")
    with contextlib.suppress(ImportError):
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table(
            {
                "numbers": pyarrow.chunked_array([numbers[:100], numbers[100:]]),
                "bits": pyarrow.array(missing),
                "codes": pyarrow.array(codes).dictionary_encode(),
                "lists": pyarrow.FixedSizeListArray.from_arrays(np.repeat(numbers, 4), 4),
                "nulls": pyarrow.array(row, mask=missing),
            }
        ).slice(3, MANY - 3)
        table = pyarrow.concat_tables([table, table.slice(0, 3)])
        pyarrow.parquet.write_table(table, folder / "x.parquet", row_group_size=300)
        found["Arrow"] = Filled(table, {"nulls": 5})
        found["Parquet"] = Filled(Parquet(folder / "x.parquet"), {"nulls": 6})
    with contextlib.suppress(ImportError):
        import polars

        found["polars"] = polars.DataFrame({"numbers": numbers, "bits": missing, "codes": codes})
    with contextlib.suppress(ImportError):
        import datasets

        datasets.disable_progress_bars()
        made = datasets.Dataset.from_dict({"numbers": numbers, "codes": codes})
        made.save_to_disk(folder / "huggingface")
        found["datasets"] = datasets.load_from_disk(folder / "huggingface").shuffle(seed=0)
    with contextlib.suppress(ImportError):
        import dask.array

        found["dask"] = dask.array.from_array(numbers, chunks=300)
    with contextlib.suppress(ImportError):
        import xarray

        found["xarray"] = xarray.DataArray(numbers, dims="row")
    return found


MANY = 1500


def test_worker_processes_read_what_this_one_reads(tmp_path: Path) -> None:
    """Each kind of table is sent with its memory shared, or opened by path."""
    given = {
        "batch_size": 400,
        "seed": 0,
        "sampler": BlockShuffle(300, blocks=2),
        "transform": lambda batch: batch,
    }
    data = every_table(tmp_path)
    alone = ArrayDataset(data, workers=0, **given)
    with ArrayDataset(data, workers=1, use_multiprocessing=True, **given) as together:
        for here, there in zip(alone, together, strict=True):
            for (path, a), (_, b) in zip(
                leaves_with_paths(here), leaves_with_paths(there), strict=True
            ):
                assert a.dtype == b.dtype, path
                np.testing.assert_array_equal(a, b, err_msg=path)


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
