"""A user's attributes are the user's, in a callback too: whatever their names, a fit sees all."""

from __future__ import annotations

import copy
import functools
import pickle

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.callbacks import (
    CALLBACKS,
    BackupAndRestore,
    BatchStatistics,
    CoverageAudit,
    DatasetCallback,
    InputMonitor,
    NaNReport,
)
from keras_npbatch.callbacks.watching import Watching, watching_of
from keras_npbatch.errors import InvalidArgumentError

N, BATCH = 40, 4  # 10 steps an epoch


def names_in(kind):
    """Of what a class has and its methods read and write."""
    found = set(dir(kind))
    for name in dir(kind):
        code = getattr(getattr(kind, name), "__code__", None)
        found |= set() if code is None else {*code.co_names}
    return found


def kinds_of_watching(kind=Watching):
    return {kind}.union(*(kinds_of_watching(each) for each in kind.__subclasses__()))


KERAS_S = {*dir(keras.callbacks.Callback), "params", "_model"}
OURS = (DatasetCallback, *CALLBACKS, *sorted(kinds_of_watching(), key=lambda kind: kind.__name__))
FORMERLY_OURS = {"_session", "_watch", "_last_step", "_epoch_iterator", "_new_watch", "_forget_fit"}
NAMES = sorted(
    {
        f"{underscore}{name.lstrip('_')}"
        for kind in OURS
        for name in names_in(kind)
        for underscore in ("", "_")
    }.union(FORMERLY_OURS)
    - {*KERAS_S, ATTRIBUTE, "trained"}
)
NAMES = [name for name in NAMES if name.isidentifier() and not name.startswith("__")]

any_name = st.from_regex(r"_?[a-z]{1,6}(_[a-z]{1,5})?", fullmatch=True).filter(
    lambda name: name not in {*KERAS_S, "trained"}
)


def make_dataset(**settings):
    x = np.arange(N, dtype="float32")[:, np.newaxis] / N
    return ArrayDataset(x, x[:, 0], batch_size=BATCH, seed=1, **settings)


@functools.cache
def the_model():
    """One for all: compiling takes longer than these fits."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() != "jax")
    return model


def subclass(kind, before, after, members, arguments, **own):
    """A callback of a subclass with these attributes of the instance and of the class."""

    def init(self, dataset):
        for name, value in before.items():
            setattr(self, name, value)
        kind.__init__(self, dataset, *arguments)
        for name, value in after.items():
            setattr(self, name, value)

    return type("Mine", (kind,), {"__init__": init, **members, **own})


def deliveries(before=(), after=(), members=()):
    """The places that a callback with these attributes is told of, in a fit that is resumed."""
    seen = []
    before, after, members = (dict.fromkeys(each, object()) for each in (before, after, members))

    def trained(self, delivery):
        seen.append((delivery.epoch, delivery.step, delivery.rows.tolist()))

    dataset = make_dataset()
    dataset.load_state_dict(dataset.state_dict() | {"step": 3})
    callback = subclass(DatasetCallback, before, after, members, (), trained=trained)(dataset)
    the_model().fit(dataset, epochs=2, verbose=0, callbacks=[callback])
    for name, value in (before | after | members).items():
        # The public attribute replaces what was set before it.
        assert getattr(callback, name) is value or (name == "dataset" and name not in after)
    return seen


@functools.cache
def expected():
    seen = deliveries()
    assert [place[:2] for place in seen] == [
        *((0, step) for step in range(3, 10)),
        *((1, step) for step in range(10)),
    ]
    return seen


@pytest.mark.parametrize("when", ["before", "after", "members"])
def test_every_name_of_ours_is_the_users(when):
    assert {"_session", "_tally", "receipts", "last_step", "dataset"} < {*NAMES}
    assert deliveries(**{when: NAMES}) == expected()


@given(name=any_name, when=st.sampled_from(["before", "after", "members"]))
@settings(max_examples=25)
def test_any_name_is_the_users(name, when):
    assert deliveries(**{when: [name]}) == expected()


def test_a_callback_that_counts_steps_under_any_name_misses_none():
    """Of a fit that goes on within an epoch, whose steps Keras counts from 0."""

    class Last(DatasetCallback):
        def __init__(self, dataset):
            super().__init__(dataset)
            self.seen = []

        def trained(self, delivery):
            self._last_step = delivery.step
            self._new_watch = self._session = delivery.epoch
            self.seen.append(delivery.step)

    dataset = make_dataset()
    dataset.load_state_dict(dataset.state_dict() | {"step": 3})
    last = Last(dataset)
    for steps in (range(3, 10), range(10)):
        the_model().fit(dataset, verbose=0, callbacks=[last])
        assert last.seen == [*steps]
        last.seen = []


def private_names(kind):
    return [name for name in NAMES if name.startswith("_") or name not in names_in(kind)]


def test_so_it_is_with_subclasses_of_every_callback(tmp_path):
    """Each attribute but the public ones of that callback, which its user may change."""

    def named(kind, when):
        names = dict.fromkeys(private_names(kind), object())
        return [names if when == each else {} for each in ("before", "after", "members")]

    def run(when):
        dataset = make_dataset()
        validation = make_dataset(shuffle=False)
        made = [
            subclass(kind, *named(kind, when), arguments)(dataset)
            for kind, arguments in (
                (BackupAndRestore, (tmp_path / when, 3)),
                (CoverageAudit, ()),
                (BatchStatistics, (True, None, validation)),
                (InputMonitor, ()),
                (NaNReport, (tmp_path / f"{when}_nan", "stop")),
            )
        ]
        arguments = {"validation_data": validation, "epochs": 2, "verbose": 0}
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: 1 / 0 if batch == 7 else None
        )
        with pytest.raises(ZeroDivisionError):
            the_model().fit(dataset, callbacks=[*made, stop], **arguments)
        the_model().fit(dataset, callbacks=made, **arguments)
        _, audit, statistics, monitor, _ = made
        receipts = [receipt.as_dict() for receipt in audit.receipts]
        counted = [(each["epoch"], each["step"]) for each in statistics.batches]
        return receipts, counted, statistics.history["val_data/x/mean"], monitor.history.keys()

    plain = run("never")
    assert plain[1][:9] == [(0, step) for step in (*range(8), 6)]  # 6 steps were in the backup
    for when in ("before", "after", "members"):
        assert run(when) == plain


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: copy_by_pickle(each)])
def test_attributes_of_any_name_are_copied(copied):
    callback = Named(make_dataset())
    the_model().fit(callback.dataset, verbose=0, callbacks=[callback])
    twin = copied(callback)
    assert twin._session == "mine"
    assert twin._last_step == 9
    assert watching_of(twin, Watching) is not watching_of(callback, Watching)
    assert watching_of(twin, Watching).owner is twin
    assert watching_of(twin, Watching).dataset is twin.dataset
    the_model().fit(twin.dataset, verbose=0, callbacks=[twin])
    assert twin.steps == [*range(10)] * 2


def copy_by_pickle(value):
    return pickle.loads(pickle.dumps(value))


class Named(DatasetCallback):
    """With names that were ours."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self._session, self.steps = "mine", []

    def trained(self, delivery):
        self._last_step = delivery.step
        self.steps.append(delivery.step)


def test_a_callback_has_one_attribute_of_ours():
    of_keras = vars(keras.callbacks.Callback()).keys()
    assert vars(DatasetCallback(make_dataset())).keys() - of_keras == {"dataset", ATTRIBUTE}
    for kind, *arguments in (
        (BackupAndRestore, "folder"),
        (BatchStatistics,),
        (CoverageAudit,),
        (InputMonitor,),
        (NaNReport, "folder"),
    ):
        own = vars(kind(make_dataset(), *arguments)).keys() - of_keras
        assert [name for name in own if name.startswith("_")] == [ATTRIBUTE]
        private = [name for name in vars(kind) if name.startswith("_")]
        assert all(name.startswith("__") for name in private)


def test_a_callback_that_was_not_initialised_says_so():
    class Forgetful(DatasetCallback):
        def __init__(self):
            keras.callbacks.Callback.__init__(self)

    with pytest.raises(
        InvalidArgumentError,
        match=r"Forgetful was not initialised; call super\(\).__init__\(dataset\) first in its",
    ):
        the_model().fit(make_dataset(), verbose=0, callbacks=[Forgetful()])


def test_a_backup_whose_beginning_was_left_out_says_so(tmp_path):
    class Forgetful(BackupAndRestore):
        def on_train_begin(self, logs=None):
            pass

    dataset = make_dataset()
    with pytest.raises(
        InvalidArgumentError,
        match=r"Forgetful does not know of a fit; call super\(\).on_train_begin\(logs\) in its",
    ):
        the_model().fit(dataset, verbose=0, callbacks=[Forgetful(dataset, tmp_path)])
