"""Whatever is done to a dataset, in any order: its batches are those of a model in plain NumPy.

Hypothesis iterates, peeks, stops, saves and goes on, sets epochs, changes the workers, kills them,
goes on with another number of processes, and sends the dataset through a pickle. The model knows
where it is, which part it reads, and NumPy's own permutation.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "numpy")

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, concat, each, mix, pad
from keras_npbatch import zip as zip_datasets
from keras_npbatch.batches.core import core_of
from keras_npbatch.samplers.order import WholeData
from keras_npbatch.sources import Ragged, Windows
from keras_npbatch.testing import strategies
from keras_npbatch.tree import leaves
from tests import loaders
from tests.inside import pool_of

WIDTH = 3
FORMS = ["array", "samples", "ragged", "packed", "lists", "windows", "concat", "mix", "zip"]


def length_of(rows):
    """The lengths of the rows, if they have several: few are long, so most shards have none."""
    return np.where(rows % 5 == 0, WIDTH, 1)


def cut(x):
    """The rows, each of its length."""
    return [row[:length] for row, length in zip(x, length_of(np.arange(len(x))), strict=True)]


class Lists(BatchDataset):
    """Returns rows of any length in a list, which `collate` pads."""

    def __init__(self, x, y, **settings):
        super().__init__(len(x), **settings)
        self.x, self.y = cut(x), y

    def load(self, rows):
        return [self.x[row] for row in rows], self.y[rows]


def series(num_samples):
    """One that has so many windows."""
    return np.arange(num_samples + WIDTH - 1, dtype="float32")


def halves(x, y):
    """Two datasets of some rows each."""
    return [ArrayDataset(x[part], y[part]) for part in (slice(2), slice(2, None))]


def zipped(x, y, until, *, workers, use_multiprocessing, max_queue_size, **settings):
    """A dataset beside one of the first few of its rows, in another order."""
    few = settings["batch_size"] * settings.get("shard", (0, 1))[1]
    others = settings | {"sampler": None, "shuffle": False}
    return zip_datasets(
        ArrayDataset(x, y, **settings),
        ArrayDataset(x[:few], y[:few], **others),
        until=until,
        workers=workers,
        use_multiprocessing=use_multiprocessing,
        max_queue_size=max_queue_size,
    )


def packed(x):
    """As many packed rows: of two time steps and, every second one, one more."""
    few = -(-len(x) // 2)
    sequences = [*x[:, :2], *x[:few, 2:]]
    return Ragged(sequences, pad_to=WIDTH, pack=True), sequences


def of_packed(ragged):
    return ragged.values, ragged.segment_ids


class Position:
    """Where a dataset is."""

    def __init__(self):
        self.epoch, self.step = 0, 0
        """Where the next iteration begins."""
        self.index, self.count = 0, 1
        """Which part of each batch is read."""
        self.reached = None
        """After the batches of an iteration under way."""
        self.times_set = 0

    def set(self, epoch, step):
        self.epoch, self.step, self.reached = epoch, step, None
        self.times_set += 1


class Model(Position):
    """What the batches should be, from NumPy alone."""

    def __init__(
        self, num_samples, batch_size, seed, shuffle, remainder, transform, sampler, form, **_
    ):
        super().__init__()
        self.n, self.size, self.seed = num_samples, batch_size, seed
        self.shuffle, self.remainder = shuffle, remainder
        self.sampler, self.data, self.form = sampler, WholeData(num_samples), form
        if sampler is not None:
            self.n = sampler.num_samples(self.data)
        self.x = np.arange(num_samples * WIDTH, dtype="float32").reshape(num_samples, WIDTH)
        self.y = np.arange(num_samples)
        if form == "packed":
            self.x, self.y = self.by_hand(*packed(self.x))
        if form == "windows":
            self.x = np.lib.stride_tricks.sliding_window_view(series(num_samples), WIDTH).copy()
        if transform is not None:
            self.x *= 2

    @staticmethod
    def by_hand(ragged, sequences):
        """The values and segment ids of packed rows."""
        values = np.zeros((len(ragged), WIDTH), "float32")
        segment_ids = np.zeros((len(ragged), WIDTH), "int32")
        for row in range(len(ragged)):
            at = 0
            for number, sequence in enumerate(ragged.sequences_in(row), start=1):
                there = slice(at, at := at + len(sequences[sequence]))
                values[row, there], segment_ids[row, there] = sequences[sequence], number
        return values, segment_ids

    @property
    def num_batches(self):
        return len(self.spans())

    def spans(self):
        if self.remainder == "spread":
            parts = np.array_split(np.arange(self.n), -(-self.n // self.size))
            return [(int(part[0]), int(part[-1]) + 1) for part in parts]
        starts = range(0, self.n, self.size)
        spans = [(start, min(start + self.size, self.n)) for start in starts]
        return [s for s in spans if s[1] - s[0] == self.size or self.remainder != "drop"]

    def rows(self, epoch, step):
        start, stop = self.spans()[step]
        if self.sampler is not None:  # other tests compare its orders with NumPy's
            return self.sampler.order(self.data, self.size, self.seed, epoch).rows(start, stop)
        if not self.shuffle:
            return np.arange(start, stop)
        key = (0, epoch & 0xFFFFFFFF, epoch >> 32)
        sequence = np.random.SeedSequence(self.seed, spawn_key=key)
        order = np.random.Generator(np.random.PCG64(sequence)).permutation(self.n)
        return order[start:stop]

    def batch(self, epoch, step):
        of_all = self.rows(epoch, step)
        rows = np.array_split(of_all, self.count)[self.index]
        x = self.x
        if self.form in ("ragged", "lists"):  # zero beyond each row, as wide as all processes need
            width = int(length_of(of_all).max())
            x = np.where(np.arange(WIDTH) < length_of(np.arange(len(x)))[:, None], x, 0)[:, :width]
        if self.remainder != "pad":
            return x[rows], self.y[rows]
        at = np.arange(self.size // self.count)
        padded = rows[at % len(rows)] if len(rows) else of_all[0 * at]
        weight = (at < len(rows)).astype("float32")
        # One axis for each that a loss of whole numbers may have.
        weight = weight[:, np.newaxis] if self.form == "packed" else weight
        return x[padded], self.y[padded], weight

    def can_be_divided(self, count):
        if self.form == "lists" and count > 1:
            return False  # no process knows how long the sequences are that others load
        sizes = {stop - start for start, stop in self.spans()}
        return self.size % count == 0 and (self.remainder == "pad" or min(sizes) >= count)


class Zipped(Position):
    """Batches of two models side by side, each of which goes on in its own epochs."""

    def __init__(self, models, num_batches):
        super().__init__()
        self.models, self.num_batches, self.size = models, num_batches, models[0].size

    def batch(self, epoch, step):
        found = ()
        for model in self.models:
            model.index, model.count = self.index, self.count
            found += model.batch(*divmod(epoch * self.num_batches + step, model.num_batches))
        return found

    def can_be_divided(self, count):
        return all(model.can_be_divided(count) for model in self.models)


class Machine(RuleBasedStateMachine):
    states = Bundle("states")

    @initialize(
        chosen=strategies.settings(
            30, transforms=[None, loaders.doubled, each(loaders.doubled), [loaders.doubled]]
        ),
        form=st.sampled_from(FORMS),
        processes=st.booleans(),
        data=st.data(),
    )
    def make(self, chosen, form, processes, data):
        chosen["num_samples"] += 3 * chosen["batch_size"]  # something to be in the middle of
        rows = np.arange(chosen["num_samples"])
        x = np.arange(len(rows) * WIDTH, dtype="float32").reshape(len(rows), WIDTH)
        until = data.draw(st.sampled_from(["first", "longest"]) | st.integers(4, 40))
        mixed = partial(mix, halves(x, rows), [0.7, 0.3], until=until)
        if form == "mix":
            sampler = core_of(mixed()).plan.sampler
        else:
            sampler = data.draw(st.none() | strategies.samplers(len(rows)))
        model = self.model = Model(**chosen, sampler=sampler, form=form)
        if model.n < model.size:
            chosen["remainder"] = model.remainder = "keep"
        if sampler is not None and sampler.cuts_batches and chosen["remainder"] == "spread":
            chosen["remainder"] = model.remainder = "keep"
        if form == "zip":
            few = chosen | {"num_samples": model.size, "shuffle": False}
            models = model, Model(**few, sampler=None, form=form)
            lengths = [model.num_batches for model in models]
            num_batches = {"first": min(lengths), "longest": max(lengths)}.get(until, until)
            self.model = Zipped(models, num_batches)
        if sampler is not None:
            del chosen["shuffle"]
        if sampler is not None and form != "mix":
            chosen["sampler"] = sampler
        del chosen["num_samples"]
        self.new = {
            "array": lambda: partial(ArrayDataset, x, rows),
            "samples": lambda: partial(SampleDataset.of, list(zip(x, rows.tolist(), strict=True))),
            "ragged": lambda: partial(ArrayDataset, Ragged(cut(x)), rows),
            "packed": lambda: partial(ArrayDataset, *of_packed(packed(x)[0])),
            "lists": lambda: partial(Lists, x, rows, collate=(pad(), None)),
            "windows": lambda: partial(ArrayDataset, Windows(series(len(rows)), WIDTH), rows),
            "concat": lambda: partial(concat, halves(x, rows)),
            "mix": lambda: mixed,
            "zip": lambda: partial(zipped, x, rows, until),
        }[form]()
        self.chosen = chosen
        self.dataset = self.new(**chosen, use_multiprocessing=processes)
        self.iterator = None
        self.position = 0, 0

    def check(self, batch, epoch, step):
        expected = self.model.batch(epoch, step)
        for ours, theirs in zip(leaves(batch), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    @rule(most=st.sampled_from([2, 1, 4, 12]))
    def iterate(self, most):
        """Some batches more; a new iteration if none is under way."""
        model = self.model
        if self.iterator is None:
            self.iterator = iter(self.dataset)
            self.position = model.epoch, model.step
            self.times_set = model.times_set
        for _ in range(most):
            epoch, step = self.position
            if step == model.num_batches:
                assert next(self.iterator, "the end") == "the end"
                self.iterator = None
                return
            self.check(next(self.iterator), epoch, step)
            self.position = epoch, step + 1
            if self.times_set != model.times_set:
                continue  # what was said since stands
            if step + 1 == model.num_batches:
                model.epoch, model.step, model.reached = epoch + 1, 0, None
            else:
                model.reached = self.position

    @rule(number=st.integers(0, 10**6))
    def peek(self, number):
        step = number % self.model.num_batches
        self.check(self.dataset[step], self.model.epoch, step)

    @rule()
    def stop(self):
        """Leave an iteration early."""
        if self.iterator is not None:
            self.iterator.close()
            self.iterator = None

    @rule(target=states)
    def save(self):
        model = self.model
        return json.dumps(self.dataset.state_dict()), model.reached or (model.epoch, model.step)

    @rule(saved=states)
    def go_on(self, saved):
        """Also under an iteration, which goes on with its epoch and moves nothing more."""
        state, (epoch, step) = saved
        self.dataset.load_state_dict(json.loads(state))
        self.model.set(epoch, step)

    @rule(data=st.data())
    def go_on_anywhere(self, data):
        state = data.draw(strategies.resume_points(self.dataset))
        self.go_on((json.dumps(state), (state["epoch"], state["step"])))

    @rule(count=st.integers(1, 4), index=st.integers(0, 3))
    def reshard(self, count, index):
        """Another process goes on, one of another number, with the state of this one."""
        model = self.model
        if not model.can_be_divided(count):
            return
        self.stop()
        state = self.dataset.state_dict()
        self.dataset.close()
        model.index, model.count = index % count, count
        self.dataset = self.new(
            **(self.chosen | {"batch_size": model.size // count}),
            shard=(model.index, count),
            use_multiprocessing=self.dataset.use_multiprocessing,
        )
        self.dataset.load_state_dict(json.loads(json.dumps(state)))
        model.epoch, model.step = state["epoch"], state["step"]
        model.reached = None

    @rule(epoch=st.integers(0, 9) | st.integers(0, 2**60))
    def set_epoch(self, epoch):
        self.dataset.set_epoch(epoch)
        self.model.set(epoch, 0)

    @rule(
        workers=st.sampled_from([2, 1, 0]),
        processes=st.booleans(),
        ahead=st.sampled_from([1, 2, 10]),
    )
    def change_workers(self, workers, processes, ahead):
        self.stop()
        self.dataset.workers, self.dataset.use_multiprocessing = workers, processes
        self.dataset.max_queue_size = ahead

    @precondition(lambda self: self.pids())
    @rule(number=st.integers(0, 1))
    def kill_a_worker(self, number):
        """At any point, also of an iteration."""
        pids = self.pids()
        os.kill(pids[number % len(pids)], signal.SIGKILL)

    @rule()
    def pickle_it(self):
        """As a copy in another place: the position goes with it, what is under way does not."""
        self.stop()
        self.dataset.close()
        self.dataset = pickle.loads(pickle.dumps(self.dataset))
        self.model.reached = None

    @rule()
    def close(self):
        self.stop()
        self.dataset.close()

    @invariant()
    def it_tells_where_it_is(self):
        model = self.model
        assert self.dataset.epoch == model.epoch
        assert len(self.dataset) == self.dataset.num_batches == model.num_batches
        state = self.dataset.state_dict()
        assert (state["epoch"], state["step"]) == (model.reached or (model.epoch, model.step))

    def pids(self):
        pool = getattr(self, "dataset", None) and pool_of(self.dataset)
        return pool.pids if pool is not None and pool.is_open else []

    def teardown(self):
        if hasattr(self, "dataset"):
            self.stop()
            self.dataset.close()


@pytest.mark.parametrize("examples", [30, pytest.param(300, marks=pytest.mark.more)])
def test_a_dataset_does_what_the_model_does(examples):
    machine = settings(max_examples=examples, stateful_step_count=20)
    run_state_machine_as_test(Machine, settings=machine)
