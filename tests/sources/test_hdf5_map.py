"""`MappedRows`: what HDF5 has not compressed is read as the memory map it is."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.hdf5_map import MappedRows, _offsets
from keras_npbatch.sources.sources import as_source
from tests.sources.test_hdf5 import WithoutLookups

if os.name != "posix":
    pytest.skip("files are mapped on POSIX systems", allow_module_level=True)
X = np.random.default_rng(0).integers(0, 200, (103, 6, 5))
ROWS = np.random.default_rng(1).integers(0, 103, 150)


def written(folder: Path, data: Any = X, mode: str = "r", **layout: Any) -> Any:
    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("before", data=np.arange(7))
        file.create_dataset("x", data=data, **layout)
    return h5py.File(folder / "data.h5", mode)["x"]


@pytest.mark.parametrize("chunks", [None, (10, 6, 5), (1, 6, 5), (200, 6, 5)])
@pytest.mark.parametrize("dtype", ["uint8", ">i4", "float16", "bool", "complex64"])
def test_rows_are_those_that_hdf5_reads(dtype: str, chunks: Any, tmp_path: Path) -> None:
    data = (X % 2 if dtype == "bool" else X).astype(dtype)
    if chunks and chunks[0] > len(data):
        storage = written(tmp_path, data, chunks=chunks, maxshape=(None, 6, 5))
    else:
        storage = written(tmp_path, data, chunks=chunks)
    source = as_source(storage, "x")
    assert isinstance(source, MappedRows)
    assert source.chunk_rows == (chunks[0] if chunks else None)
    for each in (source, pickle.loads(pickle.dumps(source))):
        found = each.read(ROWS, np.empty)
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data[ROWS])
        assert each.read(ROWS[:0], np.empty).shape == (0, 6, 5)
    storage.file.close()
    with pytest.raises(InvalidDataError, match=r"^x is in an HDF5 file that has been closed"):
        source.read(ROWS, np.empty)


@pytest.mark.parametrize("length", [1, 300, 3001])
@pytest.mark.parametrize("chunk", [1, 3])
def test_rows_may_begin_at_any_byte_of_the_file(length: int, chunk: int, tmp_path: Path) -> None:
    """Between chunks lie parts of HDF5's index, as long as it likes."""
    data = np.random.default_rng(2).integers(0, 200, (1000, length), "uint8")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        found = [
            file.create_dataset(name, data.shape, "uint8", chunks=(chunk, length)) for name in "ab"
        ]
        for start in range(0, 1000, chunk):  # in turns, so that other things lie between
            found[0][start : start + chunk] = data[start : start + chunk]
            found[1][start : start + chunk] = 255
    with h5py.File(tmp_path / "data.h5") as file:
        source = as_source(file["a"], "x")
        assert isinstance(source, MappedRows)
        assert length == 1 or len(source._residues) > 1
        rows = np.random.default_rng(3).integers(0, 1000, 300)
        for asked in (rows, rows[:1], np.arange(1000)[::-1]):
            np.testing.assert_array_equal(source.read(asked, np.empty), data[asked])


@pytest.mark.parametrize(
    "layout",
    [
        {"mode": "r+"},
        {"compression": "gzip"},
        {"fletcher32": True},
        {"chunks": (10, 4, 3)},
        {"data": np.zeros(103, [("a", "f4"), ("b", "i2")])},
        {"data": [b"text"] * 103, "dtype": h5py.string_dtype()},
    ],
    ids=lambda layout: next(iter(layout)),
)
def test_what_lies_there_in_another_way_is_read_by_hdf5(
    layout: dict[str, Any], tmp_path: Path
) -> None:
    storage = written(tmp_path, **layout)
    source = as_source(storage, "x")
    assert not isinstance(source, MappedRows)
    np.testing.assert_array_equal(source.read(ROWS, np.empty), storage[()][ROWS])
    storage.file.close()


def test_what_was_never_written_or_is_elsewhere_is_read_by_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        some = file.create_dataset("some", X.shape, "int64", chunks=(10, 6, 5), fillvalue=9)
        some[20:30] = X[20:30]
        file.create_dataset("none", X.shape, "int64", fillvalue=9)
        raw = (str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)
        file.create_dataset("external", data=X, external=[raw])
        layout = h5py.VirtualLayout(X.shape, "int64")
        layout[:] = h5py.VirtualSource(some)
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "data.h5") as file:
        for name in ("some", "none", "external", "virtual"):
            source = as_source(file[name], "x")
            assert not isinstance(source, MappedRows)
            np.testing.assert_array_equal(source.read(ROWS, np.empty), file[name][()][ROWS])


def test_where_chunks_lie_is_found_in_one_walk(tmp_path: Path) -> None:
    storage = written(tmp_path, chunks=(10, 6, 5))
    offsets = _offsets(WithoutLookups(storage), len(X))
    for number, offset in enumerate(offsets.tolist()):
        found = storage.id.get_chunk_info_by_coord((10 * number, 0, 0))
        assert offset == found.byte_offset


def test_another_file_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    storage = written(tmp_path)
    source = pickle.dumps(as_source(storage, "x"))
    os.rename(tmp_path / "data.h5", tmp_path / "old.h5")
    other = written(tmp_path, X + 1)
    moved = as_source(storage, "x")
    assert not isinstance(moved, MappedRows)
    np.testing.assert_array_equal(moved.read(ROWS, np.empty), X[ROWS])
    with pytest.raises(FileNotFoundError, match=r"data\.h5 is another file than the one that was"):
        pickle.loads(source)
    for each in (storage, other):
        each.file.close()
