"""`ChunkCache`: the rows of any chunks, decoded once by whoever is first."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.sources.chunk_cache import ChunkCache

ROWS = 97
X = np.arange(ROWS * 3, dtype="int16").reshape(ROWS, 3)


def decode(number: int, into: Any) -> None:
    rows = X[number * len(into) : (number + 1) * len(into)]
    into[: len(rows)] = rows


def gathered(cache: ChunkCache, rows: Any, decode: Callable[..., None] = decode) -> Any:
    rows = np.asarray(rows, np.int64)
    out = np.empty((len(rows), 3), X.dtype)
    cache.gather(rows, out, decode)
    return out


def new(chunks: int, rows: int) -> ChunkCache:
    return ChunkCache(chunks, rows, (3,), X.dtype)


@settings(deadline=None)
@given(data=st.data())
def test_rows_are_those_of_the_chunks_whatever_is_kept(data: st.DataObject) -> None:
    cache = new(data.draw(st.integers(1, 8)), data.draw(st.integers(1, 40)))
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(st.lists(st.integers(0, ROWS - 1), max_size=30))
        np.testing.assert_array_equal(gathered(cache, rows), X[rows])
        if data.draw(st.booleans()):
            cache.forget()


def test_a_chunk_is_decoded_once_while_there_is_room_for_what_was_used_since() -> None:
    times: Counter[int] = Counter()

    def counted(number: int, into: Any) -> None:
        times[number] += 1
        decode(number, into)

    cache = new(3, 10)
    for rows in ([1, 11, 21], [2, 12], [31], [1, 11]):  # chunk 2 makes room for chunk 3
        gathered(cache, rows, counted)
    assert times == {0: 1, 1: 1, 2: 1, 3: 1}
    assert cache.has(np.arange(5)).tolist() == [True, True, False, True, False]
    gathered(cache, np.arange(ROWS), counted)  # more than there is room for
    assert max(times.values()) == 2
    cache.forget()
    assert not cache.has(np.arange(5)).any()
    gathered(cache, [90], counted)
    assert times[9] == 2


@pytest.mark.parametrize("chunks", [1, 3, 10])
def test_threads_get_their_rows_at_the_same_time(chunks: int) -> None:
    cache, all_ask, wrong = new(chunks, 10), threading.Barrier(4), []
    times: Counter[int] = Counter()

    def counted(number: int, into: Any) -> None:
        times[number] += 1
        decode(number, into)

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        all_ask.wait()
        for _ in range(50):
            rows = rng.integers(0, ROWS, 12)
            if (gathered(cache, rows, counted) != X[rows]).any():
                wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    if chunks == 10:
        assert set(times.values()) == {1}


def test_if_one_fails_another_that_waits_decodes_the_chunk() -> None:
    cache, is_decoding, may_fail = new(2, 10), threading.Event(), threading.Event()
    found: list[Any] = []

    def fails(number: int, into: Any) -> None:
        is_decoding.set()
        may_fail.wait()
        raise OSError("gone")

    def first() -> None:
        with pytest.raises(OSError, match="gone"):
            gathered(cache, [3], fails)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    is_decoding.wait()
    threads.append(threading.Thread(target=lambda: found.append(gathered(cache, [4]))))
    threads[1].start()
    may_fail.set()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found[0], X[[4]])
    np.testing.assert_array_equal(gathered(cache, [55, 3]), X[[55, 3]])  # no slot is lost


def test_nobody_waits_for_room() -> None:
    cache = new(1, 10)

    def asks_too(number: int, into: Any) -> None:
        np.testing.assert_array_equal(gathered(cache, [95, 12]), X[[95, 12]])
        decode(number, into)

    np.testing.assert_array_equal(gathered(cache, [3], asks_too), X[[3]])


def test_what_is_prepared_makes_room_of_what_is_not_needed() -> None:
    cache = new(2, 10)
    gathered(cache, [3])
    gathered(cache, [13])
    cache.expect(np.array([0, 2, 7]), until=20)
    cache.prepare(2, decode)
    assert cache.has(np.arange(3)).tolist() == [True, False, True]
    cache.prepare(2, pytest.fail)  # it is there
    np.testing.assert_array_equal(gathered(cache, [29, 5], pytest.fail), X[[29, 5]])
    cache.expect(np.array([2]), until=30)
    cache.expect(np.array([2]), until=10)  # by a thread that is behind
    gathered(cache, [3])
    gathered(cache, [73])
    assert cache.has(np.array([0, 2, 7])).tolist() == [False, True, True]
    cache.forget()
    for row in (23, 33, 43):
        gathered(cache, [row])
    assert not cache.has(np.array([2]))[0]  # in a new pass nothing is known to be needed


def test_a_copy_keeps_chunks_of_its_own() -> None:
    cache = new(2, 10)
    gathered(cache, [3])
    other = pickle.loads(pickle.dumps(cache))
    assert other.has(np.array([0])).tolist() == [False]
    np.testing.assert_array_equal(gathered(other, [3]), X[[3]])


def test_objects_and_rows_without_a_byte_are_kept_too() -> None:
    objects = ChunkCache(2, 2, (), np.dtype(object))

    def texts(number: int, into: Any) -> None:
        into[:] = [f"row {2 * number}", f"row {2 * number + 1}"]

    out = np.empty(3, object)
    objects.gather(np.array([5, 0, 5]), out, texts)
    assert out.tolist() == ["row 5", "row 0", "row 5"]
    assert not objects.can_be_shared
    nothing = ChunkCache(2, 2, (0,), np.dtype("int8"))
    nothing.gather(np.array([5, 0]), np.empty((2, 0), "int8"), lambda number, into: None)
    assert not nothing.can_be_shared
