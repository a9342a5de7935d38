"""Random augmentation with `augment(batch, rng)`: new in each epoch, the same in each run.

    KERAS_BACKEND=jax python examples/02_augmentation.py

`rng` is a function of (seed, epoch, step), so training with 0 workers and with 4 workers ends with
the same weights, bit for bit. The example trains both ways and compares. It measures the accuracy
on digits that `split` holds out: validation, `evaluate` and `predict` are never augmented.
"""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
labels = digits.target.astype("int32")


def shift_and_fade(batch, rng):
    """Move each image by up to one pixel, and multiply it by 0.7 to 1.3."""
    x, y = batch
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = np.empty_like(x)
    for number, (down, right) in enumerate(rng.integers(0, 3, size=(len(x), 2))):
        shifted[number] = padded[number, down : down + 8, right : right + 8]
    return shifted * rng.uniform(0.7, 1.3, size=(len(x), 1, 1, 1)).astype("float32"), y


def train(workers):
    """Train a small model on augmented digits; return it and the two parts of the data."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    dataset, held_out = npb.ArrayDataset(
        images, labels, batch_size=64, seed=0, augment=shift_and_fade, workers=workers
    ).split(0.8)
    model.fit(dataset, epochs=arguments.epochs, verbose=0)
    return model, dataset, held_out


model, dataset, held_out = train(workers=4)
other, _, _ = train(workers=0)
accuracy = model.evaluate(held_out, verbose=0)[1]
print(f"accuracy on {held_out.num_samples} other digits: {accuracy:.3f}")
same = all(map(np.array_equal, model.get_weights(), other.get_weights()))
print(f"4 workers and 0 workers give {'the same' if same else 'DIFFERENT'} weights, bit for bit")

# You can look at any batch of any epoch at any time. Reading one changes nothing.
dataset.set_epoch(3)
x, y = dataset[5]
print(f"batch 5 of epoch 3: labels {y[:8].tolist()}, mean {x.mean():.4f}")
