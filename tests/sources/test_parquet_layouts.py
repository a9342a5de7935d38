"""Parquet files of any layout give the rows that were written, in any order and any number."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, samplers, sources

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COLUMNS = {
    "row": lambda rows: rows,
    "flag": lambda rows: rows % 3 == 0,
    "tiny": lambda rows: (rows % 100).astype("int8"),
    "half": lambda rows: (rows % 1000).astype("float16"),
    "a": lambda rows: rows.astype("float32"),
    "b": lambda rows: -rows.astype("float32"),
    "time": lambda rows: rows.astype("datetime64[ms]"),
    "text": lambda rows: [f"text {row}" for row in rows.tolist()],
    "pair": lambda rows: pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(rows, 2)), 2),
    "none": lambda rows: (
        pa.FixedSizeListArray.from_arrays(pa.array([], "int8"), 0)
        if not len(rows)
        else pa.array([[]] * len(rows), pa.list_(pa.int8()))
    ),
}


def expected(name, rows):
    if name == "text":
        return np.array([f"text {row}" for row in rows.tolist()], object)
    if name == "pair":
        return np.repeat(rows, 2).reshape(-1, 2)
    if name == "none":
        return np.empty((len(rows), 0), np.int8)
    return COLUMNS[name](rows)


@st.composite
def layouts(draw):
    """The lengths of files and of their row groups."""
    lengths = draw(
        st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=3)
    )
    if draw(st.booleans()):  # one file of groups of one length
        lengths = lengths[:1]
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=5, unique=True))
    return lengths, names


SAMPLERS = st.one_of(
    st.just(samplers.InOrder()),
    st.just(samplers.Shuffle()),
    st.builds(samplers.BlockShuffle, blocks=st.integers(1, 4)),
)


@settings(deadline=None)
@given(layouts(), SAMPLERS, st.integers(1, 40), st.integers(0, 2), st.data())
def test_rows_are_those_that_were_written(layout, sampler, batch_size, workers, data):
    lengths, names = layout
    starts = np.cumsum([0, *(length for length, _ in lengths)])
    num_rows = int(starts[-1])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a full shuffle
        for number, (begin, end) in enumerate(itertools.pairwise(starts.tolist())):
            rows = np.arange(begin, end)
            written = pa.table({name: COLUMNS[name](rows) for name in {*names, "row"}})
            path = Path(folder) / f"{number}.parquet"
            pq.write_table(written, path, row_group_size=lengths[number][1])
        files = sources.Parquet(folder)
        x = {name: files[name] for name in names}
        with ArrayDataset(
            x, files["row"], batch_size=batch_size, seed=0, sampler=sampler, workers=workers
        ) as dataset:

            def check(batch, rows=None):
                x, y = batch
                assert rows is None or y.tolist() == rows.tolist()
                for name in names:
                    wanted = expected(name, y)
                    assert x[name].dtype == wanted.dtype
                    assert x[name].flags.c_contiguous
                    np.testing.assert_array_equal(x[name], wanted)
                return y

            numbers = st.lists(st.integers(0, num_rows - 1), max_size=2 * batch_size)
            asked = [np.array(each, np.int64) for each in data.draw(st.lists(numbers, max_size=4))]
            for _ in range(2):
                seen = [check(batch) for batch in dataset]
                assert sorted(np.concatenate(seen)) == list(range(num_rows))
                for rows in asked:
                    check(dataset.load(rows), rows)
            with ThreadPoolExecutor(3) as threads:
                list(threads.map(lambda rows: check(dataset.load(rows), rows), asked * 3))
