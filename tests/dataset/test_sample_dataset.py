"""`SampleDataset`: the batches of an `ArrayDataset`, from samples that are read one by one."""

from __future__ import annotations

import os
import pickle
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, SampleDataset, each, errors
from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.testing import check_dataset
from keras_npbatch.testing import strategies as npst
from tests import loaders
from tests.installed import needs

N = 21
X = np.random.default_rng(0).random((N, 4), np.float32)
Y = np.arange(N)


def load_sample(row: int) -> Any:
    assert type(row) is int
    return X[row], row


def load_drawing(row: int, rng: np.random.Generator) -> Any:
    return X[row] + rng.random(4, np.float32), row


class Slides(SampleDataset):
    def __init__(self, x: Any = X, **settings: Any) -> None:
        super().__init__(num_samples=len(x), **settings)
        self.x = x

    def load_sample(self, row: int) -> Any:
        return self.x[row], row


class Drawing(SampleDataset):
    def load_sample(self, row: int, rng: np.random.Generator) -> Any:  # type: ignore[override]
        return load_drawing(row, rng)


class Items:
    """What a dataset has at least."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        return load_sample(row)


class Several(list[Any]):
    """Counts how it is read."""

    def __init__(self, *items: Any) -> None:
        super().__init__(*items)
        self.read: list[list[int]] = []

    def __getitems__(self, rows: list[int]) -> list[Any]:
        self.read.append(rows)
        return [self[row] for row in rows]


def assert_same(batch: Any, expected: Any) -> None:
    assert len(batch) == len(expected)
    for one, other in zip(batch, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@settings(max_examples=25)
@given(chosen=npst.settings(N, transforms=[None, loaders.doubled]), data=st.data())
def test_batches_are_those_of_an_array_dataset(chosen, data):
    n = chosen.pop("num_samples")
    x, y = X[:n], Y[:n]
    sampler = data.draw(st.none() | npst.samplers(n))
    if sampler is not None and not (sampler.cuts_batches and chosen["remainder"] == "spread"):
        chosen = {**chosen, "sampler": sampler, "shuffle": None}
        chosen["remainder"] = "pad" if chosen["remainder"] == "drop" else chosen["remainder"]
    expected = ArrayDataset(x, y, **chosen)
    read = Several(zip(x, y, strict=True))
    for dataset in (
        SampleDataset(load_sample, num_samples=n, **chosen),
        Slides(x, **chosen),
        SampleDataset.of(list(zip(x, y, strict=True)), **chosen),
        SampleDataset.of(read, **chosen),
    ):
        assert len(dataset) == len(expected)
        expected.set_epoch(0)
        for batch, other in zip(dataset, expected, strict=True):
            assert_same(batch, other)
        step = data.draw(st.integers(0, len(dataset) - 1))
        assert_same(dataset[step], expected[step])
        assert dataset.epoch == 1
    assert all(type(row) is int for rows in read.read for row in rows)


@settings(max_examples=15)
@given(size=st.integers(1, N + 1), count=st.sampled_from([2, 3]), epoch=st.integers(0, 2))
def test_what_a_row_draws_does_not_depend_on_its_batch(size, count, epoch):
    expected = [load_drawing(row, rng)[0] for row, rng in enumerate(drawn(epoch))]
    whole = SampleDataset(load_drawing, num_samples=N, batch_size=size, seed=5)
    parts = [Drawing(num_samples=N, batch_size=4, seed=5, shard=(at, count)) for at in range(count)]
    for datasets in ([whole], parts):
        seen = 0
        for dataset in datasets:
            dataset.set_epoch(epoch)
            for step, (x, y, *_) in enumerate(dataset):
                for at in range(len(dataset.rows(step, epoch))):
                    np.testing.assert_array_equal(x[at], expected[y[at]])
                    seen += 1
        assert seen == N
    whole.set_epoch(epoch)  # without a batch, a row draws as when it comes first
    np.testing.assert_array_equal(whole.load_sample(3)[0], expected[3])
    np.testing.assert_array_equal(whole.load([4, 3])[0], [expected[4], expected[3]])


def drawn(epoch: int) -> Any:
    from keras_npbatch.rng import Purpose, sample_generators, seed_sequence

    sequence = seed_sequence(5, Purpose.LOAD_OF_SAMPLE, epoch, 0)
    return sample_generators(sequence, np.arange(N), np.zeros(N, np.int64))


def test_processes_read_the_same_batches():
    """A subclass that draws, and another dataset; with functions of one sample."""
    shared = {"batch_size": 6, "seed": 1, "augment": [loaders.doubled, each(add_noise)]}
    for make in (
        lambda **more: Drawing(num_samples=N, **more),
        lambda **more: SampleDataset.of(Several(zip(X, Y, strict=True)), **more),
    ):
        here = make(**shared, workers=0)
        with make(**shared, workers=2, use_multiprocessing=True) as there:
            for batch, expected in zip(there, here, strict=True):
                assert_same(batch, expected)


def add_noise(sample: Any, rng: np.random.Generator) -> Any:
    x, y = sample
    return x + rng.random(len(x), np.float32), y


def test_evaluate_and_predict_read_in_order_and_draw_as_epoch_0():
    chosen = {"batch_size": 8, "seed": 5, "augment": each(add_noise)}
    dataset = SampleDataset(load_drawing, num_samples=N, **chosen)
    dataset.set_epoch(3)
    x = np.concatenate([x for x, _ in dataset.batches_for("predict")])
    expected = [load_drawing(row, rng)[0] for row, rng in enumerate(drawn(0))]
    np.testing.assert_array_equal(x, expected)


def test_it_is_pickled_with_what_reads_its_samples():
    for dataset in (
        SampleDataset(load_sample, num_samples=N, seed=0),
        Slides(seed=0),
        SampleDataset.of(list(zip(X, Y, strict=True)), seed=0),
    ):
        again = pickle.loads(pickle.dumps(dataset))
        assert_same(again[0], dataset[0])
        assert_same(again.load([3, 3]), dataset.load([3, 3]))
        again.load_state_dict(dataset.state_dict(epoch=1, step=0))
        assert list(vars(dataset)) == [name for name in (ATTRIBUTE, "x") if name in vars(dataset)]


def test_the_checker_finds_nothing():
    augment = each(add_noise)
    for dataset in (Slides(batch_size=5, seed=0, augment=augment), Drawing(num_samples=N, seed=1)):
        report = check_dataset(dataset, sample_id=lambda batch: batch[1])
        assert report.ok, report


def test_the_checker_finds_samples_that_count_and_leaves_them_as_they_are():
    class Counting(Items):
        count = 0

        def __getitem__(self, row: int) -> Any:
            self.count += 1
            return X[row] + self.count, row

    counting = Counting()
    found = check_dataset(SampleDataset.of(counting, batch_size=5, seed=0))
    assert "dataset[0] had other contents when it was read a second time" in str(found)
    assert counting.count == 0


@needs("torch")
def test_a_dataset_of_torch_becomes_one_of_arrays_in_one_line():
    import torch
    from torch.utils.data import Subset, TensorDataset

    pictures = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    for dataset, rows in ((pictures, Y), (Subset(pictures, Y[::-2].tolist()), Y[::-2])):
        train = SampleDataset.of(dataset, batch_size=64, shuffle=False)
        assert_same(train[0], (X[rows], rows))


def test_a_dataset_of_hugging_face_becomes_one_of_arrays_in_one_line():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict(
        {"ids": [[row, row + 1] for row in range(N)], "text": [f"{row}" for row in range(N)]}
    )
    split = each(lambda sample: ({"ids": sample["ids"]}, sample["text"]))
    train = SampleDataset.of(table, batch_size=8, shuffle=False, transform=split)
    x, y = train[1]
    assert x["ids"].tolist() == [[row, row + 1] for row in range(8, 16)]
    assert y.tolist() == [f"{row}" for row in range(8, 16)]
    with pytest.raises(errors.InvalidDataError, match=r"It can only be iterated over"):
        SampleDataset.of(table.to_iterable_dataset())


# --- failures ----------------------------------------------------------------------------------


def test_an_exception_is_told_with_its_row():
    def fail(row: int) -> Any:
        if row == 7:
            raise OSError("truncated")
        return row

    dataset = SampleDataset(fail, num_samples=N, batch_size=3, shuffle=False)
    with pytest.raises(OSError, match="truncated") as caught:
        dataset[2]
    assert caught.value.__notes__ == [
        "keras_npbatch: raised for row 7",
        "keras_npbatch: raised by load_sample(row) at epoch 0, step 2, rows [6, 7, 8]",
    ]
    dataset = SampleDataset.of(Several(range(N)), batch_size=3, transform=each(fail), shuffle=False)
    with pytest.raises(OSError, match="truncated") as caught:
        dataset[2]
    assert caught.value.__notes__[1].startswith("keras_npbatch: raised by transform=each(")

    def draw(row: int, rng: Any) -> Any:
        return np.zeros(row)

    with pytest.raises(errors.InvalidBatchError) as refused:
        SampleDataset(draw, num_samples=N, batch_size=3, shuffle=False)[0]
    assert str(refused.value) == (
        "load_sample(row) returned ndarray of shape (1,) and dtype float64 for x of row 1, but for "
        "row 0 one of shape (0,); expected one shape for all samples of a batch. Pad, crop or "
        "resize them to one."
    )
    assert refused.value.__notes__[1] == (
        "keras_npbatch: raised by load_sample(row, rng) at epoch 0, step 0, rows [0, 1, 2]"
    )


def own(**methods: Any) -> Any:
    return type("Own", (SampleDataset,), methods)


REFUSED = {
    "nothing": (
        lambda: SampleDataset(num_samples=3),
        "SampleDataset was given no load_sample; expected a function of a row: "
        "SampleDataset(load_sample, num_samples=...), or a subclass with load_sample(self, row). A "
        "dataset of samples, such as one of torch: SampleDataset.of(dataset).",
    ),
    "both": (
        lambda: Drawing(load_sample, num_samples=3),
        None,
    ),
    "dataset": (
        lambda: SampleDataset([1, 2, 3], num_samples=3),
        "load_sample is [1, 2, 3] (list); expected a function of a row. A dataset of samples: "
        "SampleDataset.of(dataset).",
    ),
    "number": (
        lambda: Drawing(30),
        None,
    ),
    "no num_samples": (
        lambda: SampleDataset(load_sample),
        "SampleDataset was given no num_samples; expected how many samples there are: rows are "
        "from 0 to num_samples - 1.",
    ),
    "no samples": (
        lambda: SampleDataset.of([]),
        "num_samples is 0: there is nothing to make a batch of. Check how the data was selected.",
    ),
    "parameters": (
        lambda: SampleDataset(lambda: 1, num_samples=3),
        "load_sample takes the parameters (); expected load_sample(row) or load_sample(row, rng). "
        "Bind further arguments with functools.partial.",
    ),
    "parameters of a method": (
        lambda: own(load_sample=lambda self, row, rng, more: 1)(num_samples=3),
        "Own.load_sample takes the parameters (row, rng, more); expected Own.load_sample(row) or "
        "Own.load_sample(row, rng). Keep what else it needs in attributes of the dataset.",
    ),
    "__getitem__": (
        lambda: own(__getitem__=lambda self, row: 1)(num_samples=3),
        "Own overrides __getitem__, which returns a batch here, not a sample; expected "
        "load_sample(self, row): rename it.",
    ),
    "__len__": (
        lambda: own(__len__=lambda self: 1, load_sample=load_sample)(num_samples=3),
        "Own overrides __len__, which counts batches here, not samples; expected "
        "super().__init__(num_samples=...): leave it out.",
    ),
    "load": (
        lambda: own(load=lambda self, rows: 1)(num_samples=3),
        "Own overrides load, which calls load_sample for each row; expected one of them. Derive it "
        "from BatchDataset to load whole batches, or change them with transform=function.",
    ),
    "hidden": (
        lambda: own(load_sample=3),
        "the class Own has an attribute load_sample, which is a method of every dataset; expected "
        "another name. Settings are arguments: super().__init__(..., batch_size=32).",
    ),
    "num_samples of a dataset": (
        lambda: SampleDataset.of([1], num_samples=3),
        "SampleDataset.of has no setting num_samples: it is len(dataset). For a part of the "
        "samples, write SampleDataset.of(dataset).subset(rows).",
    ),
    "a word of torch": (
        lambda: SampleDataset.of([1], num_workers=3),
        "SampleDataset has no setting num_workers. Write workers=3.",
    ),
    "no rows": (
        lambda: SampleDataset(load_sample, num_samples=3).load(Y[:0]),
        "rows is empty; expected at least one row: the shapes of a batch are those of its samples.",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_way_to_read_samples_is_refused(make, message):
    with pytest.raises(errors.InvalidArgumentError) as caught:
        make()
    if message is None:
        assert str(caught.value).startswith("Drawing was given ")
        assert str(caught.value).endswith(
            " and has a method load_sample; expected one of them: "
            "super().__init__(num_samples=...)."
        )
    else:
        assert str(caught.value) == message


def test_rows_that_there_are_not_are_refused():
    dataset = SampleDataset(load_sample, num_samples=3)
    for row in (-1, 3):
        with pytest.raises(IndexError, match=rf"^rows go from {row} to {row}; expected numbers"):
            dataset.load_sample(row)


def test_the_function_can_not_be_set_afterwards():
    dataset = SampleDataset(load_sample, num_samples=3)
    with pytest.raises(AttributeError, match=r"^SampleDataset.load_sample can't be set. For "):
        dataset.load_sample = load_sample
    slides = Slides()
    slides.of = 3
    assert slides.of == 3


def test_a_state_is_of_the_function_or_dataset_that_gives_the_samples():
    state = SampleDataset(load_sample, num_samples=N, seed=0).state_dict()
    with pytest.raises(errors.InvalidStateError, match=r"load_sample"):
        SampleDataset(load_drawing, num_samples=N, seed=0).load_state_dict(state)


def test_samples_are_read_once_with_a_cache() -> None:
    read: list[int] = []

    def counted(row: int) -> Any:
        read.append(row)
        return load_sample(row)

    cached = SampleDataset(counted, num_samples=N, batch_size=4, seed=0, cache="1 MB")
    plain = SampleDataset(load_sample, num_samples=N, batch_size=4, seed=0)
    for _ in range(2):
        for ours, theirs in zip(cached, plain, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    assert sorted(read) == list(range(N))
    with pytest.raises(errors.InvalidArgumentError) as caught:
        SampleDataset(load_drawing, num_samples=N, cache="1 MB")
    assert str(caught.value) == (
        "cache was given to SampleDataset, and load_sample draws random numbers; expected samples "
        "that depend on their rows alone. Draw in augment=each(f), f(sample, rng)."
    )
