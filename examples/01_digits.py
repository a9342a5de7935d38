"""Train on scikit-learn's handwritten digits with an ArrayDataset.

    KERAS_BACKEND=jax python examples/01_digits.py        # or tensorflow, or torch

Prints the accuracy, then what the pipeline did: the rows of an epoch, and where one sample was.
"""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--batch-size", type=int, default=64)
arguments = parser.parse_args()

# --- data: plain NumPy arrays
digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
labels = digits.target.astype("int32")
x, x_test, y, y_test = train_test_split(
    images, labels, test_size=0.2, random_state=0, stratify=labels
)

# --- the pipeline: one line each
train = npb.ArrayDataset(x, y, batch_size=arguments.batch_size, seed=0)
test = npb.ArrayDataset(x_test, y_test, batch_size=arguments.batch_size, shuffle=False)

# --- a small model, trained by plain Keras
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)

# --- results
_, accuracy = model.evaluate(test, verbose=0)
# In the order of x, although train shuffles:
predicted = model.predict(train, verbose=0).argmax(axis=1)
print(f"\ntest accuracy: {accuracy:.3f}")
print(f"training accuracy from predict(train): {(predicted == y).mean():.3f}")

# --- what the pipeline did
print(f"\n{train!r}")
last = train.epoch - 1
for epoch in (0, last):
    seen = np.concatenate([train.rows(step, epoch) for step in range(len(train))])
    print(
        f"epoch {epoch}: {len(seen)} rows, {len(np.unique(seen))} different: "
        f"{', '.join(map(str, seen[:6]))}, ..., {', '.join(map(str, seen[-3:]))}"
    )
step, position = train.locate(7, epoch=last)
print(f"sample 7 was in batch {step} of epoch {last}, at position {position}")
