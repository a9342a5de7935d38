"""`Order` and what orders are made of, each with a small one of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.plan.split import Selection
from keras_npbatch.samplers.order import (
    MAX_ROWS,
    DataOrder,
    Listed,
    Order,
    Pieces,
    Rows,
    Translated,
    WholeData,
    every_row,
    translated,
)

few = settings(deadline=None, derandomize=True, max_examples=100)


class Backwards(Pieces):
    """The row at position p is n - 1 - p; notes which pieces it makes."""

    def __init__(self, n: int, size: int) -> None:
        super().__init__(n, size)
        self.made: list[tuple[int, int]] = []

    def make(self, start: int, stop: int) -> Rows:
        self.made.append((start, stop))
        return self.num_positions - 1 - np.arange(start, stop, dtype=np.int64)

    def positions(self, rows: Rows) -> Rows:
        return self.num_positions - 1 - rows


# --- available rows ----------------------------------------------------------------------------


def test_of_all_rows_each_is_its_own_number() -> None:
    whole = WholeData(MAX_ROWS)
    rows = np.array([3, MAX_ROWS - 1])
    assert whole.num_rows == whole.num_samples == MAX_ROWS
    assert whole.rows(rows).tolist() == whole.numbers(rows).tolist() == rows.tolist()


def test_all_rows_are_equal_if_there_are_as_many() -> None:
    assert WholeData(3) == WholeData(3)
    assert hash(WholeData(3)) == hash(WholeData(3))
    assert WholeData(3) != WholeData(4)
    assert hash(WholeData(3)) != hash(WholeData(4))
    assert WholeData(3) != Chosen(3, ("all",), np.arange(3))


@few
@given(n=st.integers(2, 100), seed=st.integers(0, 5))
def test_every_available_row_increasing(n: int, seed: int) -> None:
    assert every_row(WholeData(n)).tolist() == list(range(n))
    part, other = Selection(n).split((0.5,), seed)
    rows = np.concatenate([every_row(part), every_row(other)])
    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(n))


@few
@given(n=st.integers(2, 100), seed=st.integers(0, 5), data=st.data())
def test_how_many_available_rows_are_below(n: int, seed: int, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=1).map(sorted))
    parts = Chosen(n, ("some",), np.array(chosen)), *Selection(n).split((0.5,), seed)
    for available in (WholeData(n), *parts):
        below = available.below(np.arange(n + 1))
        rows = every_row(available)
        assert below.tolist() == [np.count_nonzero(rows < number) for number in range(n + 1)]
        assert below.dtype == np.int64


# --- kinds of orders ---------------------------------------------------------------------------


def test_the_order_of_the_data() -> None:
    order = DataOrder()
    assert order.rows(MAX_ROWS - 2, MAX_ROWS).tolist() == [MAX_ROWS - 2, MAX_ROWS - 1]
    assert order.rows(0, 1).dtype == np.int64
    assert order.positions(np.array([5, 2])).tolist() == [5, 2]
    assert order.places(7).tolist() == [7]


@few
@given(rows=st.lists(st.integers(0, 9), min_size=1, max_size=30), data=st.data())
def test_a_list_of_rows_may_repeat_them(rows: list[int], data: st.DataObject) -> None:
    order = Listed(np.array(rows))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(rows))] * 2)))
    assert order.rows(start, stop).tolist() == rows[start:stop]
    for row in range(11):
        places = [position for position, each in enumerate(rows) if each == row]
        assert order.places(row).tolist() == places
        assert order.positions(np.array([row, row])).tolist() == [places[0] if places else -1] * 2
    with pytest.raises(ValueError, match="read-only"):
        order.rows(0, 1)[:] = 3


def test_places_are_by_default_the_position_if_there_is_one() -> None:
    class Few(DataOrder):
        def positions(self, rows: Rows) -> Rows:
            return np.where(rows < 3, rows, -1)

    assert [Order.places(Few(), row).tolist() for row in (0, 2)] == [[0], [2]]
    assert Order.places(Few(), 3).tolist() == []


@few
@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=30), data=st.data())
def test_times_count_how_often_a_row_came_before(rows: list[int], data: st.DataObject) -> None:
    class Plain(Listed):
        times = Order.times

    part = Chosen(20, ("some",), np.arange(3, 20, 2))
    expected = [rows[:position].count(row) for position, row in enumerate(rows)]
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(rows))] * 2)))
    for order in (Listed(np.array(rows)), Plain(np.array(rows))):
        for each in (order, translated(order, part)):
            found = each.times(start, stop)
            assert found.tolist() == expected[start:stop]
            assert found.dtype == np.int64


# --- pieces ------------------------------------------------------------------------------------


@few
@given(n=st.integers(1, 60), size=st.integers(1, 70), data=st.data())
def test_any_slice_is_cut_from_pieces(n: int, size: int, data: st.DataObject) -> None:
    order = Backwards(n, size)
    for _ in range(3):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))
        found = order.rows(start, stop)
        assert found.dtype == np.int64
        assert found.tolist() == [n - 1 - position for position in range(start, stop)]
    assert all(start % size == 0 and stop == min(start + size, n) for start, stop in order.made)


def test_the_last_eight_pieces_are_kept_and_never_written_to() -> None:
    order = Backwards(100, 10)
    order.rows(0, 80)
    order.rows(0, 80)
    order.rows(5, 17)
    assert len(order.made) == 8
    order.rows(80, 90)
    order.rows(10, 90)
    assert len(order.made) == 9
    order.rows(0, 10)
    assert order.made[-1] == (0, 10)
    assert len(order.made) == 10
    with pytest.raises(ValueError, match="read-only"):
        order.rows(0, 5)[:] = 3
    assert order.rows(7, 7).tolist() == []
    assert len(order.made) == 10


def test_threads_share_pieces() -> None:
    order = Backwards(1000, 10)
    barrier = threading.Barrier(8)

    def read(number: int) -> bool:
        barrier.wait(10)
        starts = np.random.default_rng(number).integers(0, 980, 300).tolist()
        return all(
            np.array_equal(order.rows(s, s + 20), 999 - np.arange(s, s + 20)) for s in starts
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(8)))


# --- translated orders -------------------------------------------------------------------------


def test_numbers_become_the_rows_that_have_them() -> None:
    part = Chosen(20, ("some",), np.array([2, 3, 11, 19]))
    order = translated(Backwards(4, 3), part)
    assert type(order) is Translated
    assert order.rows(0, 4).tolist() == [19, 11, 3, 2]
    assert order.positions(np.array([2, 3, 11, 19])).tolist() == [3, 2, 1, 0]
    assert order.positions(np.array([4, 19, 0, 2])).tolist() == [-1, 0, -1, 3]
    assert [order.places(row).tolist() for row in (2, 11, 12)] == [[3], [1], []]
    assert order.places(12).dtype == np.int64
    repeating = translated(Listed(np.array([1, 0, 1])), part)
    assert repeating.places(3).tolist() == [0, 2]


def test_of_all_rows_nothing_is_translated() -> None:
    order = Backwards(4, 3)
    assert translated(order, WholeData(4)) is order
