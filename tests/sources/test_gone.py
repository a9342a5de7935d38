"""Arrays of Zarr and TensorStore that are gone, or in another process: never fill values."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.gone import refuse_gone
from tests.sources.counting import unchanged

X = np.arange(1, 241, dtype="int32").reshape(40, 6)
BLOCKS = samplers.BlockShuffle(blocks=2)


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_zarr() -> None:
    """With the first array, zarr starts an event loop that stays."""
    pytest.importorskip("fsspec").filesystem("memory")
    zarr.ones((1,))


def in_zarr(address: str, values: Any = X) -> Any:
    path = address.removeprefix("file://")
    zarr.create_array(path, data=values, chunks=(4, *values.shape[1:]))
    return zarr.open_array(address, mode="r")


def in_tensorstore(address: str, values: Any = X, driver: str = "zarr3") -> Any:
    tensorstore = pytest.importorskip("tensorstore")
    stored = tensorstore.open(
        {"driver": driver, "kvstore": address},
        create=True,
        dtype=values.dtype.name,
        shape=values.shape,
        chunk_layout=tensorstore.ChunkLayout(chunk_shape=(4, *values.shape[1:])),
    ).result()
    stored[...] = values
    return stored


anywhere = pytest.mark.parametrize("stored_in", [in_zarr, in_tensorstore])


@anywhere
@pytest.mark.parametrize("sampler", [BLOCKS, samplers.InOrder(), samplers.Shuffle()])
@pytest.mark.filterwarnings("ignore:.*touches:UserWarning")
def test_an_array_that_is_deleted_is_an_error_not_zeros(
    stored_in: Any, sampler: Any, tmp_path: Path
) -> None:
    stored = stored_in(f"file://{tmp_path}/x/")
    dataset = ArrayDataset(stored, batch_size=4, seed=0, sampler=sampler, workers=0)
    assert dataset[0].any()
    shutil.rmtree(tmp_path / "x")
    left = iter(range(1, len(dataset)))
    # Of a folder of this machine, which a newer zarr sees in the address, another module tells.
    told = r"x is an array (that .* can't find any more|of Zarr whose .* is not there any more)"
    with pytest.raises(InvalidDataError, match=told):
        assert all(dataset[step].any() for step in left)


@anywhere
def test_worker_processes_do_not_see_the_memory_of_this_one(stored_in: Any) -> None:
    stored = stored_in(f"memory://{uuid.uuid4().hex}/")
    settings: dict[str, Any] = {"batch_size": 4, "seed": 0, "sampler": BLOCKS, "workers": 2}
    found = np.concatenate(list(ArrayDataset(stored, **settings)))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
    dataset = ArrayDataset(stored, transform=unchanged, use_multiprocessing=True, **settings)
    with dataset, pytest.raises(InvalidDataError, match="read it with threads"):
        list(dataset)


@anywhere
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((8, 2), "int64"),
        np.full((8, 2), np.nan, "float32"),
        np.zeros((8,), "bool"),
    ],
    ids=["zeros", "NaN", "one axis"],
)
def test_data_of_one_value_are_data(stored_in: Any, values: Any) -> None:
    stored = stored_in(f"memory://{uuid.uuid4().hex}/", values)
    (found,) = ArrayDataset(stored, batch_size=8, shuffle=False)
    np.testing.assert_array_equal(found, values)


@anywhere
def test_an_array_is_looked_for_if_all_that_was_read_is_one_value(
    stored_in: Any, tmp_path: Path
) -> None:
    stored = stored_in(f"file://{tmp_path}/x/")
    shutil.rmtree(tmp_path / "x")
    refuse_gone(X[:4], stored, "x")
    refuse_gone(X[:0], stored, "x")
    for values in (np.zeros((4, 6)), np.full((4, 6), np.nan)):
        with pytest.raises(InvalidDataError, match=r"^x is an array that .* can't find any more"):
            refuse_gone(values, stored, "x")
