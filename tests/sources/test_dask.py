"""dask arrays: blocks of rows are computed once, counted in the graph; `ChunkRows` keeps them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.sources import as_source
from keras_npbatch.workers.systems import this_system

da = pytest.importorskip("dask.array")

X = np.arange(1200).reshape(300, 4)


def counted(chunks):
    """An array whose blocks count how often they are computed."""
    times = Counter()

    def compute(block):
        if block.size:
            times[int(block[0, 0])] += 1
        return block

    lazy = da.from_array(X, chunks=chunks)
    return lazy.map_blocks(compute, dtype=X.dtype, meta=np.empty((0, 0), X.dtype)), times


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=6),
    rows=st.lists(st.integers(0, 299), max_size=30),
)
def test_rows_are_those_of_numpy(lengths, rows):
    edges = np.minimum(np.cumsum(lengths), 300)
    lengths = [*np.diff(edges, prepend=0).tolist(), 300 - int(edges[-1])]
    lazy = da.from_array(X, chunks=(tuple(lengths), (3, 1)))
    rows = np.array(rows, np.int64)
    np.testing.assert_array_equal(as_source(lazy, "x").read(rows, np.empty), X[rows])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_blocks_computes_each_chunk_once(workers):
    lazy, times = counted(((50, 70, 10, 100, 70), 4))
    sampler = samplers.BlockShuffle(blocks=2)
    dataset = ArrayDataset(lazy, batch_size=16, seed=0, sampler=sampler, workers=workers)
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)
    assert times == dict.fromkeys([0, 200, 480, 520, 920], 1)
    found = np.concatenate(list(dataset))  # in the next epoch they may have changed
    assert set(times.values()) == {2}


def test_blocks_that_are_no_chunks_are_read_right_and_told():
    lazy, _ = counted(((50, 70, 10, 100, 70), 4))
    with pytest.warns(UserWarning, match="are no whole chunks"):
        dataset = ArrayDataset(lazy, seed=0, sampler=samplers.BlockShuffle(30, blocks=2))
    found = np.concatenate(list(dataset))
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], X)


def test_what_dask_does_not_know_is_refused_with_what_to_write():
    lazy = da.from_array(X, chunks=(100, 4))
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(lazy[lazy[:, 0] > 500])
    assert str(caught.value) == (
        "x is a dask array of unknown chunks, whose shape is (nan, 4); expected one that knows how "
        "many rows each has. Let dask count them: `x.compute_chunk_sizes()`."
    )
    known = lazy[lazy[:, 0] > 500].compute_chunk_sizes()
    np.testing.assert_array_equal(as_source(known, "x").read(np.array([0]), np.empty), X[126:127])
    masked = da.ma.masked_equal(lazy, 5)
    with pytest.raises(InvalidDataError, match=r"^x is a dask array of masked arrays, and the ma"):
        as_source(masked, "x")
    assert as_source(da.ma.filled(masked, 9), "x").read(np.array([1]), np.empty)[0, 1] == 9
    with pytest.raises(InvalidDataError, match=r"^x has no dimension"):
        as_source(lazy.sum(), "x")


def test_blocks_that_are_not_what_was_told_are_refused():
    lazy = da.from_array(X, chunks=(100, 4)).map_blocks(lambda b: b[:7], dtype=X.dtype)
    with pytest.raises(InvalidDataError) as caught:
        as_source(lazy, "x").read(np.array([150]), np.empty)
    assert str(caught.value) == (
        "chunk 1 of x was computed as an array of shape (7, 4) and dtype int64; expected shape "
        "(100, 4) and dtype int64, as the dask array tells. Give `map_blocks` or `from_delayed` "
        "the right ones."
    )


def test_an_error_in_a_block_says_which():
    def fail(block):
        raise IndexError("no such tile")

    meta = np.empty((0, 0), X.dtype)
    lazy = da.from_array(X, chunks=(100, 4)).map_blocks(fail, dtype=X.dtype, meta=meta)
    with pytest.raises(IndexError) as caught:
        as_source(lazy, "x").read(np.array([250]), np.empty)
    assert caught.value.__notes__ == ["keras_npbatch: raised by chunk 2 of x, a dask array"]


def test_frames_of_dask_are_refused_with_what_to_write():
    frames = pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")
    frame = frames.from_pandas(pandas.DataFrame({"a": [1, 2]}), npartitions=1)
    for leaf, name in ((frame, "DataFrame"), (frame["a"], "Series")):
        with pytest.raises(InvalidDataError) as caught:
            ArrayDataset(leaf)
        assert str(caught.value) == (
            f"x is a {name} of dask, which does not know how many rows it has; expected an array. "
            "Let dask count its rows: `x.to_dask_array(lengths=True)`."
        )


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start_method", this_system().start_methods)
def test_worker_processes_have_threads_of_their_own(start_method):
    """A fork has dask's pool, but not its threads. It would wait for them for ever."""
    values = np.arange(400).reshape(40, 10)
    array = da.from_array(values, chunks=(4, 10)) + 1
    array.sum().compute()  # starts the pool
    processes = {"workers": 1, "use_multiprocessing": True, "start_method": start_method}
    with ArrayDataset(array, batch_size=10, shuffle=False, **processes, timeout=30) as dataset:
        np.testing.assert_array_equal(np.concatenate(list(dataset)), values + 1)
