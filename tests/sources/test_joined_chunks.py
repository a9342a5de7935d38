"""Joined chunks: rows are taken from where they are, and their memory is not used too early."""

from __future__ import annotations

import pickle
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.sources.joined_chunks import JoinedChunks

LENGTHS = [3, 1, 4, 2, 5]
STARTS = np.cumsum([0, *LENGTHS])
FIELDS = [("row", np.dtype("i8"), ()), ("pair", np.dtype("i4"), (2,))]


def of(rows):
    return np.searchsorted(STARTS, rows, side="right") - 1


def new(joined, number, most=15):
    chunk = joined.new(number, most)
    chunk.records["row"] = np.arange(STARTS[number], STARTS[number + 1])
    chunk.records["pair"] = np.stack([chunk.records["row"], -chunk.records["row"]], 1)
    return chunk


NUMBERS = st.sets(st.integers(0, 4))


@given(
    shown=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4),
    rows=st.lists(st.integers(0, int(STARTS[-1]) - 1), max_size=8),
)
def test_rows_are_taken_if_their_chunks_are_shown(shown, rows):
    joined, rows, chunks = JoinedChunks(STARTS, FIELDS), np.array(rows, np.int64), {}
    for kept, added in shown:
        joined.drop(kept.__contains__)
        chunks = {number: chunk for number, chunk in chunks.items() if number in kept}
        more = {number: chunks.get(number) or new(joined, number) for number in added}
        joined.show(more, joined.times_forgotten)
        chunks |= more
    found = joined.take(rows, of(rows))
    assert (found is not None) == (bool(chunks) and set(of(rows).tolist()) <= set(chunks))
    if found is not None:
        assert found["row"].tolist() == rows.tolist()
        assert found["pair"].tolist() == [[row, -row] for row in rows.tolist()]
        assert joined.take(rows, of(rows), found) is found


@given(st.lists(st.integers(0, 4)))
def test_memory_is_that_of_chunks_that_are_gone(numbers):
    joined, chunks = JoinedChunks(STARTS, FIELDS), {}
    for number in numbers:
        chunks.pop(number, None)
        joined.drop(chunks.__contains__)
        chunks[number] = new(joined, number)
        joined.show({number: chunks[number]}, joined.times_forgotten)
        rows = np.concatenate([np.arange(STARTS[each], STARTS[each + 1]) for each in chunks])
        assert joined.take(rows, of(rows))["row"].tolist() == rows.tolist()
        assert all(chunk.block is not None for chunk in chunks.values())
        ends = [chunk.begin + len(chunk.records) for chunk in chunks.values()]
        assert max(ends) <= 15 + 2 * 5


def test_a_chunk_has_memory_of_its_own_if_there_is_no_room():
    joined = JoinedChunks(STARTS, FIELDS)
    held = [new(joined, 4, most=5) for _ in range(12)]
    assert [chunk.block is None for chunk in held] == [False] * 9 + [True] * 3
    assert all(chunk.records["row"].tolist() == [10, 11, 12, 13, 14] for chunk in held)
    joined.show({4: held[-1]}, joined.times_forgotten)
    assert joined.take(np.array([10]), np.array([4])) is None
    del held
    assert new(joined, 4, most=5).begin == 0
    larger = new(joined, 0)  # more are to be kept: a new block
    joined.show({0: larger}, joined.times_forgotten)
    assert joined.take(np.array([2]), np.array([0]))["row"] == [2]


def test_what_is_not_kept_is_dropped_and_nothing_is_sent():
    joined = JoinedChunks(STARTS, FIELDS)
    joined.show({number: new(joined, number) for number in (0, 3)}, joined.times_forgotten)
    rows = np.array([0, 8])
    assert joined.take(rows, of(rows))["row"].tolist() == [0, 8]
    assert pickle.loads(pickle.dumps(joined)).take(rows, of(rows)) is None
    joined.drop({3}.__contains__)
    assert joined.take(rows, of(rows)) is None
    assert joined.take(rows[1:], of(rows[1:]))["row"].tolist() == [8]
    joined.forget()
    assert joined.take(rows[1:], of(rows[1:])) is None


def test_threads_take_what_was_shown_while_others_replace_it():
    starts = np.arange(0, 80_001, 10_000)
    joined, ended, wrong = (
        JoinedChunks(starts, [("row", np.dtype("i8"), ())]),
        threading.Event(),
        [],
    )

    def fill(number):
        chunk = joined.new(number, 10_000)
        chunk.records["row"] = np.arange(starts[number], starts[number + 1])
        joined.drop({}.__contains__)
        joined.show({number: chunk}, joined.times_forgotten)

    def take(number):
        rows = np.random.default_rng(number).permutation(10_000) + starts[number]
        numbers = rows // 10_000
        while not ended.is_set():
            found = joined.take(rows, numbers)
            if found is not None and not np.array_equal(found["row"], rows):
                wrong.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for turn in range(2000):
        fill(turn % 8)
    ended.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_chunks_of_an_earlier_epoch_are_not_shown():
    joined = JoinedChunks(STARTS, FIELDS)
    before, chunk = joined.times_forgotten, new(joined, 2)
    joined.forget()
    joined.show({2: chunk}, before)
    assert joined.take(np.array([5]), np.array([2])) is None
    joined.show({2: chunk}, joined.times_forgotten)
    assert joined.take(np.array([5]), np.array([2]))["row"].tolist() == [5]
