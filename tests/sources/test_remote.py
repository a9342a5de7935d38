"""Parquet and Zarr elsewhere, through fsspec: each row is there, and what goes wrong is told."""

from __future__ import annotations

import sys
import uuid

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, samplers, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, MissingExtraError

fsspec = pytest.importorskip("fsspec")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
zarr = pytest.importorskip("zarr")

N = 500
X = np.arange(N * 2, dtype="float32").reshape(N, 2)


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_zarr():
    """With the first array, zarr starts an event loop that stays."""
    zarr.ones((1,))
    fsspec.filesystem("memory")


def folder_at(address):
    """Two files, in the folder at an address."""
    for name, rows in (("a", slice(200)), ("b", slice(200, N))):
        table = pa.table({"x0": X[rows, 0], "x1": X[rows, 1], "row": np.arange(N)[rows]})
        with fsspec.open(f"{address}/{name}.parquet", "wb", auto_mkdir=True) as file:
            pq.write_table(table, file, row_group_size=50)
    return address


@pytest.fixture
def in_memory():
    address = f"memory://{uuid.uuid4().hex}"
    yield folder_at(address)
    fsspec.filesystem("memory").rm(address, recursive=True)


def assert_whole(dataset):
    """Each row comes once, with its own features."""
    seen = []
    for x, rows in dataset:
        np.testing.assert_array_equal(x, X[rows])
        seen.append(rows)
    assert sorted(np.concatenate(seen)) == list(range(N))


def of_parquet(data, **settings):
    sampler = samplers.BlockShuffle(blocks=2)
    chosen = {"batch_size": 32, "seed": 0, "sampler": sampler, "workers": 0} | settings
    return ArrayDataset(data[["x0", "x1"]], data["row"], **chosen)


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("kind", ["folder", "files", "filesystem", "options"])
def test_an_epoch_of_parquet_files_in_memory(in_memory, kind, workers):
    files = [f"{in_memory}/{name}.parquet" for name in "ab"]
    data = {
        "folder": lambda: sources.Parquet(in_memory),
        "files": lambda: sources.Parquet(files),
        "filesystem": lambda: sources.Parquet(
            in_memory.replace("memory:/", ""), filesystem=fsspec.filesystem("memory")
        ),
        "options": lambda: sources.Parquet(in_memory, storage_options={}),
    }[kind]()
    with of_parquet(data, workers=workers) as dataset:
        assert_whole(dataset)


@pytest.mark.parametrize("name", ["plain", "an é", "50% of #1?"])
@pytest.mark.parametrize("start", ["file://", "file://localhost"])
def test_addresses_of_files_on_this_machine_are_their_paths(tmp_path, name, start):
    """One or several, percent-encoded or with letters as they are."""
    folder = tmp_path / name
    folder.mkdir()
    for part in "ab":
        pq.write_table(pa.table({"row": [1, 2]}), folder / f"{part}.parquet")
    address = start + folder.as_uri().removeprefix("file://")
    files = [f"{address}/a.parquet", f"{address}/b.parquet"]
    assert len(sources.Parquet(address)) == 4
    assert len(sources.Parquet(files)) == 4
    assert len(sources.Parquet([files[0], folder / "b.parquet"])) == 4
    if name == "an é":
        assert len(sources.Parquet([f"{start}{folder}/a.parquet"])) == 2
        assert len(sources.Parquet(f"{start}{folder}/a.parquet")) == 2
    with pytest.raises(InvalidDataError, match="can't be opened"):
        sources.Parquet(["file://elsewhere/a.parquet"])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://localhost/a", "Install it: pip install 'fsspec[http]'."),
        ("az://a/b", "Install it: pip install 'adlfs'."),
        ("dvc://a/b", "Install what it names."),
    ],
)
def test_what_fsspec_lacks_is_told_with_a_line_that_installs_it(address, told, monkeypatch):
    def lacks(*_, **__):
        raise ImportError("HTTPFileSystem requires aiohttp.")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacks)
    with pytest.raises(MissingExtraError) as caught:
        sources.Parquet(address)
    scheme = address.partition("://")[0]
    assert str(caught.value) == (
        f"{scheme}:// can't be opened by fsspec: HTTPFileSystem requires aiohttp. {told}"
    )


def test_worker_processes_open_the_files_themselves(tmp_path):
    data = sources.Parquet(folder_at(f"local://{tmp_path}/data"))
    with of_parquet(data, workers=2, use_multiprocessing=True) as dataset:
        assert_whole(dataset)


@pytest.mark.parametrize(("workers", "processes"), [(0, False), (4, False), (2, True)])
def test_an_epoch_of_zarr(tmp_path, workers, processes):
    address = f"memory://{uuid.uuid4().hex}.zarr"
    if processes:  # which share no memory
        address = f"local://{tmp_path}/x.zarr"
    zarr.create_array(address.removeprefix("local://"), data=X, chunks=(64, 2))
    dataset = ArrayDataset(
        zarr.open_array(address, mode="r"),
        np.arange(N),
        batch_size=32,
        seed=0,
        sampler=samplers.BlockShuffle(blocks=2),
        workers=workers,
        use_multiprocessing=processes,
    )
    with dataset:
        assert_whole(dataset)


@pytest.mark.parametrize("on_error", ["raise", "set_aside"])
def test_a_lost_connection_is_told_with_the_rows(in_memory, on_error, monkeypatch):
    chosen = {} if on_error == "raise" else {"on_error": on_error, "max_set_aside": 0.5}
    dataset = of_parquet(sources.Parquet(in_memory), sampler=samplers.InOrder(), **chosen)
    opened = type(fsspec.filesystem("memory"))._open

    def fails(self, path, *arguments, **settings):
        if path.endswith("a.parquet") and is_lost:
            raise ConnectionError("the server is gone")
        return opened(self, path, *arguments, **settings)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "_open", fails)
    is_lost = False
    dataset.load(np.arange(200, N))
    is_lost = True
    if on_error == "set_aside":
        with pytest.warns(UserWarning, match="row 0 .*ConnectionError: the server is gone"):
            _, rows, weights = dataset[0]
        assert set(dataset.set_aside) >= set(range(32))
        assert set(rows) == {200}  # the first row that can be read stands in, and weighs nothing
        assert not weights.any()
        return
    with pytest.raises(ConnectionError, match="the server is gone") as caught:
        dataset[0]
    told = "\n".join(caught.value.__notes__)
    assert "raised by row group 0 of '/" in told
    assert "at epoch 0, step 0, rows [0, 1, 2" in told


def test_what_can_not_be_opened_is_told(in_memory, monkeypatch):
    with pytest.raises(InvalidDataError, match=r"^nowhere:// can't be opened by fsspec: .*nowhere"):
        sources.Parquet("nowhere://a/b")
    with pytest.raises(InvalidDataError, match="of several systems: '', 'memory'; expected one"):
        sources.Parquet([in_memory, "a.parquet"])
    with pytest.raises(InvalidDataError, match=r"can't be opened: .*Expected paths"):
        sources.Parquet(f"{in_memory}/c.parquet")
    with pytest.raises(InvalidArgumentError, match="for paths on this machine; expected addresses"):
        sources.Parquet("a.parquet", storage_options={"anon": True})
    with pytest.raises(
        InvalidArgumentError, match=r"storage_options is 3 \(int\); expected a dict"
    ):
        sources.Parquet(in_memory, storage_options=3)
    with pytest.raises(InvalidArgumentError, match="were both given; expected one of them"):
        sources.Parquet(
            in_memory, filesystem=fsspec.filesystem("memory"), storage_options={"anon": True}
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'keras_npbatch\[remote\]'\.$"):
        sources.Parquet(in_memory)
