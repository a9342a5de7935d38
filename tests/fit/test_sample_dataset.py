"""Samples that are read one by one reach the model once an epoch, augmented in training alone."""

from __future__ import annotations

import numpy as np

from keras_npbatch import SampleDataset, each
from keras_npbatch.testing import check_dataset

N, BATCH = 50, 8
MOVED = 1000


class Items:
    """As datasets of torch are: samples by their index."""

    def __init__(self, x, ids):
        self.x, self.ids = x, ids

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], int(self.ids[row])


def move(sample, rng):
    x, row = sample
    return x + rng.random(x.shape, dtype="float32"), row + MOVED


def test_the_model_sees_each_sample_once_and_validates_without_augmentation(make_model, fit, data):
    x, ids = data(N)
    train = SampleDataset.of(
        Items(x, ids),
        batch_size=BATCH,
        seed=3,
        augment=each(move),
        workers=2,
        use_multiprocessing=True,
    )
    model = make_model()
    with train:
        seen = fit(model, train, validation_data=train, epochs=2)
        predicted = model.predict(train, verbose=0)
    assert [sorted(ids) for ids in seen.epochs] == [[MOVED + row for row in range(N)]] * 2
    assert seen.validations == [list(range(N))] * 2
    np.testing.assert_array_equal(predicted, model.predict(x, verbose=0))


def test_the_checker_trains_on_it(data):
    x, ids = data(N)
    dataset = SampleDataset.of(Items(x, ids), batch_size=BATCH, seed=3, augment=each(move))
    report = check_dataset(dataset, sample_id=lambda batch: batch[1] % MOVED)
    assert report.ok, report
