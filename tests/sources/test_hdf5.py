"""`RawChunks`: chunks of HDF5 that zlib decodes here, equal to what HDF5 reads."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_npbatch.sources.hdf5 import RawChunks, raw_chunks
from keras_npbatch.sources.sources import as_source
from tests.sources import hdf5_threads

X = np.random.default_rng(0).integers(0, 200, (103, 6, 5))
ROWS = np.random.default_rng(1).permutation(103)


def stored(data: Any = X, chunks: Any = (10, 6, 5), **layout: Any) -> Any:
    file = h5py.File(io.BytesIO(), "w")
    layout.setdefault("compression", "gzip")
    return file.create_dataset("x", data=data, chunks=chunks, **layout)


def read(storage: Any) -> Any:
    return as_source(storage, "x").read(ROWS, np.empty)


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i4", "float16", ">f8", "bool", "complex64"])
def test_what_zlib_decodes_is_what_was_written(dtype: str, is_shuffled: bool) -> None:
    data = (X % 2 if dtype == "bool" else X).astype(dtype)
    storage = stored(data, shuffle=is_shuffled)
    assert raw_chunks(storage) is not None
    found = read(storage)
    assert found.dtype == data.dtype
    np.testing.assert_array_equal(found, data[ROWS])


@pytest.mark.parametrize("data", [X[:, 0, 0], X.reshape(103, 30)[:, :1]], ids=["1-d", "one column"])
def test_rows_of_any_shape(data: Any) -> None:
    storage = stored(data, (7, *data.shape[1:]), shuffle=True)
    assert raw_chunks(storage) is not None
    np.testing.assert_array_equal(read(storage), data[ROWS])


@pytest.mark.parametrize(
    "layout",
    [
        {"compression": None},
        {"compression": "lzf"},
        {"fletcher32": True},
        {"scaleoffset": 0},
        {"chunks": (10, 4, 3)},
        {"data": np.array([b"text"] * 103), "chunks": (10,)},
        {"data": np.zeros(103, [("a", "f4"), ("b", "i2")]), "chunks": (10,)},
        {"dtype": h5py.enum_dtype({"a": 0}, "uint8"), "data": X % 1},
    ],
    ids=lambda layout: next(iter(layout)),
)
def test_hdf5_reads_all_that_is_stored_in_another_way(layout: dict[str, Any]) -> None:
    storage = stored(**layout)
    assert raw_chunks(storage) is None or storage.dtype.kind == "u"
    np.testing.assert_array_equal(read(storage), storage[()][ROWS])


@pytest.mark.parametrize("spans", [[], [(35, 57), (100, 103)]], ids=["nothing", "some"])
def test_what_was_never_written_has_the_fill_value(spans: list[tuple[int, int]]) -> None:
    file = h5py.File(io.BytesIO(), "w")
    storage = file.create_dataset(
        "x", X.shape, "int64", chunks=(10, 6, 5), compression="gzip", fillvalue=9
    )
    for start, stop in spans:
        storage[start:stop] = X[start:stop]
    assert raw_chunks(storage) is not None
    np.testing.assert_array_equal(read(storage), storage[()][ROWS])
    storage[:10] = 5  # and what is written later is read in the next pass
    assert (read(storage)[ROWS < 10] == 5).all()


class WithoutLookups:
    """An object of h5py that finds no chunk by its place: HDF5 would walk over all of them."""

    def __init__(self, there: Any) -> None:
        self._there = there

    def __getattr__(self, name: str) -> Any:
        assert name != "get_chunk_info_by_coord"
        found = getattr(self._there, name)
        return WithoutLookups(found) if name == "id" else found


def test_no_chunk_is_looked_for_among_all() -> None:
    raw, rows = RawChunks(WithoutLookups(stored()), False), np.empty_like(X[20:40])
    assert raw.read(20, 40, rows)
    np.testing.assert_array_equal(rows, X[20:40])


def test_a_dataset_that_was_made_smaller_and_larger_again() -> None:
    storage = stored(maxshape=(None, 6, 5), fillvalue=9)
    for size in (45, 103):
        storage.resize(size, 0)
    assert (storage[45:] == 9).all()
    np.testing.assert_array_equal(read(storage), storage[()][ROWS])


def test_a_chunk_that_no_filter_has_changed() -> None:
    storage = stored()
    raw = np.ascontiguousarray(X[10:20])
    storage.id.write_direct_chunk((10, 0, 0), raw.tobytes(), filter_mask=1)
    np.testing.assert_array_equal(read(storage), X[ROWS])


def test_threads_are_never_in_the_library_together(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        chunks = (hdf5_threads.ROWS, hdf5_threads.WIDTH)
        file.create_dataset("x", data=hdf5_threads.values(), chunks=chunks, compression="gzip")
    # In a child process, since it would crash.
    command = [sys.executable, "-X", "faulthandler", "-m", hdf5_threads.__name__, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
