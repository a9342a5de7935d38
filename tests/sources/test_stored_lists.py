"""Columns of lists of Parquet and Hugging Face in `Ragged`: read from the files, padded as others.

That their rows are padded as NumPy pads them is in test_ragged.
"""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, samplers, sources
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.row_groups import RowGroups
from keras_npbatch.sources.sources import as_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N, GROUP = 60, 7
ROWS = [np.arange(row, row + 1 + row % 5, dtype="int32") for row in range(N)]


def written(folder, rows=ROWS, kind=None):
    """Two files, each with row groups of its own."""
    kind = pa.list_(pa.int32()) if kind is None else kind
    for number, part in enumerate((slice(0, 25), slice(25, None))):
        here = [None if row is None else list(row) for row in rows[part]]
        table = pa.table({"tokens": pa.array(here, kind), "row": range(N)[part]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=GROUP)
    return sources.Parquet(folder)


def mapped(folder, rows=ROWS):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"tokens": datasets.Sequence(datasets.Value("int32")), "row": datasets.Value("int64")}
    )
    values = {"tokens": [None if row is None else list(row) for row in rows], "row": range(N)}
    datasets.Dataset.from_dict(values, features).save_to_disk(folder, num_shards=3)
    return datasets.load_from_disk(folder)


STORED = {"Parquet": written, "Hugging Face": mapped}


def in_memory(folder):
    return pa.table({"tokens": [list(row) for row in ROWS], "row": range(N)})


def in_polars(folder):
    polars = pytest.importorskip("polars")
    return polars.DataFrame({"tokens": [row.tolist() for row in ROWS], "row": range(N)})


def in_pandas(folder):
    pandas = pytest.importorskip("pandas")
    return in_memory(folder).to_pandas(types_mapper=pandas.ArrowDtype)


def assert_whole(dataset, expected=range(N)):
    """Each row comes once, padded to the longest of its batch."""
    seen = []
    for x, rows in dataset:
        assert x.shape == (len(rows), max(len(ROWS[row]) for row in rows))
        for found, row in zip(x, rows.tolist(), strict=True):
            assert found.tolist() == [*ROWS[row], *[0] * (x.shape[1] - len(ROWS[row]))]
        seen += rows.tolist()
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize(("workers", "processes"), [(0, False), (3, False), (2, True)])
def test_an_epoch_has_each_row_once(tmp_path, kind, workers, processes):
    data = STORED[kind](tmp_path / "x" if kind != "Parquet" else tmp_path)
    dataset = ArrayDataset(
        sources.Ragged(data["tokens"]),
        data["row"],
        batch_size=8,
        seed=0,
        sampler=samplers.BlockShuffle(blocks=2),
        workers=workers,
        use_multiprocessing=processes,
    )
    with dataset:
        for _ in range(2):
            assert_whole(dataset)


@pytest.mark.parametrize("kind", ["Arrow", "polars", "pandas", *STORED])
def test_what_is_said_of_lists_of_several_lengths_takes_them(tmp_path, kind):
    every = {"Arrow": in_memory, "polars": in_polars, "pandas": in_pandas, **STORED}
    data = every[kind](tmp_path / "x" if kind != "Parquet" else tmp_path)
    column = data["tokens"]
    with pytest.raises(InvalidDataError) as caught:
        as_source(column, "x").read(np.arange(N), np.empty)
    told = str(caught.value).split("`")[1]
    ragged = eval(told, {"column": column, "keras_npbatch": __import__("keras_npbatch")})
    assert_whole(ArrayDataset(ragged, np.asarray(data["row"]), batch_size=N))


@pytest.mark.parametrize("lengths", [True, "mask"])
def test_lengths_and_masks_come_beside_them(tmp_path, lengths):
    data = written(tmp_path)
    ragged = sources.Ragged(data["tokens"], pad_to=6, lengths=lengths)
    x = ArrayDataset(ragged, shuffle=False, batch_size=N)[0]
    expected = np.array([len(row) for row in ROWS])
    found = x["lengths"] if lengths is True else x["mask"].sum(axis=1)
    assert found.tolist() == expected.tolist()
    assert x["values"].shape == (N, 6)
    assert repr(ragged).startswith("<Ragged(pad_to=[6]")


def test_each_row_group_is_read_once_for_the_lengths_and_once_an_epoch(tmp_path, monkeypatch):
    read, times = RowGroups.read, Counter()

    def counted(self, number, names):
        times[number] += "tokens" in names
        return read(self, number, names)

    monkeypatch.setattr(RowGroups, "read", counted)
    data = written(tmp_path)
    ragged = sources.Ragged(data["tokens"])
    groups = 4 + 5
    assert times == dict.fromkeys(range(groups), 1)
    sampler = samplers.BlockShuffle(blocks=2)
    dataset = ArrayDataset(ragged, data["row"], batch_size=8, seed=0, sampler=sampler, workers=0)
    assert_whole(dataset)
    assert times == dict.fromkeys(range(groups), 2)


def test_a_batch_of_rows_from_everywhere_reads_each_row_group_once(tmp_path, monkeypatch):
    data = written(tmp_path)
    ragged = sources.Ragged(data["tokens"])
    ragged.source.kept_in.most = 1  # room for one
    read, times = RowGroups.read, Counter()

    def counted(self, number, names):
        times[number] += 1
        return read(self, number, names)

    monkeypatch.setattr(RowGroups, "read", counted)
    rows = np.random.default_rng(0).permutation(N)
    found = ragged.read(rows)
    assert found.tolist() == [[*ROWS[row], *[0] * (5 - len(ROWS[row]))] for row in rows]
    assert max(times.values()) == 1
    assert ragged.source.reading(8).chunk_rows == GROUP  # of which a dataset warns


@pytest.mark.parametrize(
    ("row", "value", "told"),
    [
        (31, None, r"^data of Ragged has no list in rows \[31\]; expected one in each"),
        (31, [1, None], r"^row 31 of Ragged has a time step without a value"),
        (31, [], r"^data of Ragged has no time step in rows \[31\]"),
    ],
)
def test_what_is_missing_is_told_by_its_row(tmp_path, row, value, told):
    rows = [list(each) for each in ROWS]
    rows[row] = value
    with pytest.raises(InvalidDataError, match=told):
        sources.Ragged(written(tmp_path, rows)["tokens"])


def test_what_is_no_column_of_sequences_is_refused(tmp_path):
    data = written(tmp_path)
    with pytest.raises(InvalidDataError) as caught:
        sources.Ragged(data)
    assert str(caught.value) == (
        "data of Ragged is Parquet of 60 rows, 9 row groups, columns ['tokens', 'row']; expected "
        "one column of lists: data['tokens']."
    )
    with pytest.raises(InvalidDataError, match=r"is a column of Arrow of type int64; expected a l"):
        sources.Ragged(data["row"])
    with pytest.raises(InvalidDataError, match=r"^pack=True was given with a column of Parquet"):
        sources.Ragged(data["tokens"], pad_to=8, pack=True)
    pq.write_table(pa.table({"a": pa.array([], pa.list_(pa.int8()))}), tmp_path / "none")
    with pytest.raises(InvalidDataError, match=r"^data of Ragged has 0 rows"):
        sources.Ragged(sources.Parquet(tmp_path / "none")["a"])


def test_only_rows_that_are_left_need_a_list(tmp_path):
    rows: list[object] = list(ROWS)
    rows[3] = None
    data = mapped(tmp_path / "x", rows)
    with pytest.raises(InvalidDataError, match=r"has no list in rows \[3\]; expected one in each"):
        sources.Ragged(data["tokens"])
    with pytest.raises(InvalidDataError, match=r"has no list in rows \[1\]; expected one in each"):
        sources.Ragged(data.select([5, 3])["tokens"])
    left = data.filter(lambda row: row["tokens"] is not None)
    ragged = sources.Ragged(left["tokens"])
    assert_whole(ArrayDataset(ragged, left["row"], batch_size=9), set(range(N)) - {3})
    sent = pickle.loads(pickle.dumps(ragged))
    np.testing.assert_array_equal(sent.read(np.arange(N - 1)), ragged.read(np.arange(N - 1)))
    rows[3] = [1, None]
    data = mapped(tmp_path / "y", rows).select(range(N - 1, 9, -1))
    with pytest.raises(InvalidDataError, match=r"row 3 of Ragged .* `dataset.flatten_indices\(\)`"):
        sources.Ragged(data["tokens"])
    assert len(sources.Ragged(data.flatten_indices()["tokens"])) == N - 10


def test_a_mapped_column_is_sent_by_the_paths_of_its_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    long = {"tokens": [list(range(10_000))] * 50}
    datasets.Dataset.from_dict(long).save_to_disk(tmp_path)
    data = datasets.load_from_disk(tmp_path)
    sent = pickle.dumps(sources.Ragged(data["tokens"]))
    assert len(sent) < 20_000
    assert pickle.loads(sent).read([7]).tolist() == [list(range(10_000))]
    changed = data.with_transform(lambda batch: batch)
    with pytest.raises(InvalidDataError, match=r"^data of Ragged is a column of a Dataset with a"):
        sources.Ragged(changed["tokens"])
