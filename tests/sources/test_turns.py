"""`Turns`: calls begin at different places, and each has all items."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from keras_npbatch.sources.turns import Turns


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
