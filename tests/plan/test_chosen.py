"""`Chosen`, and what `subset` takes."""

from __future__ import annotations

import os
import pickle
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen, chosen_rows
from keras_npbatch.plan.split import Selection
from keras_npbatch.samplers.order import WholeData

few = settings(deadline=None, derandomize=True, max_examples=80)
N = 20


def chosen(num_rows: int, rows: list[int]) -> Chosen:
    return Chosen(num_rows, ("some",), np.array(rows, np.int64))


some_rows = st.sets(st.integers(0, N - 1), min_size=1)


@few
@given(some_rows)
def test_numbers_invert_rows(rows: set[int]) -> None:
    part = chosen(N, sorted(rows))
    assert (part.num_rows, part.num_samples) == (N, len(rows))
    every = part.rows(np.arange(len(rows)))
    assert every.tolist() == sorted(rows)
    assert part.numbers(every).tolist() == list(range(len(rows)))
    others = np.setdiff1d(np.arange(-1, N + 2), every)
    assert (part.numbers(others) == -1).all()
    assert part.numbers(np.arange(N)).dtype == np.int64
    below = part.below(np.arange(N + 1))
    assert below.tolist() == [sum(row < number for row in rows) for number in range(N + 1)]
    assert below.dtype == np.int64


def test_nobody_changes_the_rows() -> None:
    rows = np.array([2, 5])
    part = Chosen(N, ("some",), rows)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 3
    with pytest.raises(ValueError, match="read-only"):
        part.rows(slice(None))[0] = 3


@few
@given(some_rows, st.permutations(range(N)))
def test_rows_in_any_order_and_a_mask_choose_the_same(rows: set[int], order: list[int]) -> None:
    whole = WholeData(N)
    mask = np.isin(np.arange(N), list(rows))
    mixed = [row for row in order if row in rows]
    for given_ in (mixed, np.array(mixed, np.uint8), mask, mask.tolist(), np.array(mixed)):
        found = chosen_rows(given_, whole)
        assert found.tolist() == sorted(rows)
        assert found.dtype == np.int64


def test_what_was_given_stays_as_it_is() -> None:
    rows = np.array([5, 1, 3])
    part = ArrayDataset(np.arange(N)).subset(rows)
    assert rows.tolist() == [5, 1, 3]
    rows[:] = 0
    assert part.rows_in_order().tolist() == [1, 3, 5]


def test_equal_words_mean_equal_rows() -> None:
    one, other = chosen(N, [1, 2]), chosen(N, [1, 3])
    assert one == chosen(N, [1, 2]) == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(chosen(N, [1, 2]))
    assert one != other
    assert one != chosen(N + 1, [1, 2])
    assert one != Chosen(N, ("others",), np.array([1, 2]))
    assert one != one.described
    assert Chosen(N, ("a", "b"), np.array([1, 2])).described.startswith("a, then b, of 20 rows, ")


@few
@given(some_rows.filter(lambda rows: len(rows) > 6), st.integers(0, 3))
def test_parts_of_chosen_rows_are_those_of_a_split(rows: set[int], seed: int) -> None:
    part = chosen(N, sorted(rows))
    parts = part.split((0.5,), seed)
    numbers = [
        each.rows(np.arange(each.num_samples)) for each in Selection(len(rows)).split((0.5,), seed)
    ]
    for each, of_split in zip(parts, numbers, strict=True):
        assert (
            each.rows(np.arange(each.num_samples)).tolist()
            == np.array(sorted(rows))[of_split].tolist()
        )
        assert each.num_rows == N
    assert parts[0].names == ("some", f"part 0 of split(0.5, 0.5, seed={seed})")


def test_a_mask_of_the_whole_data_chooses_from_a_part() -> None:
    part = ArrayDataset(np.arange(N)).subset([2, 3, 4, 9])
    mask = np.arange(N) % 3 == 0
    assert part.subset(mask).rows_in_order().tolist() == [3, 9]
    assert part.subset([9, 2]).rows_in_order().tolist() == [2, 9]
    with pytest.raises(InvalidArgumentError, match=r"^rows is empty; expected at least one row"):
        part.subset(np.arange(N) == 5)


EXPECTED = (
    "; expected row numbers, integers of shape (n,), or a boolean for each of the 20 rows of the "
    "data."
)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [4, 1, 4, 1],
            "rows has 1 more than once; expected each row once. To have rows more often, give the "
            "dataset a sampler: Weighted or Balanced.",
        ),
        ([3, 20, 25], "rows has 20; expected row numbers from 0 to 19."),
        ([3, -1], "rows has -1; expected row numbers from 0 to 19."),
        (
            np.array([3, 2**63 + 1], np.uint64),
            f"rows has {2**63 + 1}; expected row numbers from 0 to 19.",
        ),
        ([], "rows is empty; expected at least one row of the data."),
        (np.zeros(N, bool), "rows is empty; expected at least one row of the data."),
        (np.ones(N - 1, bool), f"rows is ndarray of shape (19,) and dtype bool{EXPECTED}"),
        ([1.0], f"rows is [1.0] (list){EXPECTED}"),
        ([[1]], f"rows is [[1]] (list){EXPECTED}"),
        (3, f"rows is 3 (int){EXPECTED}"),
        (None, f"rows is None (NoneType){EXPECTED}"),
        ([[1], [2, 3]], f"rows is [[1], [2, 3]] (list){EXPECTED}"),
    ],
)
def test_what_chooses_no_rows_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(N)).subset(rows)
    assert str(error.value) == message


def test_rows_of_another_part_are_refused() -> None:
    part = ArrayDataset(np.arange(N)).subset([2, 3, 4])
    with pytest.raises(InvalidArgumentError) as error:
        part.subset([2, 7, 8])
    assert str(error.value) == (
        "rows has 7, which is not in this part of the data; expected rows that are: "
        "rows_in_order() tells them."
    )


def test_a_subset_is_a_dataset_of_its_own() -> None:
    x = np.arange(N) * 10
    ds = ArrayDataset(x, batch_size=4, seed=0)
    ds.set_epoch(3)
    part = ds.subset([9, 2, 3, 4, 7])
    assert (part.num_samples, len(part), part.epoch) == (5, 2, 0)
    assert sorted(np.concatenate(list(part)).tolist()) == [20, 30, 40, 70, 90]
    assert np.concatenate(list(part.batches_for("predict"))).tolist() == [20, 30, 40, 70, 90]
    assert ds.epoch == 3
    step, position = part.locate(7, 0)
    assert part.rows(step, 0)[position] == 7
    assert part.locate(5, 0) is None
    assert part.state_dict()["dataset"]["split"].startswith("subset of 5 rows, of 20 rows, ")
