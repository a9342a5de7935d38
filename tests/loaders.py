"""Datasets for the tests of worker processes, which import this module: it must stay light."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_npbatch.batches.loader import Batches


def doubled(batch):
    """A transform: batches are not cheap any more, so that threads make them."""
    x, *rest = batch
    return x * 2, *rest


class Named(NamedTuple):
    image: Any
    label: Any


class Ids(Batches):
    """Each sample is its number, in `x` and `y`; large enough for a slot of its own."""

    width = 3

    def load(self, rows):
        return np.repeat(rows[:, np.newaxis], self.width, axis=1).astype("float32"), rows


class Wide(Ids):
    """Batches that go through slots: 16 samples are 128 KiB."""

    width = 2048


class Whole(Batches):
    """Overrides `__getitem__` as for a PyDataset."""

    def __getitem__(self, index):
        rows = self.rows(index)
        return rows.astype("float32")[:, np.newaxis], rows


class Told(Ids):
    """Tells who made each batch: the number of the process, and what it has loaded."""

    def load(self, rows):
        loaded = [name for name in ("keras", "jax", "tensorflow", "torch") if name in sys.modules]
        about = {
            "pid": np.full(len(rows), os.getpid()),
            "loaded": np.array([" ".join(loaded)] * len(rows)),
            "cuda": np.array([os.environ.get("CUDA_VISIBLE_DEVICES", "unset")] * len(rows)),
            "blas": np.array([os.environ.get("OPENBLAS_NUM_THREADS", "unset")] * len(rows)),
            "main": np.array([sys.modules["__main__"].__name__] * len(rows)),
        }
        return about, rows


class Naive(Ids):
    """Draws from the global generators, as augmentation often does."""

    def load(self, rows):
        drawn = [np.random.random() for _ in rows]  # noqa: NPY002
        return {"numpy": np.array(drawn), "python": np.array([random.random() for _ in rows])}, rows


RNG, LEGACY = np.random.default_rng(), np.random.RandomState()


class Drawing(Ids):
    """Draws from generators of its own and of its module, as augmentation often does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rng = np.random.default_rng(0)
        self.others = {"legacy": np.random.RandomState(0), "python": random.Random(0)}

    def load(self, rows):
        draw = {
            "own": self.rng.random,
            "legacy": self.others["legacy"].normal,
            "python": self.others["python"].random,
            "of the module": RNG.random,
            "of the module, legacy": LEGACY.normal,
        }
        return {name: np.array([one() for _ in rows]) for name, one in draw.items()}, rows


class Odd(Batches):
    """Batches whose structure and shape differ from step to step."""

    def load(self, rows):
        n, first = len(rows), int(rows.min())
        kinds: list[Any] = [
            lambda: (np.arange(n * (first + 1)).reshape(n, -1), rows),
            lambda: ({"text": np.array([f"{row}" * (row % 5) for row in rows])}, rows),
            lambda: (np.array([{"row": int(row)} for row in rows], dtype=object), rows),
            lambda: Named(np.zeros((n, 0, 3)), rows),
            lambda: (np.asfortranarray(np.ones((n, 300, 100)) * rows[:, None, None]), rows),
            lambda: (np.ones((n, 300, 100), ">f4")[:, ::2, ::-1], None, np.ones(n)),
            lambda: (np.array(["x" * 50_000] * n, dtype=object), rows),
            lambda: ([np.full((n, 20_000), first), (np.array([True] * n),)], rows),
        ]
        return kinds[first % len(kinds)]()


class Sparse(Batches):
    """A scipy sparse matrix for each batch."""

    def load(self, rows):
        import scipy.sparse

        dense = np.zeros((len(rows), 50_000))
        dense[np.arange(len(rows)), rows] = rows + 1
        return scipy.sparse.csr_matrix(dense), rows


class OwnError(ValueError):
    """An error of the user's with arguments of its own, which pickle can't rebuild."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


class MuteError(ValueError):
    """Its text can't be told."""

    def __str__(self):
        raise RuntimeError("no text")


class Fails(Ids):
    """Fails on one sample."""

    def __init__(self, *args, failing=7, how="value", **kwargs):
        super().__init__(*args, **kwargs)
        self.failing, self.how = failing, how

    def load(self, rows):
        if self.failing in rows:
            if self.how == "value":
                raise ValueError("a bad sample")
            if self.how == "own":
                raise OwnError("this", "that")
            if self.how == "local":

                class LocalError(KeyError):
                    pass

                raise LocalError("of a function")
            if self.how == "locked":

                class LockedError(ValueError):
                    lock = threading.Lock()

                raise LockedError("holds a lock")
            if self.how == "mute":
                raise MuteError
            if self.how == "unsendable":
                error = OSError("holds a file")
                error.file = sys.stdout  # type: ignore[attr-defined]
                raise error
            if self.how == "exit":
                raise SystemExit("out")
        return super().load(rows)


class Dies(Ids):
    """Ends its process over one sample, a number of times or always."""

    def __init__(self, *args, failing=7, how="kill", times=None, folder=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.failing, self.how, self.times, self.folder = failing, how, times, folder

    def load(self, rows):
        if self.failing in rows and self._again():
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                os._exit(3)
            if self.how == "hang":
                time.sleep(600)
        return super().load(rows)

    def _again(self):
        if self.times is None:
            return True
        folder = Path(self.folder)
        before = len(list(folder.iterdir()))
        (folder / f"{os.getpid()}").touch()
        return before < self.times


class SlowToUnpack:
    """What takes half a second to unpack."""

    def __reduce__(self):
        return time.sleep, (0.5,)


class Many(Batches):
    """A thousand and more large arrays in one batch."""

    def load(self, rows):
        images = np.empty(1500, dtype=object)
        for number in range(1500):
            images[number] = np.full(70_000, number % 100, np.uint8)
        return np.resize(images, len(rows)) if len(rows) > 1500 else images[: len(rows)], rows


class Columns(Ids):
    """Many small arrays, all of which lie in the message."""

    def load(self, rows):
        return {str(number): rows.astype("float32") for number in range(60)}, rows


class Slow(Ids):
    """Takes its time."""

    def __init__(self, *args, seconds=0.005, **kwargs):
        super().__init__(*args, **kwargs)
        self.seconds = seconds

    def load(self, rows):
        time.sleep(self.seconds)
        return super().load(rows)


class Holds(Ids):
    """Holds whatever it is given, and gives it for `x`."""

    def __init__(self, *args, held=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.held = held

    def load(self, rows):
        return np.asarray(self.held[np.sort(rows)]), np.sort(rows)


def who(batch: Any, samples: int) -> tuple[int, int, int]:
    """What could be computed from a batch: here, by which process and thread, of how many."""
    return os.getpid(), threading.get_ident(), samples
