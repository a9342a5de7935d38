"""Interrupt training in the middle of an epoch and resume it: the same weights, bit for bit.

    KERAS_BACKEND=jax python examples/07_resume.py

Trains twice. The first run has no break. The second is interrupted after some steps of epoch 1 and
started again, as a new process would do it, with another number of workers. The data are augmented
at random and the model has dropout: neither may repeat or skip a random number.
"""

import argparse
import tempfile

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=3)
arguments = parser.parse_args()

digits = load_digits()
images, labels = digits.images.astype("float32") / 16.0, digits.target.astype("int32")


def fade(batch, rng):
    """Multiply each image by a factor from 0.7 to 1.3."""
    x, y = batch
    return x * rng.uniform(0.7, 1.3, size=(len(x), 1, 1)).astype("float32"), y


class Interrupt(keras.callbacks.Callback):
    """Stands in for whatever ends a process: a full disk, a time limit, a power cut."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 9):
            raise KeyboardInterrupt


def train(workers, folder=None, interrupt=False):
    """Make everything from scratch, as a new process would, and train."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    train = npb.ArrayDataset(images, labels, batch_size=64, seed=0, transform=fade, workers=workers)
    callbacks = []
    if folder is not None:
        callbacks.append(npb.callbacks.BackupAndRestore(train, folder, save_freq=1))
    if interrupt:
        callbacks.append(Interrupt())
    if folder is not None and not interrupt:
        show = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: place.append((epoch, train.state_dict()["step"]))
        )
        callbacks.append(show)
    model.fit(train, epochs=arguments.epochs, verbose=0, callbacks=callbacks)
    return model


place = []
steady = train(workers=2)
with tempfile.TemporaryDirectory() as folder:
    try:
        train(workers=4, folder=folder, interrupt=True)
    except KeyboardInterrupt:
        print("interrupted after step 9 of epoch 1")
    resumed = train(workers=0, folder=folder)
epoch, step = place[0]
print(f"going on with epoch {epoch}, step {step}")
same = all(map(np.array_equal, steady.get_weights(), resumed.get_weights()))
how = "the same weights, bit for bit" if same else "DIFFERENT weights"
print(f"interrupted and not interrupted: {how}")
