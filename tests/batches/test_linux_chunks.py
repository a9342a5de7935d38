"""A `ChunkCache` of several processes: decoded by one, whoever dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from keras_npbatch.batches.row_cache import IS_SHARED
from keras_npbatch.sources.chunk_cache import ChunkCache

if not IS_SHARED:
    pytest.skip("processes share decoded chunks on Linux", allow_module_level=True)
from keras_npbatch.batches.linux_chunks import Sent, new_shared, open_shared

X = np.arange(100, dtype="int64")


@contextlib.contextmanager
def sent(chunks: int) -> Iterator[Sent]:
    with contextlib.ExitStack() as opened:
        yield new_shared(ChunkCache(chunks, 10, (), X.dtype), opened)


def gathered(cache: ChunkCache, rows: Any, times: Counter[int] | None = None) -> Any:
    def decode(number: int, into: Any) -> None:
        if times is not None:
            times[number] += 1
        into[:] = X[number * 10 : (number + 1) * 10]

    out = np.empty(len(rows), X.dtype)
    cache.gather(np.asarray(rows, np.int64), out, decode)
    return out


@pytest.mark.parametrize("chunks", [1, 3, 10])
def test_each_that_has_opened_it_gets_its_rows(chunks: int) -> None:
    # Each has an open file and a map of its own: to the system, the same as other processes.
    all_ask, wrong = threading.Barrier(4), []
    times: Counter[int] = Counter()

    def ask(seed: int) -> None:
        cache, rng = open_shared(*memory), np.random.default_rng(seed)
        all_ask.wait()
        for _ in range(30):
            rows = rng.integers(0, 100, 12)
            if (gathered(cache, rows, times) != X[rows]).any():
                wrong.append(rows)

    with sent(chunks) as memory:
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    if chunks == 10:
        assert times == dict.fromkeys(range(10), 1)


def test_what_is_read_in_one_pass_is_read_again_in_the_next() -> None:
    times: Counter[int] = Counter()
    with sent(4) as memory:
        caches = [open_shared(*memory) for _ in range(2)]
        for cache, number in zip([*caches, *caches], [1, 1, 2, 2], strict=True):
            cache.forget(number)
            gathered(cache, [3, 47], times)
    assert times == {0: 2, 4: 2}


def test_a_thread_does_not_open_the_directory_that_another_one_has_closed() -> None:
    """Whoever says what it expects is in no call, where the threads of a process take turns."""
    with sent(2) as memory:
        cache, other = (open_shared(*memory) for _ in range(2))
        threads = [
            threading.Thread(target=each.expect, args=(np.arange(2), 10)) for each in (cache, other)
        ]
        with cache._holds.alone():
            for thread in threads:
                thread.start()
                thread.join(0.1)
            assert all(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join()


_DECODES_FOR_EVER = """
import sys, time, numpy as np
from keras_npbatch.batches.linux_chunks import open_shared
pid, descriptor = map(int, sys.argv[1:])
settings = {"chunks": 2, "rows": 10, "shape": (), "dtype": np.dtype("int64")}
cache = open_shared(pid, descriptor, settings)
def decode(number, into):
    into[:5] = -1
    print("decodes", flush=True)
    if number == 4:
        time.sleep(600)
cache.gather(np.array([3, 47]), np.empty(2, "int64"), decode)
"""


def test_what_a_killed_process_was_decoding_is_decoded_by_one_that_waits() -> None:
    with sent(2) as memory:
        other = subprocess.Popen(
            [sys.executable, "-c", _DECODES_FOR_EVER, *map(str, memory[:2])],
            stdout=subprocess.PIPE,
        )
        assert other.stdout is not None
        with other, other.stdout as said:
            assert [said.readline(), said.readline()] == [b"decodes\n"] * 2
            cache = open_shared(*memory)
            # It reads from one chunk and decodes into the other: there is no room, and no wait.
            np.testing.assert_array_equal(gathered(cache, [99]), X[[99]])
            found: list[Any] = []
            waits = threading.Thread(target=lambda: found.append(gathered(cache, [41, 42])))
            waits.start()
            os.kill(other.pid, signal.SIGKILL)
            waits.join()
        np.testing.assert_array_equal(found[0], X[[41, 42]])
        assert gathered(cache, [1, 99]).tolist() == [-1, 99]  # -1: of what the other has decoded
        assert cache.has(np.array([0, 9])).all()


def test_if_the_memory_is_gone_each_process_decodes_its_own() -> None:
    with sent(2) as memory:
        pass
    cache = open_shared(*memory)
    np.testing.assert_array_equal(gathered(cache, [41, 42]), X[[41, 42]])


def test_nothing_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with sent(2) as memory:
        cache = open_shared(*memory)
        gathered(cache, [1])
    del cache
    assert len(os.listdir("/proc/self/fd")) == before
