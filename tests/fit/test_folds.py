"""Training on each fold of a dataset, validated on the rows that it leaves out."""

from __future__ import annotations

import keras
import numpy as np

from keras_npbatch import BatchDataset
from keras_npbatch.callbacks import CoverageAudit
from tests.plan.test_division import LABELS, N


class Ids(BatchDataset):
    def load(self, rows):
        return rows[:, np.newaxis].astype("float32"), rows


def test_keras_trains_on_the_rows_of_a_fold():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for training, held in Ids(N, batch_size=8, seed=1).folds(3, stratify=LABELS):
        seen = []

        def rows_of(batch, seen=seen):
            seen.extend(batch[1].tolist())
            return batch[1]

        audit = CoverageAudit(training, rows_of=rows_of)
        model.fit(training, validation_data=held, callbacks=[audit], verbose=0)
        assert audit.receipts[0].is_whole
        assert sorted(seen) == training.rows_in_order().tolist()
        assert len(model.predict(held, verbose=0)) == held.num_samples
