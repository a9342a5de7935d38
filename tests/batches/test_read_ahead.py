"""Chunks are read before they are needed: each once, none for nothing, and what fails is told."""

from __future__ import annotations

import io
from collections import Counter
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, samplers
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.read_ahead import share
from keras_npbatch.batches.work import Work
from keras_npbatch.sources.chunks import ChunkRows
from keras_npbatch.sources.slices import SlicedStorage


class Counted(ChunkRows):
    """Rows that tell their numbers, in chunks that are counted when they are decoded."""

    def __init__(self, starts, lost=None):
        super().__init__(np.array(starts, np.int64), (), np.dtype(np.int64))
        self.times, self.lost, self.most_kept = Counter(), lost, 0
        self.num_chunks = len(starts) - 1

    def keep(self, block_rows, blocks, ahead=0):
        self.ahead = ahead
        super().keep(block_rows, blocks, ahead)

    def decode(self, number):
        self.times[number] += 1
        self.most_kept = max(self.most_kept, len(self._stock))
        if number == self.lost:
            raise OSError(f"chunk {number} is lost")
        return np.arange(self._starts[number], self._starts[number + 1])

    def pick(self, chunk, rows):
        return chunk[rows]


class CountedSlices(SlicedStorage):
    """As many rows of HDF5, in chunks as long as the first, which are counted too."""

    def __init__(self, starts):
        stored = np.arange(starts[-1])
        file = h5py.File(io.BytesIO(), "w")
        chunks = (int(starts[1]),)
        super().__init__(file.create_dataset("x", data=stored, chunks=chunks, compression=1), "x")
        self.times, self.num_chunks = Counter(), -(-len(stored) // chunks[0])

    def _decode(self, number, into):
        self.times[number] += 1
        super()._decode(number, into)


LENGTHS = st.one_of(
    st.builds(lambda size, count: [size] * count, st.integers(1, 9), st.integers(1, 25)),
    st.lists(st.integers(1, 9), min_size=1, max_size=25),
)


@given(
    count=st.integers(0, 40),
    first=st.integers(0, 50),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=20),
)
def test_each_thing_falls_to_one_batch(count, first, sizes):
    edges = np.cumsum([0, *sizes]).tolist()
    last = edges[-1]
    first = min(first, last - 1)
    shares = [share(count, start, stop, first, last) for start, stop in pairwise(edges)]
    assert [each for one in shares for each in range(count)[one]] == list(range(count))
    for one, stop in zip(shares, edges[1:], strict=True):
        assert stop > first or not range(count)[one]


@settings(max_examples=60)
@example(lengths=[2] * 7, batch_size=5, blocks=1, workers=0, queue=1, seed=0)
@given(
    lengths=LENGTHS,
    batch_size=st.integers(1, 40),
    blocks=st.integers(1, 6),
    workers=st.sampled_from([0, 1, 3]),
    queue=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_each_chunk_is_decoded_once_an_epoch(lengths, batch_size, blocks, workers, queue, seed):
    source = Counted(np.cumsum([0, *lengths]))
    dataset = ArrayDataset(
        source,
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        max_queue_size=queue,
        sampler=samplers.BlockShuffle(blocks=blocks),
    )
    with dataset:
        for _ in range(2):
            source.times.clear()
            found = np.concatenate(list(dataset))
            assert sorted(found.tolist()) == list(range(sum(lengths)))
            assert source.times == Counter(range(len(lengths)))


@st.composite
def turns_of_threads(draw, steps, under_way):
    """The steps as threads may make them: none comes before the one `under_way` behind it."""
    left, made = list(range(steps)), []
    while left:
        most = sum(step < left[0] + under_way for step in left)
        made.append(left.pop(draw(st.integers(0, most - 1))))
    return made


@pytest.mark.parametrize("kind", [Counted, CountedSlices])
@given(
    data=st.data(),
    lengths=LENGTHS,
    batch_size=st.integers(1, 12),
    blocks=st.integers(1, 4),
    workers=st.integers(1, 4),
    queue=st.integers(1, 12),
)
def test_however_far_threads_are_apart_each_chunk_is_decoded_once(
    kind, data, lengths, batch_size, blocks, workers, queue
):
    source = kind(np.cumsum([0, *lengths]))
    dataset = ArrayDataset(
        source,
        batch_size=batch_size,
        seed=0,
        workers=workers,
        max_queue_size=queue,
        sampler=samplers.BlockShuffle(blocks=blocks),
    )
    core = core_of(dataset)
    make = core.maker(Work(core.plan))
    for epoch in range(2):
        source.times.clear()
        core.begin_pass()
        for step in data.draw(turns_of_threads(len(dataset), queue + workers)):
            make(epoch, step)
        assert source.times == Counter(range(source.num_chunks))


def eight_chunks(lost=None, **others):
    source = Counted(range(0, 81, 10), lost)
    dataset = ArrayDataset(
        source,
        **{"batch_size": 5, "seed": 0, "workers": 1, "max_queue_size": 1} | others,
        sampler=samplers.BlockShuffle(blocks=2),
    )
    return source, dataset


def chunks(dataset, *steps):
    return {int(row) // 10 for step in steps for row in dataset.rows(step, epoch=0)}


def test_the_first_batch_of_a_group_finds_its_chunks():
    source, dataset = eight_chunks()
    make = core_of(dataset).maker(Work(dataset.plan))
    read = []
    for step in range(16):
        make(0, step)
        read.append(len(source.times))
    group = chunks(dataset, 0, 1, 2, 3)
    assert len(group) == 2
    # A batch may be two behind, which may be in the group before; then two chunks in two batches.
    assert read == [2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 7, 8, 8, 8, 8, 8]
    assert source.most_kept <= 5  # two groups, and two batches


@pytest.mark.parametrize("workers", [1, 2])
def test_what_can_t_be_read_ahead_is_told_by_the_batch_that_needs_it(workers):
    _, dataset = eight_chunks(workers=workers)
    lost = next(iter(chunks(dataset, 4, 5, 6, 7)))
    at = next(step for step in range(4, 8) if lost in chunks(dataset, step))
    _, dataset = eight_chunks(lost, workers=workers)
    with dataset:
        batches = iter(dataset)
        for _ in range(at):
            next(batches)
        with pytest.raises(OSError, match=f"chunk {lost} is lost") as caught:
            next(batches)
    assert f"at epoch 0, step {at}, rows" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("others", [{"workers": 0}, {"cache": "1 MB"}])
def test_nothing_is_read_ahead_for_a_consumer_alone_or_beside_a_cache(others):
    source, dataset = eight_chunks(**others)
    make = core_of(dataset).maker(Work(dataset.plan))
    for step in range(4):
        make(0, step)
    assert set(source.times) == chunks(dataset, 0, 1, 2, 3)


def test_a_thread_of_several_processes_is_further_ahead_in_the_common_order():
    (of_one, _), (of_three, _) = (eight_chunks(shard=shard) for shard in (None, (0, 3)))
    assert of_three.ahead == 3 * of_one.ahead > 0


def test_parts_of_a_dataset_read_what_is_theirs():
    source, dataset = eight_chunks()
    for rows in (np.arange(40), np.arange(40, 80)):
        part = dataset.subset(rows)
        make = core_of(part).maker(Work(part.plan))
        core_of(part).begin_pass()
        for step in range(len(part)):
            source.times.clear()
            make(0, step)
            following = range(step, min(step + 5, len(part)))
            assert set(source.times) <= chunks(part, *following)
