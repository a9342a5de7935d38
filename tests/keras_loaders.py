"""Datasets of the public class for worker processes that start at once: this imports no more."""

from __future__ import annotations

import time

import numpy as np

import keras_npbatch
from tests.inside import slots_of


class Slow(keras_npbatch.BatchDataset):
    """Takes its time."""

    seconds = 0.003

    def load(self, rows):
        time.sleep(self.seconds)
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class Looking(keras_npbatch.BatchDataset):
    """Looks, as it makes a batch, whether the one before is still there."""

    _kept = np.zeros((8, 4096), "float32")  # batches are copies of it, each in a slot

    @property
    def saw(self):
        """What it saw."""
        return self.__dict__.setdefault("_saw", [])

    def load(self, rows):
        self.saw.append(slots_of(self).num_leased > 0)
        return self._kept[: len(rows)]


MARKED = 1000


def mark(batch, rng):
    """An augmentation that shows in the targets, which models of the tests log."""
    x, y = batch
    assert isinstance(rng, np.random.Generator)
    return x, y + MARKED


class Ids(keras_npbatch.BatchDataset):
    """Each sample is its number."""

    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class Texts(keras_npbatch.BatchDataset):
    """Returns sequences as they are, and their labels."""

    def __init__(self, texts, labels, **settings):
        super().__init__(len(texts), **settings)
        self.texts, self.labels = texts, labels

    def load(self, rows):
        return [self.texts[row] for row in rows], self.labels[rows]


class Drawing(keras_npbatch.BatchDataset):
    """Sample numbers in x, random numbers drawn for them in y."""

    def load(self, rows, rng):
        return rows.astype("float32")[:, np.newaxis], rng.integers(0, 10**6, len(rows), "int32")


class Numbers(keras_npbatch.BatchDataset):
    """50 samples in batches of 8, each its number; or with a `sample_weight` of 1."""

    def __init__(self, *, weighted=False, **settings):
        super().__init__(50, **{"batch_size": 8, "seed": 3, **settings})
        self.weighted = weighted

    def load(self, rows):
        batch = rows.astype("float32")[:, np.newaxis], rows.astype("int32")
        return (*batch, np.ones(len(rows), "float32")) if self.weighted else batch


class WholeNumbers(keras_npbatch.BatchDataset):
    """The same, made as a `PyDataset` makes them."""

    def __init__(self, **settings):
        super().__init__(50, **{"batch_size": 8, "seed": 3, **settings})

    def __getitem__(self, index):
        rows = self.rows(index)
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class Sines(keras_npbatch.BatchDataset):
    """Four features of each sample, and its number."""

    def load(self, rows):
        x = np.sin(rows[:, np.newaxis] * np.arange(1, 5)).astype("float32")
        return x, rows.astype("int32")


def shake(batch, rng):
    """Noise on x."""
    x, y = batch
    return x + rng.standard_normal(x.shape).astype("float32"), y


def shake_age(batch, rng):
    """Noise on one part of x."""
    x, y = batch
    return x | {"age": shake((x["age"], y), rng)[0]}, y


class TwoLabels(keras_npbatch.BatchDataset):
    """Targets for two outputs, classes 0 to 2 and 0 to 1."""

    def load(self, rows):
        return rows.astype("float32"), {"a": rows % 3, "b": (rows % 2).astype("float32")}


class Heavy(np.ndarray):
    """An array that takes long to be sent."""

    seconds = 0.06

    def __reduce_ex__(self, protocol):
        time.sleep(self.seconds)
        return np.asarray(self).__reduce_ex__(protocol)


class SlowTransport(Ids):
    """Its batches take long to be sent."""

    seconds = Heavy.seconds

    def load(self, rows):
        x, y = super().load(rows)
        return x.view(Heavy), y


class Refilling(keras_npbatch.BatchDataset):
    """Fills one buffer again and again, and hands it on in one way or another.

    48 samples in batches of 8, of 512 KiB each: in slots.
    """

    def __init__(self, way, **settings):
        super().__init__(48, batch_size=8, seed=0, **settings)
        self.way, self.buffer = way, None

    def load(self, rows):
        if self.buffer is None:
            raw = np.zeros(8 * 16384 + 16, "float32")
            # Aligned, since TensorFlow and JAX share such memory.
            start = -raw.__array_interface__["data"][0] % 64 // 4
            self.buffer = raw[start : start + 8 * 16384].reshape(8, 16384)
        self.buffer[:] = rows[:, np.newaxis]
        return self.way(self.buffer), rows.astype("int32")

    @staticmethod
    def itself(buffer):
        return buffer

    @staticmethod
    def mirrored(buffer):
        return buffer[:, ::-1]


class Own:
    """What a loader keeps under a name of ours: nobody else may call it, compare it or close it."""

    def __bool__(self):
        raise AssertionError("somebody has looked at it")

    __call__ = __iter__ = __len__ = __eq__ = __bool__
    __hash__ = None


class OfNames(keras_npbatch.BatchDataset):
    """Its attributes have the given names, set before or after it is initialised."""

    def __init__(self, names=(), *, first=False, **settings):
        if first:
            vars(self).update({name: Own() for name in names})
        super().__init__(48, batch_size=8, seed=0, **settings)
        if not first:
            for name in names:
                setattr(self, name, Own())

    def load(self, rows):
        x = rows.astype("float32")[:, np.newaxis] / 48
        return x, 3 * x + 1
