"""`Turns`: calls begin at different places, and each has all items."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from keras_npbatch.sources.turns import Turns, others_last


@pytest.mark.parametrize("length", [0, 1, 2, 7, 16])
def test_each_call_has_all_items_around(length):
    turns, items = Turns(), list(range(length))
    for _ in range(20):
        found = turns.turned(items)
        assert sorted(found) == items
        assert all((b - a) % length == 1 % length for a, b in pairwise(found))


def test_calls_that_follow_each_other_begin_apart():
    turns = Turns()
    firsts = [turns.turned(range(16))[0] for _ in range(8)]
    assert firsts[0] == 0  # one thread reads forwards
    assert len(set(firsts)) == 8
    assert pickle.loads(pickle.dumps(turns)).turned("ab") == ["a", "b"]


def test_what_others_read_comes_last():
    under_way = {1, 2}
    found = []
    for item in others_last([1, 2, 3, 4], under_way.__contains__):
        found.append(item)
        under_way.add(4)
    assert found == [3, 1, 2, 4]
    assert list(others_last([1, 2], lambda _: False)) == [1, 2]
