"""`Ragged(pack=True)`: several sequences in a row, each once, and hardly any padding."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, Shard
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, InvalidStateError
from keras_npbatch.plan.plan import Remainder
from keras_npbatch.sources.packing import packed
from keras_npbatch.sources.ragged import Ragged
from keras_npbatch.testing import check_dataset
from tests.comparing import assert_same_array
from tests.sources.test_ragged import FORMS, as_memory_maps, sequences

few = settings(max_examples=15, deadline=None)


@few
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60), more=st.sampled_from([0, 1, 50])
)
def test_each_sequence_is_in_one_row_which_has_room_for_it(lengths: list[int], more: int) -> None:
    given_lengths, width = np.array(lengths), max(lengths) + more
    bins = packed(given_lengths, width)
    assert np.sort(bins.sequences).tolist() == list(range(len(lengths)))
    sums = np.add.reduceat(given_lengths[bins.sequences], bins.edges[:-1])
    assert sums.max() <= width
    assert (np.diff(bins.edges) >= 1).all()
    # No two rows could be one: each is more than half full, but for one at most.
    assert np.sort(sums)[:2].sum() > width or len(sums) == 1
    again = packed(given_lengths, width)
    assert_same_array(again.sequences, bins.sequences)
    assert_same_array(again.edges, bins.edges)


@pytest.mark.parametrize(("count", "width"), [(1_000, 512), (40_000, 512), (20_000, 2048)])
def test_at_most_a_twentieth_is_padding(count: int, width: int) -> None:
    drawn = np.random.default_rng(count).lognormal(4.0, 0.8, count)
    lengths = np.clip(drawn.astype(int), 1, width)
    bins = packed(lengths, width)
    assert len(bins) * width / lengths.sum() < 1.05
    assert np.sort(bins.sequences).tolist() == list(range(count))
    assert np.add.reduceat(lengths[bins.sequences], bins.edges[:-1]).max() <= width
    # What is together in the data is spread over the windows.
    neighbours = np.abs(np.diff(bins.sequences)) == 1
    assert neighbours.mean() < 0.02


def taken_apart(batch: dict[str, Any]) -> list[list[Any]]:
    """The sequences of each row, as the model could tell them."""
    found = []
    for values, ids, positions in zip(
        batch["values"], batch["segment_ids"], batch["positions"], strict=True
    ):
        assert ids.dtype == positions.dtype == np.int32
        numbers = np.unique(ids[ids > 0])
        assert numbers.tolist() == list(range(1, len(numbers) + 1))
        row = [values[ids == number] for number in numbers]
        whole = sum(map(len, row))
        assert (ids[:whole] > 0).all()
        assert positions[:whole].tolist() == [step for each in row for step in range(len(each))]
        assert not ids[whole:].any()
        assert not positions[whole:].any()
        found.append(row)
    return found


@pytest.mark.parametrize("form", [form for form in FORMS if form != "Parquet"])  # is refused
@pytest.mark.parametrize("inner", [(), (2,)], ids=str)
@few
@given(data=st.data())
def test_rows_of_every_form_hold_the_sequences(
    form: str, inner: tuple[int, ...], data: st.DataObject
) -> None:
    if inner and form == "polars":
        return  # its lists are of numbers
    lengths = data.draw(st.lists(st.integers(1, 7) | st.just(90), min_size=1, max_size=20))
    rows = sequences(lengths, inner)
    ragged = Ragged(FORMS[form](rows), pad_to=100, pad_value=-1, pack=True)
    assert ragged.shape == (len(ragged), 100, *inner)
    asked = np.array(data.draw(st.lists(st.integers(0, len(ragged) - 1), max_size=8)), np.int64)
    batch = {
        "values": ragged.read(asked),
        "segment_ids": ragged.segment_ids.read(asked),
        "positions": ragged.positions.read(asked),
    }
    for row, found in zip(asked.tolist(), taken_apart(batch), strict=True):
        expected = [rows[number] for number in ragged.sequences_in(row)]
        assert [each.tolist() for each in found] == [each.tolist() for each in expected]
    is_padding = batch["segment_ids"] == 0
    assert (batch["values"][is_padding] == -1).all()
    assert_same_array(ragged.mask.read(asked), ~is_padding)
    assert_same_array(ragged.weights.read(asked), (~is_padding).astype("float32"))
    assert_same_array(ragged.values.read(asked), batch["values"])
    assert ragged.lengths[asked].tolist() == (~is_padding).sum(axis=1).tolist()


def test_memory_maps_are_packed_and_sent(tmp_path: Path) -> None:
    rows = sequences([3, 1, 2, 70])
    maps = Ragged(as_memory_maps(rows, tmp_path), pad_to=72, pack=True)
    assert not maps.is_in_memory
    everything = np.arange(len(maps))
    in_memory = Ragged(rows, pad_to=72, pack=True)
    for ragged in (maps, in_memory):
        again = pickle.loads(pickle.dumps(ragged))
        assert_same_array(again.read(everything), in_memory.read(everything))
        assert_same_array(again.values.read(everything), in_memory.read(everything))


# --- in a dataset ------------------------------------------------------------------------------

LENGTHS = np.random.default_rng(0).integers(1, 30, 300)
ROWS = [np.full(length, number, "int32") for number, length in enumerate(LENGTHS)]


@few
@given(data=st.data())
def test_an_epoch_has_each_sequence_once_on_all_shards_and_after_a_resume(
    data: st.DataObject,
) -> None:
    tokens, tags = (Ragged([row + n for row in ROWS], pad_to=64, pack=True) for n in (0, 1))
    remainder = data.draw(st.sampled_from(sorted(set(get_args(Remainder)) - {"drop"})))
    count, first = data.draw(st.sampled_from([(1, 0), (3, 0), (3, 4)]))
    workers = data.draw(st.sampled_from([0, 2]))
    chosen: dict[str, Any] = {"batch_size": 4, "seed": 1, "remainder": remainder}
    try:
        ranks = [
            ArrayDataset(
                tokens,
                tags.values,
                tokens.weights,
                **chosen,
                shard=Shard(index, count),
                workers=workers,
            )
            for index in range(count)
        ]
    except InvalidArgumentError:  # some rank would have no sample at some step
        return
    seen: list[int] = []
    for rank in ranks:
        rank.load_state_dict(ranks[0].state_dict(epoch=2, step=first))
        for step, (x, y, weight) in enumerate(rank, start=first):
            real = weight.any(axis=1)
            apart = taken_apart({name: leaf[real] for name, leaf in x.items()})
            for row, found in zip(rank.rows(step, epoch=2).tolist(), apart, strict=True):
                numbers = [int(each[0]) for each in found]
                assert numbers == tokens.sequences_in(row).tolist()
                assert [len(each) for each in found] == LENGTHS[numbers].tolist()
                seen += numbers
            assert np.array_equal(y[weight > 0], x["values"][weight > 0] + 1)
    order = ranks[0].plan.order(2)
    rows = order.rows(ranks[0].plan.global_span(first)[0], len(tokens))
    expected = [number for row in rows.tolist() for number in tokens.sequences_in(row)]
    assert sorted(seen) == sorted(expected)
    if first == 0:
        assert sorted(seen) == list(range(len(ROWS)))


def test_a_state_of_rows_that_are_not_packed_is_refused_and_the_checker_finds_nothing() -> None:
    tokens = Ragged([row + 1 for row in ROWS], pad_to=64, pack=True)
    dataset = ArrayDataset(tokens, batch_size=8, seed=0)
    assert "x['positions'] int32" in repr(dataset)
    findings = check_dataset(dataset)
    assert findings.ok, str(findings)
    with pytest.raises(InvalidStateError, match=r"num_samples was 300"):
        dataset.load_state_dict(ArrayDataset(Ragged(ROWS, pad_to=64), seed=0).state_dict())


def test_a_row_that_is_not_packed_has_its_own_sequence() -> None:
    ragged = Ragged([[1, 2], [3]], side="left")
    assert ragged.sequences_in(1).tolist() == [1]
    assert ragged.segment_ids.read(np.arange(2)).tolist() == [[1, 1], [0, 1]]
    assert ragged.positions.read(np.arange(2)).tolist() == [[0, 1], [0, 0]]
    with pytest.raises(IndexError):
        ragged.sequences_in(2)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"pad_to": (4, 8)},
            "pack=True was given without one width; expected pad_to=a number, such as 512: how "
            "many time steps a row has room for.",
        ),
        (
            {"pad_to": 4, "side": "left"},
            "pack=True was given with side='left'; expected neither side nor lengths: sequences "
            "stand one after the other, and segment_ids are 0 where there is padding.",
        ),
        (
            {"pad_to": 4, "lengths": "mask"},
            "pack=True was given with lengths='mask'; expected neither side nor lengths: sequences "
            "stand one after the other, and segment_ids are 0 where there is padding.",
        ),
        ({"pad_to": 4, "pack": 3}, "pack is 3 (int); expected True or False."),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Ragged([[1, 2], [3]], **{"pack": True} | chosen)
    assert str(caught.value) == message


def test_a_sequence_longer_than_a_row_is_refused_or_cut() -> None:
    with pytest.raises(InvalidDataError, match=r"^data of Ragged has up to 3 time steps in rows"):
        Ragged([[1, 2, 3], [4]], pad_to=2, pack=True)
    cut = Ragged([[1, 2, 3], [4]], pad_to=2, pack=True, truncate="right")
    assert sorted(cut.read(np.arange(2)).tolist()) == [[1, 2], [4, 0]]


def test_what_is_packed_otherwise_is_refused() -> None:
    tokens = Ragged([[1, 2], [3], [4]], pad_to=3, pack=True)
    others = Ragged([[1], [3, 2], [4]], pad_to=3, pack=True)
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(tokens, others.values)
    assert str(caught.value) == (
        "y is packed otherwise than x['positions']; expected sequences of the same lengths and the "
        "same pad_to, so that their time steps stand beside each other."
    )
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(tokens, np.arange(3))
    assert str(caught.value) == (
        "y has 3 rows, but x['positions'] has 2; expected the same number in every leaf. A row of "
        "packed sequences has several of them. Pack what belongs to time steps too: `Ragged(tags, "
        "pad_to=..., pack=True).values`. So is what belongs to a whole sequence: repeat it for "
        "each time step, with a sample_weight of 1 at the last one and 0 elsewhere."
    )
