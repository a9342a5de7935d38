"""`Cycle`: pass after pass, each a permutation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.samplers.cycle import Cycle
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS

few = settings(deadline=None, derandomize=True, max_examples=60)
# Around the size from which on each pass is drawn alone.
sizes = st.integers(1, 20) | st.integers(1300, 1400) | st.integers(4094, 4100)


@few
@given(size=sizes, first=st.integers(0, 20), passes=st.integers(1, 3), seed=st.integers(0, 3))
def test_each_pass_is_a_permutation(size: int, first: int, passes: int, seed: int) -> None:
    found = Cycle(size, seed, 1, 2).rows(first * size, (first + passes) * size)
    for each in found.reshape(passes, size):
        assert np.array_equal(np.sort(each), np.arange(size))


@few
@given(size=sizes, data=st.data())
def test_any_stretch_is_cut_from_the_same_draws(size: int, data: st.DataObject) -> None:
    everything = Cycle(size, 0, 1).rows(0, 9000)
    cycle = Cycle(size, 0, 1)
    for _ in range(4):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, 9000)] * 2)))
        assert np.array_equal(cycle.rows(start, stop), everything[start:stop])


@few
@given(size=sizes, stop=st.integers(0, 9000), data=st.data())
def test_places_invert_rows(size: int, stop: int, data: st.DataObject) -> None:
    cycle = Cycle(size, 5, 1)
    row = data.draw(st.integers(0, size - 1))
    assert np.array_equal(cycle.places(row, stop), np.flatnonzero(cycle.rows(0, stop) == row))


@pytest.mark.parametrize("size", [50, 5000])
def test_passes_seeds_and_keys_differ(size: int) -> None:
    passes = [Cycle(size, 0, 1).rows(start * size, (start + 1) * size) for start in (0, 1, 2, 90)]
    others = [Cycle(size, *key).rows(0, size) for key in ((1, 1), (0, 2), (0, 1, 0), (0, 0, 1))]
    found = [*passes, *others]
    for index, one in enumerate(found):
        for other in found[:index]:
            assert (one == other).mean() < 0.2


def test_a_cycle_of_many_rows_takes_no_memory() -> None:
    size = MATERIALISED_ROWS + 10
    cycle = Cycle(size, 0, 1)
    rows = cycle.rows(size - 3, size + 3)
    assert [cycle.places(int(row), 2 * size).tolist() for row in rows[3:]] == [
        [int(cycle.places(int(row), size)[0]), place]
        for row, place in zip(rows[3:], range(size, size + 3), strict=True)
    ]


def test_threads_that_share_a_cycle_read_the_same() -> None:
    expected = Cycle(3000, 0, 1).rows(0, 60_000)
    cycle = Cycle(3000, 0, 1)
    starts = [57_000, 0, 30_000, 3000, 45_000, 12_345] * 5
    with ThreadPoolExecutor(6) as threads:
        found = threads.map(lambda start: cycle.rows(start, start + 3000), starts)
        for start, rows in zip(starts, found, strict=True):
            assert np.array_equal(rows, expected[start : start + 3000])
