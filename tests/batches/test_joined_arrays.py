"""Datasets of arrays are read at once, into the bytes that their own batches would have."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset, concat, mix
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.joined_arrays import joined_arrays
from keras_npbatch.batches.work import Work
from keras_npbatch.testing.array_layouts import LAYOUTS, filled, laid_out
from keras_npbatch.testing.strategies import arrays
from tests.comparing import assert_same_array


def of(*datasets: Any, training: bool = True) -> Any:
    return joined_arrays([core_of(each) for each in datasets], training)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), mixed=st.booleans(), nested=st.booleans(), is_part=st.booleans())
def test_its_batches_are_those_of_batch_after_batch(
    data: Any, mixed: bool, nested: bool, is_part: bool
) -> None:
    first = data.draw(arrays(num_rows=9))
    others = [first]
    for number in range(data.draw(st.integers(1, 2))):
        like = filled((3 + 4 * number, *first.shape[1:]), first.dtype, number)
        others.append(laid_out(like, data.draw(st.sampled_from(LAYOUTS))))

    def dataset(x: Any) -> Any:
        made = ArrayDataset({"x": x} if nested else x, np.arange(len(x)), seed=0)
        return made.subset(np.arange(len(x)) % 3 != 0) if is_part else made

    parts = [dataset(x) for x in others]
    assert of(*parts) is not None
    settings = {"batch_size": 4, "seed": 1, "workers": 0}
    whole = mix(parts, [1] * len(parts), **settings) if mixed else concat(parts, **settings)
    for epoch in (0, 2):
        whole.set_epoch(epoch)
        for step, (x, y) in enumerate(whole):
            expected, labels = core_of(whole).gather(True, whole.rows(step, epoch))
            if nested:
                x, expected = x["x"], expected["x"]
            assert_same_array(x, expected)
            assert_same_array(y, labels)


X, Y = np.arange(12.0)[:, np.newaxis], np.arange(12)


def plain(**settings: Any) -> Any:
    return ArrayDataset(X, Y, seed=0, **settings)


class Own(ArrayDataset):
    def load(self, rows: Any) -> Any:
        x, y = super().load(rows)
        return -x, y


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain(transform=lambda batch: batch),
        lambda: plain(augment=lambda batch: batch),
        lambda: plain(class_weight=dict.fromkeys(range(12), 2.0)),
        lambda: Own(X, Y, seed=0),
        lambda: ArrayDataset((X,), Y, seed=0),
        lambda: concat([plain(), plain()]),
    ],
    ids=["transform", "augment", "class_weight", "own load", "another nesting", "joined"],
)
def test_not_where_a_dataset_does_more(make: Any) -> None:
    assert of(plain(), make()) is None
    assert of(plain(), plain()) is not None


def test_what_is_for_training_alone_is_no_matter_in_evaluation() -> None:
    assert of(plain(augment=np.negative), training=True) is None
    assert of(plain(augment=np.negative), training=False) is not None


def test_what_is_known_of_a_dataset_of_arrays_is_known_of_several() -> None:
    whole = mix([plain(), plain()], [2, 1], batch_size=4)
    assert core_of(whole).facts(whole.plan) == core_of(plain(batch_size=4)).facts(whole.plan)
    dropping = concat([plain(batch_size=5, remainder="drop"), plain()], batch_size=24)
    assert core_of(dropping).facts(dropping.plan).batch_bytes == 24 * 16
    changed = concat([plain(), plain()], transform=lambda batch: batch)
    assert not core_of(changed).facts(changed.plan).are_gathered
    assert not core_of(changed).recipe(Work(changed.plan)).finished


def test_padding_is_added_to_them() -> None:
    whole = concat([plain(), plain()], batch_size=5, remainder="pad", shuffle=False)
    *_, (x, y, weight) = whole
    assert weight.tolist() == [1, 1, 1, 1, 0]
    assert y.tolist() == [8, 9, 10, 11, 8]
    assert x[:, 0].tolist() == [8, 9, 10, 11, 8]
