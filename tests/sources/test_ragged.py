"""`Ragged`: rows of any length, from every form, padded as plain NumPy pads them."""

from __future__ import annotations

import atexit
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, Shard, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, InvalidStateError
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.samplers import LengthBuckets
from keras_npbatch.sources.ragged import Ragged
from keras_npbatch.testing import check_dataset
from keras_npbatch.testing.strategies import row_numbers
from tests.comparing import assert_same_array
from tests.inside import core_of, maker_of, pool_of

MIB = 2**20
few = settings(max_examples=12)


def sequences(lengths: Any, inner: tuple[int, ...] = (), dtype: str = "int32") -> list[Any]:
    """Rows of these lengths, no two time steps of which are equal."""
    total = int(np.sum(lengths))
    values = np.arange(1, 1 + total * int(np.prod(inner)), dtype=dtype).reshape(total, *inner)
    return np.split(values, np.cumsum(lengths)[:-1])


def padded(
    rows: list[Any], width: int, value: Any = 0, side: str = "right", truncate: str = "right"
) -> npt.NDArray[Any]:
    """What a user would write."""
    out = np.full((len(rows), width, *rows[0].shape[1:]), value, rows[0].dtype)
    for number, row in enumerate(rows):
        kept = row[:width] if truncate == "right" else row[-width:]
        out[number, slice(len(kept)) if side == "right" else slice(width - len(kept), None)] = kept
    return out


# --- the forms of data -------------------------------------------------------------------------


def as_objects(rows: list[Any]) -> Any:
    found = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        found[number] = row
    return found


def as_offsets(rows: list[Any]) -> Any:
    return np.concatenate(rows), np.cumsum([0, *map(len, rows)])


def as_memory_maps(rows: list[Any], folder: Path) -> list[Any]:
    for number, row in enumerate(rows):
        np.save(folder / f"{number}.npy", row)
    return [np.load(folder / f"{number}.npy", mmap_mode="r") for number in range(len(rows))]


def as_arrow(rows: list[Any], kind: str = "ListArray") -> Any:
    arrow = pytest.importorskip("pyarrow")
    values, offsets = as_offsets(rows)
    numbers = arrow.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        numbers = arrow.FixedSizeListArray.from_arrays(numbers, size)
    whole = np.int64 if kind == "LargeListArray" else np.int32
    return getattr(arrow, kind).from_arrays(offsets.astype(whole), numbers)


def as_arrow_chunks(rows: list[Any]) -> Any:
    """Of several chunks, one of them empty, that begin within other arrays."""
    arrow = pytest.importorskip("pyarrow")
    half = len(rows) // 2
    whole, large = as_arrow(rows[:1] + rows[:half]), as_arrow(rows[half:] + rows[:1])
    return arrow.chunked_array([whole[1:], whole[:0], large[:-1]])


def as_polars(rows: list[Any]) -> Any:
    polars = pytest.importorskip("polars")
    return polars.Series("a", [row.tolist() for row in rows], dtype=polars.List(polars.Int32))


def as_pandas_of_arrow(rows: list[Any]) -> Any:
    pandas = pytest.importorskip("pandas")
    column = as_arrow(rows)
    return pandas.Series(column, dtype=pandas.ArrowDtype(column.type))


def as_parquet(rows: list[Any], folder: Path | None = None) -> Any:
    """Two files of row groups of two rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = Path(tempfile.mkdtemp(dir=Path(FOLDER.name))) if folder is None else folder
    half = (1 + len(rows)) // 2
    for name, part in (("a", rows[:half]), ("b", rows[half:])):
        if part:
            table = arrow.table({"a": as_arrow(part), "b": range(len(part))})
            parquet.write_table(table, folder / f"{name}.parquet", row_group_size=2)
    return sources.Parquet(folder)["a"]


def as_huggingface(rows: list[Any]) -> Any:
    """On a disk, in two files, with rows left out and in another order."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = tempfile.mkdtemp(dir=Path(FOLDER.name))
    table = pytest.importorskip("pyarrow").table({"a": as_arrow([*rows, rows[0]][::-1])})
    datasets.Dataset(table).save_to_disk(folder, num_shards=2)
    return datasets.load_from_disk(folder).select(range(len(rows), 0, -1))["a"]


FOLDER = tempfile.TemporaryDirectory()
"""Of the files of this module."""
atexit.register(FOLDER.cleanup)


def as_pandas(rows: list[Any]) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.Series(rows, index=range(7, 7 + len(rows)))


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "object array": as_objects,
    "offsets": as_offsets,
    "offsets of a strided array": lambda rows: (
        np.repeat(np.concatenate(rows), 2, axis=0)[::2],
        np.cumsum([0, *map(len, rows)]).tolist(),
    ),
    "Arrow": as_arrow,
    "Arrow, large": lambda rows: as_arrow(rows, "LargeListArray"),
    "Arrow, in chunks": as_arrow_chunks,
    "polars": as_polars,
    "pandas": as_pandas,
    "pandas of Arrow": as_pandas_of_arrow,
    "Parquet": as_parquet,
    "Hugging Face": as_huggingface,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inner", [(), (3,), (2, 2)], ids=str)
@few
@given(data=st.data())
def test_rows_of_every_form_are_padded_as_numpy_pads_them(
    form: str, inner: tuple[int, ...], data: st.DataObject
) -> None:
    if inner and form == "polars":
        return  # its lists are of numbers
    lengths = data.draw(st.lists(st.integers(1, 7) | st.just(90), min_size=1, max_size=9))
    rows = sequences(lengths, inner)
    side = data.draw(st.sampled_from(["right", "left"]))
    truncate = data.draw(st.sampled_from([False, "right", "left"]))
    longest = max(lengths)
    least = 1 if truncate else longest
    widths = data.draw(st.none() | st.sets(st.integers(1, 99), max_size=3).map(sorted))
    if widths is not None:
        widths.append(max([least, *(width + 1 for width in widths)]))
    value = data.draw(st.sampled_from([0, -1]))
    if widths is None:
        truncate = False
    ragged = Ragged(FORMS[form](rows), pad_to=widths, pad_value=value, side=side, truncate=truncate)
    asked = data.draw(row_numbers(len(rows)))
    chosen = [rows[row] for row in asked]
    width = max(map(len, chosen), default=1)
    if widths is not None:
        width = next((each for each in widths if each >= width), widths[-1])
    expected = padded(chosen, width, value, side, truncate or "right") if chosen else None
    found = ragged.read(asked)
    real = ragged.mask.read(asked)
    assert len(ragged) == len(rows)
    assert ragged.is_in_memory == (form not in ("Parquet", "Hugging Face"))
    if expected is None:
        assert len(found) == len(real) == 0
        return
    assert_same_array(found, expected)
    ones = [np.ones(len(row), bool) for row in chosen]
    assert_same_array(real, padded(ones, width, False, side))
    assert_same_array(ragged.weights.read(asked), real.astype("float32"))
    assert ragged.lengths[asked].tolist() == real.sum(axis=1).tolist()


def test_lists_of_a_fixed_size_of_arrow_are_rows_too() -> None:
    arrow = pytest.importorskip("pyarrow")
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(np.arange(12)), 3)[1:]
    ragged = Ragged(column, pad_to=(2, 4), truncate="left", side="left")
    assert ragged.read([2, 0]).tolist() == [[0, 9, 10, 11], [0, 3, 4, 5]]


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[1, 2], [3]], "int64"),
        ([(1, 2.5), [3]], "float64"),
        ([[True, False], [True]], "bool"),
        ([[[1, 2]], [[3, 4], [5, 6]]], "int64"),
        ([[2**63], [1]], "uint64"),
        ([np.matrix([[1, 2]]), np.matrix([[3, 4]])], "int64"),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_lists_of_numbers_are_read_as_numpy_reads_them(rows: Any, dtype: str) -> None:
    if dtype == "uint64":
        rows = [np.array(row, dtype) for row in rows]
    arrays = [np.asarray(row, dtype) for row in rows]
    expected = padded(arrays, max(map(len, arrays)))
    assert_same_array(Ragged(rows).read(np.arange(2)), expected)


def test_texts_of_a_fixed_size_are_padded_with_a_text() -> None:
    found = Ragged([np.array(["to", "be"]), np.array(["three"])], pad_value="").read(np.arange(2))
    assert found.tolist() == [["to", "be"], ["three", ""]]


def test_a_list_of_memory_maps_is_read_from_the_disk(tmp_path: Path) -> None:
    rows = sequences([3, 1, 2])
    maps = as_memory_maps(rows, tmp_path)
    for data in (maps, (np.load(tmp_path / "0.npy", mmap_mode="r"), [0, 1, 3])):
        ragged = Ragged(data)
        assert not ragged.is_in_memory
    ragged = pickle.loads(pickle.dumps(Ragged(maps)))
    assert_same_array(ragged.read(np.array([1, 0])), padded([rows[1], rows[0]], 3))


def test_what_is_changed_in_the_list_later_is_not_seen() -> None:
    rows = sequences([2, 1])
    ragged = Ragged(rows)
    rows[0] = np.zeros(9, "int32")
    assert ragged.read(np.array([0])).tolist() == [[1, 2]]


@pytest.mark.parametrize("form", ["list", "offsets", "Arrow", "Arrow, in chunks"])
def test_neither_making_nor_reading_copies_the_whole(form: str) -> None:
    rows = sequences([256 * 1024] * 32 + [3])  # 32 MiB
    data = FORMS[form](rows)
    tracemalloc.start()
    try:
        found = Ragged(data).read(np.array([32, 32]))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert found.tolist() == [rows[32].tolist()] * 2


def test_many_arrays_are_sent_as_one() -> None:
    rows = sequences(np.tile([3, 1, 2], 1000))
    sent = pickle.dumps(Ragged(rows, side="left"), protocol=5, buffer_callback=lambda _: False)
    assert len(sent) < 2000
    again = pickle.loads(pickle.dumps(Ragged(rows, side="left")))
    asked = np.array([2999, 0, 1])
    assert_same_array(again.read(asked), padded([rows[row] for row in asked], 3, side="left"))


# --- in a dataset ------------------------------------------------------------------------------

LENGTHS = np.random.default_rng(0).integers(1, 30, 61)
ROWS = sequences(LENGTHS)


@few
@given(data=st.data())
def test_all_shards_have_the_width_of_the_global_batch(data: st.DataObject) -> None:
    """Also at the end of an epoch, where a shard may have no row at all, and after a resume."""
    remainder = data.draw(st.sampled_from(get_args(Remainder)))
    n = data.draw(st.integers(12, 61))
    sampler = data.draw(st.none() | st.just(LengthBuckets(LENGTHS[:n], 2)))
    if sampler is not None and remainder == "spread":
        remainder = "pad"
    widths = data.draw(st.sampled_from([None, (8, 16, 30)]))
    count = data.draw(st.sampled_from([1, 2, 3]))
    tokens = Ragged(ROWS[:n], pad_to=widths, lengths=data.draw(st.sampled_from([True, "mask"])))
    chosen: dict[str, Any] = {"batch_size": 12 // count, "seed": 1, "remainder": remainder}
    if sampler is not None:
        chosen["sampler"] = sampler
    workers = data.draw(st.sampled_from([0, 2]))
    try:
        ranks = [
            ArrayDataset(tokens, LENGTHS[:n], **chosen, shard=Shard(index, count), workers=workers)
            for index in range(count)
        ]
    except InvalidArgumentError:  # some rank would have no sample at some step
        return
    first = data.draw(st.integers(0, len(ranks[0]) - 1))
    plan: Plan = ranks[0].plan
    for rank in ranks:
        rank.load_state_dict(ranks[0].state_dict(epoch=2, step=first))
    order = plan.order(2)
    for step, batches in enumerate(zip(*ranks, strict=True), start=first):
        rows = order.rows(*plan.global_span(step))
        longest = int(LENGTHS[rows].max())
        width = longest if widths is None else next(each for each in widths if each >= longest)
        seen = []
        for batch in batches:
            values, beside = batch[0]["values"], {**batch[0]}
            assert values.shape[1] == width
            real = values != 0
            lengths = beside["lengths"] if "lengths" in beside else beside["mask"].sum(axis=1)
            assert lengths.tolist() == real.sum(axis=1).tolist() == batch[1].tolist()
            weights = batch[2] if len(batch) > 2 else np.ones(len(values))
            seen += [v[:n] for v, n, w in zip(values, lengths, weights, strict=True) if w]
        assert [row.tolist() for row in seen] == [ROWS[row].tolist() for row in rows]
    for rank in ranks:
        rank.close()


def test_each_dataset_that_reads_by_itself_has_the_width_of_the_global_batch_too() -> None:
    class Reversed(ArrayDataset):
        def load(self, rows: Any) -> Any:
            x, y = super().load(rows[::-1])
            return x[::-1], y[::-1]

    ranks = [Reversed(Ragged(ROWS), LENGTHS, batch_size=4, seed=0, shard=(i, 3)) for i in range(3)]
    shapes = [[batch[0].shape for batch in rank] for rank in ranks]
    assert shapes[0] == shapes[1] == shapes[2]
    assert len(set(shapes[0])) > 1
    peeked = [[rank[step][0].shape for step in range(len(rank))] for rank in ranks]
    assert len({str(each) for each in peeked}) == 1
    evaluated = [[batch[0].shape for batch in rank.batches_for("evaluate")] for rank in ranks]
    assert evaluated[0] == evaluated[1] == evaluated[2]
    assert len(set(evaluated[0])) > 1


def test_batches_are_the_same_bytes_by_whomever_they_are_made() -> None:
    """Of more than a megabyte, which workers get once."""
    tokens = Ragged([np.tile(row, 1000) for row in ROWS], lengths="mask")
    alone, together = (
        ArrayDataset(tokens, LENGTHS, batch_size=8, seed=0, workers=2, use_multiprocessing=are_many)
        for are_many in (False, True)
    )
    pids = []
    with together:
        for _ in range(2):
            for ours, theirs in zip(alone, together, strict=True):
                assert_same_array(theirs[0]["values"], ours[0]["values"])
                assert_same_array(theirs[0]["mask"], ours[0]["mask"])
                assert_same_array(theirs[1], ours[1])
            pool = pool_of(together)
            assert pool is not None
            pids.append(pool.pids)
    assert pids[0] == pids[1]  # they were not started again


def test_a_list_of_widths_gives_at_most_so_many_shapes() -> None:
    tokens = Ragged(ROWS, pad_to=(8, 16, 32))
    sampler = LengthBuckets(tokens.lengths, batches_per_window=10)
    dataset = ArrayDataset(tokens, LENGTHS, batch_size=6, seed=0, sampler=sampler, remainder="pad")
    shapes = {batch[0].shape for _ in range(3) for batch in dataset}
    assert shapes == {(6, 8), (6, 16), (6, 32)}
    assert {batch[0].shape for batch in dataset.batches_for("evaluate")} <= {
        (6, 32),
        (6, 16),
        (1, 32),
        (1, 16),
        (1, 8),
    }


def test_a_dataset_tells_the_axis_that_varies() -> None:
    one = ArrayDataset(Ragged(ROWS), Ragged(ROWS, pad_to=30).mask, seed=0)
    assert "x int32 (61, None), y bool (61, 30)" in repr(one)
    assert repr(Ragged(ROWS, pad_to=(8, 30), side="left")) == (
        f"<Ragged(pad_to=[8, 30], pad_value=0, side='left', {LENGTHS.sum()} time steps): int32 "
        "(61, None)>"
    )
    assert core_of(one).facts(one.plan).batch_bytes == 32 * (29 * 4 + 30)


def test_a_state_of_other_widths_is_refused() -> None:
    state = ArrayDataset(Ragged(ROWS, pad_to=40), seed=0).state_dict()
    with pytest.raises(InvalidStateError, match=r"x was .*Ragged.pad_to=.40.*is .*pad_to=.50"):
        ArrayDataset(Ragged(ROWS, pad_to=50), seed=0).load_state_dict(state)


@pytest.mark.parametrize(("pad_to", "sampler"), [(None, None), (32, None), (None, "Balanced")])
def test_the_checker_finds_nothing(pad_to: Any, sampler: Any) -> None:
    from keras_npbatch.samplers import Balanced

    chosen = {} if sampler is None else {"sampler": Balanced(LENGTHS % 3)}
    tokens = Ragged(ROWS, pad_to=pad_to, lengths=True)
    findings = check_dataset(ArrayDataset(tokens, LENGTHS, batch_size=30, seed=0, **chosen))
    assert findings.ok, str(findings)


def test_reading_one_plan_makes_the_same_batches_in_any_way() -> None:
    """Through `ds[i]`, iteration and the maker of the workers."""
    dataset = ArrayDataset(Ragged(ROWS), LENGTHS, batch_size=4, seed=0, shard=(1, 3))
    make = maker_of(dataset)
    for step, batch in enumerate(dataset):
        assert_same_array(batch[0], make(0, step)[0])
    dataset.set_epoch(0)
    for step in range(len(dataset)):
        assert_same_array(dataset[step][0], make(0, step)[0])


# --- what is refused ---------------------------------------------------------------------------

I4 = np.dtype("int32")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            [np.zeros((2, 3)), np.zeros((1, 4))],
            "row 1 of Ragged has time steps of shape (4,), and row 0 of shape (3,); expected one "
            "shape: only the first axis of a row may differ. Pad the others, or put the longest "
            "axis first.",
        ),
        (
            [np.zeros(2), np.zeros(0), np.zeros(1), np.zeros(0)],
            "data of Ragged has no time step in rows [1, 3]; expected at least one in each. Leave "
            "these rows out, or give each one time step of the pad_value: the padded row is the "
            "same.",
        ),
        (
            [np.zeros(2, I4), np.zeros(2)],
            "row 1 of Ragged has dtype float64, and row 0 int32; expected one dtype. Convert them: "
            "`[np.asarray(row, 'float32') for row in data]`.",
        ),
        (
            [np.zeros(2), 3],
            "row 1 of Ragged is 3 (int); expected an array of shape (time_steps, *inner_shape) "
            "for each row.",
        ),
        (
            ["to be", "or not"],
            "row 0 of Ragged is a text; expected an array of numbers. Turn texts into tokens "
            "first; as an array of texts they need no padding.",
        ),
        (
            [[[1], [2, 3]], [[1]]],
            "row 0 of Ragged is [[1], [2, 3]] (list), of which NumPy makes no array; expected time "
            "steps of one shape.",
        ),
        (
            [[1, None], [2]],
            "row 0 of Ragged has time steps of dtype object; expected numbers, booleans, dates or "
            "strings of a fixed size. Convert them: `[np.asarray(row, 'int32') for row in data]`.",
        ),
        ([], "data of Ragged has 0 rows; expected at least one sequence."),
        (
            np.array([[1, 2], [3, 4]], object),
            "data of Ragged is ndarray of shape (2, 2) and dtype object; expected shape "
            "(num_rows,). NumPy made one array of rows that are equally long: give a list of "
            "arrays.",
        ),
        (
            range(3),
            "data of Ragged is range(0, 3) (range); expected a list of arrays, an object array of "
            "them, (values, offsets), a column of lists of a table, or a tf.RaggedTensor.",
        ),
        (
            (np.zeros(5), [0, 2]),
            "offsets of Ragged go from 0 to 2; expected 0 to 5, the number of values: others would "
            "be in no row. Of lengths they are `np.concatenate([[0], np.cumsum(lengths)])`.",
        ),
        (
            (np.zeros(5), [0, 3, 2, 5]),
            "offsets of Ragged fall from 3 to 2 at row 1; expected rising ones. Of lengths they "
            "are `np.concatenate([[0], np.cumsum(lengths)])`.",
        ),
        (
            (np.zeros(5), [0.0, 5.0]),
            "offsets of Ragged are [0.0, 5.0] (list); expected whole numbers of shape (num_rows + "
            "1,): row i is values[offsets[i]:offsets[i + 1]]. Of lengths they are "
            "`np.concatenate([[0], np.cumsum(lengths)])`.",
        ),
        (
            ([1, 2], [3]),
            "values of Ragged are [1, 2] (list); expected an array or memory map of shape "
            "(time_steps, *inner_shape), and offsets beside it: (values, offsets). Give rows as a "
            "list, not as a tuple.",
        ),
        (
            np.ma.masked_array([[1, 2]], [[0, 1]]),
            "data of Ragged is MaskedArray of shape (1, 2) and dtype int64; expected a list of "
            "arrays, an object array of them, (values, offsets), a column of lists of a "
            "table, or a tf.RaggedTensor.",
        ),
    ],
    ids=str,
)
def test_what_is_no_sequences_is_refused(data: Any, message: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        Ragged(data)
    assert str(caught.value) == message


def test_a_masked_row_is_refused() -> None:
    with pytest.raises(InvalidDataError, match=r"^row 1 of Ragged is a masked array, and its mask"):
        Ragged([np.zeros(2), np.ma.masked_array([1.0, 2.0], [0, 1])])


def test_a_row_longer_than_the_last_width_is_refused_or_cut() -> None:
    rows = sequences([9, 2, 12])
    with pytest.raises(InvalidDataError) as caught:
        Ragged(rows, pad_to=(4, 8))
    assert str(caught.value) == (
        "data of Ragged has up to 12 time steps in rows [0, 2], and pad_to ends at 8; expected no "
        "longer row. Give a greater pad_to, leave these rows out, or say truncate='right' to cut "
        "their ends off."
    )
    cut = Ragged(rows, pad_to=(4, 8), truncate="left")
    assert cut.lengths.tolist() == [8, 2, 8]
    assert cut.read(np.array([0])).tolist() == [rows[0][1:].tolist()]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"side": "both"}, "side is 'both' (str); expected 'right' or 'left'."),
        ({"truncate": True}, "truncate is True (bool); expected False, 'right' or 'left'."),
        (
            {"truncate": "left"},
            "truncate is 'left' and pad_to None; expected a pad_to, beyond which rows are cut.",
        ),
        ({"lengths": "yes"}, "lengths is 'yes' (str); expected True, False or 'mask'."),
        ({"lengths": 1}, "lengths is 1 (int); expected True, False or 'mask'."),
        (
            {"side": np.array(["left"])},
            "side is ndarray of shape (1,) and dtype <U4; expected 'right' or 'left'.",
        ),
        (
            {"pad_to": (8, 4)},
            "pad_to is (8, 4) (tuple); expected None, a number, or rising numbers, such as (64, "
            "128, 256).",
        ),
        (
            {"pad_to": ()},
            "pad_to is () (tuple); expected None, a number, or rising numbers, such as (64, 128, "
            "256).",
        ),
        (
            {"pad_to": 0},
            "pad_to is 0 (int); expected a whole number from 1 to 2147483648.",
        ),
        (
            {"pad_value": -1},
            "pad_value is -1 (int); expected a value that the dtype of the time steps, uint8, can "
            "hold.",
        ),
        (
            {"pad_value": float("nan")},
            "pad_value is nan (float); expected a value that the dtype of the time steps, uint8, "
            "can hold.",
        ),
        (
            {"pad_value": "<pad>"},
            "pad_value is '<pad>' (str); expected a value that the dtype of the time steps, uint8, "
            "can hold.",
        ),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Ragged([np.zeros(2, "uint8")], **chosen)
    assert str(caught.value) == message


def test_words_are_to_be_numbered_or_padded_with_a_word() -> None:
    for words, dtype, pad in (
        ([["the", "cat"], ["sat"]], "<U3", "''"),
        ([np.array([b"a", b"b"]), np.array([b"c"])], "|S1", "b''"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            Ragged(words)
        assert str(caught.value) == (
            f"the time steps of Ragged are words (dtype {dtype}), and pad_value is 0 (int); "
            "expected numbers, or a word to pad with. Turn words into numbers first, for example "
            f"with keras.layers.StringLookup; to keep them, write pad_value={pad}."
        )
    kept = Ragged([["the", "cat"], ["sat"]], pad_value="").read(np.array([1, 0]))
    assert kept.tolist() == [["sat", ""], ["the", "cat"]]


@pytest.mark.parametrize("pad_value", [1e6, -1e9])
def test_a_number_beyond_the_range_of_a_float_is_no_pad_value(pad_value: float) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Ragged([np.ones(2, "float16")], pad_value=pad_value)
    assert str(caught.value) == (
        f"pad_value is {pad_value} (float); expected a value that the dtype of the time steps, "
        "float16, can hold."
    )
    for kept in (-np.inf, np.nan, 65504.0):
        padded = Ragged([np.ones(1, "float16"), np.ones(2, "float16")], pad_value=kept)
        np.testing.assert_array_equal(padded.read(np.array([0, 1]))[0, 1], np.float16(kept))


def test_a_value_that_is_missing_in_no_row_changes_no_dtype() -> None:
    pa = pytest.importorskip("pyarrow")
    column = pa.array([[None, 7], [2, 3], [4], [None]])
    for rows in (column.slice(1, 2), pa.chunked_array([column.slice(1, 1), column.slice(2, 1)])):
        found = Ragged(rows).read(np.array([1, 0]))
        assert found.dtype == np.int64
        assert found.tolist() == [[4, 0], [2, 3]]


@pytest.mark.parametrize("missing", [None, [5, None]], ids=["a list", "a number"])
def test_a_value_missing_in_a_time_step_is_refused_by_its_row(missing: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    kind = pa.list_(pa.list_(pa.int32(), 2))
    column = pa.array([[[9, None]], [[1, 2], [3, 4]], [[1, 2]], [[3, 4], missing]], kind)
    found = Ragged(column.slice(1, 2)).read(np.array([0]))
    assert (found.tolist(), found.dtype) == ([[[1, 2], [3, 4]]], np.int32)
    with pytest.raises(InvalidDataError, match=r"^row 2 of Ragged has a time step without a value"):
        Ragged(column.slice(1))


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            [[1], None],
            "list_",
            r"^data of Ragged has no list in rows \[1\]; expected one in each\. Leave",
        ),
        (
            [[1], [2, 3], [4, None]],
            "list_",
            r"^row 2 of Ragged has a time step without a value; expected a value in each\. Fill",
        ),
        ([[[1]], [[2, 3]]], "lists", r"^data of Ragged is a column of Arrow of type list<item: li"),
        ([1, 2], "numbers", r"^data of Ragged is a column of Arrow of type int32; expected a list"),
        ([["a"]], "texts", r"^data of Ragged has time steps of dtype object; expected numbers"),
    ],
)
def test_columns_of_arrow_that_are_no_sequences_of_numbers_are_refused(
    values: Any, kind: str, message: str
) -> None:
    arrow = pytest.importorskip("pyarrow")
    kinds = {
        "list_": arrow.list_(arrow.int32()),
        "lists": arrow.list_(arrow.list_(arrow.int32())),
        "numbers": arrow.int32(),
        "texts": arrow.list_(arrow.string()),
    }
    with pytest.raises(InvalidDataError, match=message):
        Ragged(arrow.array(values, kinds[kind]))


def test_it_is_public_and_loads_nothing_else() -> None:
    assert sources.Ragged is Ragged
    program = (
        "import sys, numpy, keras_npbatch; keras_npbatch.sources.Ragged([numpy.zeros(3)]); "
        "print({'keras', 'tensorflow', 'jax', 'torch', 'pyarrow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
