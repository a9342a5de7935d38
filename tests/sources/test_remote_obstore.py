"""Zarr through obstore: in memory and in a folder, by threads and by processes."""

from __future__ import annotations

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.errors import UnsendableError
from tests.sources.counting import unchanged

stores = pytest.importorskip("obstore.store")
zarr = pytest.importorskip("zarr")
storage = pytest.importorskip("zarr.storage")
if not hasattr(storage, "ObjectStore"):
    pytest.skip("zarr is too old for obstore", allow_module_level=True)

N, CHUNK = 256, 16
X = np.arange(N * 3, dtype="float32").reshape(N, 3)


@pytest.fixture(scope="module", autouse=True)
def event_loop_of_obstore():
    """With the first request, zarr's or another, obstore starts an event loop that stays."""
    stores.MemoryStore().put("a", b"")
    assert len(dataset_of(stores.MemoryStore(), 0, False)[0][0]) == 32


def dataset_of(store, workers, processes):
    zarr.create_array(storage.ObjectStore(store), data=X, chunks=(CHUNK, 3))
    return ArrayDataset(
        zarr.open_array(storage.ObjectStore(store, read_only=True), mode="r"),
        np.arange(N),
        batch_size=32,
        seed=0,
        workers=workers,
        use_multiprocessing=processes,
        transform=unchanged,
        sampler=samplers.BlockShuffle(blocks=4),
    )


@pytest.mark.parametrize(
    ("kind", "workers", "processes"),
    [("memory", 0, False), ("memory", 4, False), ("folder", 4, False), ("folder", 2, True)],
)
def test_each_row_comes_once(kind, workers, processes, tmp_path):
    store = stores.MemoryStore() if kind == "memory" else stores.LocalStore(tmp_path)
    seen = []
    with dataset_of(store, workers, processes) as dataset:
        for x, rows in dataset:
            np.testing.assert_array_equal(x, X[rows])
            seen += rows.tolist()
    assert sorted(seen) == list(range(N))


def test_what_is_in_the_memory_of_this_process_is_not_sent():
    with (
        dataset_of(stores.MemoryStore(), 1, True) as dataset,
        pytest.raises(UnsendableError, match=r"cannot pickle 'MemoryStore' object.*use threads"),
    ):
        next(iter(dataset))
