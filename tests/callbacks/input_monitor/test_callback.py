"""`InputMonitor`: a dataset that is slow in each place; the advice names it, and helps."""

from __future__ import annotations

import os
import re
import threading
import time
import warnings

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.work import Work
from keras_npbatch.callbacks import InputMonitor
from keras_npbatch.callbacks.input_monitor.costs import Costs, advice, measure
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.fit.pace import has_time_for
from keras_npbatch.plan.plan import Plan
from keras_npbatch.workers.executor import Executor
from tests.disturbed import whatever_else_runs
from tests.keras_loaders import Ids, SlowTransport

N, BATCH = 64, 4  # 16 steps
SLOW_S, STEP_S = SlowTransport.seconds, 0.015


class SlowReading(Ids):
    def load(self, rows):
        time.sleep(SLOW_S)
        return super().load(rows)


def slow_transform(batch):
    time.sleep(SLOW_S)
    return batch


class Busy(Ids):
    """Python all the time."""

    def load(self, rows):
        until = time.thread_time() + SLOW_S
        while time.thread_time() < until:
            pass
        return super().load(rows)


class Steady(keras.callbacks.Callback):
    """A step of training that takes a while, without a processor."""

    def on_train_batch_begin(self, batch, logs=None):
        time.sleep(STEP_S)


def watched(make_model, dataset, epochs=1, **settings):
    """A monitor after training with it, its texts, and the history."""
    monitor = InputMonitor(dataset, **{"patience": 8} | settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        history = make_model(built=True).fit(
            dataset, epochs=epochs, verbose=0, callbacks=[Steady(), monitor]
        )
    dataset.close()
    texts = [str(found.message) for found in caught if "waits for data" in str(found.message)]
    return monitor, texts, history.history


def test_the_share_of_rows_that_were_in_the_cache_is_logged(make_model):
    dataset = Ids(N, batch_size=BATCH, seed=0, workers=0, cache="1 MB")
    monitor = InputMonitor(dataset, patience=1000)  # steps that compute nothing may well wait
    model = make_model(built=True)
    history = model.fit(dataset, epochs=2, verbose=0, callbacks=[monitor]).history
    assert history["data_cache_share"] == [0.0, 1.0]
    assert "data_cache_share" not in watched(make_model, Ids(N, batch_size=N))[2]


@pytest.mark.parametrize(
    ("kind", "settings", "place", "setting"),
    [
        (SlowReading, {"workers": 0}, "reading", "workers"),
        (SlowReading, {"workers": 1}, "reading", "workers"),
        (Ids, {"workers": 1, "transform": slow_transform}, "transform", "workers"),
        (
            SlowTransport,
            {"workers": 1, "use_multiprocessing": True},
            "transport",
            "use_multiprocessing",
        ),
    ],
)
@whatever_else_runs
def test_the_advice_names_the_place_and_following_it_helps(
    make_model, kind, settings, place, setting
):
    settings = {"batch_size": BATCH, "seed": 0} | settings
    dataset = kind(N, **settings)
    monitor, texts, history = watched(make_model, dataset, epochs=2)
    (text,) = texts  # once, though it is so in both epochs
    assert monitor.costs.dearest == place
    assert monitor.advice[0] == setting
    value = monitor.advice[1]
    number = r"(\d+\.\d\d) ms"
    match = re.fullmatch(
        rf"training waits for data (\d+)% of the time: {number} of the {number} that a step takes, "
        rf"over the last 8 steps\. A batch takes {number} for reading, {number} for the transform, "
        rf"{number} for transport\. Most goes to {place}: make the dataset with {setting}={value}, "
        rf"which is {settings[setting]} now\.",
        text,
    )
    percent, waited, took = map(float, match.groups()[:3])
    assert percent == pytest.approx(100 * waited / took, abs=1)
    assert percent >= 30
    assert took - waited >= 1000 * STEP_S
    places = ["reading", "transform", "transport"]
    assert float(match.groups()[3 + places.index(place)]) >= 1000 * SLOW_S
    assert history["data_wait_share"][1] > 0.3
    assert history["data_wait_time_ms"][1] > 1000 * SLOW_S / 4

    monitor, texts, _ = watched(make_model, kind(N, **settings | {setting: value}), epochs=2)
    assert texts == []
    assert (monitor.advice, monitor.costs) == (None, None)


@whatever_else_runs
def test_the_figures_of_training_that_never_waits(make_model):
    dataset = Ids(N, batch_size=BATCH, seed=0, workers=2, max_queue_size=6)
    per_batch = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: per_batch.append(logs["data_wait_time_ms"])
    )
    monitor = InputMonitor(dataset)
    model = make_model(built=True)
    begin = time.perf_counter()
    history = model.fit(dataset, verbose=0, callbacks=[Steady(), monitor, spy]).history
    took_s = time.perf_counter() - begin
    assert monitor.advice is None
    assert len(per_batch) == 16
    assert sum(wait == 0 for wait in per_batch) >= 12  # 0 when never starved; the first may wait
    (mean,) = history["data_wait_time_ms"]
    assert mean == pytest.approx(np.mean(per_batch))
    assert 1 <= history["data_queue_depth"][0] <= 6
    assert N / took_s <= history["samples_per_second"][0] <= N / (15 * STEP_S)
    assert 0 <= history["data_wait_share"][0] < 0.3


@whatever_else_runs
def test_work_is_told_from_waiting():
    """A busy machine takes time from both; of what waits, next to nothing is work."""
    work, wait = (
        measure(kind(N, batch_size=BATCH), Plan(N, BATCH), 0, 3) for kind in (Busy, SlowReading)
    )
    assert work.reading_s >= SLOW_S
    assert wait.reading_s >= SLOW_S
    assert work.busy > 5 * wait.busy


class Kept(BatchDataset):
    """Batches that are kept, as a cache keeps them."""

    def __init__(self, **settings):
        super().__init__(N, batch_size=BATCH, **settings)
        self.batches = {}

    def load(self, rows):
        return self.batches.setdefault(tuple(rows), (np.ones((len(rows), 1)), np.ones(len(rows))))


def in_place(batch):
    batch[0][:] *= 2
    return batch


@pytest.mark.parametrize("setting", ["transform", "augment"])
def test_measuring_leaves_the_data_as_they_are(setting):
    dataset = Kept(seed=0, **{setting: in_place})
    expected = dataset[3][0].tolist()
    measure(dataset, dataset.plan, 0, 3)
    assert dataset[3][0].tolist() == expected


def test_what_is_measured_draws_the_numbers_of_its_shard():
    drawn = []

    def draw(batch, rng):
        drawn.append(rng.random())
        return batch

    dataset = Ids(N, batch_size=BATCH, seed=0, shard=(1, 2), transform=draw)
    dataset[3]
    measure(dataset, dataset.plan, 0, 3)
    assert drawn[0] == drawn[1]


def test_a_batch_of_padding_alone_is_measured_like_any_other():
    class NeverEmpty(Ids):
        def load(self, rows):
            assert len(rows) > 0
            return super().load(rows)

    dataset = NeverEmpty(BATCH + 1, batch_size=BATCH // 2, seed=0, shard=(1, 2))
    assert len(dataset.rows(1)) == 0
    measure(dataset, dataset.plan, 0, 1)


@pytest.mark.parametrize(
    ("busy", "settings", "expected"),
    [
        (0.0, {"workers": 1}, ("workers", 5)),  # 40 ms of making for each 10 ms of training
        (0.0, {"workers": 6}, ("workers", 7)),
        (0.0, {"workers": 10}, ("max_queue_size", 20)),
        (0.9, {"workers": 1}, ("use_multiprocessing", True)),
        (0.4, {"workers": 1}, ("use_multiprocessing", True)),  # two threads took turns
        (0.2, {"workers": 4}, ("use_multiprocessing", True)),
        (0.2, {"workers": 1}, ("workers", 5)),
        (0.9, {"workers": 0}, ("workers", 1)),
    ],
)
def test_work_in_python_is_for_processes_and_waiting_for_threads(
    monkeypatch, busy, settings, expected
):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    costs = Costs(reading_s=0.03, transform_s=0.01, transport_s=0.0, busy=busy)
    assert advice(Ids(N, **settings), costs, compute_s=0.01) == expected


@whatever_else_runs
def test_no_more_workers_are_advised_than_the_queue_holds(make_model):
    settings = {"batch_size": BATCH, "workers": 1, "max_queue_size": 2}
    monitor, _, _ = watched(make_model, SlowReading(N, **settings), epochs=2)
    assert monitor.advice == ("workers", 2)
    monitor, _, _ = watched(make_model, SlowReading(N, **settings | {"workers": 2}), epochs=2)
    assert monitor.advice == ("max_queue_size", 4)


@whatever_else_runs
def test_arrays_that_are_read_at_once_want_larger_batches(data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH)
    costs = measure(dataset, dataset.plan, 0, 0)
    assert costs.dearest == "reading"
    assert advice(dataset, costs, 0.001) == ("batch_size", 2 * BATCH)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="others have a thread")
def test_arrays_that_the_loop_of_jax_gathers_itself_want_threads():
    dataset = ArrayDataset(np.zeros((64, 5000)), batch_size=16)
    costs = Costs(reading_s=0.03, transform_s=0.0, transport_s=0.0, busy=0.9)
    assert advice(dataset, costs, compute_s=0.01) == ("workers", 2)
    dataset.workers = 2
    assert advice(dataset, costs, compute_s=0.01) == ("use_multiprocessing", True)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="others have a thread")
def test_what_is_more_than_a_gather_has_a_thread_on_jax_too(tmp_path):
    x = np.zeros((64, 5000))
    np.save(tmp_path / "x.npy", x)
    assert has_time(ArrayDataset(x))
    for data, settings in (
        (x, {"transform": lambda batch: batch}),
        (x[:, ::2], {}),  # indexed, not taken
        (np.load(tmp_path / "x.npy", mmap_mode="r"), {}),
    ):
        assert not has_time(ArrayDataset(data, **settings))


def has_time(dataset):
    return has_time_for(core_of(dataset).facts(dataset.plan))


class SlowInThreads(BatchDataset):
    """As where many threads compete for the processor: a batch alone takes no time."""

    def load(self, rows):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.06)
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


def test_a_wait_that_making_a_batch_does_not_explain_is_no_reason_for_advice(make_model):
    dataset = SlowInThreads(N, batch_size=BATCH, workers=1)
    monitor, texts, history = watched(make_model, dataset, epochs=2)
    assert (texts, monitor.advice, monitor.costs) == ([], None, None)
    assert history["data_wait_share"][-1] > 0.3


@whatever_else_runs
def test_patience_and_warn_above_decide_when_to_warn(make_model):
    for settings, warned in [
        ({"patience": 15}, True),  # the first of 16 steps does not count
        ({"patience": 16}, False),
        ({"warn_above": 1.0}, False),
    ]:
        dataset = SlowReading(N, batch_size=BATCH, workers=0)
        monitor, texts, _ = watched(make_model, dataset, **settings)
        assert (len(texts), monitor.advice is not None) == (warned, warned)


def test_measuring_changes_nothing(make_model, fit):
    """Making a batch again is as a peek."""
    dataset = SlowReading(N, batch_size=BATCH, seed=0, workers=0)
    monitor = InputMonitor(dataset, patience=4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="training waits for data")
        seen = fit(make_model(), dataset, callbacks=[monitor])
    assert monitor.advice is not None
    assert seen.epochs == [[row for step in range(16) for row in dataset.rows(step, 0)]]
    assert dataset.epoch == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"warn_above": 30},
            "warn_above is 30 (int); expected a share of the time of a step, from 0 to 1.",
        ),
        (
            {"warn_above": True},
            "warn_above is True (bool); expected a share of the time of a step, from 0 to 1.",
        ),
        ({"patience": 0}, "patience is 0 (int); expected a whole number from 1 up."),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(arguments, text):
    with pytest.raises(InvalidArgumentError) as caught:
        InputMonitor(Ids(N), **arguments)
    assert str(caught.value) == text


def test_what_auto_has_tried_is_not_advised(make_model):
    dataset = SlowReading(80, batch_size=BATCH, workers="auto", seed=0)
    tuner = core_of(dataset).part(Executor).tuner(Work(dataset.plan))
    while not tuner.settled:  # of a time when batches cost nothing
        tuner.note(waited_s=0.0, away_s=1.0)
    _, (text,), _ = watched(make_model, dataset, warn_above=0.0)
    told = "workers='auto' has found nothing better than what makes them now, inline."
    assert f"Most goes to reading: {told}" in text
