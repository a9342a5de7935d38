"""`Grouped`: rows by class, compared with NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.samplers.grouped import Grouped


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    codes=st.lists(st.integers(0, 12), min_size=1, max_size=120),
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "int64"]),
)
def test_the_rows_of_each_class_that_has_one(codes: list[int], dtype: str) -> None:
    of_rows = np.array(codes, dtype)
    grouped = Grouped(of_rows)
    classes, counts = np.unique(of_rows, return_counts=True)
    assert np.array_equal(grouped.classes, classes)
    assert np.array_equal(grouped.counts, counts)
    assert grouped.counts.dtype == np.int64
    for index, label in enumerate(classes):
        rows = np.flatnonzero(of_rows == label)
        members = grouped.members(index)
        assert np.array_equal(members, rows)
        assert members.dtype == np.uint8
        some = np.arange(len(rows))[::-1]
        numbers = grouped.numbers(np.full(len(rows), index), some)
        assert np.array_equal(numbers, rows[some])
        assert numbers.dtype == np.int64
        assert [grouped.place_of(int(row)) for row in rows] == [
            (index, i) for i in range(len(rows))
        ]
