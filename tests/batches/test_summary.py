"""`summary`: the figures of a batch are the same whoever computes them, and are NumPy's."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import closing
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.moments import Moments
from keras_npbatch.batches.summary import MOST_CLASSES, Summary, classes_in, named, summarise
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import InvalidBatchError
from keras_npbatch.workers.inline import InlineStream
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.stream import ProcessStream
from keras_npbatch.workers.threads import ThreadedStream
from tests import loaders


def shaken(batch: Any, rng: Any) -> Any:
    x, y = batch
    return x | {"a": x["a"] + rng.standard_normal(x["a"].shape).astype("float32")}, y


def dataset(n: int, **settings_: Any) -> ArrayBatches:
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(5, 3, (n, 700)).astype("float32"), "b": rng.integers(0, 9, (n, 2))}
    x["a"][0, :3] = np.nan, np.inf, 0
    y = (rng.integers(-1, 2, n), np.eye(3, dtype="float32")[rng.integers(0, 3, n)])
    return ArrayBatches(x, y, seed=4, transform=shaken, **settings_)


def inline(data: ArrayBatches, epoch: int, function: Any) -> list[Any]:
    make = partial(core_of(data).maker(Work(data.plan, summarise=function)), epoch)
    return list(InlineStream(make, range(data.plan.num_batches)))


def threads(data: ArrayBatches, epoch: int, function: Any, workers: int) -> list[Any]:
    make = partial(core_of(data).maker(Work(data.plan, summarise=function)), epoch)
    with closing(
        ThreadedStream(make, range(data.plan.num_batches), workers=workers, ahead=4)
    ) as stream:
        return list(stream)


def processes(data: ArrayBatches, epoch: int, function: Any, workers: int) -> list[Any]:
    with Pool(data, workers=workers) as pool:
        return list(ProcessStream(pool, Work(data.plan, summarise=function), epoch, ahead=4))


@settings(max_examples=6)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 30),
    remainder=st.sampled_from(["keep", "pad", "spread"]),
    epoch=st.integers(0, 3),
)
def test_workers_compute_the_same_figures_to_the_last_bit(
    n: int, batch_size: int, remainder: Any, epoch: int
) -> None:
    data = dataset(n, batch_size=batch_size, remainder=remainder)
    expected = [summary for _, summary in inline(data, epoch, summarise)]
    assert [found.samples for found in expected] == [
        len(data.rows(step, epoch)) for step in range(data.plan.num_batches)
    ]
    for found in (
        threads(data, epoch, summarise, workers=2),
        processes(data, epoch, summarise, workers=1 + n % 2),
    ):
        assert [summary for _, summary in found] == expected


def test_the_figures_are_those_of_the_batch_they_come_with() -> None:
    for batch, summary in processes(dataset(50, batch_size=16), 1, summarise, workers=2):
        assert summary == summarise(batch, summary.samples)
        x, (numbers, hot) = batch
        assert summary.num_bytes == sum(a.nbytes for a in (*x.values(), numbers, hot))
        assert summary.moments.keys() == {"x/a", "x/b", "y/0", "y/1"}
        finite = x["a"][np.isfinite(x["a"])].astype("float64")
        assert summary.moments["x/a"].mean == pytest.approx(finite.mean())
        assert summary.classes["y/0"] == Counter(numbers.tolist())
        assert summary.classes["y/1"] == Counter(hot.argmax(1).tolist())


def test_the_worker_that_makes_a_batch_computes_them() -> None:
    data = dataset(40, batch_size=8)
    here = os.getpid(), threading.get_ident()
    assert {found[:2] for _, found in inline(data, 0, loaders.who)} == {here}
    by_threads = [found for _, found in threads(data, 0, loaders.who, workers=2)]
    assert {pid for pid, _, _ in by_threads} == {os.getpid()}
    assert here[1] not in {thread for _, thread, _ in by_threads}
    with Pool(data, workers=2) as pool:
        found = list(ProcessStream(pool, Work(data.plan, summarise=loaders.who), 0, ahead=4))
        assert {pid for _, (pid, _, _) in found} <= set(pool.pids)
        # Others may walk over the same epoch without figures, at the same time.
        plain = list(ProcessStream(pool, Work(data.plan), 0, ahead=4))
    for batch, (with_figures, _) in zip(plain, found, strict=True):
        np.testing.assert_array_equal(batch[0]["a"], with_figures[0]["a"])


def test_padding_is_not_counted() -> None:
    x = np.array([1.0, 3.0, 3.0, 3.0])
    assert summarise((x, np.array([0, 1, 1, 1])), 2) == Summary(
        2, 64, {"x": Moments.of(x[:2]), "y": Moments.of(np.array([0, 1]))}, {"y": {0: 1, 1: 1}}
    )


def test_leaves_that_are_no_numbers_are_left_out() -> None:
    batch = {
        "at": np.array([0, 1], "datetime64[s]"),
        "number": np.array([3, 4], "int8"),
        "sparse": scipy.sparse.csr_matrix(np.eye(2)),  # without `nbytes`
        "text": np.array(["a", "b"]),
    }
    figures = summarise((batch, np.array([["a"], ["b"]])), 2)
    assert list(figures.moments) == ["x/number"]
    assert figures.num_bytes == 2 * 8 + 2 + 2 * 4 + 2 * 4
    assert figures.classes == {}  # whole numbers in `x` are no classes


def test_small_floats_are_numbers_too() -> None:
    values = np.array([[1.5, np.nan], [-2, 0]])
    summary = summarise((values.astype(ml_dtypes.bfloat16), np.zeros(2)), 2)
    assert summary.moments["x"] == Moments.of(values.astype("float32"))


def test_what_is_no_batch_is_told() -> None:
    with pytest.raises(InvalidBatchError, match=r"^the dataset returned a tuple of 4; "):
        named((1, 2, 3, 4))


def test_names_are_paths() -> None:
    batch = ({"image": 1, "more": [2, 3]}, (4, {"z": 5}), 6)
    assert named(batch) == [
        ("x/image", 1),
        ("x/more/0", 2),
        ("x/more/1", 3),
        ("y/0", 4),
        ("y/1/z", 5),
        ("sample_weight", 6),
    ]


@given(hnp.arrays("int64", st.integers(0, 40), elements=st.integers(-3, 1100)))
def test_class_numbers_are_counted(numbers: Any) -> None:
    assert classes_in(numbers) == Counter(numbers.tolist())
    assert classes_in(numbers[:, np.newaxis]) == Counter(numbers.tolist())


def test_class_numbers_of_64_bits_without_a_sign_keep_theirs() -> None:
    assert classes_in(np.array([2**63, 1], "uint64")) == {1: 1, 2**63: 1}


def test_up_to_a_thousand_classes_have_any_numbers() -> None:
    numbers = np.arange(MOST_CLASSES) * 7 - 1
    found = classes_in(numbers)
    assert found == dict.fromkeys(numbers.tolist(), 1)
    assert {type(number) for number in found} == {int}
    assert {type(number) for number in classes_in(np.array([True, False, True])) or {}} == {int}


@pytest.mark.parametrize("classes", [2, 3])
def test_one_hot_rows_are_counted(classes: int) -> None:
    labels = np.array([1, 0, 1, classes - 1])
    assert classes_in(np.eye(classes)[labels]) == Counter(labels.tolist())


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.0, 1.0]),
        np.zeros((3, 4, 4), "uint8"),
        np.array([[0.0, 0.5], [1.0, 0.0]]),
        np.array([[1.0, 1.0], [1.0, 0.0]]),
        np.arange(1001) - 1,
    ],
    ids=["floats", "masks", "shares", "two of a row", "too many"],
)
def test_other_targets_are_no_classes(array: Any) -> None:
    assert classes_in(array) is None
