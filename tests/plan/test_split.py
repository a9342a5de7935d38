"""Splits: each row is in one part, by its number alone, in the order of the data."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, Shard
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError
from keras_npbatch.plan.division import divided
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.split import Selection
from keras_npbatch.samplers.order import MAX_ROWS
from keras_npbatch.samplers.own import chosen_sampler
from keras_npbatch.samplers.permutation import MATERIALISED_ROWS

exact = settings(deadline=None, derandomize=True, max_examples=120)

# Of few digits, near the ends, and such as no float holds.
some_fraction = (
    st.sampled_from([0.1, 0.2, 0.5, 0.8, 0.9, 1 / 3, 1e-6, 1 - 1e-6])
    | st.integers(1, 99).map(lambda percent: percent / 100)
    | st.integers(1, 10**6 - 1).map(lambda digits: digits / 10**6)
)


@st.composite
def fractions(draw: st.DrawFn) -> tuple[float, ...]:
    """Of one to four parts, which sum to less than 1, or to 1 but for the error of floats."""
    chosen = draw(st.lists(some_fraction, min_size=1, max_size=4))
    total = sum(chosen)
    if total < 1 - 1e-5:
        return tuple(chosen)
    # Of whole millionths, so that there is one way to read them.
    millionths = [max(1, int(fraction / total * 10**6)) for fraction in chosen]
    whole = draw(st.booleans())
    rest = 10**6 - sum(millionths[:-1]) - (0 if whole else 1)
    millionths[-1] = rest if rest > 0 else 1
    return tuple(number / 10**6 for number in millionths) if len(chosen) > 1 else (0.5,)


def split_of(num_rows: int, parts: tuple[float, ...], seed: int = 0) -> list[Selection]:
    """The parts, or none if one of them is empty."""
    try:
        return Selection(num_rows).split(parts, seed)
    except InvalidArgumentError as error:
        if "would have none of" not in str(error):
            raise
        return []


def rows_of(part: Selection) -> list[int]:
    return part.rows(np.arange(part.num_samples)).tolist()


def flat(lists: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


# ---------------------------------------------------------------- rows


@exact
@given(st.integers(1, 3000), fractions(), st.integers(0, 2**70))
def test_each_row_is_in_one_part_in_the_order_of_the_data(num_rows, parts, seed):
    selections = split_of(num_rows, parts, seed)
    everything = [rows_of(part) for part in selections]
    if selections:
        assert sorted(flat(everything)) == list(range(num_rows))
    for part, rows in zip(selections, everything, strict=True):
        assert rows == sorted(rows)
        numbers = part.numbers(np.arange(num_rows))
        assert numbers[rows].tolist() == list(range(len(rows)))
        assert (np.delete(numbers, rows) == -1).all()


@exact
@given(st.integers(1, 3000), fractions(), st.integers(0, 5))
def test_of_the_first_rows_each_part_has_its_fraction(num_rows, parts, seed):
    """To less than two rows for each cut that leads to it."""
    shares = [Fraction(part).limit_denominator(10**6) for part in parts]
    for part, share in zip(split_of(num_rows, parts, seed), shares, strict=False):
        is_in = part.numbers(np.arange(num_rows)) >= 0
        expected = np.arange(1, num_rows + 1) * float(share)
        assert (np.abs(np.cumsum(is_in) - expected) < 2 * len(part.halves) + 1e-6).all()


@exact
@given(st.integers(1, 2000), st.integers(0, 2000), fractions(), st.integers(0, 5))
def test_rows_that_are_appended_move_none(num_rows, more, parts, seed):
    before, after = split_of(num_rows, parts, seed), split_of(num_rows + more, parts, seed)
    for old, new in zip(before, after, strict=bool(before)):
        assert rows_of(old) == [row for row in rows_of(new) if row < num_rows]


@pytest.mark.parametrize("percent", [5, 10, 20, 25, 50, 75, 80, 99])
def test_a_whole_number_of_strata_is_divided_exactly(percent):
    for num_rows in (100, 1700):
        left, right = split_of(num_rows, (percent / 100,), seed=3)
        assert (left.num_samples, right.num_samples) == (
            num_rows * percent // 100,
            num_rows * (100 - percent) // 100,
        )


@exact
@given(
    st.integers(MATERIALISED_ROWS, MAX_ROWS) | st.integers(MAX_ROWS - 3, MAX_ROWS),
    fractions(),
    st.data(),
)
def test_data_of_any_size_are_split_without_walking_through_them(num_rows, parts, data):
    selections = split_of(num_rows, parts)
    assert sum(part.num_samples for part in selections) == num_rows
    row = np.array([data.draw(st.integers(0, num_rows - 1))])
    numbers = [int(part.numbers(row)[0]) for part in selections]
    assert sum(number >= 0 for number in numbers) == 1
    for part, number in zip(selections, numbers, strict=True):
        if number >= 0:
            assert part.rows(np.array([number])).tolist() == row.tolist()
        last = part.num_samples - 1
        middle = data.draw(st.integers(0, last))
        some = np.unique([0, middle, min(middle + 1, last), last])
        rows = part.rows(some)
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= 0
        assert rows[-1] < num_rows
        assert part.numbers(rows).tolist() == some.tolist()


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.37, 0.5, 0.6, 0.7, 0.8])
def test_each_row_is_equally_likely_to_be_in_a_part(fraction):
    """Over 1,500 seeds, in every place; five standard deviations."""
    num_rows, times = 60, 1500
    counts = np.zeros(num_rows)
    for seed in range(times):
        counts[rows_of(split_of(num_rows, (fraction,), seed)[0])] += 1
    assert (
        np.abs(counts / times - fraction) < 5 * np.sqrt(fraction * (1 - fraction) / times)
    ).all()


@pytest.mark.parametrize("fraction", [0.37, 0.6, 0.7, 0.8])
def test_data_that_repeat_themselves_are_not_favoured(fraction):
    """Each residue of the row numbers, modulo the length of a block too."""
    rows = np.array(rows_of(split_of(10**6, (fraction,))[0]))
    for period in (2, 5, 10, 100):
        counts = np.bincount(rows % period, minlength=period)
        expected = 10**6 / period * fraction
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected * (1 - fraction)) + 1).all()


def test_the_choices_of_different_strata_and_seeds_are_independent():
    picked = [np.array(rows_of(split_of(40_000, (0.1,), seed)[0])) % 10 for seed in (0, 1)]
    for one, other in ((picked[0], picked[1]), (picked[0][1:], picked[0][:-1])):
        table = np.histogram2d(one, other, bins=10, range=[[0, 10], [0, 10]])[0]
        expected = table.sum() / 100
        chi_square = ((table - expected) ** 2 / expected).sum()
        assert 50 < chi_square < 170  # 99 degrees of freedom; 0.9999 of it lies within


def test_the_first_part_does_not_depend_on_how_the_rest_is_split():
    train = rows_of(split_of(1000, (0.8,))[0])
    assert train == rows_of(split_of(1000, (0.8, 0.1))[0])
    assert train == rows_of(split_of(1000, (0.8, 0.05, 0.15))[0])
    assert train == rows_of(split_of(1000, (0.2, 0.8))[1])


def test_the_parts_stay_the_same_in_every_release():
    _, validation, test = Selection(60).split((0.8, 0.1), 0)
    assert rows_of(validation) == [9, 12, 26, 36, 40, 59]
    assert rows_of(test) == [2, 17, 24, 32, 46, 50]
    some = np.array([0, 10**12, 10**14])
    assert [part.rows(some).tolist() for part in Selection(10**15).split((0.123456,), 7)] == [
        [0, 8100051840339, 810005184033184],
        [1, 1140844042057, 114084404205608],
    ]


def test_a_part_can_be_split_again():
    left, right = split_of(1000, (0.5,))
    quarters = [quarter for half in (left, right) for quarter in half.split((0.5,), 0)]
    assert sorted(flat(map(rows_of, quarters))) == list(range(1000))
    assert set(rows_of(quarters[0])) < set(rows_of(left))
    # The same seed again, but another cut: what it chooses does not follow from the first,
    # nor from what is chosen of the other half.
    rows = [np.array(rows_of(half)) for half in (left, right)]
    is_first = [quarters[2 * side].numbers(rows[side]) >= 0 for side in (0, 1)]
    for one, other in ((rows[0] % 2 == 1, is_first[0]), (is_first[0], is_first[1])):
        for here in (True, False):
            for there in (True, False):
                assert 90 < ((one == here) & (other == there)).sum() < 160


@pytest.mark.parametrize(
    "wrong",
    [
        *((), (0,), (1,), (1.0,), (-0.1,), (8,), (1e-9,), (float("nan"),)),
        *(("half",), (True,), (None,), ([0.8],), (0.5, 0.6), (0.5, 0.5, 0.1), (0.005,) * 150),
    ],
)
def test_fractions_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InvalidArgumentError, match=r"split.*expected"):
        Selection(100).split(wrong, 0)


@pytest.mark.parametrize("wrong", [0, 1, 1.5, -0.1, True, "half"])
def test_a_number_that_is_no_fraction_is_told(wrong):
    told = rf"^split was given .*{wrong}.*; expected the fraction .* above 0 and below 1, "
    with pytest.raises(InvalidArgumentError, match=told):
        Selection(100).split((0.5, wrong), 0)


@pytest.mark.parametrize(
    ("nearly", "parts"),
    [
        ((0.1234567, 0.8765433), 2),
        ((0.1,) * 10, 10),
        ((1 / 7,) * 7, 7),
        ((0.1 + 0.2, 0.7), 2),
        ((0.3333333, 0.3333333, 0.3333333), 3),
        ((0.333, 0.333, 0.333), 4),
        ((0.333333,) * 3, 3),
        ((0.166667,) * 6, 6),
        ((0.999999,), 2),
    ],
)
def test_what_sums_to_nearly_1_leaves_no_part_over(nearly, parts):
    selections = Selection(10**9).split(nearly, 0)
    assert len(selections) == parts
    assert sum(part.num_samples for part in selections) == 10**9
    # What the sum lacks, or has too much, is the last part's alone.
    for fraction, part in zip(nearly[:-1], selections, strict=False):
        share = Fraction(fraction).limit_denominator(10**6)
        assert abs(part.num_samples - share * 10**9) <= 2 * parts
    told = selections[0].names[-1].partition("split(")[2].partition(", seed")[0]
    assert abs(sum(map(float, told.split(", "))) - 1) < 1e-12


@pytest.mark.parametrize("seed", [-1, 0.5, None, 2**128])
def test_seeds_that_make_no_sense_are_refused(seed):
    with pytest.raises(InvalidArgumentError, match="seed"):
        Selection(100).split((0.8,), seed)


def test_a_part_without_a_row_is_refused():
    with pytest.raises(
        InvalidArgumentError, match=r"part 1 of split\(0.999, 0.001, seed=0\), counted"
    ):
        Selection(10).split((0.999,), 0)


def test_numbers_of_numpy_and_fractions_are_numbers():
    expected = rows_of(split_of(100, (0.8,))[0])
    for fraction in (np.float32(0.8), np.float64(0.8), Fraction(4, 5)):
        assert rows_of(Selection(100).split((fraction,), np.int64(0))[0]) == expected


# ---------------------------------------------------------------- plans


@exact
@given(
    st.integers(10, 400),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from(["keep", "drop", "pad", "spread"]),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_an_epoch_of_a_part_has_its_rows_once(n, batch_size, shuffle, remainder, count, epoch):
    sampler = chosen_sampler(shuffle, None)
    for part in divided(Plan(n, 1, 5, sampler, "keep"), (0.6,), 0):
        if remainder == "drop" and part.num_samples < batch_size * count:
            continue
        plans = [
            Plan(
                part.num_samples,
                batch_size,
                part.seed,
                sampler,
                remainder,
                Shard(index, count),
                selection=part.selection,
            )
            for index in range(count)
        ]
        rows = [
            (index, step, place, row)
            for index, each in enumerate(plans)
            for step in range(each.num_batches)
            for place, row in enumerate(each.rows(epoch, step).tolist())
        ]
        own = set(rows_of(part.selection))
        left_out = part.num_samples % (batch_size * count) if remainder == "drop" else 0
        assert len(rows) == len({row for *_, row in rows}) == len(own) - left_out
        assert {row for *_, row in rows} <= own
        for index, step, place, row in rows:
            assert plans[index].locate(row, epoch) == [(step, place)]
            assert plans[0].locate_shards(row, epoch) == [(step, index, place)]
        for row in set(range(n)) - {row for *_, row in rows}:
            assert plans[0].locate_shards(row, epoch) == []


def test_a_part_is_shuffled_anew_each_epoch_and_read_in_order_elsewhere():
    part, _ = divided(Plan(1000, 32, seed=0), (0.8,), 0)
    orders = [
        np.concatenate([part.rows(epoch, step) for step in range(part.num_batches)]).tolist()
        for epoch in range(2)
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == rows_of(part.selection)
    in_order = part.in_data_order(every_row=True)
    read = np.concatenate([in_order.rows(0, step) for step in range(in_order.num_batches)])
    assert read.tolist() == rows_of(part.selection)


def test_a_plan_of_a_part_is_sent_without_its_rows():
    part, _ = divided(Plan(10**6, 32, seed=0), (0.8,), 0)
    rows = part.rows(0, 7).tolist()
    sent = pickle.dumps(part)
    assert len(sent) < 1000
    assert pickle.loads(sent) == part
    assert pickle.loads(sent).rows(0, 7).tolist() == rows
    assert hash(pickle.loads(sent)) == hash(part)


def test_a_row_that_is_not_there_is_refused():
    part, other = divided(Plan(100, 8, seed=0), (0.8,), 0)
    assert part.num_rows == 100
    found = [(part.locate(row, 0), other.locate(row, 0)) for row in range(100)]
    assert all(len(one) + len(two) == 1 for one, two in found)
    for row in (-1, 100):
        with pytest.raises(InvalidArgumentError, match="row is"):
            part.locate(row, 0)


# ---------------------------------------------------------------- datasets


class Rows(BatchDataset):
    """Its batches are the row numbers, its targets too."""

    def load(self, rows):
        return rows.copy(), rows.copy()


def ids(batches: Any) -> list[int]:
    return [int(row) for _, y in batches for row in y]


def arrays(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n, dtype="float32")[:, np.newaxis] * [1, 2, 3], np.arange(n)


@pytest.mark.parametrize("kind", ["arrays", Rows])
@pytest.mark.parametrize(
    "chosen",
    [
        {"workers": 0},
        {"workers": 2},
        {"workers": 2, "use_multiprocessing": True},
        {"remainder": "spread", "shuffle": False},
    ],
    ids=str,
)
def test_the_parts_of_a_dataset_are_read_once_an_epoch(kind, chosen):
    settings_ = {"batch_size": 16, "seed": 1, **chosen}
    whole = ArrayDataset(*arrays(203), **settings_) if kind == "arrays" else Rows(203, **settings_)
    with whole:
        parts = whole.split(0.7, 0.2)
    for epoch in range(2):
        seen = []
        for part in parts:
            assert part.epoch == epoch
            read = []
            for x, y in part:
                read += y.tolist()
                if kind == "arrays":
                    assert (np.asarray(x) == arrays(203)[0][np.asarray(y)]).all()
            expected = [part.rows(step, epoch).tolist() for step in range(len(part))]
            assert read == flat(expected)
            assert len(read) == part.num_samples
            seen += read
        assert sorted(seen) == list(range(203))
    for part in parts:
        part.close()
    assert whole.epoch == 0


def test_a_part_has_the_settings_of_the_whole_and_an_epoch_of_its_own():
    whole = Rows(100, batch_size=8, seed=3, remainder="drop", workers=3, max_queue_size=4)
    whole.set_epoch(5)
    part, rest = whole.split(0.75, seed=9)
    for one in (part, rest):
        assert (one.batch_size, one.seed, one.remainder, one.workers) == (8, 3, "drop", 3)
        assert (one.epoch, one.max_queue_size) == (0, 4)
    assert (part.num_samples, rest.num_samples, whole.num_samples) == (75, 25, 100)
    assert (len(part), len(rest), len(whole)) == (9, 3, 12)
    part.set_epoch(2)
    assert (rest.epoch, whole.epoch) == (0, 5)
    assert "75 samples (part 0 of split(0.75, 0.25, seed=9), of 100 rows)" in repr(part)
    assert repr(rest.split(0.5)[1]).count("part 1 of") == 2


def test_parts_are_the_same_whatever_the_settings_are():
    one = Rows(500, seed=0).split(0.8)[1]
    other = Rows(500, seed=7, batch_size=5, transform=lambda batch: batch, workers=0).split(0.8)[1]
    assert sorted(ids(one)) == sorted(ids(other))
    assert sorted(ids(one)) != sorted(ids(Rows(500).split(0.8, seed=1)[1]))


def test_copies_of_a_part_are_that_part():
    part, _ = Rows(100, batch_size=8, seed=3).split(0.75)
    expected = ids(copy.copy(part))
    assert ids(copy.deepcopy(part)) == ids(pickle.loads(pickle.dumps(part))) == expected
    assert ids(part) == expected


def test_a_part_of_a_shard_is_a_shard_of_a_part():
    whole = Rows(203, batch_size=8, seed=3, remainder="keep")
    for index in range(3):
        one = whole.shard(index, 3).split(0.7)[0]
        other = whole.split(0.7)[0].shard(index, 3)
        assert one.plan == other.plan
        assert ids(one) == ids(other)
    together = [row for index in range(3) for row in ids(whole.split(0.7)[0].shard(index, 3))]
    assert sorted(together) == sorted(ids(whole.split(0.7)[0]))


def test_a_state_is_that_of_one_part():
    train, validation = ArrayDataset(*arrays(100), batch_size=8, seed=3).split(0.75)
    for _ in zip(range(4), train, strict=False):
        state = json.loads(json.dumps(train.state_dict()))
    again, _ = ArrayDataset(*arrays(100), batch_size=8, seed=3).split(0.75)
    again.load_state_dict(state)
    assert ids(again) == [row for step in range(4, 10) for row in train.rows(step, 0)]
    for other in (
        validation,
        ArrayDataset(*arrays(100), batch_size=8, seed=3),
        ArrayDataset(*arrays(100), batch_size=8, seed=3).split(0.75, seed=1)[0],
        ArrayDataset(*(array[:75] for array in arrays(100)), batch_size=8, seed=3),
    ):
        with pytest.raises(InvalidStateError, match="split was"):
            other.load_state_dict(state)
    with pytest.raises(InvalidStateError, match="split was not there"):
        train.load_state_dict(ArrayDataset(*arrays(75), batch_size=8, seed=3).state_dict())


def test_load_of_a_part_takes_any_row_of_the_data():
    part, _ = ArrayDataset(*arrays(100), seed=0).split(0.5)
    assert part.load(np.array([99, 0]))[1].tolist() == [99, 0]
    with pytest.raises(IndexError, match="from 0 to 99"):
        part.load(np.array([100]))


class Fixed(BatchDataset):
    """Does without rows."""

    def __getitem__(self, index):
        return np.zeros((4, 1)), np.arange(4)


def test_a_loader_that_does_not_ask_for_its_rows_is_refused():
    part, _ = Fixed(16, batch_size=4, shuffle=False, workers=0).split(0.5)
    with pytest.raises(InvalidArgumentError, match="parts of a split would have the same samples"):
        next(iter(part))


def test_nor_is_it_taken_for_one_that_asks_when_others_do():
    whole = Fixed(16, batch_size=4, shuffle=False, workers=0)
    whole.rows(0), list(whole)
    part, _ = whole.split(0.5)
    part.rows(0), part.rows_in_order(), part.locate(0), repr(part)
    with pytest.raises(InvalidArgumentError, match="parts of a split would have the same samples"):
        next(iter(part))


def test_a_loader_that_asks_for_its_rows_is_split_too():
    class ByIndex(BatchDataset):
        def __getitem__(self, index):
            rows = self.rows(index)
            return rows.copy(), rows.copy()

    parts = ByIndex(100, batch_size=8, seed=0).split(0.75)
    assert sorted(ids(parts[0]) + ids(parts[1])) == list(range(100))


def test_rows_in_order_are_those_of_a_walk_in_the_order_of_the_data():
    for remainder in ("keep", "drop", "pad", "spread"):
        for part in Rows(100, batch_size=8, seed=0, remainder=remainder).split(0.7):
            assert part.rows_in_order().tolist() == rows_of(part.plan.selection)
            assert part.shard(1, 2).rows_in_order().tolist() == rows_of(part.plan.selection)
    assert Rows(100, seed=0).rows_in_order().tolist() == list(range(100))


def test_an_endless_dataset_has_endless_parts():
    part, _ = Rows(40, batch_size=10, seed=0).repeat().split(0.5)
    batches = iter(part)
    seen = ids(next(batches) for _ in range(6))
    assert sorted(seen[:20]) == sorted(seen[20:40]) == sorted(seen[40:])


def test_parts_too_small_for_a_batch_are_refused():
    with pytest.raises(
        InvalidArgumentError, match=r"part 1 of split\(0.8, 0.2, seed=0\): remainder='drop' leaves"
    ):
        Rows(100, batch_size=30, remainder="drop").split(0.8)
    with pytest.raises(InvalidArgumentError, match="leaves shards without a sample"):
        Rows(50, batch_size=8, remainder="keep", seed=0).shard(0, 3).split(0.98)


def test_virtual_data_of_a_trillion_samples_are_split_at_once():
    train, validation = Rows(10**12, batch_size=4, seed=0).split(0.999)
    assert (train.num_samples, validation.num_samples) == (999 * 10**9, 10**9)
    for part, other in ((train, validation), (validation, train)):
        x, _ = next(iter(part))
        assert [part.locate(int(row), 0) for row in x] == [(0, 0), (0, 1), (0, 2), (0, 3)]
        assert all(other.locate(int(row), 0) is None for row in x)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        (
            (1.5,),
            "split was given 1.5 (float); expected the fraction of the samples in each part, above "
            "0 and below 1, each an argument of its own: split(0.8, 0.1, 0.1).",
        ),
        (
            (),
            "split() makes 1 part; expected two to 100: at least one fraction, the rest is a part "
            "of its own.",
        ),
        (
            (0.0099,) * 101,
            f"split({', '.join(['0.0099'] * 101)}) makes 101 parts; expected two to 100: at least "
            "one fraction, the rest is a part of its own.",
        ),
        (
            (0.8, 0.8),
            "the fractions of split(0.8, 0.8) sum to 1.6; expected 1, or less: then the rest is a "
            "part of its own.",
        ),
        (
            (0.1,),
            "part 0 of split(0.1, 0.9, seed=0), counted from 0, would have none of the 3 samples; "
            "expected at least one. Use more even fractions, fewer parts, or more data.",
        ),
    ],
    ids=["above 1", "none", "many", "sum", "empty"],
)
def test_fractions_that_make_no_parts_are_told(fractions: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Selection(3).split(fractions, 0)
    assert str(caught.value) == message


def test_there_may_be_a_hundred_parts() -> None:
    parts = Selection(10_000).split((0.01,) * 100, 0)
    assert len(parts) == 100
    with pytest.raises(InvalidArgumentError, match=r"^seed is 'x'"):
        Selection(3).split((0.5,), "x")  # type: ignore[arg-type]
