"""Hugging Face's datasets: rows are those of `dataset[row]`, whatever was selected or filtered."""

from __future__ import annotations

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, SampleDataset, sources
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.sources import as_source, as_sources

datasets = pytest.importorskip("datasets")

N = 40
FEATURES = {
    "number": datasets.Value("float32"),
    "label": datasets.ClassLabel(names=["no", "yes", "perhaps"]),
    "image": datasets.Array2D((2, 3), "uint8"),
    "text": datasets.Value("string"),
    "maybe": datasets.Value("int32"),
    "lists": datasets.Sequence(datasets.Value("int16")),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """On a disk, from where it is mapped into memory, in several pieces."""
    datasets.disable_progress_bars()
    values = {
        "number": [row / 2 for row in range(N)],
        "label": [row % 3 for row in range(N)],
        "image": [np.arange(6).reshape(2, 3) + row for row in range(N)],
        "text": [f"text {row}" for row in range(N)],
        "maybe": [None if row == 11 else row for row in range(N)],
        "lists": [[row] * (3 if row == 12 else 2) for row in range(N)],
    }
    parts = [
        datasets.Dataset.from_dict(
            {name: column[rows] for name, column in values.items()},
            features=datasets.Features(FEATURES),
        )
        for rows in (slice(0, 15), slice(15, N))
    ]
    path = tmp_path_factory.mktemp("datasets") / "saved"
    datasets.concatenate_datasets(parts).save_to_disk(path, num_shards=2)
    return datasets.load_from_disk(path)


WHOLE = ["number", "label", "image", "text"]


def test_a_dataset_is_a_dict_of_its_columns(dataset):
    chosen = dataset.select_columns(WHOLE)
    for part in (
        chosen,
        chosen.select(range(5, 30)),
        chosen.shuffle(seed=0),
        chosen.shuffle(seed=0).select([7, 3, 3]),
        chosen.filter(lambda row: row["label"] != 1),
        dataset.with_format("numpy", columns=WHOLE),
    ):
        batch = ArrayDataset(part, shuffle=False).load(np.array([2, 0]))
        assert batch.keys() == set(WHOLE)
        assert [batch[name].dtype for name in WHOLE] == ["float32", "int64", "uint8", "object"]
        for at, row in enumerate((2, 0)):
            expected = part.with_format(None)[row]
            assert batch["number"][at] == expected["number"]
            assert batch["label"][at] == expected["label"]
            assert batch["image"][at].tolist() == expected["image"]
            assert batch["text"][at] == expected["text"]


def test_a_column_is_a_leaf_and_tells_its_classes(dataset):
    x, y = ArrayDataset(dataset["number"], dataset["label"], shuffle=False, batch_size=3)[1]
    assert (x.tolist(), y.tolist()) == ([1.5, 2.0, 2.5], [0, 1, 2])
    assert sources.categories(dataset["label"]) == ["no", "yes", "perhaps"]
    assert not as_source(dataset["number"], "x").is_in_memory


def test_only_rows_that_are_left_may_have_no_null(dataset):
    with pytest.raises(InvalidDataError, match=r"^x\['maybe'\] has no value in row 11,"):
        as_sources(dataset.select_columns(["maybe", "number"]), "x")
    with pytest.raises(InvalidDataError, match=r"^x has no value in row 1,"):
        as_source(dataset.select([3, 11])["maybe"], "x")
    left = dataset.select([row for row in range(N) if row != 11])
    assert as_source(left["maybe"], "x").read(np.array([10, 11]), np.empty).tolist() == [10, 12]
    filled = sources.Filled(dataset["maybe"], -1)
    assert as_source(filled, "x").read(np.array([11, 3]), np.empty).tolist() == [-1, 3]


def test_lists_of_several_lengths_are_refused_also_in_rows_that_were_left_out(dataset):
    left = dataset.select([row for row in range(N) if row != 12])
    with pytest.raises(InvalidDataError) as caught:
        as_source(left["lists"], "x")
    assert str(caught.value) == (
        "x is a column of lists of 2 to 3 values; expected lists of one length, which become an "
        "axis. Those of numbers are padded batch by batch: `keras_npbatch.sources.Ragged(column)`. "
        "If only rows that were left out differ, write the others anew: "
        "`dataset.flatten_indices()`."
    )
    found = as_source(left.flatten_indices()["lists"], "x").read(np.array([12]), np.empty)
    assert found.tolist() == [[13, 13]]


def test_what_would_be_ignored_or_has_no_rows_is_refused(dataset, monkeypatch):
    monkeypatch.setattr("datasets.config.TORCH_AVAILABLE", False)  # it would be imported: seconds
    changed = dataset.select_columns(WHOLE).with_transform(lambda batch: batch)
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(changed)
    assert str(caught.value) == (
        "x['image'] is a column of a Dataset with a transform, which would not be called; "
        "expected one without. Take it off, `dataset.with_format(None)`, and give the function to "
        "the dataset of batches: `transform=`."
    )
    splits = datasets.DatasetDict(train=dataset)
    with pytest.raises(InvalidDataError, match=r"Choose a split of it: `x\['train'\]`\.$"):
        ArrayDataset(splits)
    line = r"`datasets.Dataset.from_generator\(lambda: iter\(x\)\)`\.$"
    with pytest.raises(InvalidDataError, match=line):
        ArrayDataset(dataset.to_iterable_dataset())
    with pytest.raises(InvalidDataError, match=r"no columns; expected at least one\.$"):
        ArrayDataset(dataset.select_columns([]))


def test_a_column_of_images_is_refused_and_its_samples_can_be_read():
    image = pytest.importorskip("PIL.Image")
    pictures = datasets.Dataset.from_dict(
        {"image": [image.fromarray(np.full((4, 5, 3), n, np.uint8)) for n in range(3)]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(pictures)
    assert str(caught.value) == (
        "x['image'] is a column of Image, whose items are decoded one by one; expected numbers, "
        "dates, texts, categories or lists of them. Read the samples: "
        "`keras_npbatch.SampleDataset.of(dataset)`."
    )
    samples = SampleDataset.of(pictures, shuffle=False, batch_size=3)
    assert samples[0]["image"][:, 3, 4, 2].tolist() == [0, 1, 2]
