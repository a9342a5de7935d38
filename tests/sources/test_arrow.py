"""Arrow: rows are those of `to_pylist`, whatever the type, the chunks, the slices and the nulls."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.sources import as_source, as_sources

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

WHOLE = st.integers(-100, 100)
TEXTS = st.sampled_from(["", "a", "b", "schön", "long enough to be no inline text"])
KINDS = {
    "int8": (pa.int8(), WHOLE, -5),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1), 7),
    "float32": (pa.float32(), st.floats(width=32), 2.5),
    "bool": (pa.bool_(), st.booleans(), True),
    "text": (pa.string(), TEXTS, "?"),
    "large text": (pa.large_string(), TEXTS, "?"),
    "view of text": (pa.string_view(), TEXTS, "?"),
    "bytes": (pa.binary(), st.sampled_from([b"", b"\0x"]), b"?"),
    "fixed bytes": (pa.binary(2), st.sampled_from([b"a\0", b"bc"]), b"??"),
    "date": (pa.date32(), st.dates(), np.datetime64("2020-01-01")),
    "timestamp": (pa.timestamp("us", "UTC"), st.integers(0, 10**15), np.datetime64("2020")),
    "duration": (pa.duration("ms"), st.integers(0, 10**6), np.timedelta64(3, "ms")),
    "fixed lists": (pa.list_(pa.int16(), 3), st.lists(WHOLE, min_size=3, max_size=3), 9),
    "lists": (pa.list_(pa.float64()), st.lists(st.floats(), min_size=2, max_size=2), 0.5),
    "lists of bools": (pa.large_list(pa.bool_()), st.tuples(st.booleans()).map(list), False),
    "lists of texts": (pa.list_(pa.string(), 1), st.tuples(TEXTS).map(list), "?"),
    "lists of lists": (
        pa.list_(pa.list_(pa.int32(), 2)),
        st.lists(st.lists(WHOLE, min_size=2, max_size=2), min_size=2, max_size=2),
        1,
    ),
}


def made(values, kind):
    is_span = pa.types.is_timestamp(kind) or pa.types.is_duration(kind)
    return pa.array(values, pa.int64()).cast(kind) if is_span else pa.array(values, kind)


@st.composite
def columns(draw, nulls=False):
    """A chunked array of slices, one of them perhaps empty, and a value for what is missing."""
    kind, values, fill = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    around = draw(values)
    chunks = []
    for least in draw(st.sampled_from([[1], [0, 1, 0]])):
        found = draw(st.lists(values | st.none() if nulls else values, min_size=least, max_size=5))
        chunks.append(made([around, *found, around], kind).slice(1, len(found)))
    return pa.chunked_array(chunks, kind), fill


def through_python(column, source, fill=None):
    """The column as NumPy has it, the slow way."""
    if source.dtype.kind in "mM":
        column = column.cast("int32" if column.type == pa.date32() else "int64")
        fill = None if fill is None else np.array(fill).astype(source.dtype).astype("int64")
    out = np.empty(source.shape, source.dtype)
    for row, value in enumerate(column.to_pylist()):
        out[row] = fill if value is None else value
    return out


@settings(max_examples=100)
@given(data=st.data())
def test_rows_are_those_of_arrow(data):
    column, _ = data.draw(columns())
    source = as_source(column, "x")
    rows = np.array(data.draw(st.lists(st.integers(0, len(column) - 1), max_size=9)), np.int64)
    expected = through_python(column, source)[rows]
    found = source.read(rows, np.empty)
    assert (found.dtype, found.shape) == (source.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    for chunk in column.chunks:  # an array is as good as a chunked one
        if len(chunk):
            one = as_source(chunk, "x").read(np.array([0]), np.empty)
            np.testing.assert_array_equal(one, through_python(chunk, as_source(chunk, "x"))[:1])


@settings(max_examples=100)
@given(data=st.data())
def test_nulls_are_refused_by_their_row_or_filled(data):
    column, fill = data.draw(columns(nulls=True))
    rows = np.flatnonzero([value is None for value in column.to_pylist()])
    if len(rows):
        with pytest.raises(InvalidDataError, match=f"^x has no value in row {rows[0]}[ ,]"):
            as_source(column, "x")
    source = as_source(sources.Filled(column, fill), "x")
    found = source.read(np.arange(len(column))[::-1], np.empty)
    np.testing.assert_array_equal(found[::-1], through_python(column, source, fill))


@given(
    chunks=st.lists(
        st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1), min_size=1, max_size=4
    ),
    value=st.sampled_from(["a", "new"]),
)
def test_dictionaries_are_codes_of_categories_that_are_told(chunks, value):
    """Each chunk has a dictionary of its own."""
    column = pa.chunked_array([pa.array(c, pa.string()).dictionary_encode() for c in chunks])
    filled = sources.Filled(column, value)
    names = sources.categories(filled)
    assert len(set(names)) == len(names)
    codes = as_source(filled, "x").read(np.arange(len(column)), np.empty)
    assert codes.dtype == np.int32
    assert [names[code] for code in codes] == [
        value if each is None else each for chunk in chunks for each in chunk
    ]


def test_a_null_inside_a_list_or_a_dictionary_is_found():
    lists = pa.array([[1, 2], [3, 4], [5, None]], pa.list_(pa.int64(), 2))
    encoded = pa.DictionaryArray.from_arrays([1, 1, 0], pa.array([None, "a"]))
    for column in (lists, lists.cast(pa.list_(pa.int64())), encoded):
        with pytest.raises(InvalidDataError, match=r"^x has no value in row 2,"):
            as_source(column, "x")
        with pytest.raises(InvalidDataError, match=r"^x has no value in row 1,"):
            as_source(column.slice(1), "x")


def test_tensors_have_their_shape():
    storage = pa.FixedSizeListArray.from_arrays(pa.array(range(12), pa.float32()), 6)
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2, 3)), storage)
    source = as_source(tensors, "x")
    assert source.read(np.array([1]), np.empty).tolist() == [[[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("form", ["array", "chunks", "Parquet"])
def test_tensors_whose_dimensions_are_in_their_order_are_taken(tmp_path, form):
    """`from_numpy_ndarray` notes the order also where it is that of the dimensions."""
    values = np.arange(16.0).reshape(4, 2, 2)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    assert list(tensors.type.permutation or [0, 1]) == [0, 1]
    if form == "chunks":
        tensors = pa.chunked_array([tensors.slice(0, 1), tensors.slice(1)])
    elif form == "Parquet":
        pq.write_table(pa.table({"a": tensors}), tmp_path / "x.parquet")
        tensors = sources.Parquet(tmp_path / "x.parquet")["a"]
    np.testing.assert_array_equal(ArrayDataset(tensors, shuffle=False)[0], values)


def test_tensors_whose_dimensions_are_permuted_are_refused():
    permuted = np.arange(24.0).reshape(4, 2, 3).transpose(0, 2, 1)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(permuted)
    with pytest.raises(InvalidDataError, match=r"^x has tensors whose dimensions are permuted"):
        ArrayDataset(tensors)


def test_a_table_of_numbers_of_one_type_is_a_matrix_and_others_are_dicts():
    table = pa.table({"a": [1, 2, 3], "b": [4, 5, 6], "c": [0.5, 1.5, 2.5]})
    matrix = ArrayDataset(table.select(["a", "b"]), table["c"], shuffle=False, batch_size=2)
    x, y = matrix[1]
    assert (x.tolist(), y.tolist()) == ([[3, 6]], [2.5])
    assert x.dtype == np.int64
    batch = ArrayDataset({"t": table}, shuffle=False).load(np.array([2, 0]))
    assert {name: column.tolist() for name, column in batch["t"].items()} == {
        "a": [3, 1],
        "b": [6, 4],
        "c": [2.5, 0.5],
    }
    record = table.to_batches()[0]  # a RecordBatch is a table too
    assert as_sources(record, "x").keys() == {"a", "b", "c"}
    for names in ([], ["a", "a"]):
        with pytest.raises(InvalidDataError, match="expected columns of different names"):
            as_sources(pa.Table.from_arrays([table["a"]] * len(names), names), "x")


def test_numbers_are_read_from_the_memory_of_arrow():
    values = np.arange(1000.0)
    array = pa.array(values)
    source = as_source(array.slice(10), "x")
    assert isinstance(source, TakenArray)  # as fast as NumPy, and shared by worker processes
    assert np.shares_memory(source.array, array.to_numpy())


def wide():
    numbers = pa.array(np.zeros(2**21), pa.float64())
    texts = pa.array(["one text of some length"] * 2**18)
    yield pa.chunked_array([numbers, numbers])
    yield pa.FixedSizeListArray.from_arrays(numbers, 64)
    yield pa.ListArray.from_arrays(np.arange(0, 2**21 + 1, 64, dtype="int32"), numbers)
    yield pa.chunked_array([texts, texts])
    yield pa.chunked_array([texts.dictionary_encode()] * 8)
    yield pa.array(np.arange(2**22) % 3 == 0)
    yield sources.Filled(pa.array(np.arange(2**21), mask=np.arange(2**21) % 7 == 0), 0)


def test_neither_making_a_source_nor_reading_copies_the_whole():
    for data in wide():
        rows = np.random.default_rng(0).integers(0, 2**15, 100)
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        try:
            source = as_source(data, "x")
            source.read(rows, np.empty)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert source.shape[0] >= 2**15
        assert most < 2**21, data
        assert pa.total_allocated_bytes() - before < 2**21


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (
            lambda: pa.array([1.5]).cast(pa.decimal128(5, 2)),
            "decimal128(5, 2); expected numbers, dates, texts, categories or lists of them. Cast "
            "it to numbers: `column.cast('float64')`.",
        ),
        (
            lambda: pa.array([1]).cast(pa.time64("us")),
            "time64[us]; expected numbers, dates, texts, categories or lists of them. Cast it to "
            "numbers: `column.cast('int64')`.",
        ),
        (
            lambda: pa.array([{"a": 1}]),
            "struct<a: int64>; expected numbers, dates, texts, categories or lists of them. Pass "
            "its fields as columns of their own (`table.flatten()`), or decode it by rows in a "
            "`BatchDataset`.",
        ),
        (
            lambda: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "map<string, int64>; expected numbers, dates, texts, categories or lists of them. Read "
            "it by rows in a `BatchDataset`.",
        ),
        (
            lambda: pa.nulls(3),
            "null; expected numbers, dates, texts, categories or lists of them. All its values are "
            "missing: leave the column out, or make numbers of them, "
            "`column.cast('float64').fill_null(0)`.",
        ),
        (
            lambda: sources.Filled(pa.nulls(3), 0),
            "null; expected numbers, dates, texts, categories or lists of them. All its values are "
            "missing: leave the column out, or make numbers of them, "
            "`column.cast('float64').fill_null(0)`.",
        ),
    ],
)
def test_types_that_numpy_has_nothing_for_are_refused(column, told):
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset({"q": column()})
    assert str(caught.value) == f"x['q'] is a column of Arrow's type {told}"


def test_what_is_said_of_a_column_of_nothing_but_nulls_fills_it():
    for column in (pa.nulls(2), pa.chunked_array([pa.nulls(2)])):
        with pytest.raises(InvalidDataError) as caught:
            ArrayDataset(pa.table({"a": column, "b": [1, 2]}))
        told = str(caught.value).split("`")[1]
        filled = ArrayDataset(eval(told), shuffle=False)  # what a user would write
        assert filled[0].tolist() == [0, 0]


def test_lists_of_several_lengths_are_refused_with_what_to_write():
    with pytest.raises(InvalidDataError) as caught:
        as_source(pa.chunked_array([[[1, 2]], [[3], [4, 5, 6]]]), "x")
    assert str(caught.value) == (
        "x is a column of lists of 1 to 3 values; expected lists of one length, which become an "
        "axis. Those of numbers are padded batch by batch: `keras_npbatch.sources.Ragged(column)`."
    )


def test_a_column_without_rows_is_refused_as_data_without_rows():
    for kind in (pa.float32(), pa.string(), pa.list_(pa.int8()), pa.dictionary("int8", "string")):
        for column in (pa.array([], kind), pa.chunked_array([], kind)):
            assert as_source(column, "x").shape[0] == 0
            with pytest.raises(InvalidDataError, match=r"^x has 0 rows"):
                ArrayDataset(column)
