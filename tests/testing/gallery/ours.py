"""Good loaders of this package's classes; see `good`. Worker processes import no Keras for them."""

from __future__ import annotations

import numpy as np

from keras_npbatch import ArrayDataset, BatchDataset

N, BATCH = 50, 8


def data(n=N):
    ids = np.arange(n)
    return np.stack([ids, ids % 7, -ids], axis=1).astype("float32"), ids


def texts(n=N):
    """Of 1 to 40 words."""
    rng = np.random.default_rng(5)
    return [rng.integers(1, 1000, rng.integers(1, 40)).astype("int32") for _ in range(n)]


def padded(sequences):
    out = np.zeros((len(sequences), max(map(len, sequences))), "int32")
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return out


class Loader(BatchDataset):
    def __init__(self, n=N, **settings):
        super().__init__(n, **{"batch_size": BATCH, "seed": 0, **settings})
        self.x, self.y = data(n)

    def load(self, rows):
        return self.x[rows], self.y[rows]


class Whole(BatchDataset):
    """Overrides `__getitem__` as for a PyDataset."""

    def __init__(self, n=N, **settings):
        super().__init__(n, **{"batch_size": BATCH, "seed": 0, **settings})
        self.x, self.y = data(n)

    def __getitem__(self, idx):
        rows = self.rows(idx)
        return self.x[rows], self.y[rows]


class Unshuffled(BatchDataset):
    """Overrides `__getitem__` and does without rows."""

    def __init__(self, n=N, **settings):
        super().__init__(n, **{"batch_size": BATCH, "seed": 0, "shuffle": False, **settings})
        self.x, self.y = data(n)

    def __getitem__(self, idx):
        low = idx * BATCH
        if not 0 <= low < self.num_samples:
            raise IndexError(idx)
        return self.x[low : low + BATCH], self.y[low : low + BATCH]


class Augmenting(Loader):
    """Draws in `load`, as a function of the epoch and the row."""

    def load(self, rows):
        noise = [np.random.default_rng((self.seed, self.epoch, row)).random(3) for row in rows]
        return self.x[rows] + np.array(noise), self.y[rows]


class DrawsInLoad(Loader):
    """Draws in `load`, by the generator that it is given: noise, and some labels."""

    def load(self, rows, rng):
        x, y = super().load(rows)
        x = np.where(rng.random((len(rows), 1)) < 0.3, x[:, ::-1], x)
        return x, np.where(rng.random(len(rows)) < 0.2, 0, y)


def jitter(batch, rng):
    x, y = batch
    return x + rng.standard_normal(x.shape).astype("float32"), y


def arrays(n=N, **settings):
    return ArrayDataset(*data(n), **{"batch_size": BATCH, "seed": 0, **settings})


def nested_arrays():
    x, y = data()
    return ArrayDataset(
        {"image": x[:, :, np.newaxis], "age": x[:, 0]}, (y, x[:, :2]), batch_size=BATCH, seed=0
    )


class NoneInside(Loader):
    """An input that is not there. A plain PyDataset can't have one on TensorFlow."""

    def load(self, rows):
        x, y = super().load(rows)
        return {"image": x, "mask": None}, {"a": y, "b": y}, {"a": np.ones(len(y)), "b": None}


class NoneInAList(Loader):
    def load(self, rows):
        return ([super().load(rows)[0], None],)


class PaddedInLoad(Loader):
    """Pads to the longest of the rows it is asked for."""

    def load(self, rows):
        return padded([texts()[row] for row in rows]), rows
