"""Five-fold cross-validation in which no group is in two folds.

    KERAS_BACKEND=jax python examples/10_cross_validation.py        # or tensorflow, or torch

Prints the accuracy of each fold. Rows that belong together, such as the pictures of one patient,
must be on the same side: otherwise the model is tested on what it has seen.
"""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=8)
arguments = parser.parse_args()

# --- data: digits; adjacent rows are taken for those of one writer
digits = load_digits()
x, y = (digits.data / 16).astype("float32"), digits.target
writer = np.arange(len(x)) // 40

data = npb.ArrayDataset(x, y, batch_size=32, seed=0)
accuracies = []
for number, (train, validation) in enumerate(data.folds(5, groups=writer)):
    rows, others = train.rows_in_order(), validation.rows_in_order()
    shared = set(writer[rows]) & set(writer[others])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    audit = npb.callbacks.CoverageAudit(train)
    model.fit(train, epochs=arguments.epochs, verbose=0, callbacks=[audit])
    _, accuracy = model.evaluate(validation, verbose=0)
    accuracies.append(accuracy)
    print(
        f"fold {number}: {len(rows)} rows and {len(others)}, writers on both sides: {len(shared)}, "
        f"each row once: {audit.receipts[-1].is_whole}, accuracy {accuracy:.3f}"
    )
print(f"mean accuracy {np.mean(accuracies):.3f}, give or take {np.std(accuracies):.3f}")
