"""Sources: reading rows, compared with `np.asarray(data)[rows]`, from every storage there is."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.sources import Concatenated, Files
from keras_npbatch.sources.decoding import Decoding
from keras_npbatch.sources.filled import Filled
from keras_npbatch.sources.image_folder import Images
from keras_npbatch.sources.ragged import Ragged
from keras_npbatch.sources.sources import as_source, as_sources, num_rows
from keras_npbatch.sources.windows import Windows
from keras_npbatch.testing.array_layouts import ALL_DTYPES, LAYOUTS, filled, laid_out
from keras_npbatch.testing.strategies import arrays, nests, row_numbers
from keras_npbatch.tree import leaves, leaves_with_paths
from keras_npbatch.workers.processes.sending import Package, unpack
from keras_npbatch.workers.systems import this_system
from tests.comparing import assert_same_array
from tests.installed import needs
from tests.pictures import CHINA

MIB = 2**20

# --- NumPy arrays ------------------------------------------------------------------------------


@given(data=st.data(), array=arrays())
def test_reading_is_numpys_indexing(data: st.DataObject, array: npt.NDArray[Any]) -> None:
    rows = data.draw(row_numbers(len(array)))
    source = as_source(array, "x")
    assert source.shape == array.shape
    assert source.dtype == array.dtype
    for empty in (np.empty, Slots(PrivateMemory(kept=2)).lease):
        assert_same_array(source.read(rows, empty), array[rows])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_every_dtype_in_every_layout_is_read_as_numpy_reads_it(
    dtype: np.dtype[Any], layout: str
) -> None:
    array = laid_out(filled((7, 3, 2), dtype), layout)
    rows = np.array([6, 0, 3, 3, 1])
    found = as_source(array, "x").read(rows, np.empty)
    assert_same_array(found, array[rows])
    assert found.flags.c_contiguous


@given(data=st.data(), array=arrays())
def test_what_was_read_is_the_callers_own(data: st.DataObject, array: npt.NDArray[Any]) -> None:
    rows = data.draw(row_numbers(len(array)))
    before = array.copy()
    found = as_source(array, "x").read(rows, np.empty)
    assert not np.shares_memory(found, array)
    found[...] = filled(found.shape, found.dtype, seed=1)
    assert_same_array(np.array(array), before)


def test_a_batch_of_a_contiguous_array_lies_in_the_memory_it_was_given() -> None:
    """Also strings, dates and records: all that is no reference to a Python object."""
    for dtype in ALL_DTYPES:
        made: list[npt.NDArray[Any]] = []
        array = filled((5, 3), dtype)
        found = as_source(array, "x").read(np.array([4, 1]), recorded(made))
        if dtype.hasobject:
            assert made == []  # raw memory can't hold references
        else:
            assert made == [found]
            assert made[0] is found


def recorded(made: list[npt.NDArray[Any]]) -> Any:
    """An `empty` that remembers what it gave."""

    def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        assert not np.dtype(dtype).hasobject
        made.append(np.empty(shape, dtype))
        return made[-1]

    return empty


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 0)),
        np.zeros((4, 3, 0), "S3"),
        np.zeros((4, 2), "V0"),
        np.zeros((4, 2), np.dtype([])),
        np.zeros((4, 2), "U0"),
    ],
    ids=str,
)
def test_samples_of_no_bytes_are_counted(array: npt.NDArray[Any]) -> None:
    found = as_source(array, "x").read(np.array([3, 0, 1]), Slots(PrivateMemory(kept=1)).lease)
    assert found.shape == (3, *array.shape[1:])
    assert found.dtype == array.dtype


def test_a_memory_map_is_read_as_a_plain_array(tmp_path: Path) -> None:
    array = filled((9, 4), np.dtype("float32"))
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = as_source(mapped, "x").read(np.array([8, 2]), np.empty)
    assert_same_array(found, array[[8, 2]])
    found[...] = 0
    assert_same_array(np.array(mapped), array)


def test_a_record_array_is_read_as_a_plain_array_of_its_dtype() -> None:
    records = np.rec.array([(1, 2.5), (3, 4.5), (5, 6.5)], dtype=[("a", "i4"), ("b", "f8")])
    found = as_source(records, "x").read(np.array([2, 0]), np.empty)
    assert type(found) is np.ndarray
    assert found["a"].tolist() == [5, 1]
    assert found["b"].tolist() == [6.5, 2.5]


def test_a_matrix_is_read_as_a_plain_array() -> None:
    """Rows of a matrix stay matrices, whose `*` is not elementwise."""
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1, 2], [3, 4]])
    assert_same_array(as_source(matrix, "x").read(np.array([1]), np.empty), np.array([[3, 4]]))


def test_objects_are_handed_on_not_copied() -> None:
    things = np.array([{"a": 1}, [2], object()], object)
    found = as_source(things, "x").read(np.array([2, 0]), np.empty)
    assert found[0] is things[2]
    assert found[1] is things[0]


# --- one contract for every storage ------------------------------------------------------------


class Case(NamedTuple):
    """Data, and the same rows as plain NumPy."""

    data: Any
    rows: npt.NDArray[Any]


def pandas_series() -> Case:
    import pandas as pd

    values = filled((12,), np.dtype("float32"))
    return Case(pd.Series(values, index=range(100, 112)), values[:, np.newaxis])


def pandas_series_of_text() -> Case:
    import pandas as pd

    texts = np.array([f"text {n}" for n in range(12)], object)
    return Case(pd.Series(texts, dtype=object), texts[:, np.newaxis])


def pandas_frame_of_one_dtype() -> Case:
    import pandas as pd

    values = filled((12, 3), np.dtype("float32"))
    # An index that a row number could be taken for.
    return Case(pd.DataFrame(values, columns=list("abc"), index=np.arange(12)[::-1]), values)


def pandas_frame_of_numbers() -> Case:
    import pandas as pd

    whole, real = np.arange(12, dtype=np.int16) - 3, filled((12,), np.dtype("float32"))
    frame = pd.DataFrame({"whole": whole, "real": real, "again": whole * 2}, index=range(5, 17))
    return Case(frame, np.stack([whole, real, whole * 2], axis=1).astype("float32"))


def pandas_frame_of_numbers_and_bools() -> Case:
    import pandas as pd

    numbers, flags = filled((12,), np.dtype("float64")), np.arange(12) % 3 == 0
    frame = pd.DataFrame({"number": numbers, "is_this": flags, "is_that": ~flags})
    return Case(frame, np.stack([numbers, flags, ~flags], axis=1).astype("float64"))


def pandas_frame_with_objects() -> Case:
    import pandas as pd

    numbers, texts = np.arange(12), np.array([f"text {n}" for n in range(12)], object)
    expected = np.empty((12, 2), object)
    expected[:, 0], expected[:, 1] = numbers, texts
    return Case(pd.DataFrame({"a": numbers, "b": pd.Series(texts, dtype=object)}), expected)


def sparse_values() -> npt.NDArray[np.float32]:
    values = filled((12, 5), np.dtype("int8")).astype(np.float32)
    values[np.random.default_rng(3).random(values.shape) < 0.7] = 0
    return values


def scipy_csr_matrix() -> Case:
    from scipy import sparse

    return Case(sparse.csr_matrix(sparse_values()), sparse_values())


def scipy_csr_array() -> Case:
    from scipy import sparse

    return Case(sparse.csr_array(sparse_values()), sparse_values())


def scipy_coo_with_repeated_entries() -> Case:
    from scipy import sparse

    matrix = sparse.coo_matrix(([1.0, 2.0, 5.0], ([3, 3, 0], [1, 1, 4])), shape=(12, 5))
    expected = np.zeros((12, 5))
    expected[3, 1], expected[0, 4] = 3.0, 5.0
    return Case(matrix, expected)


def scipy_csc_of_bools() -> Case:
    from scipy import sparse

    return Case(sparse.csc_array(sparse_values() > 0), sparse_values() > 0)


class Lookup:
    """The least that a user's own storage needs."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.asked: list[Any] = []

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        self.asked.append(rows)
        return self.values[rows]


class Runs(Lookup):
    """Answers for a run of rows with a view of its own memory, as slicing storages do."""

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if len(rows) and len(rows) == rows[-1] - rows[0] + 1:
            return self.values[rows[0] : rows[-1] + 1]
        return super().__getitem__(rows)


class Frozen(Lookup):
    """Answers with arrays that can't be written to, as JAX does."""

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        found = super().__getitem__(rows)
        found.flags.writeable = False
        return found


class Scattered(Lookup):
    """Answers in Fortran order."""

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return np.asfortranarray(super().__getitem__(rows))


class OfLists(Lookup):
    """Answers with lists, and tells its dtype by name and its shape as a list."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        super().__init__(values)
        self.shape, self.dtype = list(values.shape), values.dtype.name  # type: ignore[assignment]

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Any:
        return super().__getitem__(rows).tolist()


def own_storage(kind: type[Lookup]) -> Callable[[], Case]:
    def case() -> Case:
        values = filled((12, 2, 2), np.dtype("float64"))
        return Case(kind(values.copy()), values)

    return case


def own_storage_of_lists() -> Case:
    values = filled((12,), np.dtype("float64"))
    return Case(OfLists(values), values)


def own_storage_of_objects() -> Case:
    values = filled((12, 2), np.dtype(object))
    return Case(Lookup(values.copy()), values)


@cache
def folder_of_files() -> Path:
    """With a file for each row, images, and `.npy` files of several rows."""
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    values = filled((12, 3, 2), np.dtype("float32"))
    picture = Image.open(CHINA).copy()
    for row in range(12):
        values[row].tofile(folder / f"{row}.raw")
        picture.crop((0, 10 * row, 40, 10 * row + 30)).save(folder / f"{row}.jpg")
    np.save(folder / "a.npy", values[:5])
    np.save(folder / "b.npy", values[:0])
    np.save(folder / "c.npy", np.asfortranarray(values[5:9]))
    np.save(folder / "d.npy", values[9:])
    return folder


def read_raw(path: Path) -> npt.NDArray[np.float32]:
    return np.fromfile(path, np.float32).reshape(3, 2)


def files() -> Case:
    paths = [folder_of_files() / f"{row}.raw" for row in range(12)]
    return Case(Files(paths, read=read_raw), filled((12, 3, 2), np.dtype("float32")))


def files_as_objects() -> Case:
    paths = [folder_of_files() / f"{row}.raw" for row in range(12)]
    data = Files(paths, read=lambda path: path.name, dtype=object)
    return Case(data, np.array([path.name for path in paths], object))


def images(decoder: str) -> Callable[[], Case]:
    def case() -> Case:
        from PIL import Image

        paths = [str(folder_of_files() / f"{row}.jpg") for row in range(12)]
        decoding = Decoding(size=None, decoder=decoder)
        return Case(Images(paths, decoding), np.stack([np.asarray(Image.open(p)) for p in paths]))

    return case


def concatenated_files() -> Case:
    parts = [folder_of_files() / f"{name}.npy" for name in "abcbd"]
    return Case(Concatenated(parts, most_open=1), filled((12, 3, 2), np.dtype("float32")))


def concatenated_storages() -> Case:
    values = filled((12, 3, 2), np.dtype("float32"))
    parts = [values[:5], folder_of_files() / "b.npy", Lookup(values[5:9]), values[:8:-1][::-1]]
    return Case(Concatenated(parts), values)


def concatenated_chunks() -> Case:
    da = pytest.importorskip("dask.array")
    values = filled((12, 3, 2), np.dtype("float32"))
    chunks = da.from_array(values[5:9], chunks=(3, 3, 2))
    return Case(Concatenated([values[:5], chunks, Concatenated([values[9:]])]), values)


def pandas_series_of_categories() -> Case:
    pd = pytest.importorskip("pandas")
    codes = np.arange(12) * 5 % 3
    series = pd.Series(pd.Categorical.from_codes(codes, ["c", "a", "b"]))
    return Case(series, codes.astype("int8")[:, np.newaxis])


def pandas_series_of_nullable_numbers() -> Case:
    pd = pytest.importorskip("pandas")
    values = np.arange(12, dtype="int16") - 4
    return Case(pd.Series(pd.array(values, "Int16")), values[:, np.newaxis])


def pandas_frame_to_fill() -> Case:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1, None, 3] * 4, "Int32"), "b": [1.5, np.nan, 3.5] * 4})
    expected = np.array([[1, 1.5], [-1, -1], [3, 3.5]] * 4)
    return Case(Filled(frame, -1), expected)


def arrow_chunks() -> Case:
    pa = pytest.importorskip("pyarrow")
    values = filled((12,), np.dtype("float32"))
    return Case(pa.chunked_array([values[:5], [], values[5:6], values[6:]]), values)


def arrow_lists() -> Case:
    pa = pytest.importorskip("pyarrow")
    values = filled((12, 3), np.dtype("int16"))
    return Case(pa.FixedSizeListArray.from_arrays(values.ravel(), 3), values)


def arrow_bits() -> Case:
    pa = pytest.importorskip("pyarrow")
    values = np.arange(12) % 3 == 0
    return Case(pa.array(values), values)


def arrow_text() -> Case:
    pa = pytest.importorskip("pyarrow")
    texts = [f"text {n}" for n in range(12)]
    return Case(pa.chunked_array([texts[:7], texts[7:]]), np.array(texts, object))


def arrow_codes_to_fill() -> Case:
    pa = pytest.importorskip("pyarrow")
    chunks = [pa.array([*names, None]).dictionary_encode() for names in ("ab", "bca", "abcd")]
    codes = np.array([0, 1, 4, 1, 2, 0, 4, 0, 1, 2, 3, 4], "int32")
    return Case(Filled(pa.chunked_array(chunks), "new"), codes)


def arrow_table() -> Case:
    pa = pytest.importorskip("pyarrow")
    values = filled((12, 3), np.dtype("float64"))
    return Case(pa.table(dict(zip("abc", values.T, strict=True))), values)


def parquet_table() -> Case:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table, values = arrow_table()
    file = pa.BufferOutputStream()
    parquet.write_table(table, file, row_group_size=5)
    return Case(parquet.ParquetFile(pa.BufferReader(file.getvalue())), values)


def polars_frame() -> Case:
    pl = pytest.importorskip("polars")
    values = filled((12, 3), np.dtype("float32"))
    return Case(pl.DataFrame(values, schema=["a", "b", "c"]), values)


def polars_series_to_fill() -> Case:
    pl = pytest.importorskip("polars")
    series = pl.concat([pl.Series([True, None, False] * 2)] * 2, rechunk=False)
    return Case(Filled(series, True), np.array([True, True, False] * 4))


def polars_categories() -> Case:
    pl = pytest.importorskip("polars")
    series = pl.Series(["b", "a", "c"] * 4, dtype=pl.Enum(["a", "b", "c"]))
    return Case(series, np.array([1, 0, 2] * 4, "int8"))


def polars_lists() -> Case:
    pl = pytest.importorskip("polars")
    values = filled((12, 2), np.dtype("int64"))
    return Case(pl.Series(values.tolist()), values)


def huggingface_column() -> Case:
    datasets = pytest.importorskip("datasets")
    values = np.arange(20, dtype="int64") * 7
    dataset = datasets.Dataset.from_dict({"a": values, "b": ["text"] * 20})
    rows = np.random.default_rng(0).permutation(20)[:12]
    return Case(dataset.select(rows)["a"], values[rows])


def xarray_array() -> Case:
    xr = pytest.importorskip("xarray")
    values = filled((12, 2), np.dtype("float32"))
    return Case(xr.DataArray(values, dims=("sample", "feature")), values)


def dask_array() -> Case:
    da = pytest.importorskip("dask.array")
    values = filled((12, 4), np.dtype("float32"))
    return Case(da.from_array(values, chunks=((5, 1, 6), (3, 1))), values)


LENGTHS = (3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 7, 1)


def of_lengths(*inner: int) -> list[npt.NDArray[Any]]:
    return [filled((n, *inner), np.dtype("float32"), seed=n) for n in LENGTHS]


def by_hand(rows: list[npt.NDArray[Any]], width: int, value: float = 0) -> npt.NDArray[Any]:
    padded = np.full((len(rows), width, *rows[0].shape[1:]), value, rows[0].dtype)
    for out, row in zip(padded, rows, strict=True):
        out[: len(row)] = row
    return padded


def ragged_list() -> Case:
    rows = of_lengths(2)
    return Case(Ragged(rows, pad_to=7, pad_value=-1), by_hand(rows, 7, -1))


def ragged_values() -> Case:
    rows = of_lengths()
    offsets = np.cumsum([0, *LENGTHS])
    return Case(Ragged((np.concatenate(rows), offsets), pad_to=9), by_hand(rows, 9))


def ragged_long_values() -> Case:
    rows = [np.tile(row, (40, 1)) for row in of_lengths(2)]
    offsets = np.cumsum([0, *map(len, rows)])
    data = Ragged((np.concatenate(rows), offsets), pad_to=250, truncate="left")
    return Case(data, by_hand([row[-250:] for row in rows], 250))


def ragged_mask() -> Case:
    mask = np.arange(7) < np.array(LENGTHS)[:, np.newaxis]
    return Case(Ragged(of_lengths(), pad_to=7).mask, mask)


def packed() -> Ragged:
    """Twelve rows, of a sequence of 4 time steps and one of 3 each."""
    rows = [filled((n, 2), np.dtype("float32"), seed=i) for i, n in enumerate((3, 4) * 12)]
    return Ragged(rows, pad_to=8, pad_value=-1, pack=True)


def ragged_packed() -> Case:
    made = packed()
    rows = [filled((n, 2), np.dtype("float32"), seed=i) for i, n in enumerate((3, 4) * 12)]
    joined = [np.concatenate([rows[i] for i in made.sequences_in(row)]) for row in range(12)]
    return Case(made.values, by_hand(joined, 8, -1))


def ragged_segment_ids() -> Case:
    made = packed()
    lengths = [[(3, 4)[i % 2] for i in made.sequences_in(row)] for row in range(12)]
    rows = [np.repeat(np.arange(1, 3, dtype="int32"), each) for each in lengths]
    return Case(made.segment_ids, by_hand(rows, 8))


def ragged_positions() -> Case:
    made = packed()
    lengths = [[(3, 4)[i % 2] for i in made.sequences_in(row)] for row in range(12)]
    rows = [np.concatenate([np.arange(n, dtype="int32") for n in each]) for each in lengths]
    return Case(made.positions, by_hand(rows, 8))


def windows_of_one_series() -> Case:
    series = filled((14, 2), np.dtype("float32"))
    return Case(Windows(series, 3), np.stack([series[i : i + 3] for i in range(12)]))


def windows_of_columns() -> Case:
    """No window is contiguous."""
    series = filled((2, 38), np.dtype("int16")).T
    windows = Windows(series, 3, stride=3, sampling_rate=2)
    return Case(windows, np.stack([series[i : i + 5 : 2] for i in range(0, 36, 3)]))


def windows_of_a_list() -> Case:
    several = [filled((n,), np.dtype("float64"), seed=n) for n in (4, 9, 5)]
    rows = [each[i + 1 : i + 3] for each in several for i in range(len(each) - 2)]
    return Case(Windows(several, 2, offset=1), np.stack(rows))


def windows_of_long_parts() -> Case:
    series = filled((50, 60), np.dtype("float32"))
    rows = [series[i : i + 20] for i in (*range(6), *range(25, 31))]
    return Case(Windows(series, 20, boundaries=[25]), np.stack(rows))


STORAGES: dict[str, Callable[[], Case]] = {
    "pandas Series of categories": pandas_series_of_categories,
    "pandas Series of nullable numbers": pandas_series_of_nullable_numbers,
    "pandas DataFrame to fill": pandas_frame_to_fill,
    "Arrow chunks": arrow_chunks,
    "Arrow lists": arrow_lists,
    "Arrow bits": arrow_bits,
    "Arrow text": arrow_text,
    "Arrow codes to fill": arrow_codes_to_fill,
    "Arrow table": arrow_table,
    "Parquet table": parquet_table,
    "polars DataFrame": polars_frame,
    "polars Series to fill": polars_series_to_fill,
    "polars categories": polars_categories,
    "polars lists": polars_lists,
    "Hugging Face column": huggingface_column,
    "xarray DataArray": xarray_array,
    "dask array": dask_array,
    "Ragged of a list": ragged_list,
    "Ragged of values": ragged_values,
    "Ragged of long values": ragged_long_values,
    "Ragged, its mask": ragged_mask,
    "Ragged, packed": ragged_packed,
    "Ragged, its segment ids": ragged_segment_ids,
    "Ragged, its positions": ragged_positions,
    "Windows of one series": windows_of_one_series,
    "Windows of columns": windows_of_columns,
    "Windows of a list": windows_of_a_list,
    "Windows of long parts": windows_of_long_parts,
    "pandas Series": pandas_series,
    "pandas Series of text": pandas_series_of_text,
    "pandas DataFrame of one dtype": pandas_frame_of_one_dtype,
    "pandas DataFrame of numbers": pandas_frame_of_numbers,
    "pandas DataFrame of numbers and bools": pandas_frame_of_numbers_and_bools,
    "pandas DataFrame with objects": pandas_frame_with_objects,
    "scipy csr_matrix": scipy_csr_matrix,
    "scipy csr_array": scipy_csr_array,
    "scipy coo_matrix": scipy_coo_with_repeated_entries,
    "scipy csc_array": scipy_csc_of_bools,
    "files": files,
    "files as objects": files_as_objects,
    "images": images("pillow"),
    "images, simplejpeg": images("simplejpeg"),
    "concatenated files": concatenated_files,
    "concatenated storages": concatenated_storages,
    "concatenated chunks": concatenated_chunks,
    "own class": own_storage(Lookup),
    "own class, views": own_storage(Runs),
    "own class, read-only": own_storage(Frozen),
    "own class, Fortran order": own_storage(Scattered),
    "own class, lists": own_storage_of_lists,
    "own class, objects": own_storage_of_objects,
}

ROWS = {
    "none": [],
    "one": [7],
    "all": list(range(12)),
    "a run": [3, 4, 5, 6],
    "increasing": [0, 4, 5, 11],
    "decreasing": [11, 6, 5, 0],
    "shuffled": [5, 0, 11, 2, 7],
    "repeated": [5, 5, 0, 5, 11, 0],
    "equal": [4, 4],
}

any_rows = pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import h5py

    with h5py.File(tmp_path_factory.mktemp("hdf5") / "data.h5", "w") as file:
        yield file


@pytest.fixture(scope="module")
def zarr_group(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Made once for all: with the first array, zarr starts an event loop that stays."""
    import zarr

    group = zarr.open_group(tmp_path_factory.mktemp("zarr") / "data.zarr", mode="w")
    group.create_array("first", shape=(1,), dtype="i4")[:] = 1
    return group


IN_FILES = [
    "HDF5",
    "HDF5, in chunks",
    "HDF5 of text",
    "HDF5, windows",
    "HDF5, windows of chunks",
    "Zarr",
    "Zarr, windows",
    "TensorStore, windows",
]


@pytest.fixture(params=[*STORAGES, *IN_FILES])
def case(request: pytest.FixtureRequest, hdf5: Any, zarr_group: Any) -> Iterator[Case]:
    case = case_of(request.param, hdf5, zarr_group)
    yield case
    if hasattr(case.data, "close"):
        case.data.close()


def case_of(name: str, hdf5: Any, zarr_group: Any) -> Case:
    if name in STORAGES:
        return STORAGES[name]()
    if ", windows" in name:
        return stored_windows(name, hdf5, zarr_group)
    values = filled((12, 3, 2), np.dtype("float32"))
    if name == "Zarr":
        return Case(in_zarr(zarr_group, "x", values, (5, 3, 1)), values)
    if name in hdf5:
        del hdf5[name]
    if name == "HDF5 of text":
        import h5py

        texts = np.array([f"text {n}".encode() for n in range(12)], object)
        return Case(hdf5.create_dataset(name, data=texts, dtype=h5py.string_dtype()), texts)
    chunks = (5, 3, 1) if name == "HDF5, in chunks" else None
    return Case(hdf5.create_dataset(name, data=values, chunks=chunks), values)


def in_zarr(group: Any, name: str, values: Any, chunks: tuple[int, ...]) -> Any:
    if name not in group:
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
    group[name][:] = values
    return group[name]


def stored_windows(name: str, hdf5: Any, zarr_group: Any) -> Case:
    """Windows of 3 time steps of two series of 14, from every second one on."""
    series = filled((28, 2), np.dtype("float32"))
    rows = [series[i : i + 3] for i in (*range(0, 12, 2), *range(14, 26, 2))]
    kind = name.partition(",")[0]
    if kind == "HDF5":
        if name in hdf5:
            del hdf5[name]
        chunks = (7, 1) if name.endswith("chunks") else None
        stored = hdf5.create_dataset(name, data=series, chunks=chunks)
    elif kind == "Zarr":
        stored = in_zarr(zarr_group, "series", series, (7, 1))
    else:
        tensorstore = pytest.importorskip("tensorstore")
        driver = {"driver": "zarr", "kvstore": "memory://", "metadata": {"chunks": [7, 1]}}
        stored = tensorstore.open(
            driver, create=True, dtype=tensorstore.float32, shape=series.shape
        ).result()
        stored[...] = series
    return Case(Windows(stored, 3, stride=2, boundaries=[14]), np.stack(rows))


@any_rows
def test_any_storage_is_read_as_its_rows_in_numpy(case: Case, rows: list[int]) -> None:
    source = as_source(case.data, "x")
    numbers = np.array(rows, np.int64)
    for empty in (np.empty, Slots(PrivateMemory(kept=2)).lease):
        assert_same_array(source.read(numbers, empty), case.rows[numbers])
    assert source.shape == case.rows.shape
    assert source.dtype == case.rows.dtype


@any_rows
def test_what_any_storage_gave_is_the_callers_own(case: Case, rows: list[int]) -> None:
    source = as_source(case.data, "x")
    numbers = np.array(rows, np.int64)
    found = source.read(numbers, np.empty)
    assert found.flags.writeable
    assert found.flags.c_contiguous
    found[...] = filled(found.shape, found.dtype, seed=1)
    assert_same_array(source.read(numbers, np.empty), case.rows[numbers])
    assert numbers.tolist() == rows


@pytest.mark.parametrize(
    ("storage", "rows"),
    [
        ("scipy csr_matrix", "increasing"),
        ("scipy csr_matrix", "shuffled"),
        ("pandas DataFrame of one dtype", "shuffled"),
        ("pandas DataFrame of numbers", "shuffled"),
        ("files", "repeated"),
        ("images, simplejpeg", "repeated"),
        ("concatenated files", "shuffled"),
        ("concatenated files", "a run"),
        ("concatenated storages", "repeated"),
        ("Ragged of a list", "repeated"),
        ("Ragged of values", "shuffled"),
        ("Windows of a list", "shuffled"),
        ("Windows of long parts", "shuffled"),
        ("own class", "increasing"),
        ("own class", "shuffled"),
        ("own class", "repeated"),
    ],
)
def test_a_storage_that_can_fill_a_buffer_does(storage: str, rows: str) -> None:
    data = STORAGES[storage]().data
    made: list[npt.NDArray[Any]] = []
    found = as_source(data, "x").read(np.array(ROWS[rows]), recorded(made))
    assert len(made) == 1
    assert made[0] is found


@pytest.mark.parametrize(
    "storage",
    [
        "own class, objects",
        "files as objects",
        "pandas DataFrame with objects",
        "pandas Series of text",
        "Arrow text",
    ],
)
@any_rows
def test_references_to_objects_are_never_put_into_raw_memory(storage: str, rows: list[int]) -> None:
    made: list[npt.NDArray[Any]] = []
    data, expected = STORAGES[storage]()
    found = as_source(data, "x").read(np.array(rows, np.int64), recorded(made))
    assert_same_array(found, expected[rows])
    assert made == []


def test_leftovers_in_a_reused_buffer_are_not_seen() -> None:
    """Sparse rows are added to what a buffer holds, unless it is cleared."""
    for make in STORAGES.values():
        try:
            data, rows = make()
        except pytest.skip.Exception:  # it is not installed
            continue
        found = as_source(data, "x").read(
            np.array([5, 0, 7]), lambda shape, dtype: np.full(shape, 77).astype(dtype)
        )
        assert_same_array(found, rows[[5, 0, 7]])


def test_threads_may_read_from_one_source_at_once(case: Case) -> None:
    source = as_source(case.data, "x")
    numbers = [np.random.default_rng(seed).integers(0, 12, 8) for seed in range(40)]
    together = threading.Barrier(4)

    def read(seed: int) -> npt.NDArray[Any]:
        if seed < 4:
            together.wait(10)
        return source.read(numbers[seed], np.empty)

    with ThreadPoolExecutor(4) as pool:
        for rows, found in zip(numbers, pool.map(read, range(40)), strict=True):
            assert_same_array(found, case.rows[rows])


@pytest.mark.parametrize("name", [name for name in STORAGES if name != "Parquet table"])
def test_a_source_that_was_sent_reads_the_same_rows(name: str) -> None:
    data, expected = STORAGES[name]()
    with ExitStack() as opened:
        package = Package.of(as_source(data, "x"), opened, this_system().new_segment)
        sent = unpack(package.segment.map())
    rows = np.array([11, 0, 5, 5])
    assert_same_array(sent.read(rows, np.empty), expected[rows])


@needs("torch")
def test_torch_tensors_are_read_as_the_arrays_they_are() -> None:
    """In a process of its own: torch starts threads and opens files that stay."""
    program = """
import numpy as np, torch
from keras_npbatch.sources.sources import as_source
tensor = torch.arange(12.0).reshape(6, 2)
for data in (tensor, tensor.T.contiguous().T, torch.nn.Parameter(tensor).detach()):
    source = as_source(data, "x")
    assert source.shape == (6, 2) and source.dtype == np.float32
    found = source.read(np.array([5, 0, 0]), np.empty)
    assert type(found) is np.ndarray and found.tolist() == [[10, 11], [0, 1], [0, 1]]
    found[...] = -1
    assert tensor.sum() == 66
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@needs("torch")
def test_a_tensor_that_numpy_can_not_read_is_refused_with_what_to_write() -> None:
    """In a process of its own, as above; "meta" stands in for any other device than the CPU."""
    program = """
import torch
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.sources import as_source
for settings, where, remedy in (
    ({"device": "meta"}, "float32 on meta", "x.cpu()"),
    ({"requires_grad": True}, "float32 on cpu with gradients", "x.detach()"),
    ({"device": "meta", "requires_grad": True}, "on meta with gradients", "x.detach().cpu()"),
    ({"dtype": torch.bfloat16}, "bfloat16 on cpu", "x.float()"),
):
    try:
        as_source(torch.ones(6, 2, **settings), "x")
    except InvalidDataError as error:
        text, cause = str(error), error.__cause__
    assert text.startswith("x is Tensor of shape (6, 2) and dtype torch."), text
    assert f"{where}, which NumPy can't read; expected one in the memory of the CPU" in text, text
    assert text.endswith(f" Write `{remedy}`."), text
    assert isinstance(cause, (TypeError, RuntimeError))
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.mark.parametrize("rows", [[0, 2], [0, 1], [1]], ids=["none missing", "one", "all"])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("kind", ["Int64", "Float32", "boolean", "UInt8"])
def test_a_missing_value_of_pandas_never_becomes_a_number(
    kind: str, columns: int, rows: list[int]
) -> None:
    """Whatever dtype the frame is read as, it is one, also for rows in which none is missing."""
    import pandas as pd

    column = pd.array([1, None, 0], kind)
    frame = pd.DataFrame(dict.fromkeys(range(columns), column))
    source, refusal = refused(lambda: as_source(frame, "x['late']"))
    if refusal is not None:
        assert "x['late']" in refusal
        return
    found = source.read(np.array(rows), np.empty)
    assert found.dtype == source.dtype
    for row, values in zip(rows, found.tolist(), strict=True):
        for value in values:
            missing = value is pd.NA or value is None or value != value
            assert missing if row == 1 else value == [1, None, 0][row]


# --- a storage of the user's own ---------------------------------------------------------------


@given(data=st.data())
def test_a_storage_is_asked_for_increasing_rows_each_once(data: st.DataObject) -> None:
    """HDF5 refuses anything else; a storage in chunks reads faster so."""
    values = filled((12, 2), np.dtype("int32"))
    storage = Lookup(values)
    rows = data.draw(row_numbers(12))
    assert_same_array(as_source(storage, "x").read(rows, np.empty), values[rows])
    (asked,) = storage.asked
    assert asked.dtype == np.int64
    assert asked.tolist() == sorted(set(rows.tolist()))


def test_a_storage_is_not_read_before_rows_are_asked_for() -> None:
    storage = Lookup(np.zeros((5, 2)))
    as_source(storage, "x")
    assert storage.asked == []


class OneRowMore(Lookup):
    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return self.values[: len(rows) + 1]


@pytest.mark.parametrize("rows", [[0, 3], [3, 0], [3, 0, 3]])
def test_a_storage_that_answers_with_another_shape_is_refused(rows: list[int]) -> None:
    source = as_source(OneRowMore(np.zeros((9, 2))), "x['image']")
    with pytest.raises(InvalidDataError) as caught:
        source.read(np.array(rows), np.empty)
    assert str(caught.value) == (
        "x['image']: OneRowMore[rows] with 2 rows gave ndarray of shape (3, 2) and dtype float64; "
        "expected shape (2, 2) and dtype float64, as it tells. Indexing with an int64 array must "
        "return these rows."
    )


def test_a_storage_that_answers_with_other_features_is_refused() -> None:
    storage = Lookup(np.zeros((9, 2)))
    source = as_source(storage, "y")
    storage.values = np.zeros((9, 3))
    with pytest.raises(InvalidDataError) as caught:
        source.read(np.array([4]), np.empty)
    assert str(caught.value) == (
        "y: Lookup[rows] with 1 rows gave ndarray of shape (1, 3) and dtype float64; expected "
        "shape (1, 2) and dtype float64, as it tells. Indexing with an int64 array must return "
        "these rows."
    )


# --- memory ------------------------------------------------------------------------------------


def wide_strided(_: Path) -> Any:
    return np.zeros((64 * 1024, 512), np.float32)[:, ::2]  # 64 MiB of 128


def wide_fortran(_: Path) -> Any:
    return np.zeros((64 * 1024, 256), np.float32, order="F")


def wide_negative(_: Path) -> Any:
    return np.zeros((64 * 1024, 256), np.float32)[::-1]


def wide_contiguous(_: Path) -> Any:
    return np.zeros((64 * 1024, 256), np.float32)


def wide_broadcast(_: Path) -> Any:
    return np.broadcast_to(np.zeros(256, np.float32), (64 * 1024, 256))


def wide_unaligned(_: Path) -> Any:
    return np.zeros(64 * 1024, np.dtype([("odd", "i1"), ("it", "f4", (256,))]))["it"]


def wide_odd_address(_: Path) -> Any:
    return np.zeros(64 * MIB + 1, np.uint8)[1:].view(np.float32).reshape(64 * 1024, 256)


def wide_swapped(_: Path) -> Any:
    return np.zeros((64 * 1024, 256), np.dtype("float32").newbyteorder())


def wide_memory_map(path: Path) -> Any:
    mapped = np.lib.format.open_memmap(
        path / "wide.npy", mode="w+", dtype=np.float32, shape=(64 * 1024, 256)
    )
    del mapped
    return np.load(path / "wide.npy", mmap_mode="r")


def wide_fortran_memory_map(path: Path) -> Any:
    mapped = np.lib.format.open_memmap(
        path / "wide.npy", mode="w+", dtype=np.float32, shape=(64 * 1024, 256), fortran_order=True
    )
    del mapped
    return np.load(path / "wide.npy", mmap_mode="r")


def wide_objects(_: Path) -> Any:
    return np.full((64 * 1024, 128), "one text", object)


def wide_frame(_: Path) -> Any:
    import pandas as pd

    return pd.DataFrame(np.zeros((64 * 1024, 256), np.float32))


def wide_frame_in_pieces(_: Path) -> Any:
    """A column was added: pandas keeps it apart, so that there is no one array behind."""
    import pandas as pd

    frame = pd.DataFrame(np.zeros((64 * 1024, 256), np.float32))
    frame["new"] = np.zeros(64 * 1024, np.float32)
    return frame


def wide_mixed_frame(_: Path) -> Any:
    import pandas as pd

    frame = pd.DataFrame(np.zeros((64 * 1024, 255), np.float32))
    frame["text"] = np.full(64 * 1024, "one text", object)
    frame["whole"] = np.arange(64 * 1024)
    return frame


def wide_series(_: Path) -> Any:
    import pandas as pd

    return pd.Series(np.zeros(16 * MIB, np.float32))


@pytest.mark.parametrize(
    "make",
    [
        wide_contiguous,
        wide_strided,
        wide_fortran,
        wide_negative,
        wide_broadcast,
        wide_unaligned,
        wide_odd_address,
        wide_swapped,
        wide_memory_map,
        wide_fortran_memory_map,
        wide_objects,
        wide_frame,
        wide_frame_in_pieces,
        wide_mixed_frame,
        wide_series,
    ],
)
def test_neither_making_a_source_nor_reading_copies_the_whole(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    data = make(tmp_path)
    rows = np.random.default_rng(0).integers(0, len(data), 100)
    tracemalloc.start()
    try:
        source = as_source(data, "x")
        made = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = source.read(rows, np.empty)
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert int(np.prod(source.shape)) * source.dtype.itemsize >= 60 * MIB
    assert len(found) == 100
    assert made < 5 * MIB
    assert read < 5 * MIB


def test_a_csr_matrix_is_not_copied() -> None:
    from scipy import sparse

    matrix = sparse.csr_array(
        (np.ones(4 * MIB), np.zeros(4 * MIB, np.int32), np.arange(4 * MIB + 1)),
        shape=(4 * MIB, 10),
    )
    tracemalloc.start()
    try:
        found = as_source(matrix, "x").read(np.array([4 * MIB - 1, 5]), np.empty)
        assert tracemalloc.get_traced_memory()[1] < 5 * MIB
    finally:
        tracemalloc.stop()
    assert found[:, 0].tolist() == [1, 1]


# --- refusals ----------------------------------------------------------------------------------

NOT_AN_ARRAY = (
    "expected an array: anything with `shape`, `dtype` and row indexing. Dicts, tuples and lists "
    "are nesting, so turn a list of values into an array: `np.asarray(values)`."
)


class NoRows:
    """Has a shape and a dtype, and no way to read from it."""

    shape = (3, 2)
    dtype = np.dtype("int8")

    def __repr__(self) -> str:
        return "NoRows()"  # without its address: the names of tests must not change


class NoDtype(Lookup):
    def __init__(self) -> None:
        super().__init__(np.zeros(3))
        del self.dtype


@pytest.mark.parametrize(
    ("leaf", "told"),
    [
        (3, "3 (int)"),
        (2.5, "2.5 (float)"),
        (b"raw", "b'raw' (bytes)"),
        (NoRows(), "NoRows of shape (3, 2) and dtype int8"),
    ],
    ids=repr,
)
def test_what_has_no_rows_is_refused(leaf: Any, told: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(leaf, "x['age']")
    assert str(caught.value) == f"x['age'] is {told}; {NOT_AN_ARRAY}"


ITS_PATH = "It is a path: give what it leads to, "


@pytest.mark.parametrize(
    ("leaf", "advice"),
    [
        ("images.npy", f"{ITS_PATH}`np.load('images.npy', mmap_mode='r')`."),
        (Path("a.NPZ"), f"{ITS_PATH}`np.load('a.NPZ')['name']`."),
        ("a.csv", f"{ITS_PATH}`pandas.read_csv('a.csv')`."),
        ("a.parquet", f"{ITS_PATH}`keras_npbatch.sources.Parquet('a.parquet')`."),
        ("a.h5", f"{ITS_PATH}`h5py.File('a.h5')['name']`."),
        (
            os.curdir,
            "It is the path of a folder. Of images: `folder = "
            "keras_npbatch.sources.ImageFolder('.', size=(128, 128))`, and "
            "`ArrayDataset(folder.images, folder.labels)`.",
        ),
        (
            "some text",
            "Of a path, give what it leads to: read the file first, or one file a sample with "
            "`keras_npbatch.sources.Files(paths, read)`. Turn texts into an array: "
            "`np.asarray(texts)`.",
        ),
    ],
)
def test_a_path_is_refused_with_how_it_is_read(leaf: Any, advice: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(leaf, "x")
    start = f"x is {describe(leaf)}; expected an array: anything with `shape`, `dtype` and row "
    assert str(caught.value) == f"{start}indexing. {advice}"


def test_lists_of_paths_and_of_numbers_are_refused_with_what_to_write() -> None:
    start = "which would be as many inputs of the model; expected an array. "
    for items, told in (
        (
            [f"{number}.png" for number in range(20)],
            f"x is a list of 20 paths or texts, {start}Texts: `np.asarray(x)`. Files, one a "
            "sample: `keras_npbatch.sources.Files(x, read)`, with a function that reads one.",
        ),
        (list(range(20)), f"x is a list of 20 numbers, {start}Write `np.asarray(x)`."),
    ):
        with pytest.raises(InvalidDataError) as caught:
            as_sources(items, "x")
        assert str(caught.value) == told


def test_what_can_only_be_iterated_over_and_datasets_are_no_arrays() -> None:
    for leaf, advice in (
        (
            iter([]),
            "It can only be iterated over. Put its samples into an array, or read them by their "
            "rows: `SampleDataset(load_sample, num_samples=N)`.",
        ),
        (
            ArrayDataset(np.zeros(3)),
            "It is a dataset already: give it to `fit` itself, or make another one of its arrays.",
        ),
    ):
        with pytest.raises(InvalidDataError) as caught:
            as_source(leaf, "x")
        assert str(caught.value).endswith(f"row indexing. {advice}")


def test_what_does_not_tell_its_dtype_is_refused() -> None:
    with pytest.raises(InvalidDataError, match=re.escape(NOT_AN_ARRAY)):
        as_source(NoDtype(), "x")


def test_a_list_of_numbers_is_nesting_of_single_numbers() -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_sources([1, 2, 3], "y")
    assert str(caught.value) == f"y[0] is 1 (int); {NOT_AN_ARRAY}"


class Scalar(Lookup):
    """A storage without a dimension, as an HDF5 dataset can be."""

    def __init__(self) -> None:
        super().__init__(np.array(3.5))

    def __repr__(self) -> str:
        return "Scalar()"  # without its address: the names of tests must not change


@pytest.mark.parametrize("leaf", [np.array(3.5), np.float64(3.5), Scalar()], ids=repr)
def test_what_has_no_dimension_is_refused(leaf: Any) -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(leaf, "x")
    assert str(caught.value) == (
        "x has no dimension; expected the first dimension to count samples."
    )


@pytest.mark.parametrize(
    "masked", [np.ma.masked_array([1, 2, 3], [0, 1, 0]), np.ma.masked_array([1, 2, 3])]
)
def test_a_masked_array_is_refused(masked: Any) -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(masked, "x['depth']")
    assert str(caught.value) == (
        "x['depth'] is a masked array, and its mask would be lost; expected an array. Fill it "
        "(`.filled(value)`) and pass the mask as sample_weight or as an input of its own."
    )


def test_a_sparse_vector_is_refused() -> None:
    if len(sparse_vector().shape) == 2:
        pytest.skip("this scipy makes a matrix of one row of it")
    with pytest.raises(InvalidDataError) as caught:
        as_source(sparse_vector(), "x['age']")
    assert str(caught.value) == (
        "x['age'] is a sparse array of shape (3,); expected two dimensions, samples and features."
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: hidden_dtype(), "shape (3, 2) and dtype 'quad-precision'"),
        (lambda: hidden_shape(), "shape None and dtype dtype('float64')"),
    ],
)
def test_a_storage_of_no_known_shape_or_dtype_is_refused(
    make: Callable[[], Any], told: str
) -> None:
    with pytest.raises(InvalidDataError) as caught:
        as_source(make(), "y")
    assert str(caught.value) == (
        f"y is a Lookup of {told}; expected a tuple of numbers, and a dtype that NumPy knows."
    )


def test_no_message_shows_what_is_in_an_array() -> None:
    for leaf in (np.array(123456), np.ma.masked_array([123456])):
        with pytest.raises(InvalidDataError) as caught:
            as_source(leaf, "x")
        assert "123456" not in str(caught.value)


def hidden_dtype() -> Any:
    storage = Lookup(np.zeros((3, 2)))
    storage.dtype = "quad-precision"  # type: ignore[assignment]
    return storage


def hidden_shape() -> Any:
    storage = Lookup(np.zeros((3, 2)))
    storage.shape = None  # type: ignore[assignment]
    return storage


def frame_without_columns() -> Any:
    import pandas as pd

    return pd.DataFrame(index=range(3))


def frame_of_dates_and_numbers() -> Any:
    import pandas as pd

    return pd.DataFrame({"n": [1, 2], "t": pd.to_datetime(["2020-01-01", "2020-01-02"])})


def frame_of_dates_and_missing_numbers() -> Any:
    import pandas as pd

    dates = pd.to_datetime(["2020-01-01", "2020-01-02"])
    return pd.DataFrame({"n": pd.array([1, None], "Int64"), "t": dates})


def frame_of_categories_and_numbers() -> Any:
    import pandas as pd

    return pd.DataFrame({"c": pd.Categorical(["cat", "dog"]), "n": [1.5, 2.5]})


def test_a_frame_with_columns_of_pandas_own_has_the_dtype_that_holds_all_values() -> None:
    import pandas as pd

    numbers = pd.Categorical([3, 5, 3])
    source = as_source(pd.DataFrame({"c": numbers, "n": [1.5, 2.5, 3.5]}), "x")
    assert source.dtype == np.dtype("float64")
    found = source.read(np.array([2, 0]), np.empty)
    assert_same_array(found, np.array([[3.0, 3.5], [3.0, 1.5]]))

    dates = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"])
    source = as_source(pd.DataFrame({"c": numbers, "t": dates}), "x")
    assert source.dtype == np.dtype(object)
    assert source.read(np.array([1]), np.empty).tolist() == [[5, dates[1]]]


def sparse_vector() -> Any:
    from scipy import sparse

    return sparse.coo_array(np.arange(3))


@pytest.mark.parametrize(
    "make",
    [
        hidden_dtype,
        hidden_shape,
        frame_without_columns,
        frame_of_dates_and_numbers,
        frame_of_dates_and_missing_numbers,
        frame_of_categories_and_numbers,
    ],
)
def test_what_looks_like_an_array_is_read_or_refused_by_its_path(make: Callable[[], Any]) -> None:
    """Never an error of NumPy's or pandas's own that names no leaf, and never only in `read`."""
    data = make()
    source, refusal = refused(lambda: as_source(data, "x['late']"))
    if refusal is None:
        found = source.read(np.array([1, 0]), np.empty)
        assert found.shape == (2, *source.shape[1:])
        assert found.dtype == source.dtype
    else:
        assert "x['late']" in refusal


@pytest.mark.parametrize("rows", [[0, 1], [1, 0]])
def test_a_storage_that_answers_with_another_dtype_than_it_tells_is_refused(
    rows: list[int],
) -> None:
    """What `Source.dtype` says is what `read` returns, whatever the order of the rows."""
    storage = Lookup(np.arange(6.0).reshape(3, 2))
    storage.dtype = np.dtype("float32")
    with pytest.raises(InvalidDataError) as caught:
        as_source(storage, "x").read(np.array(rows), np.empty)
    assert str(caught.value) == (
        "x: Lookup[rows] with 2 rows gave ndarray of shape (2, 2) and dtype float64; expected "
        "shape (2, 2) and dtype float32, as it tells. Indexing with an int64 array must return "
        "these rows."
    )


def refused(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What `call` returns, or the message with which it is refused."""
    try:
        return call(), None
    except InvalidDataError as error:
        return None, str(error)


# --- nests of sources --------------------------------------------------------------------------


@given(tree=nests(st.integers(0, 4).map(lambda width: np.zeros((3, width)))))
def test_sources_are_nested_as_the_data_are(tree: Any) -> None:
    made = as_sources(tree, "x")
    told = [(path, leaf.shape) for path, leaf in leaves_with_paths(tree, "x")]
    assert [(path, source.shape) for path, source in leaves_with_paths(made, "x")] == told
    assert num_rows(x=made) == 3


def test_a_nest_names_the_leaf_that_is_refused() -> None:
    nest = {"image": np.zeros(3), "more": (np.zeros(3), [None, 7])}
    with pytest.raises(InvalidDataError) as caught:
        as_sources(nest, "x")
    assert str(caught.value) == f"x['more'][1][1] is 7 (int); {NOT_AN_ARRAY}"


@pytest.mark.parametrize("root", ["x", "sample_weight"])
def test_a_long_list_of_arrays_is_taken_for_samples_and_refused(root: str) -> None:
    """As inputs they would be read by the rows within the first sample."""
    samples = [np.zeros((8, 8)) for _ in range(17)]
    with pytest.raises(InvalidDataError) as caught:
        as_sources(samples, root)
    assert str(caught.value) == (
        f"{root} is a list of 17 items, which would be as many inputs of the model; expected "
        "arrays whose first dimension counts samples. Make one array of samples (`np.stack`), or "
        f"`keras_npbatch.sources.Ragged({root})` if their lengths differ; if they are inputs, pass "
        "a tuple."
    )
    assert num_rows(x=as_sources(samples[:16], "x")) == 8
    assert num_rows(x=as_sources(tuple(samples), "x")) == 8


def test_rows_are_counted_over_all_parts() -> None:
    x, y, weight = np.zeros((4, 2)), [np.zeros(4), np.zeros((4, 1))], np.zeros(4)
    assert num_rows(x=as_sources(x, "x")) == 4
    assert num_rows(x=as_sources(x, "x"), y=None, sample_weight=None) == 4
    counted = num_rows(
        x=as_sources(x, "x"), y=as_sources(y, "y"), sample_weight=as_sources(weight, "w")
    )
    assert counted == 4
    assert type(counted) is int
    assert num_rows(x=as_sources(np.zeros((0, 3)), "x")) == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"x": {"image": np.zeros((5, 2)), "age": np.zeros(4)}},
            "x['image'] has 5 rows, but x['age'] has 4; ",
        ),
        ({"x": np.zeros(5), "y": np.zeros(4)}, "y has 4 rows, but x has 5; "),
        (
            {"x": np.zeros(5), "y": (np.zeros(5), [np.zeros(1)])},
            "y[1][0] has 1 rows, but x has 5; ",
        ),
        (
            {"x": (np.zeros(5), None), "y": None, "sample_weight": np.zeros(6)},
            "sample_weight has 6 rows, but x[0] has 5; ",
        ),
    ],
)
def test_leaves_of_different_lengths_are_refused_by_their_paths(
    parts: dict[str, Any], message: str
) -> None:
    made = {name: as_sources(tree, name) for name, tree in parts.items()}
    with pytest.raises(InvalidDataError) as caught:
        num_rows(**made)
    assert str(caught.value) == (
        message + "expected the same number in every leaf. Check how they were selected."
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([np.zeros(3), np.zeros(2)], "x[1] has 2 rows, but x[0] has 3; "),
        ([np.zeros(3), np.zeros(3)], "y has 2 rows, but x[0] has 3; "),
    ],
    ids=["of different lengths", "of one length"],
)
def test_a_short_list_of_samples_is_told_from_inputs(x: list[Any], message: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        num_rows(x=as_sources(x, "x"), y=as_sources(np.zeros(2), "y"))
    assert str(caught.value) == (
        message + "expected the same number in every leaf. x is a list, so each of its items is "
        "read as an input of the model; if they are samples, make one array of them "
        "(`np.stack`), or `keras_npbatch.sources.Ragged(x)` if their lengths differ."
    )


def test_a_file_that_has_been_closed_is_told_by_the_path_of_the_leaf(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images"] = np.zeros((3, 2))
    with h5py.File(tmp_path / "data.h5") as file:
        source = as_source(file["images"], "x['image']")
    with pytest.raises(InvalidDataError) as caught:
        source.read(np.arange(2), np.empty)
    assert str(caught.value) == (
        "x['image'] is in an HDF5 file that has been closed; expected an open one. Close it when "
        "the dataset is not used any more."
    )


def test_an_error_of_a_storage_has_the_path_of_the_leaf() -> None:
    class Broken:
        shape, dtype = (3, 2), np.dtype("float32")

        def __getitem__(self, rows: Any) -> Any:
            raise OSError("no disk")

    with pytest.raises(OSError, match="no disk") as caught:
        as_source(Broken(), "x['image']").read(np.arange(2), np.empty)
    assert caught.value.__notes__ == ["keras_npbatch: raised by x['image'][rows], a Broken"]


def test_reading_a_memory_map_may_wait_for_the_disk(tmp_path: Path) -> None:
    values = np.arange(60.0).reshape(6, 10)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for parts in (np.s_[:], np.s_[2:], np.s_[:, ::2], np.s_[::-1]):
        assert as_source(values[parts], "x").is_in_memory is True
        assert as_source(mapped[parts], "x").is_in_memory is False


@pytest.mark.parametrize("x", [None, {}, [], (), {"image": None}, [(), {}]], ids=repr)
def test_data_without_any_input_are_refused(x: Any) -> None:
    made = as_sources(x, "x")
    assert leaves(made) == []
    for others in ({}, {"y": as_sources(np.zeros(3), "y")}):
        with pytest.raises(InvalidDataError) as caught:
            num_rows(x=made, **others)
        assert str(caught.value) == (
            "x has no leaf; expected at least one array to read samples from."
        )
