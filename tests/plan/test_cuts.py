"""Cuts: each class in the same fractions, no group in two parts, or both."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.plan.cuts import dealt, grouped, stratified

few = settings(deadline=None, derandomize=True, max_examples=80)


@st.composite
def shares(draw: st.DrawFn) -> list[Fraction]:
    """Equal ones, as of folds, or any that sum to 1."""
    if draw(st.booleans()):
        k = draw(st.integers(2, 12))
        return [Fraction(1, k)] * k
    weights = draw(st.lists(st.integers(1, 20), min_size=2, max_size=8))
    return [Fraction(weight, sum(weights)) for weight in weights]


def drawn(seed: int, n: int, classes: int) -> npt.NDArray[np.int64]:
    draw = np.random.default_rng(seed)
    return draw.choice(classes, n, p=draw.dirichlet(np.ones(classes)))


def counts(parts: Any, of_rows: Any, share: list[Fraction]) -> npt.NDArray[np.int64]:
    """Rows of each class in each part."""
    found = np.zeros((len(share), of_rows.max() + 1), np.int64)
    np.add.at(found, (parts, of_rows), 1)
    return found


# --- classes -----------------------------------------------------------------------------------


@few
@given(shares(), st.integers(1, 300), st.integers(1, 12), st.integers(0, 5))
def test_each_class_is_cut_in_these_fractions_give_or_take_one_row(
    share: list[Fraction], n: int, classes: int, seed: int
) -> None:
    codes = drawn(seed, n, classes)
    parts = stratified(codes, share, seed)
    assert len(parts) == n
    found = counts(parts, codes, share)
    for fraction, of_part in zip(share, found.tolist(), strict=True):
        for count, of_class in zip(of_part, np.bincount(codes).tolist(), strict=True):
            assert count in ((fraction * of_class).__floor__(), (fraction * of_class).__ceil__())


@few
@given(shares(), st.integers(1, 300), st.integers(1, 12), st.integers(0, 5))
def test_so_are_all_rows_together(share: list[Fraction], n: int, classes: int, seed: int) -> None:
    """Of equal parts to one row; of others to less than two, whatever the number of classes."""
    sizes = np.bincount(stratified(drawn(seed, n, classes), share, seed), minlength=len(share))
    if len(set(share)) == 1:
        assert sizes.max() - sizes.min() <= 1
    for fraction, size in zip(share, sizes.tolist(), strict=True):
        assert abs(size - fraction * n) < 2


def test_another_seed_gives_other_rows_and_the_same_seed_the_same() -> None:
    codes, half = drawn(0, 400, 3), [Fraction(1, 2)] * 2
    one = stratified(codes, half, 0)
    assert np.array_equal(one, stratified(codes, half, 0))
    assert 0.4 < (one == stratified(codes, half, 1)).mean() < 0.6
    # Nor do two classes of one size have the same rows.
    parts = stratified(np.repeat([0, 1], 200), half, 0)
    assert 0.35 < (parts[:200] == parts[200:]).mean() < 0.65


# --- groups ------------------------------------------------------------------------------------


def test_no_group_is_in_two_parts_and_appended_rows_move_none() -> None:
    draw = np.random.default_rng(0)
    share = [Fraction(3, 5), Fraction(3, 10), Fraction(1, 10)]
    names = [f"patient {number}" for number in range(2000)]
    codes = draw.integers(0, 1500, 5000)
    parts = grouped(codes, names, share, 3)
    of_groups = dict(zip(codes.tolist(), parts.tolist(), strict=True))
    assert [of_groups[code] for code in codes.tolist()] == parts.tolist()
    for part, fraction in enumerate(share):
        here = sum(each == part for each in of_groups.values()) / len(of_groups)
        assert abs(here - fraction) < 0.05
    more = np.concatenate([codes, draw.integers(0, 2000, 3000)])
    assert np.array_equal(grouped(more, names, share, 3)[:5000], parts)
    # Nor does it matter how groups are numbered.
    turned = grouped(1999 - codes, names[::-1], share, 3)
    assert np.array_equal(turned, parts)
    assert (grouped(codes, names, share, 4) != parts).mean() > 0.3


@pytest.mark.parametrize(
    ("kind", "seed", "parts"),
    [
        (int, 0, [2, 0, 2, 2, 1, 0, 2, 0, 0, 2, 2, 2]),
        (str, 0, [1, 0, 2, 0, 0, 2, 1, 1, 0, 0, 0, 2]),
        (int, 2**100, [0, 0, 1, 1, 1, 0, 1, 2, 0, 0, 0, 2]),
    ],
)
def test_which_part_a_group_is_in_stays_the_same_in_every_release(
    kind: Any, seed: int, parts: list[int]
) -> None:
    names = [kind(number) for number in range(12)]
    assert grouped(np.arange(12), names, [Fraction(1, 3)] * 3, seed).tolist() == parts


# --- both --------------------------------------------------------------------------------------


@few
@given(shares(), st.integers(1, 60), st.integers(1, 6), st.integers(0, 5))
def test_groups_are_dealt_out_whole(
    share: list[Fraction], num_groups: int, classes: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    groups = np.unique(draw.integers(0, num_groups, 4 * num_groups), return_inverse=True)[1]
    codes = np.unique(drawn(seed, len(groups), classes), return_inverse=True)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = dealt(groups, codes, [], share, seed, "split")
    assert set(parts.tolist()) <= set(range(len(share)))
    for group in range(groups.max() + 1):
        assert len(set(parts[groups == group].tolist())) == 1


def test_many_small_groups_are_dealt_to_nearly_equal_parts() -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), draw.integers(1, 8, 300))
    codes = draw.choice(3, len(groups), p=[0.7, 0.2, 0.1])
    for share in ([Fraction(1, 5)] * 5, [Fraction(7, 10), Fraction(2, 10), Fraction(1, 10)]):
        found = counts(dealt(groups, codes, [], share, 0, "split"), codes, share)
        wanted = np.outer([float(each) for each in share], np.bincount(codes))
        assert np.abs(found - wanted).max() <= 2


def test_groups_that_no_part_needs_more_go_to_the_emptiest_one() -> None:
    fifth = [Fraction(1, 5)] * 5
    groups = np.repeat(np.arange(13), 5)
    codes = np.repeat([1, 1, 1, *[0] * 10], 5)
    with pytest.warns(UserWarning, match="^folds keeps groups together"):
        sizes = np.bincount(dealt(groups, codes, [], fifth, 0, "folds"))
    assert sorted(sizes.tolist()) == [10, 10, 15, 15, 15]
    half = [Fraction(1, 2)] * 2
    with pytest.warns(UserWarning, match="^folds keeps groups together"):
        parts = dealt(np.repeat([0, 1], 4), np.repeat([0, 1], 4), [], half, 0, "folds")
    assert np.bincount(parts).tolist() == [4, 4]


@pytest.mark.parametrize(("classes", "of_each"), [(10, 2), (50, 2), (100, 1), (3, 1)])
@pytest.mark.parametrize("share", [Fraction(4, 5), Fraction(7, 10)])
def test_no_part_is_left_out_where_classes_have_few_groups(
    classes: int, of_each: int, share: Fraction
) -> None:
    """Each group is of one class, as patients are of one diagnosis."""
    codes = np.repeat(np.arange(classes), 10 * of_each)
    groups = np.arange(len(codes)) // 10
    with pytest.warns(UserWarning, match="^split keeps groups together"):
        parts = dealt(groups, codes, [], [share, 1 - share], 0, "split")
    assert (parts == 1).sum() >= (1 - share) * len(codes) / 3


def test_a_group_that_fills_a_part_leaves_the_classes_of_the_others_even() -> None:
    draw = np.random.default_rng(0)
    sizes = np.array([2000, *draw.integers(1, 8, 60)])
    groups = np.repeat(np.arange(61), sizes)
    codes = np.where(groups == 0, 0, draw.integers(1, 4, len(groups)))
    third = [Fraction(1, 3)] * 3
    with pytest.warns(UserWarning, match="^folds keeps groups together"):
        found = counts(dealt(groups, codes, [], third, 0, "folds"), codes, third)
    assert np.ptp(found[:, 1:], axis=0).max() <= 2


def test_what_could_not_be_met_is_told_where_the_user_calls() -> None:
    from keras_npbatch import ArrayDataset

    groups, codes = np.repeat([0, 1, 2], [12, 2, 2]), np.tile(["a", "b"], 8)
    with pytest.warns(UserWarning, match=r"keeps groups together") as told:
        ArrayDataset(np.arange(16)).folds(2, groups=groups, stratify=codes)
    with pytest.warns(UserWarning, match=r"keeps groups together") as also:
        ArrayDataset(np.arange(16)).split(0.5, groups=groups, stratify=codes)
    assert [str(each[0].message) for each in (told, also)] == [
        f"{call} keeps groups together, so its parts can't be as asked: part 0 has 6 rows of class "
        "'a', and 4.0 would be its share. More and smaller groups come closer."
        for call in ("folds", "split")
    ]
    with pytest.warns(UserWarning, match=r"keeps groups together") as without:
        ArrayDataset(np.arange(16)).folds(2, groups=groups)
    assert "part 0 has 12 rows, and 8.0 would be its share." in str(without[0].message)
    assert told[0].filename == also[0].filename == __file__


def test_the_seed_decides_between_groups_of_equal_size() -> None:
    groups, codes = np.repeat(np.arange(40), 3), np.zeros(120, np.int64)
    half = [Fraction(1, 2)] * 2
    one = dealt(groups, codes, [], half, 0, "folds")
    assert np.array_equal(one, dealt(groups, codes, [], half, 0, "folds"))
    assert 0.2 < (one != dealt(groups, codes, [], half, 1, "folds")).mean() < 0.8
    assert np.bincount(one).tolist() == [60, 60]


@pytest.mark.parametrize("sizes", [(2, 1), (3, 1), (22, 18)])
def test_a_part_that_is_off_by_one_row_or_by_a_tenth_is_as_asked(sizes: tuple[int, int]) -> None:
    groups = np.repeat([0, 1], sizes)
    half = [Fraction(1, 2)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = dealt(groups, np.zeros_like(groups), [], half, 0, "split")
    assert sorted(np.bincount(parts).tolist()) == sorted(sizes)


@pytest.mark.parametrize("sizes", [(4, 1), (23, 18)])
def test_a_part_that_is_farther_off_is_told(sizes: tuple[int, int]) -> None:
    groups = np.repeat([0, 1], sizes)
    half = [Fraction(1, 2)] * 2
    with pytest.warns(UserWarning, match=f"part 0 has {sizes[0]} rows, and {sum(sizes) / 2} would"):
        dealt(groups, np.zeros_like(groups), [], half, 0, "split")


def test_of_several_that_are_off_the_one_that_is_most_so_for_its_size_is_told() -> None:
    """Of those that are equally so, the first."""
    codes, half = np.repeat([0, 1], [3, 50]), [Fraction(1, 2)] * 2
    with pytest.warns(UserWarning, match=r"part 0 has 3 rows of class 'b', and 1\.5 would be its"):
        dealt(np.zeros_like(codes), codes, ["b", "a"], half, 0, "split")
