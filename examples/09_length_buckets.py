"""Sequences of very different lengths: pad less, and compile less often.

    KERAS_BACKEND=jax python examples/09_length_buckets.py        # or tensorflow, or torch

Prints how much of the batches is padding, and how many shapes the model has to be compiled for,
with shuffled batches and with batches of similar lengths.
"""

import argparse

import keras
import numpy as np

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=3)
arguments = parser.parse_args()

# --- data: 4,000 sequences of tokens, most of them short. Which of two tokens is commoner?
rng = np.random.default_rng(0)
lengths = np.clip(rng.lognormal(3.4, 0.8, 4_000).astype(int), 4, 400)
labels = rng.integers(0, 2, len(lengths))
texts = np.empty(len(lengths), object)
for row, (length, label) in enumerate(zip(lengths, labels, strict=True)):
    shares = [0.0, 0.3, 0.2] if label == 0 else [0.0, 0.2, 0.3]
    texts[row] = rng.choice(20, length, p=[*shares, *[0.5 / 17] * 17]).astype("int32")

WIDTHS = (16, 32, 64, 128, 256, 400)


def pad(batch):
    """Pad each sequence with 0 to the smallest width that the longest one fits into."""
    sequences, y = batch
    longest = max(map(len, sequences))
    width = next(width for width in WIDTHS if width >= longest)
    x = np.zeros((len(sequences), width), "int32")
    for row, sequence in enumerate(sequences):
        x[row, : len(sequence)] = sequence
    return x, y


def train_with(sampler):
    dataset = npb.ArrayDataset(
        texts, labels, batch_size=32, seed=0, transform=pad, sampler=sampler, remainder="drop"
    )
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Embedding(20, 16),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    shapes, cells = set(), 0
    for x, _ in dataset:
        shapes.add(x.shape)
        cells += x.size
    waste = (
        1 - lengths[np.concatenate([dataset.rows(s, 0) for s in range(len(dataset))])].sum() / cells
    )
    print(f"{type(sampler).__name__}: {waste:.0%} padding, shapes {sorted(w for _, w in shapes)}")
    statistics = npb.callbacks.BatchStatistics(dataset)
    model.fit(dataset, epochs=arguments.epochs, verbose=0, callbacks=[statistics])
    found = statistics.history.get("data/padding_waste")
    if found:
        print(f"padded to the longest of each batch it would be {found[-1]:.1%}")
    return dataset


train_with(npb.samplers.Shuffle())
buckets = train_with(npb.samplers.LengthBuckets(lengths))
print(buckets.explain(epoch=0, step=0))
