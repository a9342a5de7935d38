"""`MapStyle`: which datasets have rows that can be read at any time, and what others are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keras_npbatch.batches.map_style import MapStyle
from keras_npbatch.errors import InvalidBatchError, InvalidDataError
from tests.installed import needs


class Squares:
    """What a dataset has at least."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, row: int) -> Any:
        assert type(row) is int  # Hugging Face refuses the integers of NumPy
        return row**2


class Several(Squares):
    def __getitems__(self, rows: list[int]) -> Any:
        return [-(row**2) for row in rows]


def test_samples_are_the_items():
    for dataset in (Squares(), [0, 1, 4, 9, 16], np.arange(5) ** 2, tuple(np.arange(5) ** 2)):
        read = MapStyle(dataset)
        assert read.num_samples == 5
        assert [read(row) for row in range(5)] == [0, 1, 4, 9, 16]
        assert read.many is None
    assert MapStyle(Squares()).__qualname__ == "Squares"


def test_several_samples_at_once_are_asked_for_where_that_is_possible():
    many = MapStyle(Several()).many
    assert many is not None
    assert many([3, 1]) == [-9, -1]


@pytest.mark.parametrize("returned", [[1], np.arange(2), None], ids=["fewer", "array", "None"])
def test_other_than_a_list_of_as_many_samples_is_refused(returned):
    class Wrong(Squares):
        def __getitems__(self, rows: list[int]) -> Any:
            return returned

    many = MapStyle(Wrong()).many
    assert many is not None
    with pytest.raises(InvalidBatchError) as caught:
        many([3, 1])
    text = str(caught.value)
    assert "Wrong.__getitems__ returned " in text
    assert text.endswith("; expected a list of 2 samples, one for each row it was given.")


class Stream:
    def __iter__(self) -> Any:
        return iter(range(5))


ITERATED = (
    "; expected __len__ and __getitem__(row). It can only be iterated over, so no row can be read "
    "at any time. If it fits in memory, write SampleDataset.of(list(dataset)); otherwise write its "
    "samples to files, and SampleDataset(load_sample, num_samples=...), which reads one by its row."
)
NEITHER = (
    "; expected __len__ and __getitem__(row). Write a class with both, or "
    "SampleDataset(load_sample, num_samples=...)."
)
COLUMNS = (
    ", whose items are columns; expected samples. Write ArrayDataset(data, labels), which reads "
    "rows of arrays, columns and dicts of them."
)


@pytest.mark.parametrize(
    ("dataset", "start", "end"),
    [
        (5, "5 (int)", NEITHER),
        (Stream(), "<", ITERATED),
        ((row for row in range(3)), "<", ITERATED),
        ({"a": np.zeros(3)}, "a dict of 1 items", COLUMNS),
        (Squares, "the class Squares", "; expected an object: make one, Squares(...)."),
    ],
    ids=["number", "stream", "generator", "dict", "class"],
)
def test_what_has_no_rows_is_told_what_to_write(dataset, start, end):
    with pytest.raises(InvalidDataError) as caught:
        MapStyle(dataset)
    text = str(caught.value)
    assert text.startswith(f"SampleDataset.of was given {start}")
    assert text.endswith(end)


def test_tables_are_told_of_array_datasets():
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    table = {"a": [1, 2, 3]}
    for dataset in (pd.DataFrame(table), pd.Series([1, 2]), pl.DataFrame(table), pa.table(table)):
        with pytest.raises(InvalidDataError) as caught:
            MapStyle(dataset)
        assert str(caught.value).endswith(COLUMNS)


def test_batches_are_no_samples():
    import keras

    from keras_npbatch import ArrayDataset

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return np.zeros(2)

    for dataset in (ArrayDataset(np.zeros(3)), Batches()):
        with pytest.raises(InvalidDataError) as caught:
            MapStyle(dataset)
        assert str(caught.value).endswith(
            ", whose items are batches; expected a dataset of samples. fit takes it as it is; or "
            "derive it from keras_npbatch.BatchDataset."
        )


@needs("torch")
def test_torchs_datasets_are_read_and_its_loaders_and_streams_told_what_to_write():
    import torch.utils.data as torch_data
    from torch import arange

    class Items(torch_data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(range(3))

        def __len__(self) -> int:
            return 3

    numbers = torch_data.TensorDataset(arange(5), arange(5) ** 2)
    assert [int(value) for value in MapStyle(numbers)(3)] == [3, 9]
    part = MapStyle(torch_data.Subset(numbers, [4, 2]))
    assert part.many is not None
    assert [int(y) for _, y in part.many([1, 0])] == [4, 16]
    with pytest.raises(InvalidDataError) as caught:
        MapStyle(Items())
    assert str(caught.value).endswith(ITERATED)
    with pytest.raises(InvalidDataError) as caught:
        MapStyle(torch_data.DataLoader(numbers))
    assert str(caught.value).endswith(
        ", which makes batches; expected a dataset of samples. Give its own: "
        "SampleDataset.of(loader.dataset, batch_size=...), and what its collate_fn does as "
        "transform=function."
    )
