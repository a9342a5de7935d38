"""`on_error="set_aside"`: batches do without rows that can't be read, whoever makes them."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_npbatch as npb
from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.set_aside import Failure, SetAside
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidBatchError,
    InvalidStateError,
    SetAsideError,
)
from keras_npbatch.testing import check_dataset

N = 23
X = np.arange(N * 2, dtype="float32").reshape(N, 2) + 1
Y = np.arange(N)


class Fails:
    """Reads rows, but for some; counts how often each was asked for."""

    def __init__(self, failing=(), batches=True):
        self.failing, self.batches = frozenset(failing), batches
        self.alone = Counter()

    def of_row(self, row):
        self.alone[row] += 1
        if row in self.failing:
            raise OSError(f"row {row} is broken")
        return X[row], int(Y[row])

    def of_rows(self, rows):
        if len(rows) == 1:
            self.alone[int(rows[0])] += 1
        if self.failing & set(rows.tolist()):
            raise OSError(f"rows {sorted(self.failing & set(rows.tolist()))} are broken")
        return X[rows], Y[rows]


class Column:
    """What a dataset of arrays reads by rows, one of its two leaves."""

    def __init__(self, reader, leaf):
        self.reader, self.leaf = reader, leaf
        self.shape, self.dtype = (X, Y)[leaf].shape, (X, Y)[leaf].dtype

    def __getitem__(self, rows):
        return self.reader.of_rows(np.atleast_1d(rows))[self.leaf]


class Batched(BatchDataset):
    def __init__(self, reader, **settings):
        super().__init__(N, **settings)
        self.reader = reader

    def load(self, rows):
        return self.reader.of_rows(rows)


def make(kind, failing, **given):
    chosen = {"on_error": "set_aside", "max_set_aside": 1.0, "seed": 0, "workers": 0} | given
    reader = Fails(failing)
    if kind == "batches":
        return Batched(reader, **chosen), reader
    if kind == "arrays":
        return ArrayDataset(Column(reader, 0), Y, **chosen), reader
    return SampleDataset(reader.of_row, num_samples=N, **chosen), reader


def assert_stands_for(batch, rows, failing, size):
    """The rows that can be read, filled up with copies of rows that weigh nothing."""
    x, y, weight = batch
    good = [row for row in rows.tolist() if row not in failing]
    copied = good or [min(set(range(N)) - set(failing))]
    assert len(x) == len(y) == len(weight) == size
    expected = good + [copied[place % len(copied)] for place in range(len(good), size)]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(x, X[expected])
    np.testing.assert_array_equal(weight, [1.0] * len(good) + [0.0] * (size - len(good)))


quiet = pytest.mark.filterwarnings("ignore:row .* could not be read:UserWarning")
kinds = pytest.mark.parametrize("kind", ["batches", "samples", "arrays"])
some_fail = st.frozensets(st.integers(0, N - 1), max_size=N - 1)


@quiet
@kinds
@settings(max_examples=40)
@given(
    failing=some_fail,
    batch_size=st.integers(1, N + 2),
    remainder=st.sampled_from(["keep", "pad", "spread"]),
    cache=st.sampled_from([None, "1 MB"]),
)
def test_a_batch_is_that_of_the_rows_that_can_be_read(kind, failing, batch_size, remainder, cache):
    dataset, reader = make(kind, failing, batch_size=batch_size, remainder=remainder, cache=cache)
    for epoch in range(2):
        assert dataset.epoch == epoch
        for step, batch in enumerate(dataset):
            rows = dataset.rows(step, epoch)
            size = batch_size if remainder == "pad" else len(rows)
            assert_stands_for(batch, rows, failing, size)
        assert list(dataset.set_aside) == sorted(failing)
    assert all(
        f"row {row} is" in why or f"[{row}]" in why for row, why in dataset.set_aside.items()
    )
    if kind == "batches":  # tried alone once, and never again
        assert all(reader.alone[row] <= 2 for row in failing)


@quiet
@kinds
@settings(max_examples=30)
@given(failing=some_fail, batch_size=st.integers(1, N), stop=st.integers(0, N))
def test_a_resumed_run_knows_them_and_goes_on_with_the_same_bytes(kind, failing, batch_size, stop):
    whole, _ = make(kind, failing, batch_size=batch_size)
    expected = [[leaf.tobytes() for leaf in batch] for batch in whole]
    first, _ = make(kind, failing, batch_size=batch_size)
    stop = min(stop, len(first) - 1)
    found = [[leaf.tobytes() for leaf in batch] for batch in itertools.islice(first, stop)]
    state = json.loads(json.dumps(first.state_dict()))
    seen = first.set_aside
    second, reader = make(kind, failing, batch_size=batch_size)
    second.load_state_dict(state)
    assert second.set_aside == seen
    found += [[leaf.tobytes() for leaf in batch] for batch in second]
    assert found == expected
    assert second.set_aside == whole.set_aside
    assert not any(reader.alone[row] for row in seen)  # they are not tried again


@quiet
@pytest.mark.parametrize("sampler", [npb.samplers.Balanced(Y % 2), npb.samplers.Weighted(Y + 1.0)])
@settings(max_examples=15)
@given(failing=some_fail)
def test_samplers_that_repeat_rows(sampler, failing):
    dataset, _ = make("samples", failing, sampler=sampler, batch_size=8)
    for step, batch in enumerate(dataset):
        rows = dataset.rows(step, 0)
        assert_stands_for(batch, rows, failing, len(rows))


def shift(sample, rng):
    x, y = sample
    return x + rng.random(x.shape, dtype="float32"), y


@quiet
@settings(max_examples=15)
@given(failing=some_fail)
def test_what_a_row_draws_does_not_depend_on_the_others(failing):
    changed = {}
    for fails in ((), failing):
        dataset, _ = make("samples", fails, augment=npb.each(shift), batch_size=5)
        changed[bool(fails)] = {
            int(row): x.tobytes()
            for batch in dataset
            for x, row, weight in zip(*batch, strict=True)
            if weight
        }
    if failing:
        kept = {row: x for row, x in changed[False].items() if row not in failing}
        assert changed[True] == kept


FAILING = (0, 3, 4, 5, 11, 20)


@quiet
@kinds
@pytest.mark.parametrize("processes", [False, True])
def test_workers_make_the_same_batches_and_tell_of_the_same_rows(kind, processes):
    alone, _ = make(kind, FAILING, batch_size=3)
    expected = [[leaf.tobytes() for leaf in batch] for _ in range(2) for batch in alone]
    dataset, _ = make(kind, FAILING, batch_size=3, workers=2, use_multiprocessing=processes)
    with dataset:
        found = [[leaf.tobytes() for leaf in batch] for _ in range(2) for batch in dataset]
        assert found == expected
        assert list(dataset.set_aside) == sorted(FAILING)
        assert dataset.set_aside == alone.set_aside


def test_the_first_one_is_a_warning():
    dataset, _ = make("samples", (3, 7), batch_size=4, shuffle=False)
    with pytest.warns(UserWarning, match="row 3 of the SampleDataset could not be read") as told:
        list(dataset)
    assert len(told) == 1
    assert "OSError: row 3 is broken" in str(told[0].message)
    assert dataset.set_aside == {3: "OSError: row 3 is broken", 7: "OSError: row 7 is broken"}


@kinds
@pytest.mark.parametrize("workers", [0, 2])
def test_without_it_the_exception_reaches_the_caller(kind, workers):
    dataset, _ = make(kind, (3,), on_error="raise", max_set_aside=None, workers=workers)
    with pytest.raises(OSError, match="broken"):
        list(dataset)
    assert dataset.set_aside == {}


@quiet
@kinds
@pytest.mark.parametrize(("workers", "processes"), [(0, False), (2, False), (2, True)])
def test_too_many_end_the_run_in_words(kind, workers, processes):
    chosen = {"workers": workers, "use_multiprocessing": processes, "batch_size": 4}
    dataset, _ = make(kind, (2, 9), max_set_aside=1 / N, shuffle=False, **chosen)
    with dataset, pytest.raises(SetAsideError) as caught:
        list(dataset)
    told = str(caught.value)
    assert f"2 of {N} rows (8.70%) could not be read, the last, row " in told  # threads race
    assert "expected at most max_set_aside=" in told
    assert "Rows: [2, 9]." in told
    dataset, _ = make(kind, (2, 9), max_set_aside=2 / N, shuffle=False, **chosen)
    with dataset:
        assert len(list(dataset)) == math.ceil(N / 4)


def test_the_share_of_a_part_is_that_of_its_rows():
    whole, _ = make("samples", (2, 9), max_set_aside=0.1, shuffle=False)
    part = whole.subset([1, 2, 3])
    with pytest.raises(SetAsideError, match="1 of 3 rows"):
        part[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole[0]
    assert [*whole.subset([2, 5, 9, 10]).set_aside] == [2, 9]
    assert [*whole.subset(np.arange(10, N)).set_aside] == []


def test_no_row_at_all():
    dataset, _ = make("samples", range(N), batch_size=4)
    with pytest.raises(SetAsideError, match=f"none of the {N} rows could be read"):
        dataset[0]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [BatchDataset, SampleDataset])
def test_a_failure_that_passes_sets_nothing_aside_and_ends_nothing(kind, workers):
    times = Counter()

    def read(rows):
        has_it = 5 in np.atleast_1d(rows)
        times[5] += has_it
        if has_it and times[5] == 1:
            raise OSError("the network was away")
        return X[rows], Y[rows]

    class Reads(BatchDataset):
        def load(self, rows):
            return read(rows)

    given_ = {"batch_size": 8, "seed": 0, "workers": workers, "on_error": "set_aside"}
    if kind is SampleDataset:
        dataset = SampleDataset(lambda row: read(row), num_samples=N, **given_)
    else:
        dataset = Reads(N, **given_)
    seen = np.concatenate([y[weights > 0] for _, y, weights in dataset])
    assert sorted(seen.tolist()) == Y.tolist()
    assert not dataset.set_aside
    assert times[5] > 1


def test_what_is_no_fault_of_a_row_is_raised():
    def ragged(row):
        return np.zeros(row)

    dataset = SampleDataset(ragged, num_samples=N, on_error="set_aside", max_set_aside=1.0)
    with pytest.raises(InvalidBatchError, match="one shape for all samples"):
        dataset[0]

    def full(row):
        raise MemoryError

    dataset = SampleDataset(full, num_samples=N, on_error="set_aside", max_set_aside=1.0)
    with pytest.raises(MemoryError):
        dataset[0]

    def changes(batch):
        raise OSError("the transform is broken")

    dataset = ArrayDataset(X, Y, transform=changes, on_error="set_aside")
    with pytest.raises(OSError, match="the transform is broken"):
        dataset[0]


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raising(error):
    def load_sample(row):
        if row == 3:
            raise error
        return X[row], Y[row]

    settings = {"batch_size": 4, "seed": 0, "on_error": "set_aside", "max_set_aside": 0.5}
    return lambda workers: SampleDataset(load_sample, num_samples=N, workers=workers, **settings)


@quiet
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UnspeakableError(), "UnspeakableError: <its text can't be told>"),
        (StopIteration("at once"), "StopIteration: at once"),
        (ExceptionGroup("two", [OSError()]), "ExceptionGroup: two (1 sub-exception)"),
        (OSError("a\nb" + 300 * "c"), "OSError: a b" + 185 * "c" + "..."),
    ],
    ids=["no words", "end of a generator", "group", "long"],
)
def test_any_exception_sets_a_row_aside(error, told, workers):
    dataset = raising(error)(workers)
    assert len(list(dataset)) == 6
    assert dataset.set_aside == {3: told}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["Ctrl-C", "exit"])
def test_what_ends_a_program_sets_nothing_aside(error, workers):
    dataset = raising(error)(workers)
    with pytest.raises(type(error)):
        list(dataset)
    assert dataset.set_aside == {}


@quiet
def test_evaluate_leaves_them_out_and_predict_refuses_them():
    dataset, _ = make("samples", (3, 4, 9), batch_size=4, augment=npb.each(shift))
    found = list(dataset.batches_for("evaluate"))
    assert [len(x) for x, _ in found] == [3, 3, 3, 4, 4, 3]
    np.testing.assert_array_equal(
        np.concatenate([y for _, y in found]), [row for row in range(N) if row not in (3, 4, 9)]
    )
    np.testing.assert_array_equal(dataset.batches_for("evaluate")[0][1], [0, 1, 2])
    with pytest.raises(SetAsideError, match=r"rows \[3\] of the SampleDataset .*predict gives a"):
        list(dataset.batches_for("predict"))
    lone, _ = make("samples", (3,), batch_size=1)
    with pytest.raises(SetAsideError, match=r"evaluate can't leave them out: that is its whole"):
        list(lone.batches_for("evaluate"))


@quiet
def test_copies_know_them_and_part_ways():
    dataset, _ = make("samples", (3,), batch_size=N)
    dataset[0]
    for twin in (pickle.loads(pickle.dumps(dataset.subset([3, 4]))), dataset.subset([1, 3])):
        assert [*twin.set_aside] == [3]
    endless = dataset.repeat()
    assert endless.set_aside == dataset.set_aside
    assert "on_error='set_aside', max_set_aside=1.0" in repr(dataset)


def test_a_state_of_a_dataset_without_it_is_of_another():
    dataset, _ = make("samples", (3,))
    other, _ = make("samples", (3,), on_error="raise", max_set_aside=None)
    with pytest.raises(InvalidStateError, match="on_error"):
        dataset.load_state_dict(other.state_dict())
    state = dataset.state_dict()
    assert "set_aside" not in state
    for wrong in ("3", [3], [[3]], [["3", "why"]], [[-1, "why"]], [[True, "why"]]):
        with pytest.raises(InvalidStateError, match="in the state, set_aside is"):
            dataset.load_state_dict(state | {"set_aside": wrong})
    few, _ = make("samples", (), max_set_aside=0.01)
    with pytest.raises(SetAsideError, match=f"1 of {N} rows"):
        few.load_state_dict(few.state_dict() | {"set_aside": [[3, "why"]]})


@quiet
@kinds
@settings(max_examples=25)
@given(
    failing=some_fail,
    count=st.integers(2, 4),
    batch_size=st.integers(1, 5),
    remainder=st.sampled_from(["pad", "drop"]),
)
def test_shards_keep_their_steps_and_shapes(kind, failing, count, batch_size, remainder):
    if remainder == "drop" and batch_size * count > N:
        return
    seen = Counter()
    chosen = {"batch_size": batch_size, "remainder": remainder}
    for index in range(count):
        dataset, _ = make(kind, failing, shard=(index, count), **chosen)
        whole, _ = make(kind, (), shard=(index, count), **chosen)
        assert len(dataset) == len(whole)
        for step, (batch, expected) in enumerate(zip(dataset, whole, strict=True)):
            rows = dataset.rows(step, 0)
            good = [row for row in rows.tolist() if row not in failing]
            assert [leaf.shape for leaf in batch] == [leaf.shape for leaf in expected]
            assert [leaf.dtype for leaf in batch] == [leaf.dtype for leaf in expected]
            assert batch[1][batch[2] > 0].tolist() == good
            seen.update(good)
    assert set(seen.values()) <= {1}
    if remainder == "pad":
        assert set(seen) == set(range(N)) - failing


@quiet
def test_processes_count_what_they_were_told_of_and_not_what_they_read_ahead():
    """So that all of them end at the same step."""
    dataset, _ = make("samples", (3, 7), shard=(0, 2), max_set_aside=1 / N)
    aside = core_of(dataset).aside
    dataset.load(np.arange(3))
    recipe = core_of(dataset).loading(dataset.plan)
    for step in range(len(dataset)):
        recipe(0, step)  # ahead
    assert dataset.set_aside == {}
    aside.note([Failure(3, "broken")])
    assert dataset.set_aside == {3: "broken"}
    with pytest.raises(
        SetAsideError, match=r"2 of 23 rows .* the last, row 9, because of gone; .*"
    ):
        aside.note([Failure(9, "gone")])  # another process told of it
    assert list(dataset.shard(1, 2).set_aside) == [3, 9]


@quiet
def test_evaluate_of_a_shard_refuses_them():
    dataset, _ = make("samples", (3,), shard=(0, 1), remainder="keep", batch_size=4)
    assert len(list(dataset.batches_for("evaluate"))) == 6
    for index in range(2):
        part, _ = make("samples", (3, 4), shard=(index, 2), remainder="keep", batch_size=4)
        with pytest.raises(SetAsideError, match="other devices need batches of one size"):
            list(part.batches_for("evaluate"))


class Whole(BatchDataset):
    def __getitem__(self, index):
        return X[self.rows(index)]


class Wrong(NamedTuple):
    arguments: dict
    told: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong({"on_error": "ignore"}, "on_error is 'ignore' (str); expected 'raise', or"),
        Wrong({"on_error": None}, "on_error is None (NoneType); expected 'raise', or"),
        Wrong({"max_set_aside": 0.1}, "max_set_aside is 0.1 (float), and no row is set aside"),
        *(
            Wrong(
                {"on_error": "set_aside", "max_set_aside": share},
                "expected a share of the rows, above 0 and at most 1, such as 0.01.",
            )
            for share in (0, -0.1, 1.1, math.nan, True, "1 %")
        ),
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InvalidArgumentError) as caught:
        ArrayDataset(X, Y, seed=0, **wrong.arguments)
    assert wrong.told in str(caught.value)


def test_datasets_that_it_is_not_for_are_refused():
    dataset = ArrayDataset(X, Y, seed=0, on_error="set_aside")
    with pytest.raises(InvalidArgumentError, match="overrides __getitem__"):
        Whole(N, on_error="set_aside")
    for together in (npb.concat, lambda datasets: npb.zip(*datasets)):
        with pytest.raises(InvalidArgumentError, match=r"datasets\[1\] has on_error='set_aside'"):
            together([ArrayDataset(X, Y), dataset])


def test_the_checker_finds_no_fault_in_it():
    report = check_dataset(
        ArrayDataset(X, Y, batch_size=4, seed=0, on_error="set_aside"),
        sample_id=lambda batch: batch[1],
    )
    assert report.ok, report


def test_copies_are_independent():
    aside = SetAside(10, 1.0)
    aside.restore([[3, "why"], [1, "so"]])
    assert aside.told == {1: "so", 3: "why"}
    assert pickle.loads(pickle.dumps(aside)).told == aside.told
    twin = aside.copy()
    twin.restore([[2, "then"]])
    assert list(aside.told) == [1, 3]


class Sentences(BatchDataset):
    """Sequences of one to five time steps, of which some can't be read."""

    failing = frozenset()

    def load(self, rows):
        if self.failing & set(rows.tolist()):
            raise OSError("broken")
        return [np.full(1 + row % 5, row, "float32") for row in rows.tolist()], rows


@settings(max_examples=20)
@given(st.frozensets(st.integers(0, N - 1), max_size=N - 1))
def test_sequences_are_padded_to_the_longest_that_can_be_read(failing):
    dataset = Sentences(
        N,
        batch_size=4,
        seed=0,
        collate=(npb.pad(), None),
        on_error="set_aside",
        max_set_aside=1.0,
        workers=0,
    )
    dataset.failing = failing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        batches = [dataset[step] for step in range(dataset.num_batches)]
    for step, (x, y, weights) in enumerate(batches):
        rows = dataset.rows(step, 0).tolist()
        good = [row for row in rows if row not in failing]
        assert len(x) == len(y) == len(rows)
        assert (weights > 0).tolist() == [place < len(good) for place in range(len(rows))]
        assert y[: len(good)].tolist() == good
        for row, sequence in zip(good, x, strict=False):
            length = 1 + row % 5
            assert (sequence[:length] == row).all()
            assert (sequence[length:] == 0).all()
        if good:
            assert x.shape[1] == max(1 + row % 5 for row in good)
