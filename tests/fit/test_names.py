"""A loader may call its own attributes what it likes: training sees the same, twice over."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.keras_loaders import OfNames, Own

NAMES = ["_pool", "_transform", "_plan", "_session", "_stream", "_batches", "_clock", "_recipe"]
NAMES += ["_watch", "_service", "_seed", "_slots", "_sources"]


def losses_of(dataset):
    """Of two trainings, each with validation, and what evaluate and predict say."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    seen = []
    with dataset:
        for _ in range(2):
            fitted = model.fit(dataset, validation_data=dataset, epochs=2, verbose=0)
            seen += [*fitted.history["loss"], *fitted.history["val_loss"]]
        seen.append(model.evaluate(dataset, verbose=0))
        seen += np.ravel(model.predict(dataset, verbose=0)).tolist()
    return seen


@pytest.mark.parametrize(
    "workers",
    [{"workers": 0}, {"workers": 2}, {"workers": 2, "use_multiprocessing": True}],
    ids=["nobody else", "threads", "processes"],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_loader_with_names_of_ours_trains_as_one_without(workers, first):
    assert losses_of(OfNames(NAMES, first=first, **workers)) == losses_of(OfNames(**workers))
    loader = OfNames(NAMES, first=first, **workers)
    assert {name for name, value in vars(loader).items() if type(value) is Own} == set(NAMES)
