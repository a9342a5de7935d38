"""Draws the pictures that matplotlib makes: `python docs/figures.py` writes docs/figures/*.svg.

They show what `plot` of a callback and `show` return after a small training; the times in them are
those of this machine. Needs `pip install -e '.[examples,plot]'` and a backend.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits

import keras_npbatch as npb

FOLDER = Path(__file__).parent / "figures"
digits = load_digits()
x, y = (digits.images / 16).astype("float32"), digits.target.astype("int32")


def fit(dataset: Any, callback: Any, epochs: int, units: int = 32) -> Any:
    """The callback, after a `fit` that it has watched."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(units), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    model.compile("sgd", "mae")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it waits, and was not trained on all
        model.fit(dataset, epochs=epochs, verbose=0, callbacks=[callback])
    return callback


class FromDisk(npb.ArrayDataset):
    """A disk that takes 4 ms for a batch."""

    def load(self, rows):
        time.sleep(0.004)
        return super().load(rows)


class Twice(npb.BatchDataset):
    """A loader with a fault: in the third epoch it reads some rows twice, instead of others."""

    def load(self, rows):
        if self.epoch == 2:
            rows = np.where(rows < 150, rows + 150, rows)
        return x[rows], rows  # the targets tell which rows it has read


def batch() -> Any:
    return npb.show(npb.ArrayDataset(x, y, batch_size=64, seed=0), samples=16)


def statistics() -> Any:
    train = npb.ArrayDataset(x, y, batch_size=64, seed=0)
    return fit(train, npb.callbacks.BatchStatistics(train), epochs=8, units=2048).plot()


def waiting() -> Any:
    train = FromDisk(x, y, batch_size=64, seed=0, workers=0)
    return fit(train, npb.callbacks.InputMonitor(train), epochs=8, units=4096).plot()


def receipts() -> Any:
    train = Twice(len(x), batch_size=64, seed=0)
    audit = npb.callbacks.CoverageAudit(train, on_violation="warn", rows_of=lambda batch: batch[1])
    return fit(train, audit, epochs=4).plot()


FIGURES = {
    "batch.svg": batch,
    "receipts.svg": receipts,
    "statistics.svg": statistics,
    "waiting.svg": waiting,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "keras_npbatch"}):
        for name, draw in FIGURES.items():
            draw().savefig(FOLDER / name, metadata={"Date": None})
