"""`InOrder`: what `shuffle=False` means."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.order import MAX_ROWS, WholeData


@pytest.mark.parametrize("epoch", [0, 5])
def test_the_rows_of_every_epoch_are_the_positions(epoch: int) -> None:
    order = InOrder().order(WholeData(MAX_ROWS), 8, seed=1, epoch=epoch)
    for start in (0, 10**12, MAX_ROWS - 3):
        assert order.rows(start, start + 3).tolist() == [start, start + 1, start + 2]
        assert order.places(start).tolist() == [start]


def test_a_part_has_its_rows_increasing() -> None:
    order = InOrder().order(Chosen(10, ("some",), np.array([2, 3, 9])), 8, 0, 0)
    assert order.rows(0, 3).tolist() == [2, 3, 9]
    assert order.positions(np.array([9, 4, 2])).tolist() == [2, -1, 0]
    assert order.places(9).tolist() == [2]
    assert order.places(4).tolist() == []


def test_a_dataset_with_it_is_one_that_does_not_shuffle() -> None:
    one = ArrayDataset(np.arange(20), batch_size=6, sampler=InOrder())
    other = ArrayDataset(np.arange(20), batch_size=6, shuffle=False)
    assert not one.shuffle
    assert one.state_dict() == other.state_dict()
    assert [batch.tolist() for batch in one] == [batch.tolist() for batch in other]
    assert one.sampler == other.sampler == InOrder()
