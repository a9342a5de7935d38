"""Broken loaders, each with one fault of those that people make, and the checks that must find it.

The faults are the only difference to `tests.testing.gallery.good`.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.testing.gallery.broken_ours import LoadDependsOnTheProcess
from tests.testing.gallery.good import (
    BATCH,
    Loader,
    N,
    Seeded,
    Shuffled,
    Textbook,
    Whole,
    data,
    images,
)

# --- that batches come, and their form ---------------------------------------------------------


class LenTooLong(Textbook):
    """`n // batch_size + 1`, where the samples divide: the last batch is empty."""

    def __init__(self):
        super().__init__(*data(48))

    def __len__(self):
        return len(self.x) // self.batch_size + 1


class LenTooLongRaises(Textbook):
    """The same, stacking a list of samples."""

    def __init__(self):
        super().__init__(*data(48))

    def __len__(self):
        return len(self.x) // self.batch_size + 1

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return np.stack(list(x)), y


class ForgetsTheLastBatch(Textbook):
    """`n // batch_size`."""

    def __len__(self):
        return len(self.x) // self.batch_size


class ForgetsTheLastBatchShuffled(Shuffled):
    def __len__(self):
        return len(self.x) // self.batch_size


class FailsInTheSecondEpoch(Textbook):
    """Ends what it reads from."""

    def __init__(self):
        super().__init__()
        self.left = 1

    def on_epoch_end(self):
        self.left -= 1

    def __getitem__(self, idx):
        if self.left < 1:
            raise RuntimeError("the file is closed")
        return super().__getitem__(idx)


class ListOfSamples(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return list(zip(x, y, strict=True))


class ListsOfNumbers(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x, [int(label) for label in y]


class Nothing(Textbook):
    """A forgotten return."""

    def __getitem__(self, idx):
        super().__getitem__(idx)


class OtherDtype(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return (x if idx % 2 else x.astype("float64")), y


class Squeezed(Textbook):
    """A batch of one loses its first dimension's neighbour."""

    def __init__(self):
        super().__init__(*data(49))

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return (x[:, 0] if len(x) == 1 else x), y


class OtherKeys(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return {"a": x} if idx == 3 else {"b": x}, y


class ShiftedSlice(Textbook):
    """`y` begins one later, so that the last batch has one target too few."""

    def __getitem__(self, idx):
        low = idx * self.batch_size
        return self.x[low : low + BATCH], self.y[low + 1 : low + 1 + BATCH]


class ShortFirst(Textbook):
    """The rest comes first."""

    def __getitem__(self, idx):
        rest = len(self.x) % BATCH
        low = max(0, rest + (idx - 1) * BATCH)
        return self.x[low : rest + idx * BATCH], self.y[low : rest + idx * BATCH]


class NotANumber(Textbook):
    """Standardises a column that is constant in one batch."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        x = x.copy()
        if idx == 4:
            x[2:4, 1] = np.nan
        return x, y


class Infinite(Loader):
    """A logarithm of 0, in ours."""

    def load(self, rows):
        with np.errstate(divide="ignore"):
            return np.log(self.x[rows][:, :2]), self.y[rows]


# --- memory that nobody fills ------------------------------------------------------------------


class ReturnsInTheLoop(Textbook):
    """All rows of a batch but the first stay zero."""

    def __getitem__(self, idx):
        images = np.zeros((self.batch_size, 3), "float32")
        labels = np.zeros((self.batch_size, 1), "float32")
        for number, row in enumerate(range(idx * BATCH, len(self.x))):
            images[number], labels[number] = self.x[row] + 1, row
            break  # a return, indented too far
        return images, labels


class ReturnsInTheLoopEmpty(Textbook):
    """The same, of what the memory held."""

    def __getitem__(self, idx):
        images = np.empty((self.batch_size, 3), "float32")
        for number, row in enumerate(range(idx * BATCH, len(self.x))):
            images[number] = self.x[row] + 1
            break
        return images, np.arange(self.batch_size) + idx * BATCH


class MasksNeverFilled(Textbook):
    """The masks of the second half of each batch stay what the memory held."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        masks = np.empty((len(x), 4, 4), "int64")
        masks[: len(x) // 2] = y[: len(x) // 2, np.newaxis, np.newaxis]
        return x, masks


class LabelsNeverFilled(Seeded):
    """Shuffled: the labels at odd places are never set."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        labels = np.zeros(len(y))
        labels[::2] = y[::2] + 1
        return x, labels


class EmptyInLoad(Loader):
    """One column of `load` is forgotten."""

    def load(self, rows):
        x, y = super().load(rows)
        wide = np.empty((len(rows), 4), "float32")
        wide[:, :3] = x
        return wide, y


class BlankSamplesAtTheEnd(Shuffled):
    """`ceil` in `__len__`, and arrays of `batch_size` rows: six samples are nobody's."""

    def __getitem__(self, idx):
        x, y = np.zeros((BATCH, 3), "float32"), np.zeros(BATCH)
        for number, row in enumerate(self.indices[idx * BATCH : (idx + 1) * BATCH]):
            x[number], y[number] = self.x[row] + 1, self.y[row]
        return x, y


class OneBlankSampleAtTheEnd(BlankSamplesAtTheEnd):
    def __init__(self):
        super().__init__(*data(47))


class PreallocatedTail(Textbook):
    """The same with `floor`: dataset[len] has the last samples, and dataset[i] any i, of zeros."""

    empty = staticmethod(np.zeros)

    def __len__(self):
        return int(np.floor(len(self.x) / BATCH))

    def __getitem__(self, idx):
        x, y = self.empty((BATCH, 3)), self.empty((BATCH, 1))
        for number, row in enumerate(range(len(self.x))[idx * BATCH : (idx + 1) * BATCH]):
            x[number], y[number] = self.x[row], self.y[row]
        return x, y


class PreallocatedTailEmpty(PreallocatedTail):
    empty = staticmethod(lambda shape: np.empty(shape))


class ClippedTail(Textbook):
    """`floor`, and indices that stop at the last sample."""

    def __len__(self):
        return len(self.x) // BATCH

    def __getitem__(self, idx):
        rows = np.minimum(np.arange(idx * BATCH, (idx + 1) * BATCH), len(self.x) - 1)
        return self.x[rows], self.y[rows]


# --- side effects ------------------------------------------------------------------------------


class SeedsInHook(Seeded):
    """Whoever else draws from NumPy's generator draws the same in each epoch."""

    def on_epoch_end(self):
        np.random.seed(2019)  # noqa: NPY002
        super().on_epoch_end()


class SeedsInGetitem(Textbook):
    """To be repeatable."""

    def __getitem__(self, idx):
        random.seed(idx)
        x, y = super().__getitem__(idx)
        return x * random.random(), y


class WritesDataInHook(Seeded):
    """Augments the arrays themselves; the changes pile up."""

    def on_epoch_end(self):
        super().on_epoch_end()
        self.x *= -0.9


class WritesListOfArraysInHook(Textbook):
    def __init__(self):
        super().__init__()
        self.images = list(images(N))

    def on_epoch_begin(self):
        for image in self.images:
            image += 1

    def __getitem__(self, idx):
        return np.stack(self.images[idx * BATCH : (idx + 1) * BATCH]), super().__getitem__(idx)[1]


# --- purity ------------------------------------------------------------------------------------


class ShufflesInGetitem(Shuffled):
    def on_epoch_end(self):
        pass

    def __getitem__(self, idx):
        np.random.shuffle(self.indices)  # noqa: NPY002
        return super().__getitem__(idx)


class Iterates(Textbook):
    """Ignores the index: the next batch of an iterator."""

    def __init__(self):
        super().__init__()
        self.at = -1

    def __getitem__(self, idx):
        self.at = (self.at + 1) % len(self)
        return super().__getitem__(self.at)


class OwnGenerator(Shuffled):
    """Noise from a generator that goes on with each read."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x + self.rng.standard_normal(x.shape), y


class ChangesItsData(Textbook):
    """Normalises in place: a slice is a view."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        x /= 2.0
        return x, y


class RunningMean(Textbook):
    """Subtracts the mean of what was read before this index, which depends on the order."""

    def __init__(self):
        super().__init__()
        self.sums = {}

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        self.sums.setdefault(idx, len(self.sums))
        return x - self.sums[idx], y


class SharedBuffer(Textbook):
    def __init__(self):
        super().__init__()
        self.buffer = np.zeros((BATCH, 3), "float32")

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        self.buffer[: len(x)] = x
        return self.buffer[: len(x)], y


class NumpyRandom(Shuffled):
    """Noise from NumPy's global generator: equal in forked workers."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x + np.random.standard_normal(x.shape), y  # noqa: NPY002


class PythonRandom(Textbook):
    """Flips a batch, or not, by Python's global generator."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x * random.random(), y


class NumpyRandomTransform(Loader):
    """The same in the transform of one of ours."""

    def __init__(self):
        super().__init__(transform=_global_noise)


def _global_noise(batch):
    x, y = batch
    return x + np.random.standard_normal(x.shape), y  # noqa: NPY002


class SeededByNobody(Shuffled):
    """Has a seed, and shuffles with NumPy's global generator."""

    def __init__(self, seed=0):
        super().__init__()
        self.seed = seed


class Cursor(Textbook):
    """Notes where it is in an attribute that threads share."""

    def __getitem__(self, idx):
        self.at = idx
        for _ in range(50):
            time.sleep(0)
        return super().__getitem__(self.at)


class CursorInLoad(Loader):
    def load(self, rows):
        self.asked = rows
        time.sleep(0.002)
        return self.x[self.asked[: len(rows)]], self.y[rows]


class IteratesOnItsOwn(Loader):
    """Overrides `__iter__` without the last batch."""

    def __iter__(self):
        return itertools.islice(super().__iter__(), len(self) - 1)


# --- processes ---------------------------------------------------------------------------------


class HoldsALambda(Textbook):
    def __init__(self):
        super().__init__()
        self.scale = lambda x: x * 2

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return self.scale(x), y


class HoldsALock(Loader):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class LosesItsState(Textbook):
    """Leaves in a pickle what it needs."""

    def __init__(self):
        super().__init__()
        self.scale = 2.0

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "scale"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.scale = 1.0

    def __deepcopy__(self, memo):
        raise TypeError("not in this way")

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x * self.scale, y


class DependsOnTheProcess(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x + (os.getpid() != _MAIN), y


_MAIN = int(os.environ.setdefault("KERAS_NPBATCH_GALLERY_PID", str(os.getpid())))


class DiesInAWorker(Textbook):
    def __getitem__(self, idx):
        if os.getpid() != _MAIN:
            os._exit(3)
        return super().__getitem__(idx)


# --- epochs ------------------------------------------------------------------------------------


class RepeatsAtTheWrap(Shuffled):
    """Fills the last batch up with the first samples."""

    def __getitem__(self, idx):
        rows = np.arange(idx * BATCH, (idx + 1) * BATCH) % len(self.x)
        rows = self.indices[rows]
        return self.x[rows], self.y[rows]


class RepeatsAtTheWrapUnshuffled(Textbook):
    """The same in each epoch: contents alone can't tell it from data with equal rows."""

    def __getitem__(self, idx):
        rows = np.arange(idx * BATCH, (idx + 1) * BATCH) % len(self.x)
        return self.x[rows], self.y[rows]


class SameBatch(Textbook):
    """Uses another attribute than the index."""

    at = 0

    def __init__(self):
        super().__init__(*data(48))

    def __getitem__(self, idx):
        return super().__getitem__(self.at)


class EachBatchTwice(Textbook):
    def __init__(self):
        super().__init__(*data(48))

    def __getitem__(self, idx):
        return super().__getitem__(idx - idx % 2)


class SameSample(Loader):
    """The variable of an outer loop."""

    def load(self, rows):
        return self.x[[rows[0] * 0] * len(rows)], self.y[[rows[0] * 0] * len(rows)]


class NoiseAndRepeats(RepeatsAtTheWrap):
    """Augmentation by the global generator must not hide it."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x + np.random.uniform(0, 0.1, x.shape), y  # noqa: NPY002


class OwnNoiseAndRepeats(RepeatsAtTheWrap):
    """Nor noise that goes on with each read."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x + self.rng.standard_normal(x.shape), y


class NoiseAndTheSameOrder(NoiseAndRepeats):
    """Says that it shuffles."""

    def on_epoch_end(self):
        pass

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x[: self.left(idx)], y[: self.left(idx)]

    def left(self, idx):
        return max(0, min(BATCH, N - idx * BATCH))


class NoiseAndACursor(Textbook):
    def __getitem__(self, idx):
        self.at = idx
        for _ in range(50):
            time.sleep(0)
        x, y = super().__getitem__(self.at)
        return x + np.random.uniform(0, 0.1, x.shape), y  # noqa: NPY002


class NoiseInTheTransformAndLostRows(Loader):
    """Of ours the samples are known without the transform."""

    def __init__(self):
        super().__init__(transform=_global_noise)

    def load(self, rows):
        rows = np.where(rows < N // 2, rows, (rows + self.epoch) % N)
        return super().load(rows)


class OffByOne(Shuffled):
    """Skips the first of the order, and is one short at its end."""

    def __getitem__(self, idx):
        rows = self.indices[idx * BATCH + 1 : (idx + 1) * BATCH + 1]
        return self.x[rows], self.y[rows]


class WithReplacement(Seeded):
    """Draws samples instead of permuting them."""

    def on_epoch_end(self):
        self.indices = self.rng.integers(0, len(self.x), len(self.x))


class ShufflesXAlone(Seeded):
    """`y` is not shuffled with it."""

    def __getitem__(self, idx):
        rows = self.indices[idx * BATCH : (idx + 1) * BATCH]
        return self.x[rows], self.y[idx * BATCH : (idx + 1) * BATCH]


class TargetsShiftedInBatch(Loader):
    def load(self, rows):
        return self.x[rows], self.y[np.roll(rows, 1)]


class TargetsOfTheNextRow(Loader):
    """The same in every epoch: only ids from both parts tell."""

    def load(self, rows):
        return self.x[rows], self.y[(rows + 1) % N]


class SortsRows(Loader):
    """As HDF5 wants them, and does not put the samples back."""

    def load(self, rows):
        rows = np.sort(rows)
        return self.x[rows], self.y[rows]


class IgnoresRows(Loader):
    def load(self, rows):
        return self.x[: len(rows)], self.y[: len(rows)]


class LastRowTwice(Loader):
    """Clips: the first row never comes, the last twice."""

    def load(self, rows):
        rows = np.minimum(rows + 1, N - 1)
        return self.x[rows], self.y[rows]


class NeverShuffles(Textbook):
    """Says that it does; it calls the hook by another name."""

    shuffle = True

    def on_epoch_ends(self):
        np.random.shuffle(self.x)  # noqa: NPY002


class IgnoresShuffle(Whole):
    """Never asks for `self.rows(index)`."""

    def __getitem__(self, idx):
        low = idx * BATCH
        if not 0 <= low < self.num_samples:
            raise IndexError(idx)
        return self.x[low : low + BATCH], self.y[low : low + BATCH]


class ShufflesUnasked(Seeded):
    shuffle = False


class IgnoresItsSeed(Loader):
    """A constructor that does not hand it on."""

    def __init__(self, seed=None):
        super().__init__()


class SeedIsNotUsed(Shuffled):
    """Keeps it under another name, and shuffles with the global generator."""

    def __init__(self, seed=0):
        super().__init__()
        self.random_state = seed


class ConsumesInHook(Shuffled):
    """Takes samples out at each end of an epoch, which it takes for the only one."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    shuffle = False

    def on_epoch_end(self):
        self.calls += 1
        if self.calls > 1:
            self.indices = np.append(self.indices[1:], self.indices[1])


class GrowsInHook(Textbook):
    """Curriculum: more batches with every end."""

    def __init__(self):
        super().__init__()
        self.ends = 0

    def on_epoch_end(self):
        self.ends += 1

    def __len__(self):
        return 6 if self.ends < 2 else 7

    def __getitem__(self, idx):
        if not 0 <= idx < len(self):
            raise IndexError(idx)
        return super().__getitem__(idx)


class HookInOurs(Loader):
    """Shuffles anew in a hook, behind the order of the epoch."""

    def __init__(self):
        super().__init__()
        self.indices = np.arange(N)

    def on_epoch_end(self):
        self.indices = np.random.default_rng(len(self.indices)).permutation(N)

    def load(self, rows):
        return super().load(self.indices[rows])


class ResumesElsewhere(Loader):
    """Takes the state of another position."""

    def load_state_dict(self, state):
        super().load_state_dict({**state, "step": max(0, state["step"] - 1)})


class OwnOrder(Whole):
    """Cuts an order of its own into batches by their index, whatever part of them is its own."""

    def __getitem__(self, idx):
        self.rows(idx)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(N)
        rows = order[idx * self.batch_size : (idx + 1) * self.batch_size]
        return self.x[rows], self.y[rows]


# --- time --------------------------------------------------------------------------------------


class Hangs(Textbook):
    def __getitem__(self, idx):
        if idx == 5:
            time.sleep(3600)
        return super().__getitem__(idx)


# --- Keras -------------------------------------------------------------------------------------


class WeightsOfNobody(Textbook):
    """Weights for an output that is not there."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x, {"a": y}, {"b": np.ones(len(y))}


class Dates(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x.astype("datetime64[s]"), y


def id_of_both(batch):
    x, y = batch
    return np.stack([x[:, 0], y], axis=1).astype(int)


def id_of_y(batch):
    return batch[1]


class PadsWithWeightsOfAnotherAxis(Textbook):
    """A padded last batch of sequences, whose weights `(n,)` weigh positions."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        real = len(x)
        rows = np.arange(self.batch_size) % real
        weights = (np.arange(self.batch_size) < real).astype("float32")
        return x[rows], np.repeat(y.reshape(-1, 1, 1), BATCH, axis=1)[rows], weights


@dataclass(frozen=True)
class Broken:
    """A broken loader, and what must be found."""

    kind: Any
    """Makes it."""
    found_by: set[str]
    """The checks that find it, and no others."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of `check_dataset`."""


BROKEN = [
    Broken(LenTooLong, {"len_is_the_number_of_batches"}),
    Broken(LenTooLongRaises, {"every_batch_can_be_read"}),
    Broken(ForgetsTheLastBatch, {"len_is_the_number_of_batches"}),
    Broken(ForgetsTheLastBatch, {"len_is_the_number_of_batches"}, {"num_samples": N}),
    Broken(ForgetsTheLastBatchShuffled, {"len_is_the_number_of_batches"}),
    Broken(FailsInTheSecondEpoch, {"every_batch_can_be_read"}),
    Broken(ListOfSamples, {"batches_have_a_form_that_keras_takes"}),
    Broken(ListsOfNumbers, {"batches_have_a_form_that_keras_takes"}),
    Broken(Nothing, {"batches_have_a_form_that_keras_takes"}),
    Broken(OtherDtype, {"all_batches_have_one_structure"}),
    Broken(Squeezed, {"all_batches_have_one_structure"}),
    Broken(OtherKeys, {"all_batches_have_one_structure"}),
    Broken(ShiftedSlice, {"lengths_agree"}),
    Broken(ShortFirst, {"only_the_last_batch_is_short"}),
    Broken(NotANumber, {"values_are_finite"}),
    Broken(Infinite, {"values_are_finite"}),
    Broken(ReturnsInTheLoop, {"every_row_of_a_batch_is_filled"}),
    Broken(ReturnsInTheLoop, {"every_row_of_a_batch_is_filled"}, {"num_samples": 56}),
    Broken(ReturnsInTheLoopEmpty, {"every_row_of_a_batch_is_filled"}),
    Broken(MasksNeverFilled, {"every_row_of_a_batch_is_filled"}),
    Broken(LabelsNeverFilled, {"every_row_of_a_batch_is_filled"}),
    Broken(EmptyInLoad, {"every_row_of_a_batch_is_filled"}),
    Broken(BlankSamplesAtTheEnd, {"every_row_of_a_batch_is_filled"}),
    Broken(BlankSamplesAtTheEnd, {"every_row_of_a_batch_is_filled"}, {"num_samples": N}),
    Broken(OneBlankSampleAtTheEnd, {"every_row_of_a_batch_is_filled"}),
    Broken(PreallocatedTail, {"len_is_the_number_of_batches"}),
    Broken(PreallocatedTail, {"len_is_the_number_of_batches"}, {"num_samples": N}),
    Broken(PreallocatedTailEmpty, {"len_is_the_number_of_batches"}),
    Broken(ClippedTail, {"len_is_the_number_of_batches"}),
    Broken(SeedsInHook, {"global_generators_are_left_as_they_are"}),
    Broken(SeedsInGetitem, {"global_generators_are_left_as_they_are"}),
    Broken(WritesDataInHook, {"hooks_leave_the_data_as_they_are"}),
    Broken(WritesListOfArraysInHook, {"hooks_leave_the_data_as_they_are"}),
    Broken(ShufflesInGetitem, {"a_batch_is_the_same_when_read_again"}),
    Broken(Iterates, {"a_batch_is_the_same_when_read_again"}),
    Broken(OwnGenerator, {"a_batch_is_the_same_when_read_again"}),
    Broken(ChangesItsData, {"a_batch_is_the_same_when_read_again"}),
    Broken(RunningMean, {"a_batch_is_the_same_in_any_order"}),
    Broken(SharedBuffer, {"a_kept_batch_does_not_change"}),
    Broken(NumpyRandom, {"global_random_state_changes_nothing"}),
    Broken(PythonRandom, {"global_random_state_changes_nothing"}),
    Broken(NumpyRandomTransform, {"global_random_state_changes_nothing"}),
    Broken(SeededByNobody, {"global_random_state_changes_nothing"}),
    Broken(Cursor, {"threads_read_the_same_batches"}),
    Broken(CursorInLoad, {"threads_read_the_same_batches"}),
    Broken(IteratesOnItsOwn, {"iteration_gives_the_batches"}),
    Broken(HoldsALambda, {"it_can_be_sent_to_processes"}),
    Broken(HoldsALock, {"it_can_be_sent_to_processes"}),
    Broken(LosesItsState, {"it_can_be_sent_to_processes"}),
    Broken(DependsOnTheProcess, {"processes_read_the_same_batches"}),
    Broken(LoadDependsOnTheProcess, {"processes_read_the_same_batches"}),
    Broken(DiesInAWorker, {"processes_read_the_same_batches"}),
    Broken(SameBatch, {"batches_differ"}),
    Broken(SameBatch, {"batches_differ"}, {"num_samples": 48}),
    Broken(SameBatch, {"batches_differ"}, {"sample_id": id_of_y}),
    Broken(EachBatchTwice, {"batches_differ"}),
    Broken(SameSample, {"batches_differ"}),
    Broken(
        NoiseAndRepeats,
        {"global_random_state_changes_nothing", "every_sample_comes_once"},
        {"sample_id": id_of_y},
    ),
    Broken(
        NoiseAndRepeats,
        {"global_random_state_changes_nothing", "every_sample_comes_once"},
        {"num_samples": N},
    ),
    Broken(
        OwnNoiseAndRepeats,
        {"a_batch_is_the_same_when_read_again", "every_sample_comes_once"},
        {"sample_id": id_of_y},
    ),
    Broken(
        NoiseAndTheSameOrder,
        {"global_random_state_changes_nothing", "shuffling_changes_the_order"},
        {"sample_id": id_of_y, "num_samples": N},
    ),
    Broken(
        NoiseAndACursor,
        {"global_random_state_changes_nothing", "threads_read_the_same_batches"},
        {"sample_id": id_of_y},
    ),
    Broken(
        NoiseInTheTransformAndLostRows,
        {"global_random_state_changes_nothing", "every_sample_comes_once"},
    ),
    Broken(RepeatsAtTheWrap, {"every_sample_comes_once"}),
    Broken(RepeatsAtTheWrapUnshuffled, {"every_sample_comes_once"}, {"num_samples": N}),
    Broken(RepeatsAtTheWrapUnshuffled, {"every_sample_comes_once"}, {"sample_id": id_of_y}),
    Broken(OffByOne, {"every_sample_comes_once"}),
    Broken(WithReplacement, {"every_sample_comes_once"}, {"sample_id": id_of_y}),
    Broken(WithReplacement, {"every_sample_comes_once"}),
    Broken(ShufflesXAlone, {"samples_keep_their_targets"}),
    Broken(TargetsShiftedInBatch, {"samples_keep_their_targets"}),
    Broken(TargetsOfTheNextRow, {"samples_keep_their_targets"}, {"sample_id": id_of_both}),
    Broken(SortsRows, {"load_returns_the_rows_it_is_asked_for"}),
    Broken(IgnoresRows, {"batches_differ"}),
    Broken(LastRowTwice, {"every_sample_comes_once"}, {"sample_id": id_of_y}),
    Broken(NeverShuffles, {"shuffling_changes_the_order"}),
    Broken(IgnoresShuffle, {"shuffling_changes_the_order"}),
    Broken(ShufflesUnasked, {"shuffling_changes_the_order"}),
    Broken(IgnoresItsSeed, {"the_seed_decides_the_order"}, {"with_seed": IgnoresItsSeed}),
    Broken(SeedIsNotUsed, {"the_seed_decides_the_order"}, {"with_seed": SeedIsNotUsed}),
    Broken(ConsumesInHook, {"extra_hooks_change_nothing"}),
    Broken(GrowsInHook, {"extra_hooks_change_nothing"}),
    Broken(HookInOurs, {"extra_hooks_change_nothing"}),
    Broken(ResumesElsewhere, {"resuming_goes_on_at_every_step"}),
    Broken(OwnOrder, {"shards_make_up_the_epoch"}),
    Broken(PadsWithWeightsOfAnotherAxis, {"weights_have_the_axes_of_their_targets"}),
    Broken(Hangs, {"every_batch_can_be_read"}, {"timeout": 0.5}),
]
"""One line for each fault."""

BROKEN_FOR_KERAS = [
    Broken(WeightsOfNobody, {"keras_trains_one_step"}),
    Broken(Dates, {"keras_trains_one_step"}),
]
"""Found only where Keras can train."""
