"""`collate=pad(...)`: sequences that a loader returns, padded as `Ragged` pads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, pad
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, InvalidStateError
from keras_npbatch.sources import Ragged
from keras_npbatch.testing import check_dataset
from keras_npbatch.tree import leaves_with_paths
from tests.comparing import assert_same_array

LENGTHS = np.random.default_rng(0).integers(1, 30, 41)
N = len(LENGTHS)
few = settings(max_examples=15, deadline=None)


def rows_of(inner: tuple[int, ...] = (), dtype: str = "int32") -> list[Any]:
    """Rows of these lengths, no two time steps of which are equal."""
    total = int(LENGTHS.sum())
    values = np.arange(1, 1 + total * int(np.prod(inner)), dtype=dtype).reshape(total, *inner)
    return np.split(values, np.cumsum(LENGTHS)[:-1])


class Loader(BatchDataset):
    """A loader of the user's: `make(rows)` makes its batches."""

    def __init__(self, make: Callable[[Any], Any], **settings: Any) -> None:
        super().__init__(N, **{"batch_size": 8, "seed": 0} | settings)
        self.make = make

    def load(self, rows: Any) -> Any:
        return self.make(rows)


def assert_same_batch(ours: Any, theirs: Any) -> None:
    for (path, one), (other_path, other) in zip(
        leaves_with_paths(ours), leaves_with_paths(theirs), strict=True
    ):
        assert path == other_path
        assert_same_array(one, other)


@few
@given(data=st.data())
def test_lists_are_padded_as_ragged_pads_the_same_rows(data: st.DataObject) -> None:
    rows = rows_of(data.draw(st.sampled_from([(), (2,)])))
    chosen: dict[str, Any] = {
        "pad_to": data.draw(st.sampled_from([None, 30, (8, 16, 32), 7, (3, 9)])),
        "pad_value": data.draw(st.sampled_from([0, -1])),
        "side": data.draw(st.sampled_from(["right", "left"])),
        "lengths": data.draw(st.sampled_from([False, True, "mask"])),
    }
    if chosen["pad_to"] in (7, (3, 9)):
        chosen["truncate"] = data.draw(st.sampled_from(["right", "left"]))
    objects = np.empty(N, object)
    objects[:] = rows
    how = data.draw(st.sampled_from(["list", "objects", "array", "sample"]))
    more: dict[str, Any] = {
        "batch_size": 8,
        "seed": 3,
        "remainder": data.draw(st.sampled_from(["keep", "pad"])),
        "workers": data.draw(st.sampled_from([0, 2])),
    }
    expected = ArrayDataset(Ragged(rows, **chosen), LENGTHS, **more)
    more["collate"] = data.draw(st.sampled_from([pad(**chosen), (pad(**chosen), None)]))
    if how == "sample":
        found: Any = SampleDataset(lambda row: (rows[row], LENGTHS[row]), num_samples=N, **more)
    elif how == "list":
        found = Loader(lambda asked: ([rows[row] for row in asked], LENGTHS[asked]), **more)
    elif how == "objects":
        found = Loader(lambda asked: (objects[asked], LENGTHS[asked]), **more)
    else:
        found = ArrayDataset(objects, LENGTHS, **more)
    for _ in range(2):
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_batch(ours, theirs)


def test_each_leaf_may_have_its_own_padding() -> None:
    rows, tags = rows_of(), [row % 3 for row in rows_of()]
    collate = ({"tokens": pad(32), "image": None}, pad(32, pad_value=-1))
    pictures = np.arange(N * 4).reshape(N, 2, 2)

    def load(asked: Any) -> Any:
        tokens = [rows[row] for row in asked]
        return {"tokens": tokens, "image": pictures[asked]}, [tags[row] for row in asked]

    def load_sample(row: int) -> Any:
        return {"tokens": rows[row], "image": pictures[row]}, tags[row]

    of_arrays = ArrayDataset(
        {"tokens": Ragged(rows, pad_to=32), "image": pictures},
        Ragged(tags, pad_to=32, pad_value=-1),
        batch_size=8,
        seed=0,
    )
    expected = list(of_arrays)
    of_samples = SampleDataset(load_sample, num_samples=N, batch_size=8, seed=0, collate=collate)
    for found in (Loader(load, collate=collate), of_samples):
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_batch(ours, theirs)


def test_lists_of_numbers_are_sequences_and_tuples_are_nestings() -> None:
    def load(asked: Any) -> Any:
        short = [[1] * int(n) for n in LENGTHS[asked]]
        return ((short, LENGTHS[asked]), LENGTHS[asked])

    (values, lengths), y = Loader(load, collate=pad())[0]
    assert values.dtype == np.int64
    assert values.sum(axis=1).tolist() == lengths.tolist() == y.tolist()


def test_x_alone_may_be_a_list() -> None:
    rows = rows_of()
    for collate in (pad(), (pad(),)):
        x = Loader(lambda asked: [rows[row] for row in asked], collate=collate, shuffle=False)[0]
        assert [row[row > 0].tolist() for row in x] == [row.tolist() for row in rows[:8]]


def test_a_batch_that_is_kept_by_the_loader_is_not_changed_by_a_transform() -> None:
    rows, ages = rows_of(), np.arange(N)
    kept = ([rows[row] for row in range(8)], ages[:8].copy())

    def double(batch: Any) -> Any:
        batch[0][...] *= 2
        batch[1][...] *= 2
        return batch

    for _ in range(2):
        x, y = Loader(lambda _: kept, collate=pad(), transform=double, shuffle=False)[0]
        assert y.tolist() == (ages[:8] * 2).tolist()
        assert x[0][: LENGTHS[0]].tolist() == (rows[0] * 2).tolist()
    assert kept[1].tolist() == ages[:8].tolist()


def test_shards_have_one_width_and_a_state_is_that_of_the_padding() -> None:
    rows = rows_of()

    def load(asked: Any) -> Any:
        return [rows[row] for row in asked], LENGTHS[asked]

    ranks = [Loader(load, batch_size=4, shard=(index, 3), collate=pad(30)) for index in range(3)]
    shapes = [[batch[0].shape for batch in rank] for rank in ranks]
    assert shapes[0] == shapes[1] == shapes[2] == [(4, 30)] * len(ranks[0])
    state = Loader(load, collate=pad(30)).state_dict()
    with pytest.raises(InvalidStateError, match=r"collate was .pad\(pad_to=\[30\].*is .pad"):
        Loader(load, collate=pad(40)).load_state_dict(state)
    assert "collate=pad(pad_to=[30], pad_value=0, side='right')" in repr(ranks[0])


@pytest.mark.parametrize("pad_to", [None, (16, 32)])
def test_shards_that_could_not_know_the_width_are_refused(pad_to: Any) -> None:
    collate = pad(pad_to)
    message = (
        f"collate={collate!r} was given with Shard(index=0, count=2); expected one width, since no "
        "process knows how long the sequences are that others load, and all must have the same "
        "shapes. Give pad_to a number: pad(pad_to=256). (sources.Ragged knows all lengths, and "
        "needs none.)"
    )
    for make in (
        lambda: Loader(lambda _: [], collate=collate, shard=(0, 2)),
        lambda: Loader(lambda _: [], collate=collate).shard(0, 2),
        lambda: SampleDataset(lambda _: [1], num_samples=9, collate=collate, shard=(0, 2)),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            make()
        assert str(caught.value) == message
    assert len(Loader(lambda _: [], collate=collate, shard=(0, 1), remainder="keep")) == 6


def test_a_cache_keeps_rows_of_one_width_and_refuses_others() -> None:
    rows, read = rows_of(), []

    def load(asked: Any) -> Any:
        read.extend(asked.tolist())
        return [rows[row] for row in asked], LENGTHS[asked]

    plain, cached = (Loader(load, collate=pad(30), cache=cache) for cache in (None, 10**6))
    epochs = [list(cached) for _ in range(2)]
    assert len(read) == N
    for epoch in epochs:
        for ours, theirs in zip(epoch, plain, strict=True):
            assert_same_batch(ours, theirs)
    with pytest.raises(InvalidArgumentError) as caught:
        Loader(load, collate=pad(), cache=10**6)
    assert str(caught.value) == (
        "cache was given to Loader with collate=pad(pad_to=None, pad_value=0, side='right'); "
        "expected samples of one width, which the cache keeps. Give pad_to a number: "
        "pad(pad_to=256)."
    )


def test_the_checker_finds_nothing() -> None:
    rows = rows_of()

    def load(asked: Any) -> Any:
        return [rows[row] for row in asked], LENGTHS[asked]

    findings = check_dataset(Loader(load, collate=pad(30, lengths=True)))
    assert findings.ok, str(findings)


def one_row(row: Any) -> Callable[[Any], Any]:
    """A loader of ones, but for one row."""
    return lambda asked: [row, *[np.ones(2, "uint8")] * (len(asked) - 1)]


@pytest.mark.parametrize(
    ("make", "chosen", "message"),
    [
        (
            one_row(np.ones(0, "uint8")),
            {},
            "data of x in the batch has no time step in rows [0]; expected at least one in each. "
            "Leave these rows out, or give each one time step of the pad_value: the padded row is "
            "the same.",
        ),
        (
            one_row(np.ones(9, "uint8")),
            {"pad_to": 4},
            "data of x in the batch has up to 9 time steps in rows [0], and pad_to ends at 4; "
            "expected no longer row. Give a greater pad_to, leave these rows out, or say "
            "truncate='right' to cut their ends off.",
        ),
        (
            one_row(np.ones((2, 3), "uint8")),
            {},
            "row 1 of x in the batch has time steps of shape (), and row 0 of shape (3,); expected "
            "one shape: only the first axis of a row may differ. Pad the others, or put the "
            "longest axis first.",
        ),
        (
            lambda asked: [np.ones(1)] * 3,
            {},
            "load(rows) returned ndarray of shape (3, 1) and dtype float64 for x; expected 8 "
            "samples, one for each row of the batch.",
        ),
    ],
)
def test_what_is_no_sequences_is_refused(make: Any, chosen: Any, message: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        Loader(make, collate=pad(**chosen))[0]
    assert str(caught.value) == message
    assert "at epoch 0, step 0, rows [" in caught.value.__notes__[0]


def test_samples_of_other_inner_shapes_are_refused_with_their_row() -> None:
    def load_sample(row: int) -> Any:
        return np.ones((2, 3) if row else (2,), "float32")

    dataset = SampleDataset(load_sample, num_samples=4, shuffle=False, collate=pad())
    with pytest.raises(InvalidBatchError) as caught:
        dataset.load([1, 0])
    assert str(caught.value) == (
        "load_sample(row) returned ndarray of shape (2,) and dtype float32 for x of row 0, but for "
        "row 1 one of shape (None, 3); expected one shape for all samples of a batch. Pad, crop or "
        "resize them to one."
    )


def test_a_sample_may_be_a_buffer_that_is_filled_again() -> None:
    buffer = np.zeros(9, "int64")

    def load_sample(row: int) -> Any:
        buffer[:] = row
        return buffer[: row + 1]

    x = SampleDataset(load_sample, num_samples=9, shuffle=False, batch_size=9, collate=pad())[0]
    assert x.tolist() == np.tril(np.arange(9)[:, np.newaxis] * np.ones((9, 9), int)).tolist()


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        (np.stack, "collate is <function stack"),
        ([pad()], "collate is [pad(pad_to=None"),
        ((None, {"a": 3}), "collate[1]['a'] is 3 (int); expected keras_npbatch.pad(...), or a "),
        (
            (None, None),
            "collate is (None, None) (tuple); expected keras_npbatch.pad(...)",
        ),
    ],
    ids=["a function", "in a list", "no pad", "nothing to pad"],
)
def test_what_is_no_padding_is_refused(collate: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Loader(lambda _: [], collate=collate)
    assert str(caught.value).startswith(message)


def test_nothing_to_pad_is_refused() -> None:
    loader = Loader(lambda asked: (LENGTHS[asked], [LENGTHS[asked]]), collate=(pad(), None))
    with pytest.raises(InvalidBatchError) as caught:
        loader[0]
    assert str(caught.value).endswith(
        "and collate is (pad(pad_to=None, pad_value=0, side='right'), None); expected a list with "
        "an array for each row where it pads. Leave collate out if there is nothing to pad."
    )
    with pytest.raises(InvalidBatchError, match=r"expected an array of at least one axis where it"):
        SampleDataset(lambda row: row, num_samples=9, collate=pad())[0]
    with pytest.raises(InvalidArgumentError) as refused:
        ArrayDataset(LENGTHS, collate=pad())
    assert str(refused.value) == (
        "collate was given, and no array has sequences as its items; expected them as "
        "keras_npbatch.sources.Ragged(rows, pad_to=...), in place of an array, which needs no "
        "collate."
    )


def test_a_leaf_that_collate_has_no_place_for_is_refused() -> None:
    rows = rows_of()
    for collate in ({"a": pad()}, (pad(), None)):
        loader = Loader(lambda asked: (0, [rows[row] for row in asked], 0), collate={"a": pad()})
        with pytest.raises(InvalidBatchError) as caught:
            loader[0]
        assert str(caught.value) == (
            "collate is {'a': pad(pad_to=None, pad_value=0, side='right')}, which has nothing for "
            "y; expected a pad or None for it, nested as the batch is, or a single pad for all."
        ), collate


def test_a_loader_that_makes_whole_batches_has_nothing_to_collate() -> None:
    class Whole(BatchDataset):
        def __getitem__(self, index: int) -> Any:
            return [index]

    with pytest.raises(InvalidArgumentError, match=r"^collate was given to Whole, which overrides"):
        Whole(9, collate=pad())


def test_a_row_that_is_missing_is_named_wherever_it_is() -> None:
    objects = np.empty(N, object)
    objects[:] = [None, *(np.arange(row + 1) for row in range(1, N))]
    dataset = Loader(lambda rows: (objects[rows], rows), collate=pad(), shuffle=False, seed=None)
    with pytest.raises(InvalidBatchError, match=r"^row 0 of x in the batch is None \(NoneType\)"):
        dataset[0]
