"""Categories of joined parts: one list for all of them, or a refusal. Never two codes for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, concat, mix, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

HOW = (
    "Give both the same list: polars' Enum, pandas' CategoricalDtype or union_categoricals. Or "
    "read them as one: pa.chunked_array([...]), or Parquet([...]) of all files."
)


def arrow(names: str) -> Any:
    return pa.array(list(names)).dictionary_encode()


def parquet(names: str, folder: Path) -> Any:
    path = folder / f"{names}.parquet"
    pq.write_table(pa.table({"c": arrow(names)}), path)
    return sources.Parquet(path)["c"]


def pandas(names: str) -> Any:
    return pd.Series(list(names), dtype=pd.CategoricalDtype(list(dict.fromkeys(names))))


def polars(names: str) -> Any:
    return pl.Series(list(names), dtype=pl.Enum(list(dict.fromkeys(names))))


def huggingface(names: str) -> Any:
    datasets = pytest.importorskip("datasets")
    labels = datasets.ClassLabel(names=list(dict.fromkeys(names)))
    values = [labels.str2int(name) for name in names]
    made = datasets.Dataset.from_dict({"c": values}, datasets.Features({"c": labels}))
    return made.with_format("numpy")["c"]


KINDS = ["arrow", "parquet", "pandas", "polars", "huggingface"]


@pytest.fixture(params=KINDS)
def column(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Makes a column of one-letter names, whose categories are numbered as they come."""
    if request.param == "parquet":
        return lambda names: parquet(names, tmp_path)
    return globals()[request.param]


def message(make: Any, kind: Any = InvalidDataError) -> str:
    with pytest.raises(kind) as caught:
        make()
    return str(caught.value)


def test_parts_with_the_same_categories_are_joined(column: Any) -> None:
    joined = sources.Concatenated([column("xyz"), column("xyzzyx")])
    assert sources.categories(joined) == ["x", "y", "z"]
    codes = ArrayDataset(joined, shuffle=False)[0]
    assert codes.reshape(-1).tolist() == [0, 1, 2, 0, 1, 2, 2, 1, 0]


def test_parts_that_number_their_categories_otherwise_are_refused(column: Any) -> None:
    told = message(lambda: sources.Concatenated([column("xy"), column("xy"), column("yx")]))
    assert told.startswith("parts[2], ")
    assert ", and parts[0], " in told
    assert told.endswith(
        "are read as codes of different categories: 0 stands for 'y' in one and for 'x' in the "
        f"other; expected the same categories in the same order. {HOW}"
    )


def test_parts_with_more_categories_are_refused(column: Any) -> None:
    """Even where the codes of the fewer would be right: with other data they are not."""
    told = message(lambda: sources.Concatenated([column("xy"), column("xyz")]))
    assert ": 2 stands for 'z' in one and for nothing in the other; " in told
    told = message(lambda: sources.Concatenated([column("xyz"), column("xy")]))
    assert ": 2 stands for nothing in one and for 'z' in the other; " in told


def test_more_categories_are_told_before_the_larger_dtype_that_they_need() -> None:
    many = pd.Series(pd.Categorical.from_codes([0, 199], [str(n) for n in range(200)]))
    few = pd.Series(pd.Categorical.from_codes([0, 99], [str(n) for n in range(100)]))
    told = message(lambda: sources.Concatenated([few, many]))
    assert ": 100 stands for '100' in one and for nothing in the other; " in told


def test_numbers_beside_codes_are_refused() -> None:
    plain = np.array([0, 1], "int32")
    for parts, numbers in [([arrow("xy"), plain], (0, 1)), ([plain, arrow("xy")], (1, 0))]:
        told = message(lambda parts=parts: sources.Concatenated(parts))
        assert told.startswith(f"parts[{numbers[0]}], ")
        assert told.endswith(
            f", is read as codes of categories, and parts[{numbers[1]}], ndarray of shape (2,) "
            "and dtype int32, as it is; expected categories in all parts, or in none. Give the "
            "numbers the same categories, or pass the codes as an array, if they mean the same."
        )


def test_parts_without_categories_have_none() -> None:
    joined = sources.Concatenated([np.arange(3), np.arange(2)])
    with pytest.raises(InvalidDataError, match="which has no categories"):
        sources.categories(joined)


def test_joined_parts_are_joined_again() -> None:
    pair = sources.Concatenated([arrow("xy"), arrow("xy")])
    whole = sources.Concatenated([pair, arrow("xy")])
    assert sources.categories(whole) == ["x", "y"]
    assert message(lambda: sources.Concatenated([pair, arrow("yx")])).startswith("parts[1], ")


# --- datasets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [concat, lambda given: mix(given, [1, 1])], ids=["concat", "mix"])
def test_datasets_that_number_their_categories_otherwise_are_refused(
    join: Any, column: Any
) -> None:
    first, second = (
        ArrayDataset(np.arange(float(len(names))), column(names), shuffle=False)
        for names in ("xyzzy", "yx")
    )
    assert message(lambda: join([first, first, second]), InvalidArgumentError) == (
        "y of datasets[2] and y of datasets[0] are read as codes of different categories: 0 stands "
        "for 'y' in one and for 'x' in the other; expected the same categories in the same order. "
        f"{HOW}"
    )
    batch = join([first, first])[0]
    assert set(batch[1].reshape(-1).tolist()) <= {0, 1, 2}


def test_datasets_of_numbers_beside_codes_are_refused() -> None:
    coded = ArrayDataset({"a": arrow("xy"), "b": np.arange(2)}, shuffle=False)
    plain = ArrayDataset({"a": np.array([0, 1], "int32"), "b": np.arange(2)}, shuffle=False)
    assert message(lambda: concat([plain, coded]), InvalidArgumentError) == (
        "x['a'] of datasets[1] is read as codes of categories, and x['a'] of datasets[0] as it is; "
        "expected categories in all datasets, or in none. Give the numbers the same categories, or "
        "pass the codes as an array, if they mean the same."
    )


def flipped(batch: Any) -> Any:
    x, y = batch
    return x, 1 - y


def same(batch: Any) -> Any:
    return batch


def of(names: str, **settings: Any) -> Any:
    return ArrayDataset(np.arange(float(len(names))), arrow(names), shuffle=False, **settings)


def test_a_transform_that_not_all_of_them_have_may_number_them_alike() -> None:
    _, y = concat([of("xy"), of("yx", transform=flipped)], shuffle=False)[0]
    assert y.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    "settings",
    [{"transform": same}, {"transform": [same, flipped]}, {"augment": same}],
    ids=["transform", "transforms", "augment"],
)
def test_the_same_transform_can_not(settings: Any) -> None:
    datasets = [of("xy", **settings), of("yx", **settings)]
    assert "0 stands for 'y' in one" in message(lambda: concat(datasets), InvalidArgumentError)


def test_datasets_of_datasets_are_compared_too() -> None:
    pair = concat([of("xy"), of("xy")])
    assert len(concat([pair, of("xy")])) == 1
    told = message(lambda: concat([pair, of("yx")]), InvalidArgumentError)
    assert told.startswith("y of datasets[1] and y of datasets[0] are read as codes")
    changed = concat([of("yx", transform=flipped), of("xy")])  # what its codes mean is not known
    assert len(concat([changed, of("xy")])) == 1


class Loader(BatchDataset):
    def load(self, rows: Any) -> Any:
        return np.zeros(len(rows)), np.zeros(len(rows), "int32")


def test_what_a_loader_gives_is_its_own_matter() -> None:
    _, y = concat([Loader(num_samples=2), of("yx")], shuffle=False)[0]
    assert y.tolist() == [0, 0, 0, 1]


def test_those_that_come_after_a_loader_are_compared() -> None:
    datasets = [Loader(num_samples=2), of("xy"), of("yx")]
    told = message(lambda: concat(datasets), InvalidArgumentError)
    assert told.startswith(
        "y of datasets[2] and y of datasets[1] are read as codes of different categories"
    )
