"""xarray: what is in memory is not copied, what is in a file is read by its chunks."""

from __future__ import annotations

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.sources import as_source

xr = pytest.importorskip("xarray")

X = np.arange(600, dtype="float32").reshape(100, 6)
Y = np.arange(100)


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_zarr():
    """With the first array, zarr starts an event loop that stays."""
    pytest.importorskip("zarr").ones((1,))


def both():
    return xr.Dataset({"x": (("time", "place"), X), "y": ("time", Y)}, {"time": Y * 10})


def test_arrays_in_memory_are_read_where_they_are():
    for leaf in (both()["x"], both()["x"].variable):
        source = as_source(leaf, "x")
        assert isinstance(source, TakenArray)
        assert np.shares_memory(source.array, leaf.values)


def test_a_dataset_is_a_dict_of_its_variables():
    batch = ArrayDataset(both(), shuffle=False).load(np.array([7, 3]))
    np.testing.assert_array_equal(batch["x"], X[[7, 3]])
    assert batch["y"].tolist() == [7, 3]  # and no coordinates


def test_variables_of_several_dimensions_are_refused():
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(both().assign(z=("place", range(6))))
    assert str(caught.value) == (
        "x is a Dataset of variables of the dimensions 'x': ('time', 'place'), 'y': ('time',), "
        "'z': ('place',); expected one or more whose first dimension is the same, and counts "
        "samples. Choose variables (`x[['a', 'b']]`), or bring that dimension to the front: "
        "`x.transpose('sample', ...)`."
    )
    with pytest.raises(InvalidDataError, match="the dimensions none; expected one or more"):
        ArrayDataset(xr.Dataset())
    with pytest.raises(InvalidDataError, match=r"^x has no dimension"):
        ArrayDataset(xr.DataArray(3.0))


@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")
@pytest.mark.parametrize("engine", ["zarr", "scipy", "zarr, dask"])
def test_files_are_read_by_slices_of_their_chunks(tmp_path, engine):
    pytest.importorskip(engine[:5].strip(","))
    path = tmp_path / "data"
    if engine == "scipy":
        both().to_netcdf(path, engine="scipy")
        opened = xr.open_dataset(path, engine="scipy")
    else:
        both().to_zarr(path, encoding={"x": {"chunks": (15, 6)}, "y": {"chunks": (15,)}})
        if "dask" in engine:
            pytest.importorskip("dask")
        opened = xr.open_dataset(path, engine="zarr", chunks={} if "dask" in engine else None)
    sampler = samplers.BlockShuffle(blocks=2)
    with opened:
        dataset = ArrayDataset(opened["x"], opened["y"], batch_size=8, seed=0, sampler=sampler)
        assert not as_source(opened["x"], "x").is_in_memory
        if engine != "scipy":
            assert dataset.sampler == samplers.BlockShuffle(15, 2)
        rows = []
        for x, y in dataset:
            np.testing.assert_array_equal(x, X[y])
            rows.append(y)
        assert sorted(np.concatenate(rows)) == Y.tolist()
        if "dask" not in engine:
            assert "MemoryCached" in repr(opened["x"].variable._data)  # it was not loaded whole
            assert not opened["x"].variable._in_memory
