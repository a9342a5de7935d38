"""`Sampler`: its defaults, `describe`, and the tables that are kept."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.plan.split import Selection
from keras_npbatch.samplers import Balanced, InOrder, Sampler, Shuffle, Weighted, every_row
from keras_npbatch.samplers.order import WholeData
from keras_npbatch.samplers.sampler import TableSampler


class Plain(Sampler):
    """Writes nothing but `order`."""

    def order(self, rows, global_batch_size, seed, epoch):
        return every_row(rows)[::-1]


class Counting(TableSampler):
    """Notes for what it makes tables."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []
        self.number = 3

    def order(self, rows, global_batch_size, seed, epoch):
        return self.table(rows, self._make)

    def _make(self, rows):
        self.made.append(rows)
        return every_row(WholeData(10))[rows]


def test_everything_but_the_order_has_a_default() -> None:
    sampler, rows = Plain(), WholeData(10)
    assert not sampler.repeats
    assert not sampler.uses_batch_size
    assert sampler.num_samples(rows) == 10
    assert not sampler.draws_long(rows)
    assert sampler.checked(10, 4) is sampler
    assert sampler.identity == repr(sampler) == "Plain"
    assert sampler.padding_waste(np.arange(3)) is None
    assert sampler.blocks_held is None
    with pytest.raises(TypeError, match="abstract"):
        Sampler()  # type: ignore[abstract]


def test_equal_are_those_of_one_class_and_identity() -> None:
    class Other(Plain):
        identity = "Plain"

    assert Plain() == Plain()
    assert hash(Plain()) == hash(Plain())
    assert Plain() != Other()
    assert Plain() != "Plain"
    assert Plain().__eq__("Plain") is NotImplemented


def test_it_is_described_by_its_first_epoch() -> None:
    assert Plain().describe(1000) == Plain().describe(1000, batch_size=7)
    assert Plain().describe(1000).score < 0.01
    found = InOrder().describe(1000, sample_bytes=8)
    assert (found.num_samples, found.bytes_read, found.bytes_held) == (1000, 8000, None)
    balanced = Balanced(np.repeat([0, 1], [990, 10]))
    assert balanced.describe(1000).num_samples == 1980
    assert Weighted(np.ones(1000)).describe(1000).score > 0.8
    assert Shuffle().describe(10**12).score > 0.97
    assert Shuffle().describe(1).num_samples == 1


def test_it_is_described_by_what_it_gives_for_the_data() -> None:
    got = []

    class Noting(Plain):
        blocks_held = (2, 3)

        def order(self, rows, global_batch_size, seed, epoch):
            got.append((rows, global_batch_size, seed, epoch))
            return super().order(rows, global_batch_size, seed, epoch)

        def checked(self, num_rows, chunk_rows):
            got.append((num_rows, chunk_rows))
            return self

    found = Noting().describe(100, sample_bytes=8)
    assert got == [(100, None), (WholeData(100), 32, 0, 0)]
    assert (found.rows_held, found.bytes_held) == (12, 96)
    assert Noting().describe(5, batch_size=7).rows_held == 5
    assert got[-1] == (WholeData(5), 7, 0, 0)


def test_padding_is_told_by_the_lengths() -> None:
    class Long(Plain):
        def lengths_of(self, rows):
            return rows * 2

    assert Long().padding_waste(np.array([1, 3])) == pytest.approx(1 / 3)
    assert Long().padding_waste(np.array([0, 0])) == 0
    assert Long().padding_waste(np.empty(0, np.int64)) == 0


def test_a_sampler_of_other_data_can_not_be_described_for_these() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^weights of Weighted are 3 values, and the"):
        Weighted([1, 2, 3]).describe(4)
    for wrong in (0, -1, 1.5, 2**62 + 1):
        with pytest.raises(
            InvalidArgumentError,
            match=f"^num_rows is .*; expected a whole number from 1 to {2**62}",
        ):
            Shuffle().describe(wrong)  # type: ignore[arg-type]


# --- tables ------------------------------------------------------------------------------------


def test_a_table_is_made_once_for_equal_rows() -> None:
    sampler = Counting()
    for _ in range(3):
        assert sampler.order(WholeData(10), 4, 0, 0).tolist() == list(range(10))
        assert sampler.order(Chosen(10, ("some",), np.array([2, 5])), 4, 0, 0).tolist() == [2, 5]
    whole, some = sampler.made
    assert whole == slice(None)  # no copy of what is looked up
    assert some.tolist() == [2, 5]


def test_parts_of_one_size_have_tables_of_their_own() -> None:
    sampler = Counting()
    for rows in ([2, 5], [3, 5]):
        assert sampler.order(Chosen(10, ("some",), np.array(rows)), 4, 0, 0).tolist() == rows
    parts = [*Selection(10).split((0.5,), 0), *Selection(10).split((0.5,), 1)]
    for part in parts:
        assert np.array_equal(sampler.order(part, 4, 0, 0), every_row(part))


def test_the_last_four_tables_are_kept() -> None:
    sampler = Counting()
    parts = [Chosen(10, ("one",), np.array([row])) for row in range(5)]
    for part in (*parts, *parts[1:]):
        sampler.order(part, 4, 0, 0)
    assert len(sampler.made) == 5
    sampler.order(parts[0], 4, 0, 0)
    sampler.order(parts[4], 4, 0, 0)
    assert len(sampler.made) == 6


class EvictedAfterCount(OrderedDict[Any, Any]):
    """As if another thread evicted everything between `len` and `popitem`."""

    def __len__(self) -> int:
        self.clear()
        return 100


def test_a_table_that_another_thread_evicts_is_returned_all_the_same() -> None:
    sampler = Counting()
    sampler._tables = EvictedAfterCount()
    assert sampler.order(WholeData(10), 4, 0, 0).tolist() == list(range(10))


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_make_their_own(again: Any) -> None:
    sampler = Counting()
    sampler.order(WholeData(10), 4, 0, 0)
    assert "_tables" not in sampler.__getstate__()
    twin = again(sampler)
    assert twin.number == 3
    twin.made = []
    assert twin.order(WholeData(10), 4, 0, 0).tolist() == list(range(10))
    assert len(twin.made) == 1
