"""`Windows` of series in files: equal to those of the array, and read in stretches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.sources.windows import Windows, aligned
from keras_npbatch.testing import check_dataset
from keras_npbatch.testing.strategies import row_numbers
from tests.comparing import assert_same_array

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* is stored in chunks of"),
    pytest.mark.filterwarnings("ignore:the blocks of .* are no whole chunks"),
]
STEPS = 120
X = np.arange(STEPS * 6, dtype="float32").reshape(STEPS, 2, 3)
few = settings(max_examples=20, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def event_loop_of_zarr() -> None:
    """With the first array, zarr starts an event loop that stays."""
    zarr.ones((1,))


@contextmanager
def stored(kind: str, folder: Path, array: Any = X) -> Iterator[Any]:
    """The array in a file of this kind."""
    if kind == "memory map":
        np.save(folder / "x.npy", array)
        yield np.load(folder / "x.npy", mmap_mode="r")
    elif kind == "Zarr":
        yield zarr.create_array(folder / "x.zarr", data=array, chunks=(7, *array.shape[1:]))
    else:
        layout: dict[str, Any] = {
            "HDF5, contiguous": {},
            "HDF5, for reading": {},
            "HDF5, chunks": {"chunks": (7, *array.shape[1:])},
            "HDF5, compressed": {"chunks": (16, *array.shape[1:]), "compression": "gzip"},
        }[kind]
        with h5py.File(folder / "x.h5", "w") as file:
            written = file.create_dataset("x", data=array, **layout)
            if kind != "HDF5, for reading":
                yield written
                return
        with h5py.File(folder / "x.h5") as file:
            yield file["x"]


HDF5 = ["HDF5, contiguous", "HDF5, for reading", "HDF5, chunks", "HDF5, compressed"]
KINDS = ["memory map", "Zarr", *HDF5]


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_a_file_are_those_of_the_array(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with stored(kind, tmp_path_factory.mktemp("file")) as file:

        @few
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            length, stride, rate = (data.draw(st.integers(1, 5)) for _ in range(3))
            chosen: dict[str, Any] = {"stride": stride, "sampling_rate": rate}
            chosen["offset"] = data.draw(st.integers(0, 4))
            several = data.draw(st.sampled_from([None, [40, 71], "ids"]))
            if several == "ids":
                chosen["ids"] = np.repeat(["a", "b"], [50, STEPS - 50])
            else:
                chosen["boundaries"] = several
            ours, theirs = Windows(file, length, **chosen), Windows(X, length, **chosen)
            assert not ours.is_in_memory
            assert ours.shape == theirs.shape
            assert ours.identity == theirs.identity
            rows = data.draw(row_numbers(len(ours)))
            assert_same_array(ours.read(rows), theirs.read(rows))

        check()


@pytest.mark.parametrize("kind", ["Zarr", "HDF5, chunks"])
def test_a_list_of_files_and_arrays_is_several_series(kind: str, tmp_path: Path) -> None:
    other = X[:50] + 1000
    with stored(kind, tmp_path) as file:
        ours, theirs = Windows([file, other], 5, stride=2), Windows([X, other], 5, stride=2)
        for rows in (np.arange(len(ours)), np.array([70, 3, 70, 0]), np.arange(0)):
            assert_same_array(ours.read(rows), theirs.read(rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", [None, samplers.BlockShuffle(14)], ids=["shuffled", "blocks"])
def test_a_dataset_of_files_has_the_batches_of_arrays(
    kind: str, sampler: Any, tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {"batch_size": 8, "seed": 0}
    if sampler is not None:
        chosen["sampler"] = sampler
    with stored(kind, tmp_path) as file:
        data = [
            ArrayDataset(Windows(x, 6), Windows(x, 3, offset=6), workers=workers, **chosen)
            for x, workers in ((X, 0), (file, 0), (file, 2))
        ]
        for expected, *found in zip(*data, strict=True):
            for x, y in found:
                assert_same_array(x, expected[0])
                assert_same_array(y, expected[1])


def test_worker_processes_open_the_file_themselves(tmp_path: Path) -> None:
    with stored("HDF5, compressed", tmp_path) as file:
        file.file.flush()
        path = file.file.filename
    with h5py.File(path) as opened:
        data = ArrayDataset(
            Windows(opened["x"], 6), batch_size=8, seed=0, workers=1, use_multiprocessing=True
        )
        expected = ArrayDataset(Windows(X, 6), batch_size=8, seed=0)
        with data:
            for ours, theirs in zip(data, expected, strict=True):
                assert_same_array(ours, theirs)


def test_the_checker_finds_nothing(tmp_path: Path) -> None:
    with stored("Zarr", tmp_path) as file:
        inputs, targets = aligned(Windows(file, 6, stride=2), Windows(file, 3, offset=6, stride=2))
        findings = check_dataset(ArrayDataset(inputs, targets, batch_size=8, seed=0))
        assert findings.ok, str(findings)


class Counted:
    """An HDF5 dataset that notes which slices are read of it."""

    def __init__(self, of: Any) -> None:
        self._of, self.slices = of, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    id = None  # no raw chunks

    def __getitem__(self, asked: slice) -> Any:
        self.slices.append((asked.start, asked.stop))
        return self._of[asked]

    def read_direct(self, into: Any, asked: slice) -> None:
        into[...] = self[asked]


Counted.__module__ = "h5py"  # by which a dataset in a file is known


def test_what_lies_close_together_is_read_at_once(tmp_path: Path) -> None:
    long = np.arange(10_000, dtype="int64")
    with stored("HDF5, contiguous", tmp_path, long) as file:
        counted = Counted(file)
        windows = Windows(counted, 20)
        rows = np.array([5000, 100, 7, 130, 7])
        assert_same_array(windows.read(rows), Windows(long, 20).read(rows))
        assert counted.slices == [(7, 150), (5000, 5020)]


def test_an_epoch_of_blocks_reads_hardly_more_than_each_chunk_once(tmp_path: Path) -> None:
    long = np.arange(20_000, dtype="int64")
    for sampler, most in ((samplers.InOrder(), 1.0), (samplers.BlockShuffle(512, 4), 1.2)):
        folder = tmp_path / type(sampler).__name__
        folder.mkdir()
        with stored("HDF5, compressed", folder, long) as file:
            counted = Counted(file)
            data = ArrayDataset(
                Windows(counted, 48), batch_size=50, seed=0, sampler=sampler, workers=0
            )
            for _ in data:
                pass
            read = sum(stop - start for start, stop in counted.slices)
            assert 0.99 * len(long) < read <= most * len(long)


@pytest.mark.parametrize(
    "sampler", [samplers.InOrder(), samplers.BlockShuffle(512, 4)], ids=["in order", "blocks"]
)
def test_inputs_and_targets_that_are_windows_of_one_file_read_it_once(
    sampler: Any, tmp_path: Path
) -> None:
    long = np.arange(20_000, dtype="int64")
    with stored("HDF5, compressed", tmp_path, long) as file:
        counted = Counted(file)
        inputs, targets = Windows(counted, 48), Windows(counted, 1, offset=48)
        data = ArrayDataset(inputs, targets, batch_size=50, seed=0, sampler=sampler, workers=0)
        for x, y in data:
            np.testing.assert_array_equal(x[:, -1] + 1, y[:, 0])
        read = sum(stop - start for start, stop in counted.slices)
        assert 0.99 * len(long) < read <= 1.2 * len(long)
    with stored("HDF5, compressed", tmp_path, long) as file:  # h5py makes an object for each
        name = file.name
        files = [Windows(file.file[name], 48), Windows(file.file[name], 1, offset=48)]
        one, other = (each._arrays for each in aligned(*files))
        assert one == other


def test_a_shuffle_that_reads_chunks_again_and_again_is_warned_of(tmp_path: Path) -> None:
    message = r"^x is stored in chunks of 16 rows, and a batch of 32"
    long = np.arange(50_000, dtype="int64")
    with (
        stored("HDF5, compressed", tmp_path, long) as file,
        pytest.warns(UserWarning, match=message),
    ):
        ArrayDataset(Windows(file, 48), seed=0)
