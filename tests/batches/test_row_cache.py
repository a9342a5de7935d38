"""`RowCache`: a batch has the same bytes with it, and what it keeps is read once."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, sources
from keras_npbatch.batches import cache_setting, row_cache
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.row_cache import RowCache
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError
from keras_npbatch.testing import check_dataset

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux")
N = 40
X = np.arange(N * 6, dtype="float32").reshape(N, 2, 3)
Y = np.arange(N) % 3
OF_ROW = X[0].nbytes + Y[0].nbytes + 1
"""Bytes that a row takes, with its mark."""
HEAD = 3 * 64
"""Bytes that are lost to alignment."""


@pytest.fixture(autouse=True)
def collected():
    """The traceback of an exception that was caught holds a dataset, and that its memory."""
    yield
    gc.collect()


def reading(times=None):
    """A `load`, which counts the rows that it reads."""

    def load(rows):
        if times is not None:
            times.update(rows.tolist())
        return {"image": X[rows]}, Y[rows]

    return load


def assert_same(batch, rows):
    np.testing.assert_array_equal(batch[0]["image"], X[rows])
    np.testing.assert_array_equal(batch[1], Y[rows])
    assert batch[0]["image"].dtype == X.dtype
    assert batch[1].dtype == Y.dtype


# --- the cache itself --------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    batches=st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=12), max_size=12),
    room=st.integers(1, N + 3),
)
def test_a_batch_is_what_load_returns_and_what_is_kept_is_read_once(batches, room):
    cache, times = RowCache(N, room * OF_ROW + HEAD), Counter()
    asked = Counter()
    for rows in batches:
        rows = np.array(rows, np.int64)
        batch = cache.load(rows, reading(times), np.empty)
        assert_same(batch, rows)
        batch[0]["image"][...] = -1  # the caller's own
        asked.update(rows.tolist())
    info = cache.info()
    assert info.hits + info.misses == asked.total()
    assert info.misses == times.total()
    if batches:
        assert info.most_rows == min(room, N)
        assert info.rows <= info.most_rows
        assert info.num_bytes == info.rows * (OF_ROW - 1) <= info.most_bytes
    of_all = RowCache(N, room * OF_ROW + HEAD)
    for _ in range(2):
        for start in range(0, N, 8):
            rows = np.arange(start, start + 8)
            assert_same(of_all.load(rows, reading(), np.empty), rows)
    kept = min(room, N)  # in the second epoch these are found
    assert of_all.info()[:4] == (kept, 2 * N - kept, kept, kept)


@pytest.mark.parametrize("num_rows", [10**6, 10**13, 2**62])
def test_no_two_rows_of_very_many_have_one_place(num_rows):
    cache = RowCache(num_rows, 10**6)
    asked = np.linspace(0, num_rows - 1, 5000).astype(np.int64).clip(0, num_rows - 1)
    asked = np.concatenate([asked, np.arange(5000), num_rows - 1 - np.arange(5000)])
    for _ in range(2):
        for rows in np.split(asked, 30):
            np.testing.assert_array_equal(cache.load(rows, lambda rows: rows, np.empty), rows)
    assert cache.info().rows <= cache.info().most_rows


def test_batches_lie_in_the_memory_that_they_are_given():
    cache, made = RowCache(N, 10**6), []

    def empty(shape, dtype):
        made.append(np.empty(shape, dtype))
        return made[-1]

    rows = np.arange(10)
    cache.load(rows, reading(), empty)
    assert made == []
    for asked in (rows, rows + 5):  # found, and found in part
        batch = cache.load(asked, reading(), empty)
        assert_same(batch, asked)
        assert batch[0]["image"] is made[-2]
        assert batch[1] is made[-1]


def test_threads_share_it():
    cache, together = RowCache(N, 10**6), threading.Barrier(4)

    def ask(seed):
        together.wait(10)
        for rows in np.random.default_rng(seed).integers(0, N, (50, 7)):
            assert_same(cache.load(rows, reading(), np.empty), rows)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert cache.info().rows == N


def test_a_load_that_fails_keeps_nothing():
    cache = RowCache(N, 10**6)
    cache.load(np.arange(5), reading(), np.empty)

    def fails(rows):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        cache.load(np.arange(3, 8), fails, np.empty)
    assert cache.info().rows == 5
    assert_same(cache.load(np.arange(3, 8), reading(), np.empty), np.arange(3, 8))


def test_a_copy_shares_the_memory_and_one_from_another_run_begins_with_none():
    cache = RowCache(N, 10**6)
    cache.load(np.arange(N), reading(), np.empty)
    sent = pickle.dumps(cache)
    for twin in (copy.deepcopy(cache), pickle.loads(sent)):
        times = Counter()
        assert_same(twin.load(np.arange(N), reading(times), np.empty), np.arange(N))
        assert not times
    assert cache.info().hits == 2 * N
    del cache, twin
    alone, times = pickle.loads(sent), Counter()
    assert_same(alone.load(np.arange(N), reading(times), np.empty), np.arange(N))
    assert times.total() == N
    assert alone.info()[:2] == (0, N)


@pytest.fixture
def switching():
    """Threads take turns after any few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@needs_linux
@pytest.mark.parametrize("is_known", [False, True])
def test_threads_go_on_while_it_moves_to_memory_that_processes_share(is_known, switching):
    draw = np.random.default_rng(0)
    for _ in range(30):
        cache, asked = RowCache(N, 10**6), 0
        if is_known:
            cache.load(np.arange(3), reading(), np.empty)
            asked = 3
        batches = [draw.integers(0, N, 5) for _ in range(40)]
        with ThreadPoolExecutor(5) as pool:
            load = partial(cache.load, load=reading(), empty=np.empty)
            made = [pool.submit(load, rows) for rows in batches[:20]]
            send = partial(pool.submit, lambda each: pickle.loads(pickle.dumps(each)), cache)
            twins = [send(), send()]
            made += [pool.submit(load, rows) for rows in batches[20:]]
            for batch, rows in zip(made, batches, strict=True):
                assert_same(batch.result(), rows)
        assert sum(cache.info()[:2]) == asked + 5 * len(batches)
        cache.load(np.arange(N), reading(), np.empty)
        for twin in twins:  # of the same memory
            times = Counter()
            assert_same(twin.result().load(np.arange(N), reading(times), np.empty), np.arange(N))
            assert not times


@needs_linux
def test_a_batch_that_is_first_while_the_memory_moves_is_kept_there(monkeypatch):
    cache, times = RowCache(N, 10**6), Counter()
    twins = []

    def move(*arguments):  # after it was laid out
        twins.append(pickle.loads(pickle.dumps(cache)))

    monkeypatch.setattr(cache, "_compare", move)
    for _ in range(2):
        cache.load(np.arange(N), reading(), np.empty)
    (twin,) = twins
    assert_same(twin.load(np.arange(N), reading(times), np.empty), np.arange(N))
    assert not times


@needs_linux
def test_the_memory_is_shared_when_a_process_is_to_read_it():
    """A copy in this process leaves it where it is."""
    cache = RowCache(N, 10**6)
    assert copy.deepcopy(cache) is cache
    assert cache._descriptor is None
    pickle.dumps(cache)
    assert cache._descriptor is not None


@needs_linux
@pytest.mark.parametrize(
    ("chosen", "is_shared"),
    [
        ({"workers": 0}, False),
        ({"workers": 2}, False),
        ({"workers": 2, "use_multiprocessing": True}, True),
        ({"workers": "auto"}, True),
    ],
)
def test_processes_that_are_expected_find_it_shared(chosen, is_shared):
    cache = core_of(Slides(cache="1 MB", **chosen)).cache
    assert (cache._descriptor is not None) == is_shared


def test_room_that_the_machine_does_not_have_may_be_said():
    cache = RowCache(N, 10**13)
    cache.load(np.arange(N), reading(), np.empty)
    assert cache.info().rows == N


COUNT = itertools.count()


class Pair(NamedTuple):
    x: Any
    y: Any


def test_a_nesting_of_the_users_own_class_comes_back_as_it_was():
    cache = RowCache(N, 10**6)
    for _ in range(2):
        found = cache.load(np.arange(4), lambda rows: Pair(X[rows], {"y": Y[rows]}), np.empty)
        assert type(found) is Pair
        np.testing.assert_array_equal(found.y["y"], Y[:4])


def test_without_shared_memory_it_is_for_threads(monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.setattr(row_cache, "IS_SHARED", False)
    cache = RowCache(N, 10**6)
    for _ in range(2):
        assert_same(cache.load(np.arange(N), reading(), np.empty), np.arange(N))
    assert cache.info()[:3] == (N, N, N)
    assert pickle.loads(pickle.dumps(cache)).info()[:3] == (0, 0, 0)
    monkeypatch.setattr(cache_setting, "IS_SHARED", False)
    assert Slides(cache="1 MB", workers=2).cache_info().rows == 0
    with pytest.raises(InvalidArgumentError) as caught:
        Slides(cache="1 MB", workers=2, use_multiprocessing=True)
    assert str(caught.value) == (
        "cache was given with use_multiprocessing=True, and on this system each process would "
        "have one of its own; expected threads, or a folder. Say use_multiprocessing=False, or "
        "cache=pathlib.Path('decoded')."
    )


# --- in a dataset ------------------------------------------------------------------------------


class Logged:
    """Reads a file, and notes each row in a log that all processes append to."""

    def __init__(self, log):
        self.log = log

    def __call__(self, path):
        with open(self.log, "ab") as log:
            log.write(b".")
        return np.fromfile(path, "float32").reshape(2, 3)

    def times(self):
        return os.path.getsize(self.log)


def brightened(batch):
    x, y = batch
    x += 1  # the batch is ours: what is cached must not change
    return x, y


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    found = [folder / f"{number}.raw" for number in range(N)]
    for path, value in zip(found, X, strict=True):
        value.tofile(path)
    return found


@pytest.mark.parametrize("workers", [0, 2, "processes"])
def test_a_second_epoch_reads_no_file(paths, tmp_path, workers):
    read = Logged(tmp_path / "log")
    given = {"workers": workers}
    if workers == "processes":
        given = {"workers": 2, "use_multiprocessing": True}
    given |= {"batch_size": 7, "seed": 0, "transform": brightened}
    files = sources.Files(paths, read, shape=(2, 3), dtype="float32")
    expected = ArrayDataset(X, Y, **given | {"workers": 0, "use_multiprocessing": False})
    dataset = ArrayDataset(files, Y, cache="1 MB", **given)
    times = []
    for epoch in range(4):
        for (x, y), (other_x, other_y) in zip(dataset, expected, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)
        if epoch == 2:
            dataset.close()  # workers of the last epoch are new, and find what the others kept
        times.append(read.times())
        assert dataset.cache_info().rows == N
    dataset.close()
    # Batches made ahead may have read what another process was reading.
    assert N <= times[0] <= times[1] <= (N if workers != "processes" else 2 * N)
    assert times[1:] == [times[1]] * 3


def test_parts_of_a_split_share_it_and_each_reads_its_rows_once(paths, tmp_path):
    read = Logged(tmp_path / "log")
    files = sources.Files(paths, read, shape=(2, 3), dtype="float32")
    parts = ArrayDataset(files, seed=0, cache="1 MB", workers=0).split(0.5)
    for _ in range(2):
        for part in (*parts, parts[0].shard(0, 2)):
            for step in range(len(part)):
                part[step]
    assert read.times() == N
    assert parts[0].cache_info() == parts[1].cache_info()


class Slides(BatchDataset):
    """A loader of one's own, whose samples are changed by `what`."""

    def __init__(self, what=None, **given):
        super().__init__(N, **{"workers": 0, "batch_size": 8, "seed": 0} | given)
        self.what = what

    def load(self, rows):
        if self.what == "lengths":
            return X[rows, :, : 1 + int(rows.max()) % 3], Y[rows]
        if self.what == "objects":
            return X[rows].astype(object), Y[rows]
        if self.what == "lists":
            return X[rows], [0] * len(rows)
        if self.what == "nestings":
            return (X[rows], Y[rows]) if 0 in rows else X[rows]
        if self.what == "impure":
            return X[rows] + np.float32(next(COUNT)), Y[rows]
        return X[rows], Y[rows]


def test_the_checker_is_content_and_still_sees_what_the_cache_would_hide():
    """Its copies have no cache."""
    assert not check_dataset(Slides(cache="1 MB")).findings
    told = str(check_dataset(Slides("impure", cache="1 MB")))
    assert "a_batch_is_the_same_when_read_again" in told


def test_a_dataset_tells_its_cache():
    assert ", cache='8.5 MB'," in repr(Slides(cache=8_500_000))
    assert Slides(cache=0.001).cache_info().most_bytes > 10_000
    with pytest.raises(InvalidArgumentError) as caught:
        Slides().cache_info()
    assert str(caught.value) == (
        "Slides was made without a cache; expected one. Give it cache='8 GB' as it is made."
    )


# --- refusals ----------------------------------------------------------------------------------

ALIKE = (
    "expected samples that are alike, since cache= keeps them one by one. A sample must not depend "
    "on which others are in its batch: pad to one length, or leave cache out."
)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("lengths", ALIKE),
        ("nestings", ALIKE),
        (
            "objects",
            "load(rows)[0] is ndarray of shape (8, 2, 3) and dtype object; expected a NumPy array "
            "of numbers or text with 8 rows, since cache= keeps it row by row. Convert it "
            "(`np.asarray`), or leave cache out.",
        ),
        (
            "lists",
            "load(rows)[1][0] is 0 (int); expected a NumPy array of numbers or text with 8 rows, "
            "since cache= keeps it row by row. Convert it (`np.asarray`), or leave cache out.",
        ),
    ],
)
def test_samples_that_can_t_be_kept_are_refused(what, told):
    with pytest.raises(InvalidBatchError) as caught:
        list(Slides(what, cache="1 MB"))
    assert str(caught.value).endswith(told)


def test_samples_of_another_process_are_compared():
    first = RowCache(N, 10**6)
    second = pickle.loads(pickle.dumps(first))
    second._told = lambda: None  # it began before the other had told
    first.load(np.arange(4), lambda rows: X[rows], np.empty)
    with pytest.raises(InvalidBatchError) as caught:
        second.load(np.arange(4), lambda rows: X[rows, 0], np.empty)
    assert str(caught.value) == (
        "load(rows) returned ndarray of shape (4, 3) and dtype float32, with samples of other "
        f"shapes or dtypes than in another worker process; {ALIKE}"
    )


def test_a_cache_without_room_for_a_sample_is_refused():
    with pytest.raises(InvalidArgumentError) as caught:
        Slides(cache=100)[0]
    assert str(caught.value) == (
        "cache has 100 bytes, and a sample takes 33; expected room for many. Say cache='8 GB', or "
        "leave it out."
    )


class Drawn(BatchDataset):
    def load(self, rows, rng):
        return X[rows]


class Whole(BatchDataset):
    def __getitem__(self, index):
        return X[:3]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: Drawn(N, cache="1 MB"),
            "cache was given to Drawn, which has load(rows, rng); expected load(rows), whose "
            "samples depend on their rows alone. Draw random numbers in augment(batch, rng).",
        ),
        (
            lambda: Whole(N, cache="1 MB"),
            "cache was given to Whole, which overrides __getitem__ and so returns finished "
            "batches; expected load(rows), whose samples can be changed, weighed, padded and kept. "
            "Override that instead.",
        ),
        (
            lambda: ArrayDataset(X, Y, cache="1 MB"),
            "cache was given, and all data are arrays in memory; expected data that are read from "
            "files or by a function. Leave cache out: the arrays are the cache.",
        ),
    ],
    ids=["draws", "whole batches", "in memory"],
)
def test_what_can_t_be_cached_is_refused(make, told):
    with pytest.raises(InvalidArgumentError) as caught:
        make()
    assert str(caught.value) == told
