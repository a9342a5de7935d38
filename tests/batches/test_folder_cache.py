"""`FolderCache`: rows in a folder, which later runs find, and never those of other data."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, sources
from keras_npbatch.batches import cache_setting, row_cache
from keras_npbatch.batches.cache_file import read_head
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.folder_cache import FolderCache
from keras_npbatch.errors import InvalidArgumentError

N = 40
X = np.arange(N * 6, dtype="float32").reshape(N, 2, 3)
Y = np.arange(N) % 3
OF_ROW = X[0].nbytes + Y[0].nbytes + 4
"""Bytes that a row takes, with its checksum."""
LOST = 3 * 64
"""Bytes that are lost to alignment."""
COMPARED = 8
"""Rows that each run reads again to compare them."""
DATA = {"dataset": "test"}


def reading(times=None, x=X):
    def load(rows):
        if times is not None:
            times.update(rows.tolist())
        return {"image": x[rows]}, Y[rows]

    return load


def assert_same(batch, rows):
    np.testing.assert_array_equal(batch[0]["image"], X[rows])
    np.testing.assert_array_equal(batch[1], Y[rows])
    assert batch[0]["image"].dtype == X.dtype


def filled(path):
    """A folder in which an earlier run left all rows."""
    FolderCache(N, path, None, DATA).load(np.arange(N), reading(), np.empty)
    return path


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=12), max_size=5), max_size=4
    ),
    room=st.one_of(st.none(), st.integers(1, N + 3)),
)
def test_later_runs_find_what_was_kept_and_give_the_same_batches(tmp_path_factory, runs, room):
    path = tmp_path_factory.mktemp("cache")
    most_bytes = None if room is None else room * OF_ROW + LOST
    kept = set()
    for batches in runs:
        cache, times = FolderCache(N, path, most_bytes, DATA), Counter()
        compared = min(COMPARED, len(kept)) if batches else 0
        for rows in batches:
            rows = np.array(rows, np.int64)
            batch = cache.load(rows, reading(times), np.empty)
            assert_same(batch, rows)
            batch[0]["image"][...] = -1  # the caller's own
        if batches:
            info = cache.info()
            assert info.misses == times.total() - compared
            assert info.hits + info.misses == sum(map(len, batches))
            assert info.most_rows == min(room or N, N)
            assert info.rows <= info.most_rows
            if room is None or room >= N:
                kept |= {row for rows in batches for row in rows}
                assert info.rows == len(kept)
            else:
                kept = range(info.rows)
    assert set(os.listdir(path)) <= {"rows.cache"}
    if most_bytes is not None and kept:
        assert (path / "rows.cache").stat().st_size <= most_bytes + 1024  # with its head


def test_a_second_run_reads_a_few_rows_to_compare_them(tmp_path):
    filled(tmp_path)
    cache, times = FolderCache(N, tmp_path, None, DATA), Counter()
    for start in range(0, N, 8):
        rows = np.arange(start, start + 8)
        assert_same(cache.load(rows, reading(times), np.empty), rows)
    assert cache.info() == (N, 0, N, N, N * (OF_ROW - 4), None)
    assert times.total() == COMPARED
    assert {0, N - 1} <= set(times)


def test_threads_and_runs_at_once_share_it(tmp_path):
    together = threading.Barrier(4)

    def run(seed):
        together.wait(10)
        cache = FolderCache(N, tmp_path, None, DATA)
        for rows in np.random.default_rng(seed).integers(0, N, (50, 7)):
            assert_same(cache.load(rows, reading(), np.empty), rows)
        return cache

    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(run, range(4)))
    assert {cache.info().rows for cache in caches} == {N}
    assert os.listdir(tmp_path) == ["rows.cache"]


# --- crashes and damage ------------------------------------------------------------------------

CRASHES = """
import os, signal, sys
from pathlib import Path
import numpy as np
from keras_npbatch.batches.folder_cache import FolderCache

X = np.arange(40 * 6, dtype="float32").reshape(40, 2, 3)
Y = np.arange(40) % 3
left = int(sys.argv[2])
pwrite = os.pwrite

def counted(*given):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return pwrite(*given)

os.pwrite = counted
cache = FolderCache(40, Path(sys.argv[1]), None, {"dataset": "test"})
cache.load(np.arange(40), lambda rows: ({"image": X[rows]}, Y[rows]), np.empty)
"""


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="Windows writes through the memory map")
@pytest.mark.parametrize("writes", [2, 50])
def test_a_run_that_is_killed_leaves_whole_rows(tmp_path, writes):
    done = subprocess.run([sys.executable, "-c", CRASHES, tmp_path, str(writes)], check=False)
    assert done.returncode == -signal.SIGKILL
    cache, times = FolderCache(N, tmp_path, None, DATA), Counter()
    assert_same(cache.load(np.arange(N), reading(times), np.empty), np.arange(N))
    assert cache.info()[:3] == (writes // 3, N - writes // 3, N)  # three writes a row


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_found(tmp_path_factory, data):
    path = filled(tmp_path_factory.mktemp("cache"))
    file = path / "rows.cache"
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(bytes(damaged))
    if at < 8:  # the bytes that say what it is
        with pytest.raises(InvalidArgumentError, match=r"whose file rows\.cache is no cache"):
            FolderCache(N, path, None, DATA)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cache = FolderCache(N, path, None, DATA)
        for _ in range(2):
            assert_same(cache.load(np.arange(N), reading(), np.empty), np.arange(N))
    assert cache.info().rows == N
    assert len(told) <= 1
    if told:  # otherwise nobody reads that byte
        assert "is damaged" in str(told[0].message)
        assert file.read_bytes() == whole
    assert bool(told) == (cache.info().misses > 0)


def test_a_damaged_row_is_told_and_read_anew(tmp_path):
    file = filled(tmp_path) / "rows.cache"
    content = file.read_bytes()
    file.write_bytes(content.replace(X[7].tobytes(), X[8].tobytes()))
    cache, times = FolderCache(N, tmp_path, None, DATA), Counter()
    with pytest.warns(UserWarning, match="damaged") as told:
        assert_same(cache.load(np.arange(N), reading(times), np.empty), np.arange(N))
    assert str(told[0].message) == (
        f"row 7 in the cache in {tmp_path} is damaged: it is read anew. No further warning "
        "follows. After a crash of the system some rows may be so; if not, the disk may be failing."
    )
    assert cache.info()[:3] == (N - 1, 1, N)
    assert file.read_bytes() == content  # it is whole again


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[:10], "its head is cut off"),
        (lambda content: content[:30], "its head is not what was written"),
        (lambda content: content[:-5], "instead of"),
        (lambda content: content.replace(b"test", b"best"), "its head is not what was written"),
    ],
    ids=["no head", "half a head", "cut off", "changed"],
)
def test_a_damaged_file_is_made_anew(tmp_path, damage, told):
    file = filled(tmp_path) / "rows.cache"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(
        UserWarning, match=f"^the cache in .* is damaged .*{told}.* and is made anew"
    ):
        cache = FolderCache(N, tmp_path, None, DATA)
    assert_same(cache.load(np.arange(N), reading(), np.empty), np.arange(N))
    assert cache.info()[:3] == (0, N, N)


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="there, a long file has its disk beforehand")
def test_a_full_disk_ends_no_run(tmp_path):
    import resource

    cache, other = (FolderCache(N, tmp_path / name, None, DATA) for name in "ab")
    cache.load(np.arange(2), reading(), np.empty)
    file = tmp_path / "a" / "rows.cache"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size // 2, limits[1]))
    try:
        with pytest.warns(UserWarning, match="takes no more rows") as told:
            assert_same(cache.load(np.arange(N), reading(), np.empty), np.arange(N))
        assert_same(cache.load(np.arange(N), reading(), np.empty), np.arange(N))
        with pytest.raises(InvalidArgumentError, match=r"can't be used .*File too large"):
            other.load(np.arange(N), reading(), np.empty)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(told) == 1
    assert 2 <= cache.info().rows < N
    again = FolderCache(N, tmp_path / "a", None, DATA)
    assert_same(again.load(np.arange(N), reading(), np.empty), np.arange(N))
    assert again.info().rows == N


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="there, holes can't be told")
def test_what_is_read_before_it_is_written_has_its_pages(tmp_path):
    # To read a page that a full tmpfs lacks ends the process.
    num_rows = 10_000
    cache = FolderCache(num_rows, tmp_path, None, DATA)
    cache.load(np.arange(2), lambda rows: np.zeros((len(rows), 100)), np.empty)
    with (tmp_path / "rows.cache").open("rb") as file:
        hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
    assert hole >= 4 * num_rows
    assert hole < os.stat(tmp_path / "rows.cache").st_size  # rows take no disk before


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="there, a long file has its disk beforehand")
def test_on_a_full_disk_others_use_the_file_that_is_there(tmp_path):
    import resource

    cache = FolderCache(N, tmp_path, None, DATA)
    cache.load(np.arange(2), reading(), np.empty)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        other = pickle.loads(pickle.dumps(cache))
        with pytest.warns(UserWarning, match="takes no more rows"):
            assert_same(other.load(np.arange(N), reading(), np.empty), np.arange(N))
        assert other.info().rows == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_may_only_be_read_is_of_use(tmp_path, monkeypatch):
    FolderCache(N, tmp_path, None, DATA).load(np.arange(3), reading(), np.empty)
    opens = os.open

    def open_to_read(path, flags, *more, **named):  # the superuser may write, whatever it says
        if str(path).endswith("rows.cache") and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opens(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", open_to_read)
    cache, every = FolderCache(N, tmp_path, None, DATA), np.arange(N)
    assert_same(cache.load(np.arange(3), reading(), np.empty), np.arange(3))
    with pytest.warns(UserWarning, match=r"takes no more rows .*Permission denied"):
        assert_same(cache.load(every, reading(), np.empty), every)
    assert_same(cache.load(every, reading(), np.empty), every)
    assert cache.info()[:3] == (3 + 3 + 3, 2 * (N - 3), 3)


# --- whose rows they are -----------------------------------------------------------------------


def test_rows_of_other_data_are_refused(tmp_path):
    filled(tmp_path)
    with pytest.raises(InvalidArgumentError) as caught:
        FolderCache(N, tmp_path, None, {"dataset": "Slides"})
    assert str(caught.value) == (
        f"cache is the folder {tmp_path}, which has rows of other data (dataset: test, not "
        "Slides); expected a folder for each dataset. Name another folder, or delete this one."
    )
    cache = FolderCache(N, tmp_path, 3 * OF_ROW + LOST, DATA)
    with pytest.raises(
        InvalidArgumentError, match=r"room for 3 rows, .* for 40; expected the same"
    ):
        cache.load(np.arange(3), reading(), np.empty)
    cache = FolderCache(N, tmp_path, None, DATA)
    with pytest.raises(InvalidArgumentError, match=r"\(a sample: \[.*\], not \["):
        cache.load(np.arange(3), lambda rows: (X[rows], Y[rows]), np.empty)


@pytest.mark.parametrize("order", [range(N), range(N - 1, -1, -1)])
def test_other_values_are_refused_before_any_is_given(tmp_path, order):
    filled(tmp_path)
    cache = FolderCache(N, tmp_path, None, DATA)
    for row in order:  # again and again, not the first time alone
        with pytest.raises(InvalidArgumentError) as caught:
            cache.load(np.array([row]), reading(x=X + 1), np.empty)
    assert str(caught.value) == (
        f"cache is the folder {tmp_path}, in which row 0 has other values than load gives now; "
        "expected the same. The folder is of other data, or what reads them has changed, or it "
        "does not give the same each time. Name another folder, or delete this one."
    )

    def gone(rows):
        raise FileNotFoundError("a.jpg")

    with pytest.raises(InvalidArgumentError) as caught:
        cache.load(np.arange(3), gone, np.empty)
    assert str(caught.value) == (
        f"cache is the folder {tmp_path}, which has rows [0, 5, 11, 16, 22, 27, 33, 39], and they "
        "can't be read any more (FileNotFoundError: a.jpg); expected the data that it is of. Name "
        "another folder, or delete this one."
    )


def test_rows_that_are_kept_need_not_be_there_any_more(tmp_path):
    filled(tmp_path)
    cache, gone = FolderCache(N, tmp_path, None, DATA), {0, 16, 39}

    def load(rows, x=X):
        if gone & set(rows.tolist()):
            raise FileNotFoundError("a.jpg")
        return reading(x=x)(rows)

    with pytest.raises(InvalidArgumentError, match="row 5 has other values"):  # of those that are
        cache.load(np.arange(N), lambda rows: load(rows, X + 1), np.empty)
    assert_same(cache.load(np.arange(N), load, np.empty), np.arange(N))
    assert cache.info()[:3] == (N, 0, N)


def test_what_earlier_runs_kept_is_told_before_the_first_batch(tmp_path):
    path = filled(tmp_path)
    cache = FolderCache(N, path, None, DATA)
    assert cache.info() == (0, 0, N, N, N * (OF_ROW - 4), None)
    cache.load(np.arange(3), reading(), np.empty)
    assert cache.info() == (3, 0, N, N, N * (OF_ROW - 4), None)


def test_a_folder_that_is_no_cache_is_refused(tmp_path):
    (tmp_path / "rows.cache").write_text("my thesis")
    with pytest.raises(InvalidArgumentError) as caught:
        FolderCache(N, tmp_path, None, DATA)
    assert str(caught.value) == (
        f"cache is the folder {tmp_path}, whose file rows.cache is no cache: it does not begin as "
        "one; expected an empty folder, or one that was a cache before. Name another folder, or "
        "delete this one."
    )
    with pytest.raises(InvalidArgumentError, match=r"which can't be used \(.*\); expected one in"):
        FolderCache(N, tmp_path / "rows.cache", None, DATA)
    assert (tmp_path / "rows.cache").read_text() == "my thesis"


def test_its_file_runs_no_code(tmp_path):
    """All that is read of it is JSON and rows."""
    head = read_head(filled(tmp_path) / "rows.cache")
    assert json.loads(json.dumps(head)) == head
    assert b"\x80\x05" not in (tmp_path / "rows.cache").read_bytes()[:600]  # no pickle


# --- in a dataset ------------------------------------------------------------------------------


class Logged:
    """Reads a file, and notes it in a log that all processes append to."""

    def __init__(self, log):
        self.log = log

    def __call__(self, path):
        with open(self.log, "ab") as log:
            log.write(b".")
        return np.fromfile(path, "float32").reshape(2, 3)

    def times(self):
        return os.path.getsize(self.log)


def written(folder):
    folder.mkdir()
    paths = [folder / f"{number}.raw" for number in range(N)]
    for path, value in zip(paths, X, strict=True):
        value.tofile(path)
    return paths


@pytest.mark.parametrize("workers", [0, 2, "processes"])
def test_a_second_run_and_its_epochs_read_next_to_no_file(tmp_path, workers):
    read, paths = Logged(tmp_path / "log"), written(tmp_path / "data")
    given = {"batch_size": 7, "seed": 0, "workers": 2 if workers else 0}
    given |= {"use_multiprocessing": workers == "processes"}
    expected = ArrayDataset(X, Y, batch_size=7, seed=0, workers=0)
    times = []
    for _ in range(2):
        expected.set_epoch(0)
        files = sources.Files(paths, read, shape=(2, 3), dtype="float32")
        with ArrayDataset(files, Y, cache=tmp_path / "cache", **given) as dataset:
            for _ in range(2):
                for (x, y), (other_x, other_y) in zip(dataset, expected, strict=True):
                    np.testing.assert_array_equal(x, other_x)
                    np.testing.assert_array_equal(y, other_y)
                times.append(read.times())
            assert dataset.cache_info().rows == N
            if row_cache.IS_SHARED:
                assert dataset.cache_info().hits >= N
    first, second, third, fourth = times
    assert N <= first <= second <= (N if workers != "processes" else 2 * N)
    assert second <= third <= second + (COMPARED if workers == 0 else 2 * COMPARED)
    assert fourth == third


def test_a_file_that_was_written_again_is_noticed(tmp_path):
    paths = written(tmp_path / "data")

    def dataset():
        files = sources.Files(paths, Logged(tmp_path / "log"), shape=(2, 3), dtype="float32")
        return ArrayDataset(files, Y, batch_size=N, workers=0, cache=str(tmp_path / "cache"))

    list(dataset())
    list(dataset())
    (X[3] + 1).tofile(paths[3])
    with pytest.raises(InvalidArgumentError, match=r"has rows of other data \(x: \[\[40, 2, 3\]"):
        dataset()
    stamps = []
    for rows in (X, X, X[:-1]):
        if len(stamps) != 1:
            np.save(tmp_path / "a.npy", rows)
        stamps.append(sources.Concatenated([tmp_path / "a.npy", X]).stamp)
    assert stamps[0] == stamps[1] != stamps[2]


class Slides(BatchDataset):
    def __init__(self, **given):
        super().__init__(N, **{"workers": 0, "batch_size": 8, "seed": 0} | given)

    def load(self, rows):
        return X[rows], Y[rows]


def test_it_tells_its_folder_and_size(tmp_path):
    assert f", cache='{tmp_path}'," in repr(Slides(cache=tmp_path))
    assert f", cache=('{tmp_path}', '9 KB')," in repr(Slides(cache=(tmp_path, "9 KB")))
    assert Slides(cache=tmp_path).cache_info() == (0, 0, 0, None, 0, None)


def test_a_copy_and_a_pickle_use_the_same_folder(tmp_path):
    dataset = Slides(cache=tmp_path)
    list(dataset)
    for twin in (pickle.loads(pickle.dumps(dataset)), dataset.split(0.5)[0]):
        list(twin)
    assert dataset.cache_info().misses == N


def test_without_shared_memory_processes_may_use_a_folder(tmp_path, monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.setattr(row_cache, "IS_SHARED", False)
    monkeypatch.setattr(cache_setting, "IS_SHARED", False)
    monkeypatch.delattr(os, "pwrite", raising=False)

    def no_links(*paths):
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "link", no_links)
    dataset = Slides(cache=tmp_path, workers=2, use_multiprocessing=True)
    twin = pickle.loads(pickle.dumps(core_of(dataset).cache))
    times = Counter()

    def load(rows):
        times.update(rows.tolist())
        return X[rows], Y[rows]

    twin.load(np.arange(N), load, np.empty)
    third = pickle.loads(pickle.dumps(twin))
    third.load(np.arange(N), load, np.empty)
    assert third.info()[:3] == (N, 0, N)
    assert times.total() == N + COMPARED


def test_rows_that_cant_be_read_are_not_kept_and_the_folder_is_no_fault_of_a_row(tmp_path):
    failing = {3, 4}

    def load_sample(row):
        if row in failing:
            raise OSError("broken")
        return X[row], shift

    def dataset(**given):
        chosen = {"on_error": "set_aside", "max_set_aside": 1.0, "cache": tmp_path, "workers": 0}
        return SampleDataset(load_sample, num_samples=N, batch_size=8, seed=0, **chosen | given)

    shift = 0
    with pytest.warns(UserWarning, match="could not be read"):
        list(dataset())
    once = dataset()
    with pytest.warns(UserWarning, match="could not be read"):
        list(once)
    assert list(once.set_aside) == [3, 4]
    assert once.cache_info().rows == N - 2
    shift = 1
    other = dataset()
    with pytest.raises(InvalidArgumentError, match="has other values than load gives now"):
        list(other)
    assert other.set_aside == {}
    small = dataset(cache=20)
    with pytest.raises(InvalidArgumentError, match="expected room for many"):
        list(small)
    assert small.set_aside == {}
