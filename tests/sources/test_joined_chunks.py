"""Joined chunks: rows are found where they are, or not at all."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.sources.joined_chunks import JoinedChunks

LENGTHS = [3, 1, 4, 2, 5]
STARTS = np.cumsum([0, *LENGTHS])


def chunk(number):
    rows = np.arange(STARTS[number], STARTS[number + 1])
    return {"row": rows, "pair": np.stack([rows, -rows], 1)}


@given(
    groups=st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=3),
    rows=st.lists(st.integers(0, int(STARTS[-1]) - 1), max_size=8),
)
def test_rows_are_found_if_one_group_has_them(groups, rows):
    joined, rows = JoinedChunks(STARTS), np.array(rows, np.int64)
    for group in groups:
        views = joined.join({number: chunk(number) for number in group})
        for number in group:
            assert views[number]["row"].tolist() == chunk(number)["row"].tolist()
            assert views[number]["row"].base is not None
    needed = set((np.searchsorted(STARTS, rows, side="right") - 1).tolist())
    found = joined.find(rows)
    assert (found is not None) == (bool(needed) and any(needed <= group for group in groups))
    assert joined.has_any(np.array(sorted(needed), np.int64)) == any(
        needed & group for group in groups
    )
    if found is not None:
        assert found.columns["row"].take(found.at, 0).tolist() == rows.tolist()
        assert found.columns["pair"].take(found.at, 0)[:, 1].tolist() == (-rows).tolist()


def test_rows_that_are_written_to_are_found_anew_and_nothing_is_sent():
    joined, rows = JoinedChunks(STARTS), np.array([0, 1])
    joined.join({0: chunk(0)})
    assert joined.find(rows).at.tolist() == [0, 1]
    rows[:] = [2, 0]
    assert joined.find(rows).at.tolist() == [2, 0]
    assert pickle.loads(pickle.dumps(joined)).find(rows) is None
    joined.join({3: chunk(3)})
    joined.drop({3}.__contains__)
    assert joined.find(rows) is None
    assert joined.has_any(np.array([3]))
    joined.forget()
    assert not joined.has_any(np.array([3]))
