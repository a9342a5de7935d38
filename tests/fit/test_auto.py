"""`workers="auto"` below `fit`: the same training, whoever makes each batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch.callbacks import CoverageAudit
from keras_npbatch.workers.tuning import INLINE, Setting
from tests.inside import core_of
from tests.keras_loaders import Ids
from tests.workers.test_auto import wander

N, BATCH = 26, 4
CHOSEN = [INLINE, Setting("threads", 2, 3), Setting("processes", 1, 2), Setting("threads", 1, 1)]


def trained(dataset, **how):
    """The receipts of three epochs, the weights, and what `evaluate` returns."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    audit = CoverageAudit(dataset)
    model.fit(dataset, epochs=3, callbacks=[audit], verbose=0, **how)
    weights = [np.asarray(weight).tobytes() for weight in model.get_weights()]
    return (
        list(audit.receipts),
        weights,
        model.evaluate(dataset, verbose=0),
    )


@pytest.fixture(scope="module")
def expected():
    return trained(Ids(N, batch_size=BATCH, seed=0, workers=0))


def test_training_is_the_same_whoever_makes_each_batch(expected):
    with Ids(N, batch_size=BATCH, seed=0, workers="auto") as dataset:
        tuner = wander(dataset, *CHOSEN)
        assert trained(dataset) == expected
    assert set(CHOSEN) <= set(tuner.made)
    assert not tuner.refused


def test_training_is_the_same_while_it_tunes(expected):
    dataset = Ids(N, batch_size=BATCH, seed=0, workers="auto")
    assert trained(dataset) == expected
    assert core_of(dataset).clock.epoch == 3
    assert dataset.workers_chosen is not None


def test_a_state_says_nothing_of_workers():
    ours, theirs = (Ids(N, batch_size=BATCH, seed=0, workers=who) for who in ("auto", 0))
    steps = iter(ours)
    for _ in range(3):
        next(steps)
    theirs.load_state_dict(ours.state_dict())
    rest = list(theirs)
    assert len(rest) == len(theirs) - 3
    for (x, y), (other_x, other_y) in zip(steps, rest, strict=True):
        assert x.tobytes() == other_x.tobytes()
        assert y.tobytes() == other_y.tobytes()
