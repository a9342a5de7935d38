"""Parquet: row groups are read once an epoch, counted where they are read; nulls are told."""

from __future__ import annotations

import time
import warnings
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, samplers, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, UnsendableError
from keras_npbatch.sources.joined_chunks import JoinedChunks
from keras_npbatch.sources.row_groups import RowGroups
from keras_npbatch.sources.sources import as_source, as_sources

pa = pytest.importorskip("pyarrow")
pads = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")

N, WIDTH = 1000, 3
X = np.arange(N * WIDTH, dtype="float32").reshape(N, WIDTH)
Y = np.arange(N) * 2
NAMES = [f"x{number}" for number in range(WIDTH)]
TEXTS = np.array([f"text {row % 7}" for row in range(N)], object)


def table(rows=slice(None)):
    columns = {name: X[rows, number] for number, name in enumerate(NAMES)}
    codes = pa.array(TEXTS[rows]).dictionary_encode()
    return pa.table(columns | {"y": Y[rows], "text": TEXTS[rows], "code": codes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three files of different sizes, with row groups that differ."""
    path = tmp_path_factory.mktemp("parquet")
    for name, rows, size in (
        ("a", slice(450), 100),
        ("b", slice(450, 530), 64),
        ("c", slice(530, N), 97),
    ):
        pq.write_table(table(rows), path / f"{name}.parquet", row_group_size=size)
    return path


@pytest.fixture(scope="module")
def data(folder):
    return sources.Parquet(folder)


def test_a_column_is_an_array_of_labels_for_samplers_and_splits(data):
    labels = data["y"]
    np.testing.assert_array_equal(np.asarray(labels), Y)
    assert np.asarray(labels, "float32").dtype == np.float32
    assert samplers.Stratified(data["code"]) == samplers.Stratified(np.asarray(data["code"]))
    x = np.zeros(N)
    parts = [ArrayDataset(x).split(0.5, stratify=each) for each in (data["text"], TEXTS)]
    assert parts[0][0].rows_in_order().tolist() == parts[1][0].rows_in_order().tolist()
    with pytest.raises(InvalidDataError) as caught:
        np.asarray(data[["y", "text"]])
    assert str(caught.value) == (
        "the Parquet files have the columns 'y', 'text'; expected one: data['y']."
    )


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(InvalidDataError) as caught:
        sources.Parquet(tmp_path)
    assert str(caught.value).endswith(
        " has no Parquet file; expected the path of one, or of a folder of them. Check the path, "
        "or what was written to it."
    )


@pytest.fixture
def counted(monkeypatch):
    """How often each row group was read, by its number and the columns."""
    times = Counter()
    read = RowGroups.read

    def counting(self, number, names):
        times[number, *names] += 1
        return read(self, number, names)

    monkeypatch.setattr(RowGroups, "read", counting)
    return times


@settings(max_examples=40)
@given(rows=st.lists(st.integers(0, N - 1), max_size=30))
def test_rows_are_those_that_were_written(data, rows):
    rows = np.array(rows, np.int64)
    np.testing.assert_array_equal(as_source(data[NAMES], "x").read(rows, np.empty), X[rows])
    np.testing.assert_array_equal(as_source(data["y"], "x").read(rows, np.empty), Y[rows])
    np.testing.assert_array_equal(as_source(data["text"], "x").read(rows, np.empty), TEXTS[rows])


@pytest.mark.parametrize(("order", "workers"), [("blocks", 0), ("blocks", 2), ("of the data", 0)])
def test_an_epoch_reads_each_row_group_once(data, counted, order, workers):
    sampler = samplers.BlockShuffle(blocks=3) if order == "blocks" else samplers.InOrder()
    dataset = ArrayDataset(
        {"x": data[NAMES], "t": data[["y", "text"]]},
        data["y"],
        batch_size=40,
        seed=0,
        sampler=sampler,
        workers=workers,
    )
    seen = []
    for x, y in dataset:
        rows = y // 2
        seen.append(rows)
        np.testing.assert_array_equal(x["x"], X[rows])
        np.testing.assert_array_equal(x["t"]["y"], y)
        assert x["t"]["text"].tolist() == TEXTS[rows].tolist()
    assert sorted(np.concatenate(seen)) == list(range(N))
    # 12 row groups, each once for all leaves
    names = sorted([*NAMES, "y", "text"])
    assert counted == {(number, *names): 1 for number in range(12)}


def test_blocks_are_the_row_groups_whatever_their_sizes(data):
    dataset = ArrayDataset(
        data["y"], batch_size=10, seed=0, sampler=samplers.BlockShuffle(blocks=2)
    )
    starts = data._groups.starts
    assert np.diff(starts).tolist() == [100] * 4 + [50, 64, 16] + [97] * 4 + [82]
    order = np.concatenate([batch // 2 for batch in dataset])
    group = np.searchsorted(starts, order, side="right")
    first, last = (
        {g: p for p, g in pairs}
        for pairs in (reversed(list(enumerate(group))), enumerate(group.tolist()))
    )
    open_at = [sum(first[g] <= p <= last[g] for g in first) for p in range(N)]
    assert max(open_at) == 2
    assert dataset.sampler != samplers.BlockShuffle(100, 2)  # another order, so another name
    again = ArrayDataset(data["y"], batch_size=10, seed=0, sampler=samplers.BlockShuffle(blocks=2))
    assert again.sampler == dataset.sampler
    part, _ = dataset.split(0.5)
    rows = np.concatenate([batch // 2 for batch in part])
    assert sorted(rows) == part.rows_in_order().tolist()


@pytest.mark.parametrize(
    ("sampler", "kept"), [("blocks", 640), ("in order", 400), ("shuffle", 400)]
)
def test_no_more_row_groups_are_in_memory_than_are_kept_and_one(data, sampler, kept, monkeypatch):
    there, most, new = weakref.WeakSet(), [], JoinedChunks.new

    def counting(self, *args):
        chunk = new(self, *args)
        assert chunk.block is not None
        there.add(chunk)
        most.append(sum(len(each.records) for each in there))
        return chunk

    monkeypatch.setattr(JoinedChunks, "new", counting)
    orders = {
        "blocks": samplers.BlockShuffle(blocks=3),
        "in order": samplers.InOrder(),
        "shuffle": None,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the full shuffle
        dataset = ArrayDataset(
            data["y"], batch_size=40, seed=0, workers=0, max_queue_size=1, sampler=orders[sampler]
        )
    for _ in range(2):
        assert sorted(np.concatenate(list(dataset))) == Y.tolist()
    assert kept / 2 < max(most) <= kept + 100


def test_a_full_shuffle_of_row_groups_says_what_it_costs(data):
    with pytest.warns(UserWarning, match="^x is stored in chunks of 100 rows, and a batch of 32"):
        ArrayDataset(data["y"], batch_size=32)


@pytest.mark.parametrize("kind", ["ParquetFile", "Dataset", "one path", "paths"])
def test_it_is_given_as_it_is(folder, kind):
    path = folder / "a.parquet"
    given_ = {
        "ParquetFile": lambda: pq.ParquetFile(path),
        "Dataset": lambda: pads.dataset(path),
        "one path": lambda: sources.Parquet(str(path)),
        "paths": lambda: sources.Parquet([path], columns=[*NAMES, "y"]),
    }[kind]()
    with pytest.warns(UserWarning, match="stored in chunks"):
        dataset = ArrayDataset(given_, batch_size=4)
    batch = dataset.load(np.array([449, 3]))
    assert batch["y"].tolist() == [898, 6]
    assert batch["x1"].tolist() == X[[449, 3], 1].tolist()
    if kind == "ParquetFile":
        given_.close()


def test_no_file_stays_open(folder):
    data = sources.Parquet(folder)
    source = as_source(data["y"], "x")
    source.read(np.arange(0, N, 50), np.empty)
    process, until = psutil.Process(), time.monotonic() + 10
    while any(str(folder) in file.path for file in process.open_files()):
        assert time.monotonic() < until  # a thread of pyarrow may close it after the last answer
        time.sleep(0.01)


@pytest.mark.parametrize("kind", [str, list])
def test_relative_paths_lead_to_the_same_files_from_another_folder(kind, tmp_path, monkeypatch):
    for number, name in enumerate(("here", "there")):
        (tmp_path / name).mkdir()
        table = pa.table({"a": np.arange(20) + 100 * number})
        pq.write_table(table, tmp_path / name / "x.parquet", row_group_size=5)
    monkeypatch.chdir(tmp_path / "here")
    data = sources.Parquet("x.parquet" if kind is str else ["x.parquet"])
    monkeypatch.chdir(tmp_path / "there")
    assert np.asarray(data["a"]).tolist() == list(range(20))


def test_categories_are_those_of_all_row_groups(tmp_path):
    for name, names in (("a", "xy"), ("b", "zxx"), ("c", "yw")):
        codes = pa.table({"c": pa.array(list(names)).dictionary_encode()})
        pq.write_table(codes, tmp_path / f"{name}.parquet")
    column = sources.Parquet(tmp_path)["c"]
    assert sources.categories(column) == ["x", "y", "z", "w"]
    found = as_source(column, "x").read(np.array([2, 6, 3, 0]), np.empty)
    assert found.tolist() == [2, 3, 0, 0]
    assert found.dtype == np.int32


@pytest.mark.parametrize("statistics", [True, False])
def test_a_null_is_refused_by_column_and_row_or_filled(tmp_path, statistics):
    values = pa.array([None if row == 25 else row for row in range(40)])
    lists = pa.array([[row, None if row == 31 else 1] for row in range(40)], pa.list_(pa.int8(), 2))
    path = tmp_path / "x.parquet"
    written = pa.table({"age": values, "lists": lists, "whole": range(40)})
    pq.write_table(written, path, row_group_size=10, write_statistics=statistics)
    data = sources.Parquet(path)

    def use(leaf):
        as_source(leaf, "x").read(np.arange(40), np.empty)

    for leaf, told in (
        (data["age"], "x has no value in row 25,"),
        (data[["age", "whole"]], "column 'age' of x has no value in row 25,"),
        (data["lists"], "x has no value in row 31,"),
    ):
        make = as_source if statistics else lambda leaf, _: use(leaf)  # before anything is read
        with pytest.raises(InvalidDataError) as caught:
            make(leaf, "x")
        assert str(caught.value) == (
            f"{told} which would become NaN or an object; expected a value in every row. Fill them "
            "(`keras_npbatch.sources.Filled(..., value)`) or leave these rows out, and tell the "
            "model which were missing by an input or a sample_weight."
        )
    use(data["whole"])
    filled = as_sources(sources.Filled(data, {"age": -1, "lists": 7}), "x")
    assert filled["age"].read(np.array([25, 3]), np.empty).tolist() == [-1, 3]
    assert filled["lists"].read(np.array([31]), np.empty).tolist() == [[31, 7]]


def test_lists_become_an_axis_if_they_have_one_length(tmp_path):
    lists = [[row, row + 1] for row in range(20)]
    other = [*lists[:-1], [1, 2, 3]]
    pq.write_table(pa.table({"same": lists, "other": other}), tmp_path / "x", row_group_size=5)
    data = sources.Parquet(tmp_path / "x")
    source = as_source(data["same"], "x")
    assert source.shape == (20, 2)
    assert source.read(np.array([19, 0]), np.empty).tolist() == [[19, 20], [0, 1]]
    with pytest.raises(InvalidDataError, match=r"^x is a column of lists of 2 to 3 values; expect"):
        as_source(data["other"], "x")


def test_columns_that_are_folders_are_read(tmp_path):
    for year in (2020, 2021):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(pa.table({"a": [1.5, 2.5]}), tmp_path / f"year={year}" / "x.parquet")
    dataset = pads.dataset(tmp_path, partitioning="hive")
    batch = ArrayDataset(dataset, shuffle=False).load(np.arange(4))
    assert batch["year"].tolist() == [2020, 2020, 2021, 2021]
    assert batch["a"].tolist() == [1.5, 2.5] * 2


def test_files_may_store_their_columns_in_other_ways(tmp_path):
    """In another order, as another type, as no column at all, and with a dot in a name."""
    for number, table in enumerate(
        (
            pa.table({"a": pa.array([1, 2], "int32"), "b": [0.5, 1.5], "c": [1, 2]}),
            pa.table({"b": [2.5, 3.5], "c": [3, 4], "a": pa.array([3, 4], "int32")}),
            pa.table({"a": pa.array([5, 6], "int16"), "b": [4.5, 5.5], "c": [5, 6]}),
            pa.table({"a": pa.array([7, 8], "int32"), "a.x": [0, 0], "b": [6.5, 7.5]}),
        )
    ):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    data = sources.Parquet(tmp_path)
    given = {"a": data["a"], "b": data["b"], "c": sources.Filled(data["c"], -1)}
    batch = ArrayDataset(given, shuffle=False).load(np.arange(8))
    assert batch["a"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert batch["a"].dtype == np.int32
    assert batch["b"].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert batch["c"].tolist() == [1, 2, 3, 4, 5, 6, -1, -1]


@pytest.mark.parametrize(
    ("first", "later"),
    [("int32", "int64"), ("int32", "double"), ("uint8", "int8"), ("bool", "int8")],
)
def test_files_whose_numbers_the_first_type_can_not_hold_are_refused(tmp_path, first, later):
    """When the dataset is made, not in the middle of an epoch."""
    kinds = (first, first, later, later)
    for number, kind in enumerate(kinds):
        values = pa.array([0, 1]).cast(kind)
        pq.write_table(pa.table({"a": values, "b": [0, 1]}), tmp_path / f"{number}.parquet")
    data = sources.Parquet(tmp_path)
    assert len(ArrayDataset(data["b"])[0]) == 8  # the other columns are none of its concern
    for leaf, path in ((data["a"], "x"), ({"q": data[["a"]]}, "column 'a' of x['q']")):
        with pytest.raises(InvalidDataError) as caught:
            ArrayDataset(leaf)
        assert str(caught.value) == (
            f"{path} is of type {later} in {str(tmp_path / '2.parquet')!r}, and {first} in "
            f"{str(tmp_path / '0.parquet')!r}; expected a type that holds the numbers of all "
            "files. Write them with one type, or say which all are read as: "
            "`pyarrow.dataset.dataset(paths, schema=schema)`, in place of `Parquet(paths)`."
        )
    schema = pa.schema({"a": pa.float64()})
    found = ArrayDataset(pads.dataset(tmp_path, schema=schema), shuffle=False)[0]
    assert found.tolist() == [[0.0], [1.0]] * 4
    schema = pa.schema({"a": pa.type_for_alias(first)})  # who says so knows that they fit
    found = ArrayDataset(pads.dataset(tmp_path, schema=schema), shuffle=False)[0]
    assert found.tolist() == [[0], [1]] * 4


@pytest.mark.parametrize("becomes", ["another", "garbage", "nothing"])
def test_a_file_that_has_changed_is_told(tmp_path, becomes):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": np.arange(1000)}), path, row_group_size=100)
    dataset = ArrayDataset(sources.Parquet(path)["a"], shuffle=False)
    if becomes == "another":
        pq.write_table(pa.table({"a": np.arange(1000.0), "b": np.arange(1000)}), path)
    elif becomes == "garbage":
        path.write_bytes(b"garbage")
    else:
        path.unlink()
    with pytest.raises(OSError) as caught:  # noqa: PT011  # pyarrow's own words vary
        dataset[20]
    assert caught.value.__notes__[:2] == [
        f"keras_npbatch: raised by row group 6 of {str(path)!r}, in columns 'a'",
        f"keras_npbatch: {str(path)!r} is not as it was when the dataset was made. Make a new "
        "dataset when a file changes.",
    ]


def test_a_file_that_is_damaged_has_not_changed(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": np.arange(1000)}), path, row_group_size=100)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # pyarrow's own words vary
        ArrayDataset(sources.Parquet(path)["a"], shuffle=False)[0]
    assert not any("Make a new dataset" in note for note in caught.value.__notes__)


def test_a_folder_wins_over_a_column_of_its_name(tmp_path):
    """As it does in pyarrow."""
    for label in (3, 4):
        (tmp_path / f"label={label}").mkdir()
        inside = pa.table({"x": [0.5, 1.5], "label": pa.array([70 + label] * 2, "int32")})
        pq.write_table(inside, tmp_path / f"label={label}" / "0.parquet")
    dataset = pads.dataset(tmp_path, partitioning="hive")
    batch = ArrayDataset(dataset, shuffle=False).load(np.arange(4))
    assert batch["label"].tolist() == dataset.to_table()["label"].to_pylist() == [3, 3, 4, 4]


def test_datasets_of_datasets_and_of_buffers_are_read(folder):
    union = pads.dataset([pads.dataset(folder / f"{name}.parquet") for name in "abc"])
    rows = np.array([0, 449, 450, 999])
    batch = ArrayDataset(union, shuffle=False).load(rows)
    np.testing.assert_array_equal(batch["y"], Y[rows])
    written = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": np.arange(10.0)}), written)
    form = pads.ParquetFileFormat()
    fragment = form.make_fragment(written.getvalue())
    buffers = pads.FileSystemDataset([fragment], fragment.physical_schema, form)
    found = ArrayDataset(buffers, shuffle=False).load(np.arange(3))
    assert found.ravel().tolist() == [0, 1, 2]


def test_a_dot_may_be_in_a_name_or_lead_into_a_nesting(tmp_path):
    nested = pa.table({"a": [{"b": 1}, {"b": 2}], "c": [3, 4]})
    pq.write_table(nested, tmp_path / "nested.parquet")
    assert np.asarray(sources.Parquet(tmp_path / "nested.parquet")["c"]).tolist() == [3, 4]
    flat = pa.table({"a": [1, 2], "a.b": [3, 4]})
    pq.write_table(flat, tmp_path / "flat.parquet")
    data = sources.Parquet(tmp_path / "flat.parquet", columns=["a"])
    assert np.asarray(data["a"]).tolist() == [1, 2]


def test_a_file_that_was_written_anew_is_noticed(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": range(10)}), path)
    source = as_source(sources.Parquet(path)["a"], "x")
    pq.write_table(pa.table({"a": range(7)}), path)
    with pytest.raises((OSError, InvalidDataError)) as caught:
        source.read(np.array([8]), np.empty)
    notes = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert f"row group 0 of '{path}'" in notes


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda folder: sources.Parquet(folder, columns=["x0", "age"]),
            "the Parquet files have no column 'age'; expected one of 'x0', 'x1', 'x2', 'y', "
            "'text', 'code'.",
        ),
        (
            lambda folder: sources.Parquet(folder)[[]],
            "the columns to read are []; expected at least one, each once.",
        ),
        (lambda folder: sources.Parquet([]), "Parquet was given no path; expected at least one."),
        (
            lambda folder: as_source(pads.dataset(folder).filter(pads.field("y") > 3), "x"),
            "x is a filtered or projected pyarrow Dataset, whose rows are not known before they "
            "are read; expected one of whole files. Read it: `x.to_table()`.",
        ),
        (
            lambda folder: as_source(pads.dataset(table()), "x"),
            "x is a pyarrow Dataset of other files than Parquet, or of none; expected Parquet "
            "files. Read it (`x.to_table()`), or write it as Parquet files: "
            "`pyarrow.dataset.write_dataset(x, folder, format='parquet')`.",
        ),
    ],
)
def test_what_can_t_be_read_is_refused(folder, make, told):
    with pytest.raises(InvalidDataError) as caught:
        make(folder)
    assert str(caught.value) == told


def test_paths_that_are_no_parquet_files_are_refused(tmp_path):
    (tmp_path / "text.parquet").write_text("no Parquet")
    for path in (tmp_path / "missing.parquet", tmp_path / "text.parquet", tmp_path):
        with pytest.raises(InvalidDataError, match=r"^the Parquet files .* can't be opened: "):
            sources.Parquet(path)
    for paths in (3, b"x"):
        with pytest.raises(InvalidArgumentError, match=r"expected a path, or a list of paths"):
            sources.Parquet(paths)
    with pytest.raises(InvalidArgumentError, match=r"expected a list of names\. For one"):
        sources.Parquet(tmp_path, columns="age")


def test_rows_are_not_chosen_in_the_files(data):
    for names in (0, slice(2)):
        with pytest.raises(InvalidArgumentError, match=r"expected a name, or a list of names"):
            data[names]
    assert repr(data["y"]) == "Parquet of 1000 rows, 12 row groups, column 'y'"


def test_an_open_file_can_t_be_sent_to_processes(folder):
    file = pq.ParquetFile(folder / "a.parquet")
    dataset = ArrayDataset(
        file, shuffle=False, transform=lambda batch: batch, workers=1, use_multiprocessing=True
    )
    with dataset, pytest.raises(UnsendableError, match=r"expected keras_npbatch.sources.Parquet"):
        next(iter(dataset))
    file.close()


def test_pyarrow_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.dataset", None)
    with pytest.raises(ImportError) as caught:
        sources.Parquet(Path(tmp_path))
    assert str(caught.value) == (
        "keras_npbatch.sources.Parquet needs pyarrow, which is not installed. Install it: "
        "pip install 'keras_npbatch[arrow]'."
    )
