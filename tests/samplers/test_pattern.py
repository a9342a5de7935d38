"""`Pattern`: where each class stands, in exact arithmetic; `Spread`: its rows there.

What an epoch of it looks like is tested in test_stratified.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.pattern import Pattern, Spread

few = settings(deadline=None, derandomize=True, max_examples=60)
PIECE = 2**15
LARGE = 2**59


class Numbered:
    """A member of a class is its number and its class: no row is looked up."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def rows(self, classes: npt.NDArray[np.int64], which: Rows) -> Rows:
        return which * self.num_classes + classes

    def places(self, row: int) -> tuple[int, Rows]:
        return row % self.num_classes, np.array([row // self.num_classes], np.int64)


def counted(*counts: int) -> npt.NDArray[np.int64]:
    return np.array(counts, np.int64)


@few
@given(
    counts=st.lists(
        st.integers(1, 100) | st.integers(2**30, 2**42) | st.integers(1, LARGE),
        min_size=2,
        max_size=5,
    ),
    data=st.data(),
)
def test_rows_stand_where_both_bounds_allow_it_whatever_the_counts(
    counts: list[int], data: st.DataObject
) -> None:
    pattern, total = Pattern(counted(*counts)), sum(counts)
    for index, count in enumerate(counts):
        which = data.draw(st.integers(0, count - 1))
        first, last = pattern.bounds(np.array([index]), np.array([which]))
        assert first.dtype == last.dtype == np.int64
        assert first[0] == which * total // count + 1
        assert last[0] == -(-(which + 1) * total // count)


@pytest.mark.parametrize(
    "counts",
    [
        (LARGE, LARGE - 1),
        (LARGE, LARGE, LARGE + 1),
        (LARGE + 1, 7, LARGE // 3, LARGE // 1000),
        (2**31 + 1, 2**31 - 1),
    ],
)
def test_the_first_positions_of_any_number_of_rows_are_exact(counts: tuple[int, ...]) -> None:
    pattern, total = Pattern(counted(*counts)), sum(counts)
    found = pattern.piece(0).tolist()
    spread = Spread(pattern, Numbered(len(counts)), 0, 0).rows(0, PIECE)
    seen, mixed = [0] * len(counts), [0] * len(counts)
    for position, (index, row) in enumerate(zip(found, spread.tolist(), strict=True), 1):
        which, of_row = divmod(row, len(counts))
        assert which == mixed[of_row]  # the rows of a class come in their order
        seen[index] += 1
        mixed[of_row] += 1
        for had in (seen, mixed):
            for count, number in zip(counts, had, strict=True):
                assert abs(number * total - position * count) < total
    assert pattern.before(1).tolist() == seen


@pytest.mark.parametrize(
    "counts",
    [
        (22_001, 22_001, 22_001),
        (35_000, 35_000, 1),
        (40_000, 20_003, 7, 1, 5_000),
        (1, 2, 66_000),
        tuple(range(1, 370)),
    ],
)
def test_each_row_is_in_the_piece_that_is_told(counts: tuple[int, ...]) -> None:
    """Most of all those next to the end of a piece."""
    numbers, pieces = len(counts), -(-sum(counts) // PIECE)
    pattern = Pattern(counted(*counts))
    assert pattern.before(pieces).tolist() == list(counts)
    classes = np.concatenate([pattern.piece(piece) for piece in range(pieces)])
    asked = []
    for index, count in enumerate(counts):
        positions = np.flatnonzero(classes == index)
        borders = np.searchsorted(positions, np.arange(0, len(classes), PIECE))
        assert borders.tolist() == [int(pattern.before(piece)[index]) for piece in range(pieces)]
        for which in {*borders.tolist(), *(borders - 1).tolist()} & {*range(count)}:
            assert pattern.piece_of(index, which) == positions[which] // PIECE
            asked.append(which * numbers + index)
    order = Spread(pattern, Numbered(numbers), 0, 0)
    found = order.positions(np.array(asked[:20]))
    assert order.rows(0, len(classes))[found].tolist() == asked[:20]
    assert order.places(asked[0]).tolist() == [found[0]]
    assert order.places(asked[0]).dtype == np.int64
