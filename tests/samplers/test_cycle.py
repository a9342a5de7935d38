"""`Draws`: of each class pass after pass, each a permutation."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.samplers.cycle import Draws
from keras_npbatch.samplers.order import Rows

few = settings(deadline=None, derandomize=True, max_examples=40)
# On both sides of the size from which on a class is ordered by a cipher.
sizes = st.integers(1, 20) | st.integers(60, 70) | st.integers(100, 400)


def draws_of(sizes_: list[int], *key: int) -> Draws:
    return Draws(np.array(sizes_), *(key or (0, 1)))


def read(draws: Draws, index: int, start: int, stop: int) -> Rows:
    """The draws of one class from `start` to `stop - 1`."""
    return draws.members(np.full(stop - start, index), np.arange(start, stop))


@few
@given(
    of_classes=st.lists(sizes, min_size=1, max_size=5),
    first=st.integers(0, 20),
    passes=st.integers(1, 3),
)
def test_each_pass_of_a_class_is_a_permutation(
    of_classes: list[int], first: int, passes: int
) -> None:
    draws = draws_of(of_classes)
    for index, size in enumerate(of_classes):
        found = read(draws, index, first * size, (first + passes) * size)
        for each in found.reshape(passes, size):
            assert np.array_equal(np.sort(each), np.arange(size))


@few
@given(of_classes=st.lists(sizes, min_size=1, max_size=6), data=st.data())
def test_stretches_of_several_classes_are_cut_from_the_same_draws(
    of_classes: list[int], data: st.DataObject
) -> None:
    draws = draws_of(of_classes)
    expected = [read(draws_of(of_classes), index, 0, 900) for index in range(len(of_classes))]
    for _ in range(3):
        classes, numbers, found = [], [], []
        for index in data.draw(st.permutations(range(len(of_classes)))):
            start, stop = sorted(data.draw(st.tuples(*[st.integers(0, 900)] * 2)))
            classes.append(np.full(stop - start, index))
            numbers.append(np.arange(start, stop))
            found.append(expected[index][start:stop])
        members = draws.members(np.concatenate(classes), np.concatenate(numbers))
        assert np.array_equal(members, np.concatenate(found))


@few
@given(size=sizes, stop=st.integers(1, 3000), data=st.data())
def test_which_draws_give_a_row(size: int, stop: int, data: st.DataObject) -> None:
    draws = draws_of([3, size])
    member = data.draw(st.integers(0, size - 1))
    found = draws.draws_of(1, member, stop)
    assert np.array_equal(found, np.flatnonzero(read(draws, 1, 0, stop) == member))


@pytest.mark.parametrize("size", [63, 64, 65])
def test_so_it_is_where_hashes_give_way_to_ciphers(size: int) -> None:
    draws = draws_of([size])
    drawn = read(draws, 0, 0, 3 * size)
    for member in range(size):
        assert np.array_equal(draws.draws_of(0, member, 3 * size), np.flatnonzero(drawn == member))


def test_draws_of_classes_in_turn_are_those_of_each_alone() -> None:
    draws = draws_of([7, 40])
    turns, numbers = np.tile([0, 1], 7), np.repeat(np.arange(7), 2)
    found = draws.members(turns, numbers)
    for index in (0, 1):
        assert np.array_equal(found[index::2], read(draws, index, 0, 7))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(5, [0, 3, 1, 2, 4]), (64, [57, 26, 23, 0, 46]), (65, [8, 2, 37, 1, 48])],
)
def test_the_draws_of_a_seed_stay_the_same_in_every_release(size: int, expected: list[int]) -> None:
    assert read(draws_of([9, size]), 1, size, size + 5).tolist() == expected


@pytest.mark.parametrize("size", [50, 64, 65, 1000])
def test_passes_classes_seeds_and_keys_differ(size: int) -> None:
    draws = draws_of([size] * 3)
    found = [read(draws, 0, number * size, (number + 1) * size) for number in (0, 1, 2, 90)]
    found += [read(draws, index, 0, size) for index in (1, 2)]
    found += [read(draws_of([size], *key), 0, 0, size) for key in ((1, 1), (0, 2), (0, 1, 0))]
    for one, other in combinations(found, 2):
        assert (one == other).mean() < 0.2


@pytest.mark.parametrize("size", [2, 5, 64, 65, 100, 300])
def test_every_row_of_a_class_comes_at_every_place_equally_often(size: int) -> None:
    passes = read(draws_of([7, size]), 1, 0, 4000 * size).reshape(4000, size)
    times = np.stack([np.bincount(place, minlength=size) for place in passes.T])
    expected = 4000 / size
    assert np.abs(times - expected).max() < 6 * expected**0.5
    # Nor does a pass tell the next one.
    pairs = np.bincount(passes[:-1, 0] * size + passes[1:, 0], minlength=size * size)
    assert np.abs(pairs - 4000 / size**2).max() < 6 * (4000 / size**2 + 1) ** 0.5


def test_nothing_is_kept() -> None:
    draws = draws_of([10, 65, 300])
    tracemalloc.start()
    try:
        for index in range(3):
            read(draws, index, 0, 60_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5000


def test_threads_that_share_draws_read_the_same() -> None:
    expected = read(draws_of([40, 3000]), 1, 0, 60_000)
    draws = draws_of([40, 3000])
    starts = [57_000, 0, 30_000, 3000, 45_000, 12_345] * 5
    with ThreadPoolExecutor(6) as threads:
        found = threads.map(lambda start: read(draws, 1, start, start + 3000), starts)
        for start, rows in zip(starts, found, strict=True):
            assert np.array_equal(rows, expected[start : start + 3000])


@pytest.mark.parametrize("size", [5, 500])
def test_none_of_no_draws(size: int) -> None:
    draws = draws_of([size])
    assert len(draws.draws_of(0, 1, 0)) == 0
    assert len(read(draws, 0, 3, 3)) == 0
