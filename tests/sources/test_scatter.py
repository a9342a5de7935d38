"""`scatter`: what `out[places] = source.read(rows)` would write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.sources import scatter as module
from keras_npbatch.sources.scatter import groups, new, put, scatter
from keras_npbatch.sources.sources import as_source
from keras_npbatch.testing.strategies import arrays, row_numbers
from tests.comparing import assert_same_array


@given(numbers=st.lists(st.integers(0, 4), max_size=12))
def test_groups_have_each_number_with_its_places(numbers: list[int]) -> None:
    found = list(groups(np.array(numbers, np.int64)))
    assert [number for number, _ in found] == sorted(set(numbers))
    for number, places in found:
        assert places.tolist() == [i for i, each in enumerate(numbers) if each == number]


@settings(max_examples=60)
@given(array=arrays(), data=st.data(), is_long=st.booleans())
def test_rows_of_any_array_are_where_they_belong(array: Any, data: Any, is_long: bool) -> None:
    rows = data.draw(row_numbers(len(array)).filter(len))
    size = len(rows) + data.draw(st.integers(0, 3))
    places = np.sort(data.draw(st.permutations(range(size)))[: len(rows)])
    out = new((size, *array.shape[1:]), array.dtype, np.empty)
    out[...] = array[0]
    expected = out.copy()
    expected[places] = array[rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LONG_BYTES", 0 if is_long else 2**20)
        scatter(as_source(array, "x"), rows, out, places)
    assert_same_array(out, expected)


def test_long_rows_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = as_source(np.arange(8192.0 * 4).reshape(4, 8192), "x")
    monkeypatch.setattr(type(source), "read", None)  # it would make an array in between
    out = np.zeros((5, 8192))
    scatter(source, np.array([3, 1]), out, np.array([0, 4]))
    assert out[:, 0].tolist() == [8192 * 3, 0, 0, 0, 8192]


def test_what_is_no_plain_memory_comes_from_numpy() -> None:
    def empty(shape: tuple[int, ...], dtype: Any) -> Any:
        return np.full(shape, 7, dtype)

    assert new((2,), np.dtype(int), empty).tolist() == [7, 7]
    assert new((2,), np.dtype(object), empty).tolist() == [None, None]


def test_arrays_without_a_feature_are_put_too() -> None:
    out = np.empty((3, 0))
    put(np.empty((2, 0)), out, np.array([0, 2]))
    assert out.shape == (3, 0)
