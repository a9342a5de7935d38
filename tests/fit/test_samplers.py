"""Training on each sampler's order: what the model's callbacks saw of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import BatchDataset
from keras_npbatch.callbacks import BatchStatistics, CoverageAudit
from keras_npbatch.errors import CoverageError
from tests.samplers.test_contract import N, every_sampler, make, order_of


class Ids(BatchDataset):
    """Each sample is its own number; one is read in place of another."""

    wrong = (0, 0)

    def load(self, rows):
        rows = np.where(rows == self.wrong[0], self.wrong[1], rows)
        return rows[:, np.newaxis].astype("float32"), rows


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@every_sampler
def test_training_sees_what_the_sampler_says_and_statistics_are_those_of_its_rows(kind, model):
    dataset = Ids(N, sampler=make(kind, N), seed=3)
    audit = CoverageAudit(dataset, rows_of=lambda batch: batch[1])
    statistics = BatchStatistics(dataset)
    model.fit(dataset, epochs=2, callbacks=[audit, statistics], verbose=0)
    assert [each.is_whole for each in audit.receipts] == [True, True]
    assert all(each.order_digest == each.epoch_digest for each in audit.receipts)
    means = [np.mean(order_of(dataset, epoch)) for epoch in (0, 1)]
    assert statistics.history["data/x/mean"] == pytest.approx(means)


@every_sampler
def test_a_row_in_place_of_another_is_told(kind, model):
    dataset = Ids(N, sampler=make(kind, N), seed=3)
    rows = dataset.rows(0, 0).tolist()
    missing, repeated = rows[0], next(row for row in rows if row != rows[0])
    dataset.wrong = missing, repeated
    audit = CoverageAudit(dataset, rows_of=lambda batch: batch[1])
    with pytest.raises(CoverageError) as caught:
        model.fit(dataset, callbacks=[audit], verbose=0)
    seldom, often = (
        ("too seldom", "too often") if kind.repeats else ("not at all", "more than once")
    )
    told = f"1 {seldom}, rows [{missing}]; 1 {often}, rows [{repeated}]"
    assert told in str(caught.value)
