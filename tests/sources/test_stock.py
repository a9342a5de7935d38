"""The stock of chunks: decoded once by threads that wait, bounded, and never sent."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_npbatch.sources.stock import Stock


def test_threads_that_need_the_same_chunk_decode_it_once():
    times, all_ask = Counter(), threading.Barrier(4)
    stock = Stock(2)

    def decode(number):
        times[number] += 1
        threading.Event().wait(0.02)
        return number * 10

    def ask():
        all_ask.wait()
        assert [stock.get(number, decode) for number in (3, 1)] == [30, 10]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times == {3: 1, 1: 1}


def test_the_chunk_that_was_not_used_for_longest_goes_first():
    stock = Stock(2)
    for number in (1, 2, 1, 3):
        stock.get(number, str)
    assert (1 in stock, 2 in stock, 3 in stock, len(stock)) == (True, False, True, 2)
    stock.forget()
    assert len(stock) == 0


def test_chunks_that_differ_in_size_are_kept_by_their_rows():
    stock = Stock(10, np.array([4, 4, 2, 9]))
    for number in (0, 1, 2):
        stock.get(number, str)
    assert len(stock) == 3
    stock.get(3, str)  # of 9 rows: no other is left
    assert (len(stock), 3 in stock) == (1, True)
    stock.forget()
    for number in (0, 1, 2):
        stock.get(number, str)
    assert len(stock) == 3


def test_a_chunk_that_could_not_be_decoded_is_tried_again():
    stock = Stock(2)
    with pytest.raises(ZeroDivisionError):
        stock.get(0, lambda number: 1 // number)
    assert stock.get(0, str) == "0"


def test_a_copy_in_another_process_is_empty():
    stock = Stock(3)
    stock.get(1, str)
    copy = pickle.loads(pickle.dumps(stock))
    assert (len(copy), copy.most, copy.get(1, repr)) == (0, 3, "1")


def test_what_is_prepared_makes_room_of_what_is_not_needed():
    stock = Stock(2)
    for number in (1, 2):
        stock.get(number, str)
    stock.expect([1, 3, 7], until=20)
    stock.prepare(3, str)
    assert (1 in stock, 2 in stock, 3 in stock) == (True, False, True)
    stock.prepare(3, pytest.fail)  # it is there
    assert stock.get(3, pytest.fail) == "3"
    stock.expect([3], until=30)
    stock.expect([3], until=10)  # by a thread that is behind
    stock.get(1, str)
    stock.get(7, str)
    assert (1 in stock, 3 in stock, 7 in stock) == (False, True, True)
    stock.forget()
    for number in (3, 4, 5):
        stock.get(number, str)
    assert 3 not in stock  # in a new pass nothing is known to be needed


def test_a_chunk_that_is_being_decoded_when_all_is_forgotten_is_not_kept():
    """A thread of an epoch that was left may read what was stored before."""
    stock, stored = Stock(2), ["before"]
    has_begun, may_end = threading.Event(), threading.Event()

    def decode(number):
        value = stored[number]
        has_begun.set()
        may_end.wait()
        return value

    with ThreadPoolExecutor(2) as threads:
        left = threads.submit(stock.get, 0, decode)
        has_begun.wait()
        stored[0] = "after"
        stock.forget()
        following = threads.submit(stock.get, 0, stored.__getitem__)
        may_end.set()
        assert (left.result(), following.result()) == ("before", "after")
    assert stock.get(0, pytest.fail) == "after"
