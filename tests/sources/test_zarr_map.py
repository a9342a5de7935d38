"""`MappedChunks`: what Zarr has not compressed is read as the memory map it is."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.slices import SlicedStorage
from keras_npbatch.sources.sources import as_source
from keras_npbatch.sources.zarr_map import MappedChunks

zarr = pytest.importorskip("zarr")
if os.name != "posix":
    pytest.skip("files are mapped on POSIX systems", allow_module_level=True)
X = np.random.default_rng(0).integers(0, 200, (103, 16, 64))


def written(folder: Path, data: Any = X, mode: str = "r", chunk: int = 10, **layout: Any) -> Any:
    chunks = layout.pop("chunks", (chunk, *data.shape[1:]))
    layout = {"compressors": None, "fill_value": 7} | layout
    path = folder / "data.zarr"
    stored = zarr.create_array(
        path, shape=data.shape, dtype=data.dtype, chunks=chunks, overwrite=True, **layout
    )
    stored[:] = data
    return zarr.open_array(path, mode=mode)


@settings(max_examples=60)
@given(
    num_rows=st.integers(1, 60),
    chunk=st.integers(1, 70),
    dtype=st.sampled_from(["uint8", ">i2", "<i4", "float16", "float64", "bool", "complex64"]),
    version=st.sampled_from([2, 3]),
    lacking=st.booleans(),
    data=st.data(),
)
def test_rows_are_those_that_zarr_reads(
    num_rows: int, chunk: int, dtype: str, version: int, lacking: bool, data: Any
) -> None:
    values = np.random.default_rng(num_rows).integers(0, 2, (num_rows, 4, 512)).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        try:
            storage = written(Path(folder), values, chunk=chunk, zarr_format=version)
        except ValueError:  # longer than the data, in some versions of zarr
            return
        if lacking:
            name = ".0.0" if version == 2 else "/0/0"
            (Path(folder) / "data.zarr" / f"{'' if version == 2 else 'c/'}0{name}").unlink()
        source = as_source(storage, "x")
        assert isinstance(source, MappedChunks) or dtype == ">i2"
        rows = st.lists(st.integers(0, num_rows - 1), max_size=40)
        asked = [np.array(each, np.int64) for each in data.draw(st.lists(rows, max_size=4))]
        wanted = storage[:]
        with ThreadPoolExecutor(2) as threads:
            for each in (source, pickle.loads(pickle.dumps(source))):
                found = threads.map(lambda some, each=each: each.read(some, np.empty), asked * 2)
                for some, batch in zip(asked * 2, found, strict=True):
                    assert batch.dtype == wanted.dtype
                    np.testing.assert_array_equal(batch, wanted[some])


@pytest.mark.parametrize(
    "layout",
    [
        {"mode": "r+"},
        {"compressors": "auto"},
        {"chunks": (10, 16, 32)},
        {"shards": (20, 16, 64)},
        {"data": X[:, :1].astype("uint8")},
        {"data": X.astype("datetime64[s]")},
    ],
    ids=lambda layout: next(iter(layout)),
)
def test_what_lies_there_in_another_way_is_read_in_slices(
    layout: dict[str, Any], tmp_path: Path
) -> None:
    storage = written(tmp_path, **layout)
    source = as_source(storage, "x")
    assert isinstance(source, SlicedStorage)
    rows = np.array([102, 3, 3, 57])
    np.testing.assert_array_equal(source.read(rows, np.empty), storage[:][rows])


def test_files_that_were_replaced_are_read_from_the_next_epoch_on(tmp_path: Path) -> None:
    dataset = ArrayDataset(written(tmp_path), batch_size=50, shuffle=False)
    assert isinstance(dataset._keras_npbatch.sources[0], MappedChunks)
    np.testing.assert_array_equal(np.concatenate(list(dataset)), X)
    file = tmp_path / "data.zarr" / "c/0/0/0"
    file.with_suffix(".new").write_bytes((X[:10] + 1).tobytes())
    file.with_suffix(".new").replace(file)
    (tmp_path / "data.zarr" / "c/1/0/0").unlink()
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[:10], X[:10] + 1)
    assert (found[10:20] == 7).all()
    np.testing.assert_array_equal(found[20:], X[20:])


def test_few_files_are_open_however_many_chunks_a_batch_needs(tmp_path: Path) -> None:
    source = as_source(written(tmp_path, chunk=1), "x")
    process, most = psutil.Process(), [0]
    before, mapped = process.num_fds(), MappedChunks._map

    def counting(self: MappedChunks, number: int) -> Any:
        most.append(process.num_fds() - before)
        return mapped(self, number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MappedChunks, "_map", counting)
        rows = np.random.default_rng(1).permutation(103)
        np.testing.assert_array_equal(source.read(rows, np.empty), X[rows])
    assert 50 < max(most) <= 66


def test_a_chunk_that_is_cut_is_told_by_its_rows(tmp_path: Path) -> None:
    source = as_source(written(tmp_path), "x")
    (tmp_path / "data.zarr" / "c/1/0/0").write_bytes(b"short")
    with pytest.raises(ValueError, match=r".") as caught:
        source.read(np.array([3, 12]), np.empty)
    assert caught.value.__notes__[-1] == "keras_npbatch: raised by x[10:20], a Array"
    np.testing.assert_array_equal(source.read(np.array([3]), np.empty), X[[3]])


def test_a_chunk_that_is_cut_while_it_is_mapped_ends_no_process(tmp_path: Path) -> None:
    source = as_source(written(tmp_path), "x")
    source.read(np.array([3, 12]), np.empty)
    file = tmp_path / "data.zarr" / "c/1/0/0"
    os.truncate(file, 5000)
    with pytest.raises(InvalidDataError, match=r"which has 5000 bytes; expected 81920, as when"):
        source.read(np.array([3, 12]), np.empty)


def test_an_array_that_is_gone_is_no_fill_value(tmp_path: Path) -> None:
    source = as_source(written(tmp_path), "x")
    shutil.rmtree(tmp_path / "data.zarr")
    with pytest.raises(InvalidDataError, match=r"is not there any more"):
        source.read(np.array([3]), np.empty)


def test_a_relative_path_is_that_of_the_folder_it_was_opened_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    source = as_source(zarr.open_array("data.zarr", mode="r"), "x")
    assert isinstance(source, MappedChunks)
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(source.read(np.array([3]), np.empty), X[[3]])
