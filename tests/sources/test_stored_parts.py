"""Joined parts in chunks: each chunk is read once an epoch, counted in the storage itself."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore

from keras_npbatch import ArrayDataset, concat, samplers
from keras_npbatch.batches.row_cache import IS_SHARED
from keras_npbatch.callbacks.input_monitor.costs import Costs, advice
from keras_npbatch.sources import Concatenated, Parquet
from keras_npbatch.sources.row_groups import RowGroups
from keras_npbatch.sources.source import Chunked
from keras_npbatch.sources.sources import as_source
from keras_npbatch.sources.stored_parts import StoredParts
from tests.batches.test_read_ahead import CountedSlices
from tests.sources.counting import CountingStore, unchanged

da = pytest.importorskip("dask.array")

ROWS, CHUNK, WIDTH = (1500, 1700, 10), 64, 20
X = np.arange(sum(ROWS) * WIDTH, dtype="int32").reshape(-1, WIDTH)
PIECES = np.split(X, np.cumsum(ROWS)[:-1])
BLOCKS = samplers.BlockShuffle(blocks=2)
Parts = tuple[list[Any], Callable[[], float]]
"""Parts, and how many times their bytes, or their chunks, have been read."""


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_zarr() -> None:
    """With the first array, zarr starts an event loop that stays."""
    zarr.ones((1,))


class CountingFile(io.BytesIO):
    """A file in memory that counts what is read from it."""

    num_read = 0

    def readinto(self, buffer: Any) -> int:
        found = super().readinto(buffer)
        self.num_read += found
        return found


@contextmanager
def hdf5(chunks: tuple[int, ...] = (CHUNK, CHUNK, CHUNK)) -> Iterator[Parts]:
    """Datasets of gzip, each in a file of its own."""
    files = [CountingFile() for _ in PIECES]
    stored = [
        h5py.File(file, "w").create_dataset(
            "x", data=piece, chunks=(min(chunk, len(piece)), WIDTH), compression="gzip"
        )
        for file, piece, chunk in zip(files, PIECES, chunks, strict=True)
    ]
    for each, file in zip(stored, files, strict=True):
        each.file.flush()
        file.num_read = 0
    size = sum(each.id.get_storage_size() for each in stored)
    yield stored, lambda: sum(file.num_read for file in files) / size
    for each in stored:
        each.file.close()


def test_where_chunks_begin_is_told() -> None:
    with hdf5((64, 100, 64)) as (parts, _):
        source = as_source(Concatenated(parts), "x")
        assert isinstance(source, Chunked)
        assert source.chunk_rows == 100
        assert source.chunk_starts is not None
        expected = [*range(0, 1500, 64), *range(1500, 3200, 100), 3200, 3210]
        assert source.chunk_starts.tolist() == expected


def test_chunks_of_one_size_are_told_by_it() -> None:
    even = [da.from_array(X[:128], chunks=(64, WIDTH)), da.from_array(X[:100], chunks=(64, WIDTH))]
    source: Any = as_source(Concatenated(even), "x")
    assert (source.chunk_rows, source.chunk_starts) == (64, None)
    source = as_source(Concatenated(even[::-1]), "x")
    assert source.chunk_starts.tolist() == [0, 64, 100, 164, 228]


def test_what_has_no_chunks_counts_as_in_the_largest(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIECES[0])
    with hdf5((64, 100, 64)) as (parts, _):
        source: Any = as_source(Concatenated([tmp_path / "x.npy", parts[1], X[:0]]), "x")
        assert source.chunk_starts is None
        assert source.chunk_rows == 100
        assert isinstance(source, Chunked)


def test_parts_of_which_none_has_chunks_are_read_as_before(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIECES[0])
    joined = Concatenated([tmp_path / "x.npy", PIECES[1]])
    source = as_source(joined, "x")
    assert source is joined
    assert not isinstance(source, Chunked)
    assert source.chunk_rows is None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("chunks", [(64, 64, 64), (32, 128, 64)], ids=["even", "uneven"])
@pytest.mark.parametrize("order", ["blocks", "part", "of the data", "concat"])
def test_an_epoch_reads_each_byte_of_hdf5_once(
    order: str, chunks: tuple[int, ...], workers: int
) -> None:
    sampler = samplers.InOrder() if order == "of the data" else BLOCKS
    options: Any = {"batch_size": 32, "seed": 0, "workers": workers, "sampler": sampler}
    with hdf5(chunks) as (parts, times):
        if order == "concat":
            dataset: Any = concat([ArrayDataset(part, shuffle=False) for part in parts], **options)
        else:
            dataset = ArrayDataset(Concatenated(parts), **options)
        expected = X
        if order == "part":  # all rows of one part: blocks are of no other
            dataset = dataset.subset(np.arange(len(X)) < ROWS[0])
            expected = PIECES[0]
        for epoch in (1, 2):
            found = np.concatenate(list(dataset))
            np.testing.assert_array_equal(found[np.argsort(found[:, 0])], expected)
            assert times() <= 1.1 * epoch * len(expected) / len(X) + 0.05


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("join", ["sources", "datasets"])
def test_an_epoch_reads_each_row_group_once(
    join: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[tuple[int, int]] = Counter()
    given = RowGroups.read

    def counted(groups: RowGroups, number: int, *others: Any) -> Any:
        read[id(groups), number] += 1
        return given(groups, number, *others)

    monkeypatch.setattr(RowGroups, "read", counted)
    numbers = [np.arange(1500), np.arange(1500, 3200)]
    for part, each in enumerate(numbers):
        pq.write_table(pa.table({"n": each}), tmp_path / f"{part}.parquet", row_group_size=20)
    parts = [Parquet(tmp_path / f"{part}.parquet")["n"] for part in range(2)]
    options: Any = {"batch_size": 32, "seed": 0, "workers": workers, "sampler": BLOCKS}
    if join == "sources":
        dataset: Any = ArrayDataset(Concatenated(parts), **options)
    else:
        dataset = concat([ArrayDataset(part, shuffle=False) for part in parts], **options)
    found = np.concatenate(list(dataset))
    assert sorted(found) == list(range(3200))
    assert len(read) == 75 + 85
    assert sum(read.values()) <= 1.1 * len(read)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("join", ["sources", "datasets"])
def test_an_epoch_computes_each_chunk_of_dask_once(join: str, workers: int) -> None:
    computed: Counter[int] = Counter()

    def counted(block: Any) -> Any:
        if block.size:
            computed[int(block[0, 0])] += 1
        return block

    parts = [
        da.from_array(piece, chunks=(rows, WIDTH)).map_blocks(counted, meta=piece[:0])
        for piece, rows in zip(PIECES, (50, (1000, 20, 680), 10), strict=True)
    ]
    options: Any = {"batch_size": 32, "seed": 0, "workers": workers, "sampler": BLOCKS}
    if join == "sources":
        dataset: Any = ArrayDataset(Concatenated(parts), **options)
    else:
        dataset = concat([ArrayDataset(part, shuffle=False) for part in parts], **options)
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
    assert len(computed) == 30 + 3 + 1
    assert set(computed.values()) == {1}


@pytest.mark.skipif(not IS_SHARED, reason="worker processes share decoded chunks on Linux")
def test_worker_processes_decode_each_chunk_once(tmp_path: Path) -> None:
    parts, stores = [], []
    for number, piece in enumerate(PIECES[:2]):
        folder = tmp_path / str(number)
        store = CountingStore(LocalStore(folder), str(tmp_path / f"{number}.count"))
        stored = zarr.create_array(store, shape=piece.shape, dtype=X.dtype, chunks=(CHUNK, WIDTH))
        stored[:] = piece
        Path(store.count).write_text("")
        parts.append(stored)
        stores.append(store)
    options: Any = {"transform": unchanged, "use_multiprocessing": True, "max_queue_size": 4}
    dataset = ArrayDataset(
        Concatenated(parts), batch_size=50, seed=0, workers=2, sampler=BLOCKS, **options
    )
    with dataset:
        found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X[:3200])
    ahead = set(dataset.plan.order(1).rows(0, 4 * 50 + 2 * CHUNK).tolist())  # of another epoch
    for part, (store, first) in enumerate(zip(stores, (0, 1500), strict=True)):
        times = Counter(key for key, _ in store.read() if key.startswith("c/"))
        for chunk in range(-(-ROWS[part] // CHUNK)):
            rows = range(first + chunk * CHUNK, first + (chunk + 1) * CHUNK)
            assert 1 <= times[f"c/{chunk}/0"] <= (1 if ahead.isdisjoint(rows) else 2)


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any),
    blocks=st.integers(1, 3),
    block_rows=st.sampled_from([1, 3, None]),
)
def test_rows_are_those_of_numpys_concatenate(
    data: Any, lengths: list[int], blocks: int, block_rows: int | None
) -> None:
    values = X[: sum(lengths)]
    parts = []
    for piece in np.split(values, np.cumsum(lengths)[:-1]):
        chunk = data.draw(st.integers(0, 7))  # 0: an array
        parts.append(da.from_array(piece, chunks=(chunk, WIDTH)) if chunk else piece)
    if data.draw(st.booleans()):
        parts = [Concatenated(parts[:1]), *parts[1:]]
    source: Any = as_source(Concatenated(parts), "x")
    if data.draw(st.booleans()) and isinstance(source, StoredParts):
        source.keep(block_rows or source.chunk_rows, blocks)
    for _ in range(2):
        rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9)), np.int64)
        np.testing.assert_array_equal(source.read(rows, np.empty), values[rows])


def test_no_more_is_kept_than_two_groups_of_blocks() -> None:
    with hdf5() as (parts, _):
        source: Any = as_source(Concatenated(parts), "x")
        source.keep(CHUNK, 2)
        assert source._kept.num_bytes <= 2 * 2 * CHUNK * X.itemsize * WIDTH + 256
        source.keep(CHUNK, 1)  # what another dataset needs stays
        assert source._kept.chunks == 4


def test_what_is_stored_may_change_between_epochs() -> None:
    with hdf5() as (parts, _):
        dataset = ArrayDataset(Concatenated(parts), seed=0, workers=0, sampler=BLOCKS)
        list(dataset)
        parts[1][...] = -PIECES[1]
        found = np.concatenate(list(dataset))
        assert (found < 0).any(axis=1).sum() == ROWS[1]


def test_memory_maps_and_arrays_are_read_row_by_row_beside_chunks(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIECES[1])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=PIECES[2], chunks=(5, WIDTH))
    with hdf5() as (parts, times), h5py.File(tmp_path / "x.h5") as file:
        joined = Concatenated([parts[0], tmp_path / "x.npy", file["x"]])
        dataset = ArrayDataset(joined, batch_size=32, seed=0, workers=0, sampler=BLOCKS)
        source: Any = dataset._keras_npbatch.sources[0]
        assert source._is_decoded.tolist() == [True, False, False]
        found = np.concatenate(list(dataset))
        np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
        assert times() <= 1.1
        joined.close()


# --- what is told --------------------------------------------------------------------------------

BY_SHUFFLE = (
    "x is stored in chunks of 64 rows, and a batch of 32 rows from all over the data touches "
    "about 24 of them, so an epoch reads the data 48 times. Write "
    "sampler=keras_npbatch.samplers.BlockShuffle(), which reads each chunk once, and see how "
    "well it mixes: BlockShuffle(...).describe(num_rows)."
)


def test_a_shuffle_of_chunks_says_what_it_costs_and_what_to_write() -> None:
    with hdf5() as (parts, _):
        with pytest.warns(UserWarning, match="stored in chunks") as told:
            ArrayDataset(Concatenated(parts), batch_size=32)
        assert [str(each.message) for each in told] == [BY_SHUFFLE]
        assert told[0].filename == __file__


def test_parts_that_are_kept_whole_are_shuffled_without_a_warning() -> None:
    with hdf5() as (parts, _):
        ArrayDataset(Concatenated(parts[2:]), batch_size=5)
        ArrayDataset(Concatenated([parts[2], X]), batch_size=5)


def test_blocks_that_are_no_whole_chunks_are_told() -> None:
    with hdf5() as (parts, _):
        sampler = samplers.BlockShuffle(100)
        with pytest.warns(UserWarning, match="stored in chunks of 64 rows, so some are read"):
            dataset = ArrayDataset(Concatenated(parts), workers=0, sampler=sampler)
        found = np.concatenate(list(dataset))
        np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)


def test_a_shuffle_of_joined_datasets_says_what_it_costs() -> None:
    with hdf5() as (parts, _):
        datasets = [ArrayDataset(part, shuffle=False) for part in parts]
        with pytest.warns(UserWarning, match="stored in chunks") as told:
            shuffled = concat(datasets, batch_size=32)
        assert [str(each.message) for each in told] == [
            BY_SHUFFLE.replace("x is stored", "the datasets are stored")
        ]
        assert told[0].filename == __file__
        costs = Costs(reading_s=0.1, transform_s=0.0, transport_s=0.0, busy=0.9)
        expected = ("sampler", "keras_npbatch.samplers.BlockShuffle()")
        assert advice(shuffled, costs, compute_s=0.01) == expected
        blocks = concat(datasets, batch_size=32, sampler=BLOCKS)
        assert advice(blocks, costs, compute_s=0.01) != expected
        concat(datasets, batch_size=32, shuffle=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_datasets_are_read_chunk_by_chunk_too(workers: int) -> None:
    """Of datasets of datasets, and beside one that has no chunks."""
    with hdf5((64, 100, 10)) as (parts, times):
        first, second = (ArrayDataset(part, shuffle=False) for part in parts[:2])
        some = first.subset(np.arange(ROWS[0]) % 10 == 0)
        pair = concat([some, second], shuffle=False)
        plain = ArrayDataset(PIECES[2], shuffle=False)
        whole: Any = concat([pair, plain], batch_size=32, seed=0, workers=workers, sampler=BLOCKS)
        found = np.concatenate(list(whole))
        expected = np.concatenate([PIECES[0][::10], *PIECES[1:]])
        np.testing.assert_array_equal(found[np.argsort(found[:, 0])], expected)
        assert times() <= 1.1


def test_one_dataset_of_datasets_keeps_what_another_needs() -> None:
    with hdf5() as (parts, times):
        datasets = [ArrayDataset(part, shuffle=False) for part in parts]
        blocks = concat(datasets, seed=0, workers=0, sampler=BLOCKS)
        concat(datasets, workers=2, shuffle=False)
        concat(datasets, workers=0, sampler=samplers.BlockShuffle(blocks=1))
        list(blocks)
        assert times() <= 1.1


def test_blocks_of_datasets_that_are_no_whole_chunks_are_kept_for_a_group() -> None:
    with hdf5((64, 100, 10)) as (parts, times):
        datasets = [ArrayDataset(part, shuffle=False) for part in parts]
        sampler = samplers.BlockShuffle(100, blocks=2)
        dataset = concat(datasets, seed=0, workers=0, sampler=sampler)
        found = np.concatenate(list(dataset))
        np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
        assert times() <= 3  # a chunk for each block that it has rows of


def test_many_datasets_keep_no_more_together_than_a_few_groups() -> None:
    """A block is of any of them, so each has room for its share, and a little more."""
    sources: list[Any] = [CountedSlices(np.arange(0, 81, 4)) for _ in range(40)]
    members = [ArrayDataset(source, batch_size=8, shuffle=False, workers=0) for source in sources]
    joined = concat(members, batch_size=8, seed=0, sampler=samplers.BlockShuffle(), workers=0)
    assert sum(source._chunks.chunks for source in sources) <= 40 * 8  # not 20, which are all
    for _ in range(3):
        for source in sources:
            source.times.clear()
        assert sum(len(batch) for batch in joined) == 40 * 80
        assert sum(sum(source.times.values()) for source in sources) <= 1.01 * 40 * 20
