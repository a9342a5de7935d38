"""`Balanced`: equal numbers of each class in each batch, and of each row of a class."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, Shard
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.balanced import Balanced
from keras_npbatch.samplers.order import Available, Rows, WholeData, every_row

few = settings(deadline=None, derandomize=True, max_examples=40)


def drawn(n: int, classes: int, evenness: float) -> Rows:
    """Classes in Dirichlet shares, in any order; the first two have a row."""
    draw = np.random.default_rng((n, classes))
    labels = draw.choice(classes, n, p=draw.dirichlet(np.full(classes, evenness)))
    labels[:2] = 0, 1
    return labels


def spread(counts: Rows) -> int:
    return int(counts.max() - counts.min())


@st.composite
def epochs(draw: st.DrawFn) -> tuple[Rows, Available, Rows]:
    """Labels, available rows, and an epoch."""
    n = draw(st.integers(2, 40) | st.integers(41, 400))
    labels = drawn(n, draw(st.integers(2, 30)), draw(st.sampled_from([0.05, 0.5, 5.0])))
    available: Available = WholeData(n)
    if draw(st.booleans()):
        available = Chosen(n, ("some",), np.arange(draw(st.integers(0, n - 1)), n))
    size = draw(st.sampled_from(["largest", "per_class", "num_samples"]))
    number = draw(st.integers(1, 400))
    arguments = {} if size == "largest" else {size: number}
    sampler = Balanced(labels, **arguments)
    classes, counts = np.unique(labels[every_row(available)], return_counts=True)
    expected = {
        "largest": counts.max() * len(classes),
        "per_class": number * len(classes),
        "num_samples": number,
    }[size]
    assert sampler.num_samples(available) == expected
    order = sampler.order(available, 32, draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    return labels, available, order.rows(0, int(expected))


@few
@given(epoch=epochs(), data=st.data())
def test_any_stretch_has_each_class_equally_often_give_or_take_one(
    epoch: tuple[Rows, Available, Rows], data: st.DataObject
) -> None:
    labels, available, rows = epoch
    classes = np.unique(labels[every_row(available)])
    codes = np.searchsorted(classes, labels[rows])
    for _ in range(8):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(rows))] * 2)))
        assert spread(np.bincount(codes[start:stop], minlength=len(classes))) <= 1


@few
@given(epoch=epochs())
def test_each_row_of_a_class_comes_equally_often_give_or_take_once(
    epoch: tuple[Rows, Available, Rows],
) -> None:
    labels, available, rows = epoch
    times = np.bincount(rows, minlength=available.num_rows)
    every = every_row(available)
    for label in np.unique(labels[every]):
        assert spread(times[every][labels[every] == label]) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("classes", [2, 3, 50])
def test_so_it_is_in_the_part_of_each_process(count: int, classes: int) -> None:
    labels = drawn(600, classes, 0.5)
    ds = ArrayDataset(np.arange(600), batch_size=30, sampler=Balanced(labels), seed=1)
    present = np.unique(labels)
    for step in range(0, len(ds), 5):
        for index in range(count):
            rows = ds.rows(step, 0, Shard(index, count))
            counts = np.bincount(np.searchsorted(present, labels[rows]), minlength=len(present))
            assert spread(counts) <= 1


def test_a_single_row_of_a_class_comes_again_and_again() -> None:
    labels, whole = np.zeros(20_001, np.int64), WholeData(20_001)
    labels[777] = 1
    order = Balanced(labels).order(whole, 32, 0, 0)
    rows = order.rows(0, 40_000)
    assert np.array_equal(order.places(777), np.flatnonzero(rows == 777))
    assert np.bincount(rows).tolist() == [1] * 777 + [20_000] + [1] * 19_223


def test_a_row_that_does_not_come_has_no_position() -> None:
    order = Balanced([0, 0, 0, 1], per_class=1).order(WholeData(4), 32, 0, 0)
    rows = order.rows(0, 2).tolist()
    expected = [rows.index(row) if row in rows else -1 for row in range(4)]
    assert order.positions(np.arange(4)).tolist() == expected


def test_more_classes_than_a_piece_holds_take_turns_too() -> None:
    labels = np.concatenate([np.arange(3000), np.arange(2000)])
    rows = Balanced(labels, per_class=9).order(WholeData(5000), 32, 0, 0).rows(0, 27_000)
    assert (np.bincount(labels[rows]) == 9).all()
    for start in range(0, 27_000, 3000):
        assert len(np.unique(labels[rows[start : start + 3000]])) == 3000


def test_turns_and_passes_are_new_each_epoch_and_each_pass() -> None:
    labels = np.repeat([0, 1, 2, 3], 25)
    sampler, whole = Balanced(labels, per_class=50), WholeData(100)
    one, other = (sampler.order(whole, 32, 0, epoch).rows(0, 200) for epoch in (0, 1))
    assert len({tuple(labels[sampler.order(whole, 32, 0, e).rows(0, 4)]) for e in range(20)}) > 5
    assert (one == other).mean() < 0.1
    assert (one[:100] == one[100:]).mean() < 0.1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Balanced([3, 3])
    assert str(error.value) == (
        "labels of Balanced have one class, 3; expected at least two: there is nothing to balance."
    )
    with pytest.raises(InvalidArgumentError) as error:
        Balanced([0, 1], per_class=2, num_samples=3)
    assert str(error.value) == (
        "Balanced was given per_class=2 and num_samples=3; expected one of them."
    )
    for number in (0, 2**62 + 1):
        for name in ("per_class", "num_samples"):
            with pytest.raises(InvalidArgumentError) as error:
                Balanced([0, 1], **{name: number})
            assert str(error.value) == (
                f"{name} of Balanced is {number} (int); expected a whole number from 1 to "
                "4611686018427387904."
            )
    whole = WholeData(2)
    assert Balanced([0, 1], per_class=1).num_samples(whole) == 2
    assert Balanced([0, 1], num_samples=1).num_samples(whole) == 1
    with pytest.raises(InvalidArgumentError, match=r"^num_samples of Balanced is 1.5 \(float\)"):
        Balanced([0, 1], num_samples=1.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(10), sampler=Balanced([0, 1, 1]))
    assert str(error.value) == (
        "labels of Balanced are 3 values, and the data have 10 rows; expected one for each row of "
        "the whole data, also for a part of a split."
    )


def test_labels_with_several_classes_are_for_weighted() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Balanced([[1, 0, 0], [0, 1, 1]])
    assert str(error.value) == (
        "labels of Balanced have 2 classes at row 1; expected one for each row. For rows of "
        "several classes there is the sampler Weighted: give it a weight for each row, for example "
        "the sum over its classes of 1 / rows of the class."
    )


def test_missing_labels_are_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Balanced(["a", None, "b"])
    assert str(error.value) == (
        "labels of Balanced have None at row 1; expected a value for each row. Give these rows one "
        "of their own, or leave them out of the data."
    )


def test_its_identity_tells_labels_and_numbers() -> None:
    labels = [0, 1, 1]
    samplers = [
        Balanced(labels),
        Balanced(labels, 2),
        Balanced(labels, num_samples=2),
        Balanced([1, 0, 1]),
    ]
    assert len(set(samplers)) == 4
    assert repr(samplers[1]) == (
        "Balanced(2 classes of 3 rows, per_class=2, num_samples=None, 21a8fb707650020c)"
    )
