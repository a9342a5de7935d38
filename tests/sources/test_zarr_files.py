"""Chunks of Zarr that are files: decoded as zarr decodes them, and by zarr if they are not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.sources import as_source
from keras_npbatch.sources.zarr_files import zarr_files

X = np.random.default_rng(0).integers(0, 200, (103, 6, 5))
ROWS = np.random.default_rng(1).integers(0, 103, 150)


def written(store: Any, data: Any = X, chunks: Any = (10, 6, 5), **layout: Any) -> Any:
    found = zarr.create_array(
        store, name="inside", shape=data.shape, dtype=data.dtype, chunks=chunks, **layout
    )
    found[:] = data
    return found


def read(storage: Any) -> Any:
    source = as_source(storage, "x")
    found = source.read(ROWS, np.empty)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(ROWS, np.empty), found)
    return found


CODECS = {
    2: ["blosc", "zstd", "gzip"],
    3: [zarr.codecs.BloscCodec(), zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()],
}


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "bool", "complex64"])
@pytest.mark.parametrize("number", [None, 0, 1, 2])
@pytest.mark.parametrize("version", [2, 3])
def test_rows_are_those_that_were_written(
    version: int, number: int | None, dtype: str, tmp_path: Path
) -> None:
    data = (X % 2 if dtype == "bool" else X).astype(dtype)
    codec: Any = None if number is None else CODECS[version][number]
    if version == 2 and codec is not None:
        codec = numcodecs.get_codec({"id": codec})
    storage = written(LocalStore(tmp_path), data, zarr_format=version, compressors=codec)
    files = zarr_files(storage)
    assert files is not None
    for start in range(0, len(X), 20):
        stop = min(start + 20, len(X))
        into = np.empty((stop - start, 6, 5), dtype)
        assert files.read(start, stop, into)
        np.testing.assert_array_equal(into, data[start:stop])
    np.testing.assert_array_equal(read(storage), data[ROWS])


@pytest.mark.parametrize(
    "layout",
    [
        {"shards": (20, 6, 5)},
        {"chunks": (10, 3, 5)},
        {"filters": [zarr.codecs.TransposeCodec(order=(2, 1, 0))]},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
        {"compressors": [zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()]},
        {"data": X.astype("datetime64[s]")},
    ],
    ids=lambda layout: next(iter(layout)),
)
def test_what_lies_there_in_another_way_is_read_by_zarr(
    layout: dict[str, Any], tmp_path: Path
) -> None:
    storage = written(LocalStore(tmp_path), **layout)
    assert zarr_files(storage) is None
    np.testing.assert_array_equal(read(storage), layout.get("data", X)[ROWS])


@pytest.mark.parametrize("dtype", ["<i8", ">i8", ">f4"])
@pytest.mark.parametrize(
    "layout",
    [
        {"zarr_format": 2},
        {"zarr_format": 3},
        {"serializer": zarr.codecs.BytesCodec(endian="little")},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
    ],
    ids=["2", "3", "little", "big"],
)
def test_bytes_may_be_in_any_order(layout: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    storage = written(LocalStore(tmp_path), X.astype(dtype), **layout)
    np.testing.assert_array_equal(read(storage), X[ROWS])


def test_another_store_is_read_by_zarr() -> None:
    storage = written(MemoryStore())
    assert zarr_files(storage) is None
    np.testing.assert_array_equal(read(storage), X[ROWS])


@pytest.mark.parametrize("compressors", [None, "auto"])
def test_chunks_that_were_never_written_or_are_cut_are_left_to_zarr(
    compressors: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"compressors": compressors, "fill_value": 7}
    storage = zarr.create_array(
        LocalStore(tmp_path), shape=(30, 4), dtype="int32", chunks=(10, 4), **settings
    )
    storage[10:] = 1
    files = zarr_files(storage)
    assert files is not None
    into = np.empty((10, 4), "int32")
    assert not files.read(0, 10, into)
    assert files.read(10, 20, into)
    source = as_source(storage, "x")
    assert source.read(np.array([0, 10]), np.empty).tolist() == [[7] * 4, [1] * 4]
    if compressors is None:
        (tmp_path / "c/1/0").write_bytes(b"short")
        assert not files.read(10, 20, into)


@pytest.mark.parametrize("left", [0, 15, 16, 400, -1])
@pytest.mark.parametrize("version", [2, 3])
def test_a_chunk_of_blosc_that_is_cut_off_is_refused(
    version: int, left: int, tmp_path: Path
) -> None:
    """Blosc would read on behind it: the result is any values, or the end of the process."""
    data = np.random.default_rng(2).integers(0, 256, (20, 1000), "uint8")  # can't be compressed
    codec: Any = zarr.codecs.BloscCodec() if version == 3 else numcodecs.Blosc()
    layout = {"chunks": (10, 1000), "zarr_format": version, "compressors": codec}
    storage = written(LocalStore(tmp_path), data, **layout)
    path = tmp_path / "inside" / ("c/1/0" if version == 3 else "1.0")
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    source = as_source(storage, "x")
    message = rf"1.0' has {len(whole[:left])} bytes; expected \d+, a whole chunk compressed"
    with pytest.raises(InvalidDataError, match=message):
        source.read(np.array([3, 13]), np.empty)
    path.write_bytes(whole + b"more")
    np.testing.assert_array_equal(source.read(np.array([13]), np.empty), data[[13]])
