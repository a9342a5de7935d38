"""`BlockShuffle`: each row once, read from a few blocks at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.block_shuffle import BlockShuffle
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.order import Available, Rows, WholeData, every_row
from keras_npbatch.samplers.shuffle import Shuffle

few = settings(deadline=None, derandomize=True, max_examples=100)


def epoch_of(
    available: Available, block_rows: int, blocks: int, seed: int = 0, epoch: int = 0
) -> Rows:
    order = BlockShuffle(block_rows, blocks).order(available, 32, seed, epoch)
    return order.rows(0, available.num_samples)


def most_open(rows: Rows, block_rows: int) -> int:
    """At most how many blocks are read from at any time: begun, and not yet read whole."""
    of_rows = rows // block_rows
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    for position, block in enumerate(of_rows.tolist()):
        begun.setdefault(block, position)
        ended[block] = position
    changes = np.zeros(len(rows) + 1, np.int64)
    np.add.at(changes, list(begun.values()), 1)
    np.add.at(changes, [position + 1 for position in ended.values()], -1)
    return int(np.cumsum(changes).max())


@few
@given(
    n=st.integers(1, 400),
    block_rows=st.integers(1, 40),
    blocks=st.integers(1, 9),
    seed=st.integers(0, 2),
    epoch=st.integers(0, 2),
    data=st.data(),
)
def test_each_row_comes_once_and_few_blocks_are_read_from_at_a_time(
    n: int, block_rows: int, blocks: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    available: Available = WholeData(n)
    if data.draw(st.booleans()):
        rows = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
        available = Chosen(n, ("some",), np.array(sorted(rows)))
    rows_ = epoch_of(available, min(block_rows, n), blocks, seed, epoch)
    assert np.array_equal(np.sort(rows_), every_row(available))
    assert most_open(rows_, min(block_rows, n)) <= blocks


@pytest.mark.parametrize("n", [1000, 1001, 1007])
def test_the_rows_of_a_group_are_shuffled_together_and_so_are_the_blocks(n: int) -> None:
    epochs = [epoch_of(WholeData(n), 10, 5, epoch=epoch) for epoch in range(30)]
    last = (n - 1) // 10  # the shorter block, wherever it comes
    groups = set()
    for rows in epochs:
        assert most_open(rows, 10) == 5
        groups.add(int(np.flatnonzero(rows // 10 == last)[0]) // 50)
        firsts = list(dict.fromkeys((rows // 10).tolist()))
        assert abs(np.corrcoef(firsts, range(len(firsts)))[0, 1]) < 0.5
    assert len(groups) > 10
    assert len({tuple(rows) for rows in epochs}) == 30


@pytest.mark.parametrize("n", [1000, 1001, 1007])
@pytest.mark.parametrize("part", [False, True])
def test_groups_adjoin(n: int, part: bool) -> None:
    available: Available = Chosen(n, ("all",), np.arange(n)) if part else WholeData(n)
    for epoch in range(5):
        order: Any = BlockShuffle(10, 7).order(available, 32, 0, epoch)
        groups = order._order if part else order
        spans = [groups.span(index) for index in range(groups.index(n - 1) + 1)]
        assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
        assert (spans[0][0], spans[-1][1], groups.num_positions) == (0, n, n)


@pytest.mark.parametrize("n", [1000, 1001, 1007])
@pytest.mark.parametrize("part", [False, True])
def test_each_position_tells_its_group(n: int, part: bool) -> None:
    available: Available = Chosen(n, ("some",), np.arange(0, n, 3)) if part else WholeData(n)
    order: Any = BlockShuffle(10, 7).order(available, 32, 0, 0)
    rows = order.rows(0, available.num_samples)
    groups = [order.group(position) for position in range(len(rows))]
    for position, (start, stop) in enumerate(groups):
        assert start <= position < stop
        assert set(groups[start:stop]) == {(start, stop)}
        assert len(set((rows[start:stop] // 10).tolist())) <= 7
    assert len(set(groups)) == -(-n // 70)


def test_one_block_at_a_time_is_shuffled_within() -> None:
    rows = epoch_of(WholeData(100), 10, 1)
    for start in range(0, 100, 10):
        block = rows[start : start + 10]
        assert len(set(block // 10)) == 1
        assert (np.diff(block) != 1).any()


def test_all_blocks_together_are_a_full_shuffle() -> None:
    assert BlockShuffle(10, blocks=200).describe(2000).score > 0.95


@few
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    blocks=st.integers(1, 5),
    data=st.data(),
)
def test_blocks_are_chunks_that_differ_in_size(
    sizes: list[int], blocks: int, data: st.DataObject
) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    n = int(starts[-1])
    available: Available = WholeData(n)
    if data.draw(st.booleans()):
        rows = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
        available = Chosen(n, ("some",), np.array(sorted(rows)))
    sampler = BlockShuffle(blocks=blocks).along(starts).checked(n, max(sizes))
    assert sampler.blocks_held == (max(sizes), blocks)
    order = sampler.order(available, 32, 0, 0)
    found = order.rows(0, available.num_samples)
    assert np.array_equal(np.sort(found), every_row(available))
    assert order.positions(found).tolist() == list(range(len(found)))
    chunks = np.searchsorted(starts, found, side="right")
    assert most_open(chunks, 1) <= blocks
    again = BlockShuffle(blocks=blocks).along(starts).checked(n, max(sizes))
    assert again == sampler
    assert np.array_equal(again.order(available, 32, 0, 0).rows(0, len(found)), found)
    other = np.concatenate([starts[:-1], [n + 1]])
    assert BlockShuffle(blocks=blocks).along(other) != sampler


def test_a_block_size_of_the_user_s_is_kept_and_large_chunks_are_mixed_in_smaller_numbers() -> None:
    starts = np.array([0, 10, 15])
    own = BlockShuffle(5, 2)
    assert own.along(starts) is own
    large = BlockShuffle(blocks=16).along(np.array([0, 2**24, 2**24 + 5]))
    assert large.blocks_held == (2**24, 4)
    assert large.identity == "BlockShuffle(blocks=4 of 2 chunks, 40f90a10)"
    assert BlockShuffle().along(np.array([0, 2**27])).blocks_held == (2**27, 1)
    assert BlockShuffle(blocks=2**26).along(np.arange(3)).blocks_held == (1, 2**26)
    assert BlockShuffle().blocks_held == (1024, 16)


def test_data_without_chunks_have_blocks_of_1024_rows() -> None:
    ds = ArrayDataset(np.arange(5000), sampler=BlockShuffle())
    assert ds.sampler == BlockShuffle(1024, 16)
    assert ArrayDataset(np.arange(50), sampler=BlockShuffle(blocks=3)).sampler == BlockShuffle(
        50, 3
    )
    assert BlockShuffle(blocks=2**20).checked(10**6, None) == BlockShuffle(64, 2**20)


def test_the_blocks_of_hdf5_are_its_chunks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        x = file.create_dataset("x", data=np.arange(3000).reshape(1000, 3), chunks=(70, 3))
        y = file.create_dataset("y", data=np.arange(1000), chunks=(40,))
        whole = file.create_dataset("whole", data=np.arange(1000))
        ds = ArrayDataset(x, y, batch_size=10, seed=0, sampler=BlockShuffle(blocks=2))
        assert ds.sampler == BlockShuffle(70, 2)
        rows = np.concatenate([ids for _, ids in ds])
        assert np.array_equal(np.sort(rows), np.arange(1000))
        assert most_open(rows, 70) == 2
        train, _ = ds.split(0.7)
        assert train.sampler == ds.sampler
        rows = np.concatenate([ids for _, ids in train])
        assert np.array_equal(np.sort(rows), train.rows_in_order())
        assert most_open(rows, 70) <= 2
        assert ArrayDataset(whole, sampler=BlockShuffle()).sampler == BlockShuffle(1000, 16)
        own = BlockShuffle(140)
        assert ArrayDataset(x, sampler=own).sampler == own


def test_a_part_with_more_blocks_than_are_looked_at_together() -> None:
    n = 2**16 + 5000
    part = Chosen(n, ("some",), np.arange(0, n, 2))
    order = BlockShuffle(1, 2**13).order(part, 32, 0, 0)
    rows = order.rows(0, part.num_samples)
    assert np.array_equal(np.sort(rows), every_row(part))
    some = np.array([0, 2**16 - 2, 2**16, n - 2])
    assert np.array_equal(rows[order.positions(some)], some)


def test_any_row_of_data_of_any_size_is_found() -> None:
    n = 10**12 + 17
    order = BlockShuffle().checked(n, None).order(WholeData(n), 32, 0, 0)
    for start in (0, 10**6, n - 40):
        rows = order.rows(start, start + 40)
        assert order.positions(rows).tolist() == list(range(start, start + 40))
    at = int(order.positions(np.array([n - 1]))[0])  # in the shorter block
    around = order.rows(at - 20_000, at + 20_000)
    assert len(np.unique(around)) == 40_000
    assert order.places(n - 1).tolist() == [at]


def test_the_more_blocks_are_mixed_the_better() -> None:
    n = 10**6
    scores = [BlockShuffle(1000, blocks=blocks).describe(n).score for blocks in (1, 4, 16, 64, 256)]
    assert scores == sorted(scores)
    assert scores[0] < 0.1
    assert scores[-1] > 0.95
    assert Shuffle().describe(n).score > 0.98
    assert InOrder().describe(n).score < 0.01
    finer = BlockShuffle(100, blocks=16).describe(n).score
    assert abs(finer - scores[2]) < 0.1


def test_what_an_epoch_reads_and_holds_is_told() -> None:
    found = BlockShuffle(1000, blocks=16).describe(10**6, sample_bytes=200)
    assert (found.num_samples, found.rows_held) == (10**6, 32_000)  # of two groups
    assert (found.bytes_read, found.bytes_held) == (2 * 10**8, 6_400_000)
    assert BlockShuffle(1000).describe(5000).rows_held == 5000
    assert BlockShuffle().describe(10**5).rows_held == 32 * 1024
    assert BlockShuffle().describe(10).rows_held == 10
    assert Shuffle().describe(10).rows_held is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        ArrayDataset(np.arange(10), sampler=BlockShuffle(11))
    assert str(error.value) == (
        "block_rows is 11, and the data have 10 rows; expected at most that many. Data of one "
        "block are shuffled whole: shuffle=True."
    )
    assert ArrayDataset(np.arange(10), sampler=BlockShuffle(10)).sampler == BlockShuffle(10)
    with pytest.raises(InvalidArgumentError) as error:
        BlockShuffle(2**20, 65)
    assert str(error.value) == (
        "BlockShuffle mixes 65 blocks of 1048576 rows; expected at most 67108864 rows together. "
        "Use fewer blocks, or smaller ones."
    )
    assert BlockShuffle(blocks=2**26).checked(100, 50) == BlockShuffle(1, 2**26)
    assert BlockShuffle(2**20, 64).identity == "BlockShuffle(block_rows=1048576, blocks=64)"
    refused: list[tuple[str, dict[str, Any]]] = [
        ("block_rows", {"block_rows": 0}),
        ("block_rows", {"block_rows": 1.5}),
        ("block_rows", {"block_rows": 2**62 + 1}),
        ("blocks", {"blocks": 0}),
        ("blocks", {"blocks": 2**26 + 1}),
    ]
    for name, arguments in refused:
        with pytest.raises(InvalidArgumentError, match=f"^{name} is"):
            BlockShuffle(**arguments)
