"""`Windows`: compared with naive loops, and with Keras where that can express it."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, InvalidStateError
from keras_npbatch.sources.windows import Windows, aligned
from keras_npbatch.testing import check_dataset
from keras_npbatch.testing.strategies import row_numbers
from tests.comparing import assert_same_array

few = settings(max_examples=30)


def naive(series: list[Any], length: int, stride: int, offset: int, rate: int, reach: int) -> Any:
    """Window after window, series after series: as a user would write it."""
    found, places = [], []
    for number, steps in enumerate(series):
        begin = 0
        while begin + reach <= len(steps):
            found.append([steps[begin + offset + step * rate] for step in range(length)])
            places.append((number, begin))
            begin += stride
    return np.array(found, series[0].dtype), places


def in_the_form(form: str, series: list[Any]) -> tuple[Any, dict[str, Any]]:
    whole, edges = np.concatenate(series), np.cumsum([0, *map(len, series)])
    if form == "list":
        return series, {}
    if form == "ids":
        return whole, {
            "ids": np.repeat([f"s{n * 7 % 5}" for n in range(len(series))], np.diff(edges))
        }
    if form == "strided":
        whole = np.repeat(whole, 2, axis=0)[::2]
    return whole, {"boundaries": edges if form == "edges" else edges[1:-1].tolist()}


@pytest.mark.parametrize("form", ["list", "ids", "edges", "boundaries", "strided"])
@few
@given(data=st.data())
def test_windows_are_those_of_a_naive_loop(form: str, data: st.DataObject) -> None:
    length, stride, offset, rate = (data.draw(st.integers(least, 4)) for least in (1, 1, 0, 1))
    of_targets = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 9))
    reaches = offset + (length - 1) * rate + 1, of_targets[1] + of_targets[0]
    reach = max(reaches)
    inner = data.draw(st.sampled_from([(), (2,), (1, 3), (600,)]))
    dtype = data.draw(st.sampled_from(["float32", "int16", "datetime64[s]", "U3", "object"]))
    lengths = data.draw(st.lists(st.integers(reach, reach + 9), min_size=1, max_size=5))
    counted = np.arange(sum(lengths) * int(np.prod(inner))).reshape(-1, *inner)
    series = np.split(counted.astype(dtype), np.cumsum(lengths)[:-1])
    given_as, told = in_the_form(form, series)

    alone = Windows(given_as, length, stride=stride, offset=offset, sampling_rate=rate, **told)
    expected, _ = naive(series, length, stride, offset, rate, reaches[0])
    assert alone.shape == expected.shape
    assert len(alone) == len(expected)
    rows = data.draw(row_numbers(len(alone)))
    assert_same_array(alone.read(rows), expected[rows])

    targets = Windows(given_as, of_targets[0], stride=stride, offset=of_targets[1], **told)
    both = aligned(alone, targets)
    expected, places = naive(series, length, stride, offset, rate, reach)
    of_them, _ = naive(series, of_targets[0], stride, of_targets[1], 1, reach)
    every = np.arange(len(expected))
    assert_same_array(both[0].read(every), expected)
    assert_same_array(both[1].read(every), of_them)
    for each in both:
        assert list(zip(each.series.tolist(), each.starts.tolist(), strict=True)) == places
        assert (each.ends - each.starts == reach).all()
        assert each.shape[0] == len(places)


def test_a_dataset_aligns_the_windows_that_it_is_given() -> None:
    """Row i begins at the same time step of the same series in each, wherever it is nested."""
    series = [np.arange(100 * n, 100 * n + steps) for n, steps in enumerate((30, 22, 41))]
    inputs = {"near": Windows(series, 5), "far": Windows(series, 3, sampling_rate=6)}
    targets, weights = Windows(series, 4, offset=10), Windows(series, 4, offset=15)
    dataset = ArrayDataset(inputs, targets, weights, batch_size=7, seed=0, remainder="pad")
    assert dataset.num_samples == sum(steps - 18 for steps in (30, 22, 41))
    for x, y, weight in dataset:
        begin = x["near"][:, :1]
        np.testing.assert_array_equal(x["far"], begin + np.array([0, 6, 12]))
        np.testing.assert_array_equal(y, begin + 10 + np.arange(4))
        real = weight[:, 0] > 0
        np.testing.assert_array_equal(weight[real], (begin + 15 + np.arange(4))[real])
    assert check_dataset(ArrayDataset(Windows(series, 5), targets, batch_size=7, seed=0)).ok


def test_parts_of_a_split_by_time_share_no_time_step() -> None:
    lengths = (100, 60)
    series = [np.arange(n) for n in lengths]
    inputs, targets = aligned(Windows(series, 8), Windows(series, 3, offset=8))
    data = ArrayDataset(inputs, targets, batch_size=5)
    cut = 0.7 * np.array(lengths)[inputs.series]
    train, validation = data.subset(inputs.ends <= cut), data.subset(inputs.starts >= cut)
    for number, steps in enumerate(lengths):
        seen = [
            {
                int(step)
                for x, y in (part.load(rows[inputs.series[rows] == number]),)
                for step in np.concatenate([x.ravel(), y.ravel()])
            }
            for part in (train, validation)
            for rows in (part.rows_in_order(),)
        ]
        assert seen == [set(range(int(0.7 * steps))), set(range(int(0.7 * steps), steps))]


def test_batches_are_the_same_bytes_by_whomever_they_are_made(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(3000, 4)))
    series = np.load(tmp_path / "x.npy", mmap_mode="r")
    inputs, targets = Windows(series, 20), Windows(series[:, 0], 5, offset=20)
    assert not inputs.is_in_memory
    made = [
        [
            (x.tobytes(), y.tobytes())
            for x, y in ArrayDataset(inputs, targets, batch_size=500, seed=0, **workers)
        ]
        for workers in ({"workers": 0}, {"workers": 2, "use_multiprocessing": True})
    ]
    assert made[0] == made[1]
    assert len(pickle.dumps(Windows(np.zeros(100), 50))) < 2000


@pytest.mark.parametrize("length", [10, 2000])
@pytest.mark.parametrize("stored", ["one", "several", "strided"])
def test_neither_making_nor_reading_copies_the_whole(stored: str, length: int) -> None:
    whole: npt.NDArray[Any] = np.zeros((8 * 2**20,), np.float32)  # 32 MiB
    series = {"one": whole, "several": np.split(whole, 8), "strided": whole[::2]}[stored]
    tracemalloc.start()
    try:
        windows = Windows(series, length)
        found = windows.read(np.array([5, len(windows) - 1]))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert found.shape == (2, length)


def test_columns_and_tensors_are_series_too() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(9.0), "b": np.arange(9.0)}, index=range(20, 29))
    assert Windows(frame, 2).shape == (8, 2, 2)
    assert Windows(frame["a"], 2).read(np.array([7])).tolist() == [[7, 8]]
    assert Windows(frame["a"], 2, ids=pandas.Series(list("aaaabbbbb"))).shape == (7, 2)
    with pytest.raises(InvalidDataError, match=r"^series of Windows has no value in row 1, which"):
        Windows(pandas.Series([1, None, 3], dtype="Int64"), 2)


def test_what_decides_the_rows_is_in_the_state() -> None:
    steps = np.arange(30.0)
    state = ArrayDataset(Windows(steps, 5, sampling_rate=2), seed=0).state_dict()
    assert repr(Windows(steps, 5, sampling_rate=2)) == (
        "<Windows(length=5, stride=1, offset=0, sampling_rate=2, of 1 series): float64 (22, 5)>"
    )
    with pytest.raises(InvalidStateError, match=r"offset=4"):
        ArrayDataset(Windows(steps, 5, offset=4), seed=0).load_state_dict(state)


# --- what is refused ---------------------------------------------------------------------------

A, B = np.zeros((20, 2)), np.zeros((9, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Windows([A, B, B], 10),
            "series 1 of Windows has 9 time steps, and a window reaches over 10; expected at "
            "least as many in each (and 1 more are too short). Leave such series out, or take a "
            "smaller length, offset or sampling_rate.",
        ),
        (
            lambda: ArrayDataset(Windows([A, A], 8), Windows([A, A[:-2]], 2, offset=8)),
            "series 1 has 18 time steps in y, and 20 in x; expected as many: row i begins at the "
            "same time step in all windows. Give whole series to all of them, and the shift as "
            "offset=.",
        ),
        (
            lambda: ArrayDataset(Windows(A, 8), Windows(A, 2, stride=2)),
            "y has stride=2, and x stride=1; expected one stride: row i begins at the same time "
            "step in all windows.",
        ),
        (
            lambda: aligned(Windows(A, 8), Windows([A, A], 2)),
            "windows[1] has 2 series, and windows[0] 1; expected the same series in all windows.",
        ),
        (
            lambda: ArrayDataset(
                Windows(A, 8), (Windows(A, 2, offset=8), np.zeros(len(Windows(A, 8))))
            ),
            "y[1] has 13 rows, but x has 11; expected the same number in every leaf. The rows "
            "of x are windows, not time steps. For the value right after each window, write "
            "keras_npbatch.sources.Windows(y[1], length=1, offset=8); for a value that belongs to "
            "a window, give an array with a row for each window.",
        ),
        (
            lambda: ArrayDataset(np.zeros(20), Windows(A, 8, stride=3)),
            "y has 5 rows, but x has 20; expected the same number in every leaf. The rows of y are "
            "windows, not time steps. For the value right after each window, write "
            "keras_npbatch.sources.Windows(y, length=1, offset=8, stride=3); for a value that "
            "belongs to a window, give an array with a row for each window.",
        ),
        (
            lambda: Windows([A, A[:, 0]], 3),
            "series 1 of Windows has time steps of shape () and dtype float64, and series 0 of "
            "shape (2,) and dtype float64; expected time steps of one shape and dtype.",
        ),
        (
            lambda: Windows([], 3),
            "series of Windows is an empty list; expected at least one series.",
        ),
        (
            lambda: Windows([1.0, 2.0], 1),
            "series 0 of Windows is 1.0 (float); expected an array of shape (time_steps, "
            "*inner_shape), a memory map, a dataset of HDF5 or Zarr, or a list of such, one for "
            "each series.",
        ),
        (
            lambda: Windows(A, 3, ids=np.repeat([7, 8, 7], [5, 5, 10])),
            "ids has 7 (int) in several places, from time steps 0 and 10 on; expected the steps of "
            "a series to stand together. Sort by id, and by time within it: `order = "
            "np.argsort(ids, kind='stable')`.",
        ),
    ],
)
def test_series_that_are_too_short_or_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"length": 0}, "length is 0 (int); expected a whole number from 1 to 2147483647."),
        ({"stride": 0}, "stride is 0 (int); expected a whole number from 1 to 2147483647."),
        ({"offset": -1}, "offset is -1 (int); expected a whole number from 0 to 2147483647."),
        (
            {"sampling_rate": 0.5},
            "sampling_rate is 0.5 (float); expected a whole number from 1 to 2147483647.",
        ),
        (
            {"boundaries": [12, 5]},
            "boundaries is [12, 5] (list); expected rising positions between 0 and 20, the number "
            "of time steps, at which a new series begins.",
        ),
        (
            {"boundaries": [5.5]},
            "boundaries is [5.5] (list); expected rising positions between 0 and 20, the number of "
            "time steps, at which a new series begins.",
        ),
        (
            {"boundaries": [21]},
            "boundaries is [21] (list); expected rising positions between 0 and 20, the number of "
            "time steps, at which a new series begins.",
        ),
        (
            {"ids": [1, 2]},
            "ids is ndarray of shape (2,) and dtype int64; expected an id for each of the 20 time "
            "steps.",
        ),
        (
            {"ids": np.zeros(20), "boundaries": [3]},
            "boundaries and ids were both given; expected one of them.",
        ),
        (
            {"series": [A], "boundaries": [3]},
            "boundaries or ids were given with a list of series; expected either: a list has an "
            "array for each series.",
        ),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Windows(**{"series": A, "length": 3, **chosen})
    assert str(caught.value) == message


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has none")
def test_texts_of_any_length_are_a_series_too() -> None:
    texts = np.array(["a", "long text of many letters", "c", ""], np.dtypes.StringDType())
    assert Windows(texts, 2).read(np.array([2, 0])).tolist() == [
        texts[2:].tolist(),
        texts[:2].tolist(),
    ]


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (np.nan, "nan (float)"),
        (np.datetime64("NaT", "s"), "None (NoneType)"),
        (None, "None (NoneType)"),
    ],
    ids=["NaN", "NaT", "None"],
)
def test_a_missing_id_is_refused(missing: Any, told: str) -> None:
    dtype = object if missing is None else np.asarray(missing).dtype
    ids = np.array([*np.arange(10).repeat(2)], "M8[D]" if told.startswith("None") else dtype)
    ids = ids.astype(dtype)
    ids[[6, 7]] = missing
    with pytest.raises(InvalidDataError) as caught:
        Windows(A, 2, ids=ids)
    assert str(caught.value) == (
        f"ids has {told} at time step 6; expected the id of a series at each. Leave such time "
        "steps out, or give them an id of their own."
    )


def test_a_missing_id_of_pandas_is_refused() -> None:
    pd = pytest.importorskip("pandas")
    ids = pd.Series(["a", "b"] * 10, dtype="string").sort_values(ignore_index=True)
    assert len(Windows(A, 3, ids=ids)) == 16
    ids[9] = pd.NA
    with pytest.raises(InvalidDataError, match=r"^ids of Windows has no value in row 9, which"):
        Windows(A, 3, ids=ids)


def test_ids_may_be_of_several_kinds() -> None:
    ids = np.array(["a"] * 8 + [3] * 12, object)
    assert len(Windows(A, 3, ids=ids)) == 6 + 10


def test_only_windows_are_aligned() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^aligned was given nothing; expected Windows"):
        aligned()
    assert sources.Windows is Windows
    assert sources.aligned is aligned
    with pytest.raises(InvalidArgumentError) as caught:
        aligned(Windows(A, 3), A)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "argument 1 of aligned is ndarray of shape (20, 2) and dtype float64; expected Windows."
    )
