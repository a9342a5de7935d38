"""What shows a dataset leaves no trace in it, and is what training gets."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.batches.core import core_of
from keras_npbatch.dataset.looking import look_at, text_of
from keras_npbatch.dataset.show import show
from keras_npbatch.workers.executor import Executor

X, Y = np.arange(60.0).reshape(30, 2), np.arange(30) % 3


class Drawing(npb.BatchDataset):
    """Draws from the global generators, and counts."""

    calls = 0

    def load(self, rows):
        self.calls += 1
        random.random()
        return X[rows] + np.random.random(), Y[rows]  # noqa: NPY002


def datasets():
    yield npb.ArrayDataset(X, Y, batch_size=4, seed=0)
    yield npb.ArrayDataset(
        X, Y, batch_size=4, seed=0, workers=2, use_multiprocessing=True, augment=lambda batch: batch
    )
    yield npb.SampleDataset.of([*zip(X, Y, strict=True)], batch_size=4, seed=0, cache="1 MB")
    yield npb.mix([npb.ArrayDataset(X, Y), npb.ArrayDataset(X, Y)], weights=[1, 2], batch_size=4)
    yield npb.zip(a=npb.ArrayDataset(X, Y), b=npb.ArrayDataset(X))
    yield npb.ArrayDataset(X, Y, batch_size=4).repeat()
    yield npb.ArrayDataset(X, Y, batch_size=4).split(0.5)[1]
    yield Drawing(30, batch_size=4, seed=0)


def state_of(dataset):
    core = core_of(dataset)
    return (
        dataset.state_dict(),
        dataset.epoch,
        core.asked_for_rows,
        None if core.cache is None else dataset.cache_info(),
        getattr(dataset, "calls", None),
        random.getstate(),
        np.random.get_state()[1].tobytes(),  # noqa: NPY002
        threading.active_count(),
        Executor in core._parts,
    )


@pytest.mark.parametrize("dataset", list(datasets()), ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("how", [look_at, show, lambda each: each._repr_html_()])
def test_nothing_changes(dataset, how):
    dataset.set_epoch(3)
    before = state_of(dataset)
    how(dataset)
    assert state_of(dataset) == before


@pytest.mark.parametrize("dataset", list(datasets())[:-1], ids=lambda each: type(each).__name__)
def test_it_is_the_batch_that_comes_next(dataset):
    dataset.set_epoch(2)
    seen = look_at(dataset)
    batch = dataset[0]
    assert seen.epoch == 2
    if seen.rows is None:
        np.testing.assert_array_equal(seen.leaves["batch['a'][0]"], batch["a"][0])
    else:
        assert seen.rows.tolist() == dataset.rows(0).tolist()
        np.testing.assert_array_equal(seen.leaves["x"], batch[0])
        np.testing.assert_array_equal(seen.leaves["y"], batch[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (np.float32(0.25), "0.25"),
        (1 / 3, "0.3333"),
        (np.True_, "True"),
        ("a\n b", "a b"),
        (b"raw", "b'raw'"),
        (np.datetime64("2020-01-01"), "2020-01-01"),
        (np.arange(3), "0 1 2"),
        (np.arange(30), "0 1 2 3 4 5 6 7 ..."),
        (np.arange(4.0).reshape(2, 2), "shape (2, 2), 0 to 3"),
        (np.array([["a"]]), "shape (1, 1)"),
        ("x" * 90, "x" * 77 + "..."),
        (np.array("word", object)[()], "word"),
    ],
    ids=str,
)
def test_values_are_short_texts(value, text):
    assert text_of(value) == text
