"""`Shuffle`: to the row what `shuffle=True` was before there were samplers."""

from __future__ import annotations

import hashlib
import os

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.plan.chosen import Chosen
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.order import WholeData
from keras_npbatch.samplers.permutation import shuffled
from keras_npbatch.samplers.shuffle import Shuffle
from tests.samplers.test_permutation import PINNED

EPOCHS = {
    (7, 0, 0): ([6, 0, 2, 5, 3, 4, 1], "ce71b15d1add0c0d"),
    (50, 1, 0): ([9, 31, 26, 12, 14, 3, 15], "cbfcae01291ce5b9"),
    (50, 1, 3): ([28, 33, 43, 39, 6, 48, 46], "1e54c36db3d03d40"),
    (1000, 2**100, 2**40): ([67, 141, 838, 480, 428, 896, 416], "bf2f64cc19dcf2c7"),
}
"""The first rows, and a digest of all: written down before there were samplers."""


@pytest.mark.parametrize(("n", "seed", "epoch"), PINNED)
def test_the_rows_are_those_of_the_permutation(n: int, seed: int, epoch: int) -> None:
    rows = PINNED[n, seed, epoch]
    order = Shuffle().order(WholeData(n), 32, seed, epoch)
    assert order.rows(0, len(rows)).tolist() == rows
    assert order.positions(np.array(rows)).tolist() == list(range(len(rows)))


@pytest.mark.parametrize("settings", [{}, {"shuffle": True}, {"sampler": Shuffle()}])
@pytest.mark.parametrize(("n", "seed", "epoch"), EPOCHS)
def test_the_rows_of_a_dataset_are_what_they_were(n, seed, epoch, settings):
    first, digest_of_all = EPOCHS[n, seed, epoch]
    dataset = ArrayDataset(np.arange(n), batch_size=8, seed=seed, **settings)
    assert dataset.shuffle
    rows = np.concatenate([dataset.rows(step, epoch) for step in range(len(dataset))])
    assert rows[: len(first)].tolist() == first
    assert hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest() == digest_of_all
    state = dataset.state_dict()
    assert state["dataset"]["shuffle"] is True
    assert "sampler" not in state["dataset"]


def test_parts_of_a_split_have_the_rows_that_they_had():
    train, validation = ArrayDataset(np.arange(100), batch_size=8, seed=5).split(0.8)
    assert train.rows(0, 0).tolist() == [43, 89, 52, 78, 77, 3, 48, 25]
    assert validation.rows(0, 1).tolist() == [73, 64, 24, 9, 86, 32, 46, 76]


@pytest.mark.parametrize("seed", [0, 2**70])
def test_a_part_is_a_permutation_of_its_rows(seed: int) -> None:
    part = Chosen(100, ("some",), np.arange(0, 100, 3))
    rows = Shuffle().order(part, 32, seed, 4).rows(0, 34)
    assert np.array_equal(rows, 3 * shuffled(34, seed=seed, epoch=4).rows(0, 34))


def test_drawing_takes_long_for_many_rows_that_are_kept() -> None:
    assert [Shuffle().draws_long(WholeData(n)) for n in (1000, 2**16, 2**21)] == [
        False,
        True,
        False,
    ]
    assert not InOrder().draws_long(WholeData(2**16))
