"""Rows that lie in several pieces: each goes where it belongs, whatever was asked before."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.sources.pieces import Pieces, starts_of

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(LENGTHS, st.data())
def test_rows_are_taken_from_their_pieces_whatever_was_asked_before(lengths, data):
    starts = starts_of(lengths)
    numbers = st.lists(st.integers(0, int(starts[-1]) - 1), max_size=12)
    pieces = Pieces(starts)
    rows = np.zeros(0, np.int64)
    for asked in data.draw(st.lists(numbers, min_size=1, max_size=4)):
        if len(asked) == len(rows):
            rows[:] = asked  # in the memory of the batch before
        else:
            rows = np.array(asked, np.int64)
        for _ in range(2):
            out = np.full(len(rows), -1)
            for number, at, inside in pieces.of(rows):
                assert ((inside >= 0) & (inside < lengths[number])).all()
                out[at] = starts[number] + inside
            assert out.tolist() == asked


def test_nothing_of_a_batch_is_sent():
    pieces = Pieces(starts_of([3, 4]))
    before = len(pickle.dumps(pieces))
    pieces.of(np.arange(7).repeat(1000))
    assert len(pickle.dumps(pieces)) == before
