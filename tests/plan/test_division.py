"""`subset`, `split` and `folds` of a dataset."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import (
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError
from keras_npbatch.samplers import Balanced, Stratified

few = settings(deadline=None, derandomize=True, max_examples=30)
N = 120
DRAW = np.random.default_rng(0)
LABELS = DRAW.choice(["cat", "dog", "yak"], N, p=[0.6, 0.3, 0.1])
GROUPS = DRAW.integers(0, 40, N)


def dataset(n: int = N, **settings_: Any) -> Any:
    return ArrayDataset(np.arange(n), **{"batch_size": 8, "seed": 1, "workers": 0, **settings_})


def rows_of(part: Any) -> list[int]:
    return part.rows_in_order().tolist()  # type: ignore[no-any-return]


def quiet(ask: Callable[[], Any]) -> Any:
    """Without the warning about groups, of which other tests are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ask()


def are_disjoint_and_whole(parts: Any, rows: Any) -> bool:
    return sorted(itertools.chain.from_iterable(map(rows_of, parts))) == sorted(rows)


# --- split -------------------------------------------------------------------------------------

some_parts = st.sampled_from([(0.8,), (0.5, 0.5), (0.7, 0.2, 0.1), (0.25,) * 4, (0.1,) * 10])


@few
@given(fractions=some_parts, seed=st.integers(0, 5), part=st.booleans())
def test_stratified_each_class_is_cut_within_one_of_its_share(
    fractions: tuple[float, ...], seed: int, part: bool
) -> None:
    ds = dataset()
    if part:
        ds, _ = ds.split(0.75, seed=seed)
    parts = ds.split(*fractions, seed=seed, stratify=LABELS)
    assert are_disjoint_and_whole(parts, rows_of(ds))
    for label in np.unique(LABELS):
        total = np.count_nonzero(LABELS[rows_of(ds)] == label)
        for fraction, each in zip(fractions, parts, strict=False):
            assert abs(np.count_nonzero(LABELS[rows_of(each)] == label) - fraction * total) < 1


@few
@given(fractions=some_parts.filter(lambda f: len(f) < 5), seed=st.integers(0, 5))
def test_by_groups_no_group_is_in_two_parts(fractions: tuple[float, ...], seed: int) -> None:
    for stratify in (None, LABELS):
        parts = quiet(
            lambda s=stratify: dataset().split(*fractions, seed=seed, groups=GROUPS, stratify=s)
        )
        assert are_disjoint_and_whole(parts, range(N))
        for one, other in itertools.combinations(parts, 2):
            assert not set(GROUPS[rows_of(one)]) & set(GROUPS[rows_of(other)])


@few
@given(more=st.integers(0, 100), seed=st.integers(0, 5), names=st.booleans())
def test_appended_rows_move_no_group(more: int, seed: int, names: bool) -> None:
    groups = np.concatenate([GROUPS, np.random.default_rng(more).integers(0, 60, more)])
    if names:
        groups = np.array([f"patient {each}" for each in groups])
    before = dataset().split(0.6, 0.3, seed=seed, groups=groups[:N])
    after = dataset(N + more).split(0.6, 0.3, seed=seed, groups=groups)
    for old, new in zip(before, after, strict=True):
        assert rows_of(old) == [row for row in rows_of(new) if row < N]


def test_groups_and_classes_together_come_close() -> None:
    draw = np.random.default_rng(0)
    groups, labels = draw.integers(0, 400, 2000), draw.choice(3, 2000, p=[0.7, 0.2, 0.1])
    train, validation = dataset(2000).split(0.8, groups=groups, stratify=labels)
    for label in range(3):
        share = np.count_nonzero(labels[rows_of(validation)] == label) / (labels == label).sum()
        assert abs(share - 0.2) < 0.01
    assert not set(groups[rows_of(train)]) & set(groups[rows_of(validation)])


def test_a_split_is_of_words_seed_and_rows() -> None:
    ds = dataset()
    ways: list[dict[str, Any]] = [
        *({}, {"seed": 1}, {"stratify": LABELS}, {"groups": GROUPS}),
        {"stratify": LABELS, "groups": GROUPS},
    ]
    parts = [quiet(lambda w=way: ds.split(0.8, **w))[0] for way in ways]
    words = [part.state_dict()["dataset"]["split"] for part in parts]
    assert [each.rpartition(", ")[0] for each in words[2:]] == [
        "part 0 of split(0.8, 0.2, seed=0, stratify), of 120 rows",
        "part 0 of split(0.8, 0.2, seed=0, groups), of 120 rows",
        "part 0 of split(0.8, 0.2, seed=0, stratify, groups), of 120 rows",
    ]
    assert len({*words}) == len({tuple(rows_of(part)) for part in parts}) == len(ways)
    again = dataset().split(0.8, stratify=LABELS)[0]
    again.load_state_dict(parts[2].state_dict())
    other = np.roll(LABELS, 1)
    with pytest.raises(InvalidStateError, match="split was 'part 0 of split"):
        dataset().split(0.8, stratify=other)[0].load_state_dict(parts[2].state_dict())


def test_parts_of_parts() -> None:
    ds = dataset(sampler=Stratified(LABELS))
    train, _ = ds.split(0.8, stratify=LABELS)
    inner, held = train.split(0.75, seed=3, stratify=LABELS)
    assert are_disjoint_and_whole([inner, held], rows_of(train))
    few_ = held.subset(rows_of(held)[::2])
    assert rows_of(few_) == rows_of(held)[::2]
    assert [
        text.split(",")[0] for text in few_.state_dict()["dataset"]["split"].split(", then ")
    ] == [
        "part 0 of split(0.8",
        "part 1 of split(0.75",
        f"subset of {few_.num_samples} rows",
    ]
    (training, validation), *_ = inner.folds(3, stratify=LABELS)
    assert are_disjoint_and_whole([training, validation], rows_of(inner))
    plain, rest = validation.split(0.5)
    assert are_disjoint_and_whole([plain, rest], rows_of(validation))
    assert sorted(np.concatenate(list(plain)).tolist()) == rows_of(plain)


# --- folds -------------------------------------------------------------------------------------


@few
@given(
    n=st.integers(2, 100),
    k=st.integers(2, 12),
    seed=st.integers(0, 5),
    stratify=st.booleans(),
)
def test_each_row_is_held_out_once(n: int, k: int, seed: int, stratify: bool) -> None:
    k = min(k, n)
    labels = np.arange(n) % 3 if stratify and n >= 3 * k else None
    folds = dataset(n).folds(k, seed=seed, stratify=labels)
    assert len(folds) == k
    assert are_disjoint_and_whole([held for _, held in folds], range(n))
    sizes = [held.num_samples for _, held in folds]
    assert max(sizes) - min(sizes) <= 1
    for training, held in folds:
        assert are_disjoint_and_whole([training, held], range(n))
        if labels is not None:
            counts = np.bincount(labels[rows_of(held)], minlength=3)
            assert (np.abs(counts - np.bincount(labels) / k) < 1).all()


def test_by_default_there_are_five_and_another_seed_gives_others() -> None:
    folds = dataset().folds()
    assert len(folds) == 5
    for training, held in folds:
        assert (training.num_samples, held.num_samples) == (96, 24)
    assert rows_of(folds[0][1]) != rows_of(dataset().folds(seed=1)[0][1])
    assert rows_of(folds[0][1]) == rows_of(dataset().folds()[0][1])
    assert (
        folds[2][0]
        .state_dict()["dataset"]["split"]
        .startswith("all but fold 2 of folds(5, seed=0), ")
    )
    assert (
        folds[2][1]
        .state_dict()["dataset"]["split"]
        .startswith("fold 2 of folds(5, seed=0), of 120")
    )


@pytest.mark.parametrize("stratify", [None, LABELS])
def test_no_group_is_in_two_folds(stratify: Any) -> None:
    folds = quiet(lambda: dataset().folds(4, groups=GROUPS, stratify=stratify))
    assert are_disjoint_and_whole([held for _, held in folds], range(N))
    for training, held in folds:
        assert not set(GROUPS[rows_of(training)]) & set(GROUPS[rows_of(held)])
        assert abs(held.num_samples - N / 4) <= 4


@pytest.mark.parametrize("stratify", [None, LABELS])
@pytest.mark.parametrize("call", ["split", "folds"])
def test_another_seed_puts_groups_into_other_parts(call: str, stratify: Any) -> None:
    def training(seed: int) -> Any:
        whole = dataset()
        asked = {"groups": GROUPS, "stratify": stratify, "seed": seed}
        if call == "split":
            return quiet(lambda: whole.split(0.5, **asked))[0]
        return quiet(lambda: whole.folds(3, **asked))[0][0]

    assert rows_of(training(1)) == rows_of(training(1)) != rows_of(training(2))


def test_groups_and_labels_of_the_whole_data_divide_a_part_of_them() -> None:
    rows = np.flatnonzero(GROUPS % 3)
    part = dataset().subset(rows)
    for asked in ({"groups": GROUPS}, {"stratify": LABELS}, {"groups": GROUPS, "stratify": LABELS}):
        parts = quiet(lambda asked=asked: part.split(0.5, **asked))
        assert are_disjoint_and_whole(parts, rows)
        if "groups" in asked:
            of_parts = [set(GROUPS[rows_of(each)]) for each in parts]
            assert not set.intersection(*of_parts)


def test_a_fold_has_the_sampler_for_its_rows() -> None:
    for training, held in dataset(sampler=Balanced(LABELS)).folds(3, stratify=LABELS):
        rows = np.concatenate(list(training))
        assert set(rows.tolist()) <= set(rows_of(training))
        counts = np.unique(LABELS[rows], return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
        assert np.concatenate(list(held.batches_for("evaluate"))).tolist() == rows_of(held)


# --- splitters of scikit-learn -----------------------------------------------------------------

splitters = pytest.mark.parametrize(
    ("by", "given_"),
    [
        (StratifiedGroupKFold(4), {"stratify": LABELS, "groups": GROUPS}),
        (StratifiedKFold(3, shuffle=True, random_state=0), {"stratify": LABELS}),
        (LeaveOneGroupOut(), {"groups": GROUPS % 4}),
        (TimeSeriesSplit(5), {}),
        (ShuffleSplit(3, test_size=0.25, random_state=0), {}),
    ],
    ids=lambda value: type(value).__name__,
)


@splitters
@pytest.mark.parametrize("part", [False, True])
def test_the_folds_of_a_splitter_are_its_own(by: Any, given_: dict[str, Any], part: bool) -> None:
    ds = dataset().subset(np.arange(0, N, 2)) if part else dataset()
    rows = np.array(rows_of(ds))
    expected = list(
        by.split(
            np.zeros((len(rows), 1)),
            *(given_[name][rows] if name in given_ else None for name in ("stratify", "groups")),
        )
    )
    folds = ds.folds(by=by, **given_)
    assert len(folds) == len(expected)
    for found, theirs in zip(
        [*folds, ds.split(by=by, **given_)], [*expected, expected[0]], strict=True
    ):
        for each, numbers in zip(found, theirs, strict=True):
            assert rows_of(each) == np.sort(rows[numbers]).tolist()


class Splits:
    """Gives what it is told to."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        return iter(self.pairs)

    def __repr__(self) -> str:
        return "Splits"


# --- what is refused ---------------------------------------------------------------------------

TWENTY = np.arange(20)
ONE_CLASS = "are all of one class, 1; expected at least two. Leave stratify out."
ALONE = (
    "have one row each (20 groups); expected several rows in a group. Without groups, rows are "
    "divided one by one."
)
NO_SPLITTER = (
    "; expected a splitter of scikit-learn, such as StratifiedGroupKFold(5) or TimeSeriesSplit()."
)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda ds: ds.folds(5, stratify=np.repeat(["a", "b"], [17, 3])),
            "k is 5, and class 'b' has 3 rows; expected at least one for each fold. Use fewer "
            "folds.",
        ),
        (
            lambda ds: ds.folds(2, stratify=np.ones(20, int)),
            f"labels (stratify=) of folds {ONE_CLASS}",
        ),
        (
            lambda ds: ds.split(0.5, stratify=np.ones(20, int)),
            f"labels (stratify=) of split {ONE_CLASS}",
        ),
        (
            lambda ds: ds.subset(range(10)).folds(2, stratify=TWENTY // 10),
            "labels (stratify=) of folds are all of one class, 0; expected at least two. Leave "
            "stratify out.",
        ),
        (lambda ds: ds.folds(2, groups=TWENTY), f"groups of folds {ALONE}"),
        (lambda ds: ds.split(0.5, groups=TWENTY), f"groups of split {ALONE}"),
        (
            lambda ds: ds.folds(3, groups=TWENTY // 10),
            "folds was given 2 groups for 3 parts; expected at least one for each.",
        ),
        (
            lambda ds: ds.split(0.5, groups=np.zeros(20, int)),
            "split was given 1 group for 2 parts; expected at least one for each.",
        ),
        (
            lambda ds: ds.split(0.98, stratify=np.repeat([0, 1], 10)),
            "part 1 of split, counted from 0, would have none of the 20 samples; expected at least "
            "one. Use more even fractions, fewer parts, or another seed.",
        ),
        *(
            (
                lambda ds, name=name, call=call: getattr(ds, call)(
                    0.5 if call == "split" else 2, **{name: np.arange(19) // 4}
                ),
                f"{told} of {call} are 19 values, and the data have 20 rows; expected one for each "
                "row of the whole data, also for a part of a split.",
            )
            for name, told in (("stratify", "labels (stratify=)"), ("groups", "groups"))
            for call in ("split", "folds")
        ),
        (
            lambda ds: ds.split(0.5, groups=["a", None] * 10),
            "groups of split have None at row 1; expected a value for each row. Give these rows "
            "one of their own, or leave them out of the data.",
        ),
        (lambda ds: ds.folds(1), "k is 1 (int); expected a whole number from 2 to 20."),
        (lambda ds: ds.folds(21), "k is 21 (int); expected a whole number from 2 to 20."),
        (
            lambda ds: ds.split(stratify=TWENTY % 2),
            "split() makes 1 part; expected two to 100: at least one fraction, the rest is a part "
            "of its own.",
        ),
        (lambda ds: ds.folds(by=3), f"by is 3 (int){NO_SPLITTER}"),
        (lambda ds: ds.split(by=KFold), f"by is the class KFold{NO_SPLITTER}"),
        (
            lambda ds: ds.split(0.5, by=TimeSeriesSplit),
            "split was given fractions and by=the class TimeSeriesSplit; expected the splitter "
            "alone: it has settings of its own.",
        ),
        (
            lambda ds: ds.split(by=3, seed=1),
            "split was given a seed and by=3 (int); expected the splitter alone: it has settings "
            "of its own.",
        ),
        (
            lambda ds: ds.folds(5, by=3),
            "folds was given k and by=3 (int); expected the splitter alone: it has settings of its "
            "own.",
        ),
        (
            lambda ds: ds.folds(by=3, seed=1),
            "folds was given a seed and by=3 (int); expected the splitter alone: it has settings "
            "of its own.",
        ),
        (
            lambda ds: ds.folds(by=Splits(([0, 1], [2]), ([0, 0], [2]))),
            "in fold 1 of Splits, rows has 0 more than once; expected each row once. To have rows "
            "more often, give the dataset a sampler: Weighted or Balanced.",
        ),
        (
            lambda ds: ds.split(by=Splits(([0, 1], [20]))),
            "in fold 0 of Splits, rows has 20; expected row numbers from 0 to 19.",
        ),
        (
            lambda ds: ds.split(by=Splits(([], [1]))),
            "in fold 0 of Splits, rows is empty; expected at least one row of the data.",
        ),
        (
            lambda ds: ds.folds(by=Splits()),
            "by is Splits (Splits), which gave no fold; expected one.",
        ),
        (
            lambda ds: ds.folds(by=KFold(3), stratify=TWENTY[1:]),
            "labels (stratify=) of folds are 19 values, and the data have 20 rows; expected one "
            "for each row of the whole data, also for a part of a split.",
        ),
    ],
)
def test_what_can_not_be_done_is_refused(ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        ask(dataset(20))
    assert str(error.value) == message


@pytest.mark.parametrize("call", ["split", "folds"])
@pytest.mark.parametrize("seed", [-1, "a", 2**128])
def test_seeds_are_checked(call: str, seed: Any) -> None:
    labels = TWENTY % 2
    with pytest.raises(InvalidArgumentError, match=r"^seed is"):
        getattr(dataset(20), call)(
            *((0.5,) if call == "split" else (2,)), seed=seed, stratify=labels
        )


@pytest.mark.parametrize("call", ["split", "folds"])
@pytest.mark.parametrize(
    ("by", "given_", "told"),
    [
        (StratifiedKFold(3), {}, "no stratify= and no groups="),
        (StratifiedGroupKFold(3), {"groups": TWENTY // 4}, "no stratify="),
        (LeaveOneGroupOut(), {"stratify": TWENTY % 2}, "no groups="),
    ],
)
def test_what_a_splitter_was_not_given_is_told_beside_its_error(
    call: str, by: Any, given_: dict[str, Any], told: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        getattr(dataset(20), call)(by=by, **given_)
    assert error.value.__notes__ == [
        f"keras_npbatch: {call}(by={type(by).__name__}) was given {told}: to a splitter, stratify= "
        "is its y, and groups= its groups."
    ]


def test_an_error_of_a_splitter_that_was_given_all_stays_as_it_is() -> None:
    by = StratifiedGroupKFold(9)
    with pytest.raises(ValueError, match="n_splits=9") as error:
        dataset(20).folds(by=by, stratify=TWENTY // 5, groups=TWENTY // 4)
    assert not hasattr(error.value, "__notes__")


def test_a_splitter_without_folds_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="which gave no fold; expected one"):
        dataset(20).folds(by=PredefinedSplit([-1] * 20))


# --- literal rows ------------------------------------------------------------------------------

FEW_LABELS, FEW_GROUPS = np.arange(24) * 7 % 5 // 2, np.arange(24) * 5 % 9
PINNED: list[tuple[dict[str, Any], list[int], list[list[int]]]] = [
    (
        {"stratify": FEW_LABELS},
        [1, 4, 7, 9, 10, 12, 13, 14, 15, 17, 20, 23],
        [
            [0, 3, 5, 11, 16, 18, 21, 22],
            [2, 4, 6, 8, 17, 19, 20, 23],
            [1, 7, 9, 10, 12, 13, 14, 15],
        ],
    ),
    (
        {"groups": FEW_GROUPS},
        [0, 8, 9, 17, 18],
        [
            [1, 5, 6, 10, 14, 15, 19, 23],
            [0, 3, 7, 9, 12, 16, 18, 21],
            [2, 4, 8, 11, 13, 17, 20, 22],
        ],
    ),
    (
        {"stratify": FEW_LABELS, "groups": FEW_GROUPS},
        [0, 1, 3, 7, 8, 9, 10, 12, 16, 17, 18, 19, 21],
        [
            [4, 5, 6, 13, 14, 15, 22, 23],
            [1, 3, 8, 10, 12, 17, 19, 21],
            [0, 2, 7, 9, 11, 16, 18, 20],
        ],
    ),
]


@pytest.mark.parametrize(("asked", "half", "held_out"), PINNED, ids=["labels", "groups", "both"])
def test_parts_have_the_rows_that_they_had(
    asked: dict[str, Any], half: list[int], held_out: list[list[int]]
) -> None:
    """A later version must not move rows of the users' from one part to another."""
    whole = dataset(24)
    assert rows_of(quiet(lambda: whole.split(0.5, seed=3, **asked))[1]) == half
    assert [rows_of(held) for _, held in quiet(lambda: whole.folds(3, seed=3, **asked))] == held_out
