"""A dataset in a notebook: what it shows, and that nothing of the user's is markup."""

from __future__ import annotations

import itertools
from html.parser import HTMLParser

import numpy as np
import pytest

import keras_npbatch as npb

X, Y = np.arange(60.0).reshape(30, 2), np.arange(30) % 3
EVIL = "<script>alert('&')</script>"


class Parsed(HTMLParser):
    """The tags and the texts, each tag closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def shown(dataset):
    return Parsed(dataset._repr_html_())


def test_it_has_the_settings_the_spec_the_first_rows_and_the_classes():
    data = npb.ArrayDataset({"age": X}, Y, batch_size=8, seed=5, workers=2)
    texts = shown(data).texts
    told = dict(itertools.pairwise(texts))
    assert texts[0] == "ArrayDataset"
    assert (told["samples"], told["seed"]) == ("30", "5")
    assert told["batches"] == "4 of 8 (remainder='keep')"
    assert told["workers"] == "2 threads"
    assert texts[texts.index("x['age']") :][:3] == ["x['age']", "float64", "(8, 2)"]
    rows = data.rows(0)
    start = texts.index("first samples of epoch 0")
    assert texts[start : start + 7] == [
        *("first samples of epoch 0", "row", "x['age']", "y", str(rows[0])),
        f"{X[rows[0], 0]:g} {X[rows[0], 1]:g}",
        str(Y[rows[0]]),
    ]
    assert told["samples of each class in the data"] == "y"
    assert texts[-1] == "0: 10, 1: 10, 2: 10"


def test_a_drawn_seed_and_datasets_of_datasets_are_told():
    data = npb.ArrayDataset(X, Y)
    assert f"{data.seed} (drawn)" in shown(data).texts
    assert repr(data) in shown(npb.zip(data, data)).texts
    assert repr(data) in shown(npb.concat([data, data])).texts


def loaded(row):
    return {EVIL: EVIL}, np.int64(row % 2)


def failing(row):
    raise ValueError(EVIL)


@pytest.mark.parametrize("load", [loaded, failing])
def test_what_comes_from_the_user_is_escaped(load):
    kind = type(EVIL, (npb.SampleDataset,), {})
    seen = shown(kind(load, num_samples=10, batch_size=4))
    assert "script" not in seen.tags
    assert sum(EVIL in text for text in seen.texts) >= (2 if load is failing else 4)


def test_a_dataset_that_can_make_no_batch_shows_itself_and_why():
    texts = shown(npb.SampleDataset(failing, num_samples=10)).texts
    assert texts[0] == "SampleDataset"
    assert texts[-2:] == ["A batch can't be made: ", f"ValueError: {EVIL}"]


def test_many_classes_and_floats_are_cut_short():
    texts = shown(npb.ArrayDataset(X, np.arange(30))).texts
    assert texts[-1].endswith(", 19: 1, ... (30 classes)")
    assert not any("class" in text for text in shown(npb.ArrayDataset(X, X)).texts)


def test_an_exception_whose_text_fails_too_is_shown_by_its_class():
    class SilentError(Exception):
        def __str__(self):
            raise ValueError("no text")

    class Fails(npb.BatchDataset):
        def load(self, rows):
            raise SilentError

    assert "SilentError: <its text can't be told>" in shown(Fails(3, seed=0)).texts
