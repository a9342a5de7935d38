"""A custom loader: one `.npy` file per sample, read by threads.

    KERAS_BACKEND=jax python examples/03_files.py

Writes scikit-learn's digits to a folder, one file each, and trains from the files. A loader is one
method, `load(rows)`. The class adds the order, the batches, the threads, and the promise that each
sample comes exactly once an epoch.
"""

import argparse
import io
import tempfile
import threading
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--workers", type=int, default=4)
arguments = parser.parse_args()


# Python 3.11 before 3.11.9 sometimes fails when two threads parse at the same time, and `np.load`
# parses the header of a `.npy` file (https://github.com/python/cpython/issues/106905).
parsing = threading.Lock()


def read(path):
    """Read one image. Reading takes most of the time, and all threads do it at once."""
    content = io.BytesIO(path.read_bytes())
    with parsing:
        return np.load(content)


class Files(npb.BatchDataset):
    """Images in `.npy` files; each is opened only when its batch is made."""

    def __init__(self, paths, labels, **settings):
        super().__init__(num_samples=len(paths), **settings)
        self.paths, self.labels = list(paths), np.asarray(labels)

    def load(self, rows):
        """Read the images and labels of these rows."""
        images = np.stack([read(self.paths[row]) for row in rows])
        return images.astype("float32")[..., np.newaxis] / 16.0, self.labels[rows]


with tempfile.TemporaryDirectory() as folder:
    digits = load_digits()
    paths = []
    for number, image in enumerate(digits.images):
        paths.append(Path(folder) / f"{number:04}.npy")
        np.save(paths[-1], image.astype("uint8"))

    train = Files(
        paths[:1500], digits.target[:1500], batch_size=50, seed=0, workers=arguments.workers
    )
    test = Files(paths[1500:], digits.target[1500:], batch_size=50, shuffle=False)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)
    print(f"test accuracy: {model.evaluate(test, verbose=0)[1]:.3f}")

    # If a file can't be read, the error names the batch and its rows.
    paths[3].write_bytes(b"not an array")
    try:
        list(train)
    except ValueError as error:
        print(f"\na broken file is told as itself: {type(error).__name__}: {error}")
        print(error.__notes__[-1])
