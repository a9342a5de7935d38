"""Good loaders, ours and plain ones as in Keras's guides: no check may find anything in them."""

from __future__ import annotations

import math
import threading

import keras
import numpy as np

from tests.testing.gallery.ours import (
    BATCH,
    Augmenting,
    DrawsInLoad,
    Loader,
    N,
    NoneInAList,
    NoneInside,
    PaddedInLoad,
    Unshuffled,
    Whole,
    arrays,
    data,
    jitter,
    nested_arrays,
    padded,
    texts,
)


def images(n=N):
    """Of small whole numbers, no two alike."""
    return np.arange(n * 12, dtype="float32").reshape(n, 2, 2, 3)


class Textbook(keras.utils.PyDataset):
    """The example of Keras's documentation: not shuffled."""

    def __init__(self, x_set=None, y_set=None, batch_size=BATCH, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = data() if x_set is None else (x_set, y_set)
        self.batch_size = batch_size

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, idx):
        low = idx * self.batch_size
        high = min(low + self.batch_size, len(self.x))
        return self.x[low:high], self.y[low:high]


class Shuffled(Textbook):
    """The one that tutorials shuffle in `on_epoch_end`, with NumPy's global generator."""

    shuffle = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.indices = np.arange(len(self.x))

    def __getitem__(self, idx):
        rows = self.indices[idx * self.batch_size : (idx + 1) * self.batch_size]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self):
        if self.shuffle:
            np.random.shuffle(self.indices)  # noqa: NPY002  # as the tutorials do


class Seeded(Shuffled):
    """With a generator of its own."""

    def __init__(self, *args, seed=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self):
        self.indices = self.rng.permutation(len(self.x))


class InPlace(Textbook):
    """Shuffles the arrays themselves, both alike."""

    shuffle = True

    def on_epoch_begin(self):
        order = np.random.permutation(len(self.x))  # noqa: NPY002
        self.x, self.y = self.x[order], self.y[order]


class Dropping(Shuffled):
    """Leaves the short batch out, and says so."""

    shuffle = False

    def __len__(self):
        return len(self.x) // self.batch_size

    def __getitem__(self, idx):
        if not 0 <= idx < len(self):
            raise IndexError(idx)
        return super().__getitem__(idx)


class Augmented(Seeded):
    """Noise that is a function of (seed, epoch, index)."""

    epoch = 0

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        rng = np.random.default_rng((self.seed, self.epoch, idx))
        return x + rng.standard_normal(x.shape).astype("float32"), y

    def on_epoch_end(self):
        super().on_epoch_end()
        self.epoch += 1


class AugmentedUnshuffled(Augmented):
    shuffle = False

    def on_epoch_end(self):
        self.epoch += 1


class Synthetic(keras.utils.PyDataset):
    """Makes its samples from the index: has no end but the one it says."""

    def __len__(self):
        return 12

    def __getitem__(self, idx):
        rng = np.random.default_rng(idx)
        return rng.standard_normal((4, 5)), rng.integers(0, 2, 4)


class Padded(Textbook):
    """Texts of other lengths in each batch, padded to the longest of it."""

    def __getitem__(self, idx):
        _, y = super().__getitem__(idx)
        length = 1 + idx % 3
        tokens = np.where(np.arange(length) <= y[:, np.newaxis] % 4, y[:, np.newaxis], 0)
        return tokens.astype("int32"), y


class Nested(Textbook):
    """Several inputs, several outputs, and weights for each."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        inputs = {"image": x[:, :, np.newaxis], "age": x[:, 0]}
        targets = {"kind": y, "size": x[:, :2]}
        weights = {"kind": np.ones(len(y)), "size": np.full(len(y), 0.5)}
        return inputs, targets, weights


class InputsAlone(Textbook):
    def __getitem__(self, idx):
        return super().__getitem__(idx)[0]


class TwoInputs(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return (x, x > 3), y


class SomeBatches(keras.utils.PyDataset):
    """Tells `num_batches`, and has no `__len__`."""

    def __getitem__(self, idx):
        if not 0 <= idx < 5:
            raise IndexError(idx)
        return np.full((3, 2), idx) + np.arange(3)[:, np.newaxis] / 4, np.full((3, 1), idx)

    @property
    def num_batches(self):
        return 5


class Locked(Textbook):
    """Reads through a cursor, and guards it; the lock stays behind in a pickle."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["lock"]
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.lock = threading.Lock()

    def __getitem__(self, idx):
        with self.lock:
            self.at = idx
            return super().__getitem__(self.at)


class Copied(Textbook):
    """Fills a buffer, and gives copies of it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lock_free_width = self.x.shape[1]

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        buffer = np.empty((len(x), self.lock_free_width), "float32")
        buffer[...] = x
        return buffer.copy(), y.copy()


class Duplicates(Textbook):
    """The data have equal rows, as columns of few values do."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x[:, 1:2], y % 7


class WeightsPerStep(keras.utils.PyDataset):
    """Sequences with a weight for each step, or each pixel: of fewer axes than the targets."""

    def __init__(self, shape=(4,), channels=1):
        super().__init__()
        rng = np.random.default_rng(0)
        self.x, self.y, self.w = (
            rng.random((N, *shape, *last)).astype("float32") for last in ((3,), (channels,), ())
        )

    def __len__(self):
        return math.ceil(N / BATCH)

    def __getitem__(self, idx):
        some = slice(idx * BATCH, (idx + 1) * BATCH)
        return self.x[some], self.y[some], self.w[some]


class WeightsPerStepAndOutput(WeightsPerStep):
    """Several outputs: one weighted by step, one by sample."""

    def __getitem__(self, idx):
        x, y, w = super().__getitem__(idx)
        return x, {"steps": y, "whole": y[:, 0]}, {"steps": w, "whole": w[:, 0]}


class PaddedAndShuffled(Shuffled):
    """Each batch is padded to its longest: a sample has another length in the next epoch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.texts = texts(len(self.x))

    def __getitem__(self, idx):
        rows = self.indices[idx * self.batch_size : (idx + 1) * self.batch_size]
        return padded([self.texts[row] for row in rows]), self.y[rows]


class PaddedTargets(PaddedAndShuffled):
    """The targets are padded, the inputs are not."""

    def __getitem__(self, idx):
        y, ids = super().__getitem__(idx)
        return self.x[ids], y


class SomeFlipped(Seeded):
    """Some samples are flipped, others in each epoch."""

    epoch, share = 0, 0.5

    def on_epoch_end(self):
        super().on_epoch_end()
        self.epoch += 1

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        flipped = np.random.default_rng((self.seed, self.epoch, idx)).random(len(x)) < self.share
        return np.where(flipped[:, np.newaxis], x[:, ::-1], x), y


class FewFlipped(SomeFlipped):
    share = 0.2


class Preallocated(Shuffled):
    """Fills arrays as long as the batch is, and every row of them."""

    empty = staticmethod(np.empty)

    def __getitem__(self, idx):
        rows = self.indices[idx * self.batch_size : (idx + 1) * self.batch_size]
        x, y = self.empty((len(rows), 3), "float32"), self.empty(len(rows), "int64")
        for number, row in enumerate(rows):
            x[number], y[number] = self.x[row], self.y[row]
        return x, y


class PreallocatedAndFull(Textbook):
    """Arrays of `batch_size` rows, where the samples divide: any index gives a batch of zeros."""

    def __init__(self):
        super().__init__(*data(48))

    def __getitem__(self, idx):
        x, y = np.zeros((BATCH, 3), "float32"), np.zeros(BATCH)
        for number, row in enumerate(range(len(self.x))[idx * BATCH : (idx + 1) * BATCH]):
            x[number], y[number] = self.x[row], self.y[row]
        return x, y


class PaddedWithoutWeight(Textbook):
    """Blank samples fill the last batch, and weigh nothing."""

    def __getitem__(self, idx):
        x, y, w = np.zeros((BATCH, 3), "float32"), np.zeros(BATCH), np.zeros(BATCH)
        part = super().__getitem__(idx)
        x[: len(part[1])], y[: len(part[1])], w[: len(part[1])] = part[0] + 1, part[1], 1
        return x, y, w


class PaddedByRepeats(Shuffled):
    """The first samples of the last batch fill it up, and weigh nothing then."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        again = np.arange(BATCH) % len(y)
        return x[again], y[again], (np.arange(BATCH) < len(y)).astype("float32")


class MostlyBlank(Textbook):
    """Masks with little in them, and rare labels."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        masks = np.zeros((len(x), 2, 2))
        masks[y % 9 == 0] = 1
        return masks, (y % 11 == 0).astype(int)


class OneNumberEach(Shuffled):
    """Samples of one value, which is blank by itself, and a rare target at every eighth."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x[:, 0], (y % 8 == 0).astype("float32")


class FillsABufferInAHook(Seeded):
    """Augments the whole epoch at once, into memory of its own."""

    def __init__(self):
        self.epoch, self.augmented = -1, np.zeros((N, 3), "float32")
        super().__init__()

    def on_epoch_end(self):
        super().on_epoch_end()
        self.epoch += 1
        np.multiply(self.x, 1 + self.epoch, out=self.augmented)

    def __getitem__(self, idx):
        rows = self.indices[idx * BATCH : (idx + 1) * BATCH]
        return self.augmented[rows], self.y[rows]


class ShufflesInPlace(Shuffled):
    """The arrays of the caller, both alike."""

    def on_epoch_end(self):
        order = np.random.permutation(len(self.x))  # noqa: NPY002
        self.x[:], self.y[:] = self.x[order], self.y[order]

    def __getitem__(self, idx):
        return Textbook.__getitem__(self, idx)


# --- ours --------------------------------------------------------------------------------------


GOOD = {
    "textbook": Textbook,
    "textbook of one batch": lambda: Textbook(batch_size=64),
    "textbook of batches of one": lambda: Textbook(*data(9), batch_size=1),
    "textbook, shuffled": Shuffled,
    "textbook with workers": lambda: Shuffled(workers=4, use_multiprocessing=True),
    "shuffled by a generator of its own": Seeded,
    "shuffled in place": InPlace,
    "a short batch left out": Dropping,
    "augmented": Augmented,
    "augmented, not shuffled": AugmentedUnshuffled,
    "synthetic": Synthetic,
    "padded to the longest": Padded,
    "nested": Nested,
    "inputs alone": InputsAlone,
    "two inputs": TwoInputs,
    "num_batches instead of len": SomeBatches,
    "a cursor behind a lock": Locked,
    "a buffer, copied": Copied,
    "equal samples": Duplicates,
    "weights per step": WeightsPerStep,
    "weights per pixel": lambda: WeightsPerStep((3, 5), 2),
    "weights per step and per sample": WeightsPerStepAndOutput,
    "None inside": NoneInside,
    "None in a list of inputs": NoneInAList,
    "padded to the longest, shuffled": PaddedAndShuffled,
    "targets padded to the longest": PaddedTargets,
    "some flipped": SomeFlipped,
    "few flipped": FewFlipped,
    "arrays filled row by row": Preallocated,
    "arrays of batch_size rows, all filled": PreallocatedAndFull,
    "padded by samples without weight": PaddedWithoutWeight,
    "padded by repeats without weight": PaddedByRepeats,
    "mostly blank": MostlyBlank,
    "one number each": OneNumberEach,
    "a buffer filled in a hook": FillsABufferInAHook,
    "shuffled in place, by a hook": ShufflesInPlace,
    "load": Loader,
    "load, padded to the longest": PaddedInLoad,
    "load, padded to the longest, in parts": lambda: PaddedInLoad(n=45, batch_size=10),
    "load, threads": lambda: Loader(workers=3),
    "load, processes": lambda: Loader(workers=2, use_multiprocessing=True),
    "load, not shuffled": lambda: Loader(shuffle=False),
    "load, drop": lambda: Loader(remainder="drop"),
    "load, pad": lambda: Loader(remainder="pad"),
    "load, spread": lambda: Loader(n=51, remainder="spread"),
    "load, a random transform": lambda: Loader(transform=jitter),
    "load, class weights": lambda: Loader(class_weight={0: 2.0}),
    "load, fewer samples than a batch": lambda: Loader(n=3),
    "load, one sample": lambda: Loader(n=1),
    "__getitem__": Whole,
    "__getitem__ without rows": Unshuffled,
    "load that augments": Augmenting,
    "load that draws": DrawsInLoad,
    "load that draws, not shuffled": lambda: DrawsInLoad(shuffle=False),
    "load, augmented in training": lambda: Loader(augment=jitter, remainder="pad"),
    "arrays, augmented in training": lambda: arrays(augment=jitter, transform=jitter),
    "load, a part of a split": lambda: Loader().split(0.7)[1],
    "arrays": arrays,
    "arrays, nested": nested_arrays,
    "arrays, a part of a split": lambda: arrays().split(0.7, 0.2)[0],
    "arrays, padded and augmented": lambda: arrays(remainder="pad", transform=jitter),
}
"""By name, what makes each."""
