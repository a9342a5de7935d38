"""TensorStore: N5, Zarr 2 and Zarr 3, whole and sliced, read by threads and processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.batches.row_cache import IS_SHARED
from tests.sources.counting import TellsWhatWasRead

tensorstore = pytest.importorskip("tensorstore")

CHUNK = 64
X = np.arange(1000 * 6, dtype="int32").reshape(1000, 6)
DRIVERS = ["n5", "zarr", "zarr3"]


def stored_at(address: str, driver: str, values: Any = X) -> Any:
    found = tensorstore.open(
        {"driver": driver, "kvstore": address},
        create=True,
        dtype=values.dtype.name,
        shape=values.shape,
        chunk_layout=tensorstore.ChunkLayout(chunk_shape=(CHUNK, values.shape[1])),
    ).result()
    found[...] = values
    return found


@given(
    driver=st.sampled_from(DRIVERS),
    start=st.integers(0, 990),
    length=st.integers(1, 400),
    step=st.sampled_from([1, 1, 2, 5]),
    column=st.sampled_from([0, 2]),
    rows=st.lists(st.integers(0, 10**6), min_size=1, max_size=30),
    blocks=st.booleans(),
)
def test_a_slice_has_its_own_rows(driver, start, length, step, column, rows, blocks):
    stored = stored_at("memory://", driver)
    sampler = samplers.BlockShuffle(blocks=2) if blocks else samplers.InOrder()
    numbers = slice(start, start + length, step)
    expected = X[numbers, column:]
    view = stored[start : min(start + length, len(X)) : step, column:]
    dataset = ArrayDataset(view, batch_size=7, seed=0, sampler=sampler, workers=0)
    assert len(dataset) == -(-len(expected) // 7)
    chosen = np.array(rows) % len(expected)
    np.testing.assert_array_equal(dataset.load(chosen), expected[chosen])
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("driver", DRIVERS)
def test_threads_read_each_row_once(driver: str, workers: int) -> None:
    sampler = samplers.BlockShuffle(blocks=2)
    stored = stored_at("memory://", driver)
    found = np.concatenate(
        list(ArrayDataset(stored, batch_size=32, seed=0, sampler=sampler, workers=workers))
    )
    assert not np.array_equal(found, X)
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)


@pytest.mark.skipif(not IS_SHARED, reason="worker processes share decoded chunks on Linux")
@pytest.mark.parametrize(
    ("driver", "part"),
    [("n5", slice(None)), ("zarr3", slice(CHUNK, 3000))],
    ids=["N5", "a slice of Zarr 3"],
)
def test_worker_processes_read_each_byte_once(driver: str, part: slice, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**31, (3000, 1500), dtype="int32")
    stored = stored_at(f"file://{tmp_path}/x/", driver, noise)[part.start or 0 : 3000]
    files = [file.stat().st_size for file in (tmp_path / "x").rglob("*") if file.is_file()]
    size = sum(files) * stored.shape[0] / 3000
    dataset = ArrayDataset(
        stored,
        batch_size=50,
        seed=0,
        workers=2,
        sampler=samplers.BlockShuffle(blocks=4),
        transform=TellsWhatWasRead(),
        use_multiprocessing=True,
    )
    read, rows = {}, []
    with dataset:
        for batch, told in dataset:
            pid, num_read = told[0].tolist()
            read[pid] = num_read
            rows.append(np.array(batch[:, :2]))
    assert len(read) == 2
    assert sum(read.values()) <= 1.1 * size
    found, expected = np.concatenate(rows), noise[part, :2]
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
