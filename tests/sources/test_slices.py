"""HDF5 and Zarr in chunks: each chunk is read once an epoch, counted in the storage itself."""

from __future__ import annotations

import io
import threading
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.batches.row_cache import IS_SHARED
from keras_npbatch.callbacks.input_monitor.costs import Costs, advice
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.slices import SlicedStorage
from keras_npbatch.sources.sources import as_source
from tests.sources.counting import CountingStore, TellsWhatWasRead, unchanged

ROWS, CHUNK, WIDTH = 3000, 64, 50
X = np.arange(ROWS * WIDTH, dtype="int32").reshape(ROWS, WIDTH)
BLOCKS = samplers.BlockShuffle(blocks=4)


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_zarr():
    """With the first array, zarr starts an event loop that stays."""
    zarr.ones((1,))


class CountingFile(io.BytesIO):
    """A file in memory that counts what is read from it."""

    num_read = 0

    def readinto(self, buffer):
        found = super().readinto(buffer)
        self.num_read += found
        return found


def hdf5(chunk=CHUNK, **layout):
    file = CountingFile()
    stored = h5py.File(file, "w").create_dataset("x", data=X, chunks=(chunk, WIDTH), **layout)
    stored.file.flush()
    file.num_read = 0
    return stored, file


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("order", ["blocks", "of the data"])
def test_an_epoch_reads_each_byte_of_hdf5_once(order, workers):
    stored, file = hdf5(compression="gzip")
    sampler = BLOCKS if order == "blocks" else samplers.InOrder()
    dataset = ArrayDataset(stored, batch_size=50, seed=0, workers=workers, sampler=sampler)
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
    assert file.num_read <= 1.1 * stored.id.get_storage_size()
    stored.file.close()


def in_zarr(folder, **layout):
    store = CountingStore(LocalStore(folder / "data"), str(folder / "count"))
    stored = zarr.create_array(store, shape=X.shape, dtype=X.dtype, chunks=(CHUNK, WIDTH), **layout)
    stored[:] = X
    Path(store.count).write_text("")
    return stored, store


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("shards", [None, (256, WIDTH)])
def test_an_epoch_reads_each_byte_of_zarr_once(tmp_path, shards, workers):
    stored, store = in_zarr(tmp_path, shards=shards)
    dataset = ArrayDataset(stored, batch_size=50, seed=0, workers=workers, sampler=BLOCKS)
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
    num_read = sum(size for _, size in store.read())
    assert num_read <= 1.1 * stored.nbytes_stored()


@pytest.mark.skipif(not IS_SHARED, reason="worker processes share decoded chunks on Linux")
@pytest.mark.parametrize(
    ("workers", "is_killed"), [(2, True), pytest.param(4, False, marks=pytest.mark.more)]
)
def test_worker_processes_decode_each_chunk_once_an_epoch(tmp_path, workers, is_killed):
    stored, store = in_zarr(tmp_path)
    if is_killed:  # while it decodes a chunk that others wait for
        Path(f"{store.count}.kills").write_text("c/10/0")
    dataset = ArrayDataset(
        stored,
        batch_size=50,
        seed=0,
        workers=workers,
        sampler=BLOCKS,
        max_queue_size=4,
        transform=unchanged,
        use_multiprocessing=True,
    )
    with dataset:
        for _ in range(2):
            found = np.concatenate(list(dataset))
            np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
    times = Counter(key for key, _ in store.read() if key.startswith("c/"))
    ahead = dataset.plan.order(2).rows(0, 4 * 50 + 4 * CHUNK) // CHUNK  # of a third epoch
    for number in range(-(-ROWS // CHUNK)):
        assert 2 <= times[f"c/{number}/0"] <= (3 if number in ahead else 2)


@pytest.mark.skipif(not IS_SHARED, reason="worker processes share decoded chunks on Linux")
@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.more)])
def test_worker_processes_read_each_byte_of_hdf5_once(tmp_path, workers):
    wide = np.repeat(X, 50, axis=1)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        stored = file.create_dataset("x", data=wide, chunks=(CHUNK, wide.shape[1]), shuffle=True)
        size = stored.id.get_storage_size()
    with h5py.File(tmp_path / "data.h5") as file:
        dataset = ArrayDataset(
            file["x"],
            batch_size=50,
            seed=0,
            workers=workers,
            sampler=BLOCKS,
            transform=TellsWhatWasRead(),
            use_multiprocessing=True,
        )
        read = {}
        with dataset:
            for _, told in dataset:
                pid, num_read = told[0].tolist()
                read[pid] = num_read
    assert len(read) == workers
    assert size <= sum(read.values()) <= 1.1 * size


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    chunk=st.integers(1, 200),
    rows=st.lists(st.integers(0, ROWS - 1), max_size=80),
    compression=st.sampled_from([None, "gzip", "lzf"]),
    shuffle=st.booleans(),
    kept=st.none() | st.tuples(st.integers(1, 300), st.integers(1, 3)),
)
def test_rows_are_those_of_numpy(chunk, rows, compression, shuffle, kept):
    stored, _ = hdf5(chunk, compression=compression, shuffle=shuffle)
    source = as_source(stored, "x")
    if kept is not None:
        source.keep(*kept)
    asked = np.array(rows, np.int64)
    for _ in range(2):  # decoded, and kept
        np.testing.assert_array_equal(source.read(asked, np.empty), X[asked])
    found = source.read(asked, np.empty)
    found[...] = 0  # the caller's own
    np.testing.assert_array_equal(source.read(asked, np.empty), X[asked])
    stored.file.close()


def test_threads_that_need_the_same_chunk_decode_it_once():
    times, all_ask = Counter(), threading.Barrier(4)

    class Slow(SlicedStorage):
        def _decode(self, number, into):
            times[number] += 1
            threading.Event().wait(0.05)
            super()._decode(number, into)

    stored, _ = hdf5(compression="gzip")
    source = Slow(stored, "x")

    def ask():
        all_ask.wait()
        np.testing.assert_array_equal(source.read(np.arange(10), np.empty), X[:10])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times == {0: 1}
    stored.file.close()


def test_a_chunk_that_can_not_be_read_raises_in_each_thread_and_is_tried_again():
    stored, _ = hdf5(compression="gzip")
    source = as_source(stored, "x")
    stored.file.close()
    for _ in range(2):
        with pytest.raises(InvalidDataError, match="x is in an HDF5 file that has been closed"):
            source.read(np.arange(3), np.empty)


def test_no_more_chunks_are_kept_than_were_agreed():
    stored, _ = hdf5(compression="gzip")
    source = as_source(stored, "x")
    source.keep(CHUNK, 2)
    assert source._chunks.num_bytes <= 2 * 2 * CHUNK * X.itemsize * WIDTH + 256
    for start in range(0, ROWS - 10, 100):
        source.read(np.arange(start, start + 10), np.empty)
        assert source._chunks.has(np.arange(ROWS // CHUNK)).sum() <= 2 * 2
    stored.file.close()


def test_a_shuffle_of_chunks_says_what_it_costs_and_what_to_write():
    stored, _ = hdf5(compression="gzip")
    with pytest.warns(UserWarning, match="stored in chunks") as told:
        ArrayDataset(stored, batch_size=32)
    assert str(told[0].message) == (
        "x is stored in chunks of 64 rows, and a batch of 32 rows from all over the data touches "
        "about 23 of them, so an epoch reads the data 47 times. Write "
        "sampler=keras_npbatch.samplers.BlockShuffle(), which reads each chunk once, and see how "
        "well it mixes: BlockShuffle(...).describe(num_rows)."
    )
    assert told[0].filename == __file__
    stored.file.close()


@pytest.mark.parametrize(
    "settings", [{"shuffle": False}, {"sampler": BLOCKS}, {"sampler": samplers.BlockShuffle(128)}]
)
def test_other_orders_of_chunks_are_fine(settings):
    stored, _ = hdf5(compression="gzip")
    ArrayDataset(stored, batch_size=32, **settings)
    stored.file.close()


def test_blocks_that_are_no_whole_chunks_are_told():
    stored, _ = hdf5(compression="gzip")
    with pytest.warns(UserWarning, match="are no whole chunks") as told:
        ArrayDataset(stored, batch_size=32, sampler=samplers.BlockShuffle(100))
    assert str(told[0].message) == (
        "the blocks of BlockShuffle(block_rows=100, blocks=16) are no whole chunks: the data are "
        "stored in chunks of 64 rows, so some are read several times. Leave block_rows out, or "
        "make it a multiple of 64."
    )
    assert told[0].filename == __file__
    stored.file.close()


@pytest.mark.parametrize("block_rows", [None, 50])
def test_one_block_of_all_rows_cuts_no_chunk(block_rows):
    """Of 50 rows in a chunk with room for 64, which can grow."""
    with h5py.File(CountingFile(), "w") as file:
        stored = file.create_dataset(
            "x", data=X[:50], chunks=(CHUNK, WIDTH), maxshape=(None, WIDTH), compression="gzip"
        )
        sampler = samplers.BlockShuffle(block_rows)
        dataset = ArrayDataset(stored, batch_size=32, sampler=sampler, workers=0)  # without a word
        found = np.concatenate(list(dataset))
        np.testing.assert_array_equal(found[np.lexsort(found.T[::-1])], X[:50])


def test_worker_processes_open_the_file_themselves(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("x", data=X, chunks=(CHUNK, WIDTH), compression="gzip")
    with h5py.File(tmp_path / "data.h5") as file:
        settings = {"batch_size": 50, "seed": 0, "sampler": BLOCKS}
        alone = ArrayDataset(file["x"], workers=0, **settings)
        transform = {"transform": unchanged, "use_multiprocessing": True}
        workers = ArrayDataset(file["x"], workers=2, **transform, **settings)
        with workers:
            for here, there in zip(alone, workers, strict=True):
                np.testing.assert_array_equal(here, there)


def test_the_advice_of_input_monitor_is_another_order_not_more_workers():
    costs = Costs(reading_s=0.1, transform_s=0.0, transport_s=0.0, busy=0.9)
    stored, _ = hdf5(compression="gzip")
    with pytest.warns(UserWarning, match="stored in chunks"):
        shuffled = ArrayDataset(stored, batch_size=32)
    expected = ("sampler", "keras_npbatch.samplers.BlockShuffle()")
    assert advice(shuffled, costs, compute_s=0.01) == expected
    blocks = ArrayDataset(stored, batch_size=32, sampler=BLOCKS)
    assert advice(blocks, costs, compute_s=0.01)[0] != "sampler"
    stored.file.close()
