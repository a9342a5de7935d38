"""`Stratified`: in any prefix of an epoch each class is within one of its share."""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.order import Available, Rows, WholeData, every_row
from keras_npbatch.samplers.stratified import Stratified

few = settings(deadline=None, derandomize=True, max_examples=30)
PIECE = 2**15
SEVERAL_PIECES = 2 * PIECE + 301


def drawn(n: int, classes: int, evenness: float, number: int = 0) -> Rows:
    """Classes in Dirichlet shares, in any order; the first two have a row."""
    draw = np.random.default_rng((n, classes, number))
    labels = draw.choice(classes, n, p=draw.dirichlet(np.full(classes, evenness)))
    labels[:2] = 0, 1
    return labels


def epoch_of(labels: Rows, available: Available, seed: int = 0, epoch: int = 0) -> Rows:
    order = Stratified(labels).order(available, 32, seed, epoch)
    return order.rows(0, available.num_samples)


def off(labels: Rows) -> tuple[float, float]:
    """How far any class is from its share, at most: in any prefix, and in any batch of 32."""
    n = len(labels)
    in_prefix = in_batch = 0
    for count, label in zip(*np.unique(labels, return_counts=True)[::-1], strict=True):
        # In n-ths of a row, so that nothing is rounded.
        lead = np.cumsum(labels == label) * n - np.arange(1, n + 1) * count
        in_prefix = max(in_prefix, int(np.abs(lead).max()))
        in_batch = max(in_batch, int(np.abs(np.diff(lead[31::32], prepend=0)).max(initial=0)))
    return in_prefix / n, in_batch / n


@few
@given(
    n=st.integers(2, 60) | st.integers(61, 2000),
    classes=st.integers(2, 40),
    evenness=st.sampled_from([0.05, 0.3, 1.0, 50.0]),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    part=st.booleans(),
)
def test_every_prefix_is_within_one_of_each_share_and_every_batch_within_two(
    n: int, classes: int, evenness: float, seed: int, epoch: int, part: bool
) -> None:
    """Of the share that the class has in the available rows."""
    labels = drawn(n, classes, evenness)
    available: Available = WholeData(n)
    if part:
        some = np.flatnonzero(np.random.default_rng(seed).random(n) < 0.6)
        available = Chosen(n, ("some",), some if len(some) else np.array([0]))
    rows = epoch_of(labels, available, seed, epoch)
    assert np.array_equal(np.sort(rows), every_row(available))
    in_prefix, in_batch = off(labels[rows])
    assert in_prefix < 1
    assert in_batch < 2


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_so_it_is_in_several_pieces(classes: int) -> None:
    labels = drawn(SEVERAL_PIECES, classes, 0.3)
    for epoch in range(2):
        rows = epoch_of(labels, WholeData(len(labels)), epoch=epoch)
        assert np.array_equal(np.sort(rows), np.arange(len(labels)))
        assert off(labels[rows])[0] < 1
        # Of a rare class, a row may stand in either of two pieces.
        order = Stratified(labels).order(WholeData(len(labels)), 32, 0, epoch)
        rare = np.flatnonzero(np.bincount(labels)[labels] < 300)[:100]
        near = np.concatenate([rows[PIECE - 30 : PIECE + 30], rows[-30:], rare])
        assert np.array_equal(rows[order.positions(near)], near)


def test_the_rows_of_a_rare_class_are_spread_evenly() -> None:
    """One in each of as many equal stretches."""
    labels = np.zeros(1000, np.int64)
    labels[-7:] = 1
    for epoch in range(5):
        at = np.flatnonzero(labels[epoch_of(labels, WholeData(1000), epoch=epoch)] == 1)
        assert (at * 7 // 1000).tolist() == list(range(7))


def test_rows_and_pattern_are_new_each_epoch() -> None:
    labels = drawn(2000, 3, 5.0)
    epochs = [epoch_of(labels, WholeData(2000), epoch=epoch) for epoch in range(3)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (epochs[one] == epochs[other]).mean() < 0.05
        changed = (labels[epochs[one]] != labels[epochs[other]]).mean()
        assert 0.1 < changed < 0.9


def test_each_row_of_a_class_comes_in_each_of_its_turns() -> None:
    """The order within a class is a permutation of its own in each epoch."""
    labels = np.repeat([0, 1], [4, 60])
    firsts = [
        next(r for r in epoch_of(labels, WholeData(64), epoch=e) if r < 4) for e in range(200)
    ]
    assert np.bincount(firsts).min() > 25


@pytest.mark.parametrize(
    "convert",
    [
        lambda codes: codes.astype(np.uint8),
        lambda codes: codes[:, np.newaxis],
        lambda codes: np.eye(3)[codes],
        lambda codes: np.eye(3, dtype=bool)[codes],
        lambda codes: np.array(["a", "b", "cc"])[codes],
        lambda codes: np.array(["a", "b", "cc"], object)[codes],
        lambda codes: codes.astype(object),
        lambda codes: codes.astype("float32") * 10**9 - 5,
        lambda codes: codes * 2**40 - 2**40,
        lambda codes: codes.tolist(),
    ],
)
def test_labels_are_what_tells_classes_apart(convert) -> None:
    codes = drawn(200, 3, 2.0)
    assert Stratified(convert(codes)) == Stratified(codes)
    whole = WholeData(200)
    assert np.array_equal(epoch_of(convert(codes), whole), epoch_of(codes, whole))


def test_two_classes_may_be_true_and_false() -> None:
    codes = drawn(200, 2, 2.0)
    assert Stratified(codes == 1) == Stratified(codes)


def test_threads_that_read_far_apart_read_the_same() -> None:
    labels = drawn(4 * PIECE, 4, 1.0)
    expected = epoch_of(labels, WholeData(len(labels)))
    sampler = Stratified(labels)
    order = sampler.order(WholeData(len(labels)), 32, 0, 0)
    starts = [3 * PIECE, 10, 3 * PIECE - 5, PIECE, 2 * PIECE + 1, 0] * 3
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda start: order.rows(start, start + 20), starts))
    for start, rows in zip(starts, found, strict=True):
        assert np.array_equal(rows, expected[start : start + 20])


def test_it_keeps_eight_bytes_a_row() -> None:
    n = 3 * PIECE
    labels = drawn(n, 10, 1.0)
    tracemalloc.start()
    try:
        sampler = Stratified(labels)
        order = sampler.order(WholeData(n), 32, 0, 0)
        for start in range(0, n, PIECE):
            order.rows(start, min(start + 32, n))
        del order
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8 * n + 50_000


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        Stratified(["a", "a"])
    assert str(error.value) == (
        "labels of Stratified have one class, 'a'; expected at least two. For one class "
        "shuffle=True does the same."
    )
    with pytest.raises(InvalidArgumentError, match=r"^labels of Stratified have 0.5 at row 0; "):
        Stratified([0.5, 1])
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(10), sampler=Stratified([0, 1, 1]))
    assert str(error.value) == (
        "labels of Stratified are 3 values, and the data have 10 rows; expected one for each row "
        "of the whole data, also for a part of a split."
    )


def test_its_identity_tells_the_labels() -> None:
    assert repr(Stratified([0, 1, 1])) == "Stratified(2 classes of 3 rows, 21a8fb707650020c)"
    assert Stratified([0, 1, 1]) != Stratified([1, 0, 1])
