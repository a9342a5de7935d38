"""Worker processes below `fit`: what the model saw, whatever became of the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, errors
from keras_npbatch.workers.processes.messages import STARTING
from keras_npbatch.workers.systems import this_system
from tests.inside import children, pool_of
from tests.keras_loaders import Slow

N, BATCH = 50, 8
FORKS = "forkserver" in this_system().start_methods
"""Whether workers are forked, which takes milliseconds; not with the portable executor."""


class Loader(BatchDataset):
    """Tells in its weights which process made each batch."""

    offset = 0

    def load(self, rows):
        x = (rows + self.offset).astype("float32")[:, np.newaxis]
        return x, (rows + self.offset).astype("int32")


class ByIndex(BatchDataset):
    def __getitem__(self, index):
        rows = self.rows(index)
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class Broken(Loader):
    def load(self, rows):
        if 13 in rows:
            raise KeyError("sample-13.png")
        return super().load(rows)


class Naive(BatchDataset):
    """Augments with the global generator."""

    def load(self, rows):
        drawn = np.random.random(len(rows)) * 10**6  # noqa: NPY002
        return drawn.astype("float32")[:, np.newaxis], drawn.astype("int32")


def order_of(dataset, epoch):
    return np.concatenate([dataset.rows(step, epoch) for step in range(len(dataset))]).tolist()


def make(kind, data, n=N, **settings):
    chosen = {"batch_size": BATCH, "seed": 3, "workers": 2, "use_multiprocessing": True, **settings}
    return ArrayDataset(*data(n), **chosen) if kind == "arrays" else kind(n, **chosen)


def processes():
    return children(recursive=True)


def assert_all_end():
    deadline = time.monotonic() + 5
    while processes():
        assert time.monotonic() < deadline, processes()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "built",
    [pytest.param(False, id="fresh", marks=pytest.mark.more), pytest.param(True, id="built")],
)
@pytest.mark.parametrize("kind", [Loader, ByIndex, "arrays"])
def test_model_sees_the_planned_rows_of_each_epoch(make_model, fit, data, kind, built):
    dataset = make(kind, data)
    validation = make(kind, data, n=20, workers=1)
    seen = fit(make_model(built=built), dataset, epochs=3, validation_data=validation)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(3)]
    assert seen.validations == [list(range(20))] * 3
    assert dataset.epoch == 3
    assert_all_end()  # with the end of fit


def test_the_same_processes_serve_all_epochs_and_validations(make_model, fit, data):
    import keras

    dataset, validation = make(Loader, data), make(Loader, data, n=20)
    pids = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            pids.append((pool_of(dataset).pids, pool_of(validation).pids))

    fit(make_model(), dataset, epochs=4, validation_data=validation, callbacks=[Watch()])
    assert len(pids) == 4
    assert all(found == pids[0] for found in pids)
    assert_all_end()


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_evaluate_and_predict_read_in_the_order_of_the_data(make_model, data, call):
    dataset = make("arrays", data, remainder="pad")
    model = make_model(built=True)
    if call == "predict":
        predicted = model.predict(dataset, verbose=0)
        np.testing.assert_array_equal(predicted[:, 0], np.arange(N))
    else:
        model.evaluate(dataset, verbose=0)
    assert dataset.epoch == 0
    assert_all_end()


def test_the_model_sees_each_sample_once_though_workers_are_killed(make_model, fit, data):
    dataset = make(Slow, data, n=1200)
    if not FORKS:
        dataset.seconds = 0.02  # so that workers have started three times before the end
    over = threading.Event()
    kills = []

    def kill():
        while not over.wait(0.1):
            pool = pool_of(dataset)
            if pool is not None and (pool._board[:, 0] != STARTING).all():
                victim = pool.pids[len(kills) % 2]
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                kills.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        seen = fit(make_model(), dataset, epochs=3)
    finally:
        over.set()
        killer.join()
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(3)]
    assert len(kills) >= 3
    assert_all_end()


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_an_exception_reaches_the_caller_of_fit_as_itself(make_model, data, built):
    dataset = make(Broken, data)
    model = make_model(built=built)
    with pytest.raises(KeyError, match=r"sample-13\.png") as caught:
        model.fit(dataset, verbose=0)
    step, _ = dataset.locate(13, epoch=0)
    note, remote = caught.value.__notes__
    assert note.startswith(f"keras_npbatch: raised by load(rows) at epoch 0, step {step}, rows [")
    assert "in load" in remote
    assert_all_end()


def test_an_exception_of_a_callback_leaves_no_process(make_model, data):
    import keras

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise OSError("the disk is full")

    dataset = make(Loader, data, n=400)
    with pytest.raises(OSError, match="the disk is full") as caught:
        make_model().fit(dataset, verbose=0, callbacks=[Stops()])
    del caught
    assert_all_end()


def test_a_traceback_that_is_kept_keeps_no_process_for_long(make_model, data, monkeypatch):
    """As that of the last exception in a notebook is."""
    import keras

    from keras_npbatch.workers.processes import pool

    monkeypatch.setattr(pool, "_UNUSED_S", 1.0)

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    dataset = make(Loader, data, n=400)
    with pytest.raises(KeyboardInterrupt) as kept:
        make_model().fit(dataset, verbose=0, callbacks=[Stops()])
    assert_all_end()
    make_model().fit(dataset, verbose=0)  # of Keras 3.7 on JAX, the other is of no use now
    assert_all_end()
    del kept


def test_an_early_stop_and_another_fit(make_model, fit, data):
    import keras

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.model.stop_training = True

    dataset = make(Loader, data)
    model = make_model()
    first = fit(model, dataset, epochs=2, callbacks=[Stop()])
    assert order_of(dataset, 0)[: len(first.epochs[0])] == first.epochs[0]
    second = fit(make_model(), dataset, epochs=2)
    begin = 1 if len(first.epochs[0]) == N else 0
    assert second.epochs == [order_of(dataset, begin), order_of(dataset, begin + 1)]
    assert_all_end()


def test_short_epochs_walk_one_order(make_model, fit, data):
    dataset = make(Loader, data).repeat()
    seen = fit(make_model(), dataset, epochs=5, steps_per_epoch=3)
    walked = [row for ids in seen.epochs for row in ids]
    ends = order_of(make(Loader, data), 0) + order_of(make(Loader, data), 1)
    ends += order_of(make(Loader, data), 2)
    assert len(walked) == 2 * N + BATCH  # 15 batches, 7 an epoch
    assert walked == ends[: len(walked)]
    assert_all_end()


def test_what_is_set_between_epochs_takes_effect(make_model, fit, data):
    import keras

    dataset = make(Loader, data)

    class Harder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            dataset.offset = 100 * (epoch + 1)

    seen = fit(make_model(), dataset, epochs=3, callbacks=[Harder()])
    for epoch, ids in enumerate(seen.epochs):
        assert [row - 100 * epoch for row in ids] == order_of(dataset, epoch)
    assert_all_end()


def test_naive_augmentation_is_the_same_for_any_number_of_workers(make_model, fit, data):
    seen = [fit(make_model(), make(Naive, data, workers=w), epochs=2).epochs for w in (1, 2, 4)]
    assert seen[0] == seen[1] == seen[2]
    drawn = [number for ids in seen[0] for number in ids]
    assert len(set(drawn)) > 0.99 * len(drawn)


def test_close_lets_the_next_fit_start_again(make_model, fit, data):
    dataset = make(Loader, data)
    next(iter(dataset))
    assert processes()
    dataset.close()
    assert not processes()
    assert fit(make_model(), dataset).epochs == [order_of(dataset, 0)]
    with dataset:
        list(dataset)
        assert processes()
    assert not processes()


def test_with_keeps_the_processes_from_call_to_call(make_model, fit, data):
    dataset = make(Loader, data)
    model = make_model()
    with dataset:
        fit(model, dataset)
        pids = pool_of(dataset).pids
        model.evaluate(dataset, verbose=0)
        assert fit(make_model(), dataset).epochs == [order_of(dataset, 1)]
        assert pool_of(dataset).pids == pids
    assert not processes()


@pytest.mark.parametrize(
    ("chosen", "parents"),
    [("forkserver", {1}), ("spawn", {0}), (None, {1})] if FORKS else [("spawn", {0}), (None, {0})],
)
def test_the_start_method_is_the_one_that_was_asked_for(data, chosen, parents):
    """How many processes there are between this one and a worker."""
    dataset = make(Loader, data, start_method=chosen)
    with dataset:
        list(dataset)
        between = {
            [parent.pid for parent in psutil.Process(pid).parents()].index(os.getpid())
            for pid in pool_of(dataset).pids
        }
    assert between == parents


def test_a_batch_that_takes_longer_than_the_timeout_is_named(make_model, data):
    class Stuck(Loader):
        def load(self, rows):
            if 13 in rows:
                time.sleep(60)
            return super().load(rows)

    dataset = make(Stuck, data, timeout=0.3)
    step, _ = dataset.locate(13, epoch=0)
    with pytest.raises(errors.WorkerDiedError, match=rf"epoch 0, step {step}, .* timeout=0\.3 s"):
        make_model(built=True).fit(dataset, verbose=0)
    assert_all_end()


def test_evaluate_within_an_iteration_leaves_it_its_workers(make_model, data):
    dataset = make(Loader, data)
    model = make_model(built=True)
    seen = []
    with dataset:
        pass
    for _, y in dataset:
        model.evaluate(dataset, verbose=0)
        seen += y.tolist()
    assert seen == order_of(dataset, 0)
    dataset.close()
    assert not processes()


def test_a_dataset_that_is_dropped_leaves_no_process(data):
    dataset = make(Loader, data)
    iterator = iter(dataset)
    next(iterator)
    assert processes()
    del dataset, iterator
    assert_all_end()


def test_what_can_not_be_sent_is_refused_at_the_call_of_fit(make_model, data):
    lock = threading.Lock()
    dataset = make("arrays", data, transform=lambda batch: (lock, batch)[1])
    with pytest.raises(errors.UnsendableError, match=r"^ArrayDataset\.transform\.function\.lock"):
        make_model().fit(dataset, verbose=0)
    assert not processes()


@pytest.mark.more
def test_a_script_needs_no_main_guard_and_lambdas_do(tmp_path, backend):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            import keras_npbatch as npb

            print("once")

            class Slides(npb.BatchDataset):
                def load(self, rows):
                    assert not {"keras", "jax", "tensorflow", "torch"} & set(sys.modules)
                    return scale(rows), rows % 2

            scale = lambda rows: rows.astype("float32")[:, None] / 100
            import keras
            model = keras.Sequential([keras.layers.Dense(1)])
            model.compile("sgd", "mse")
            for dataset in (
                Slides(40, workers=2, use_multiprocessing=True),
                npb.ArrayDataset(np.ones((40, 1)), np.ones(40), workers=2,
                                 use_multiprocessing=True, transform=lambda b, rng: b),
            ):
                model.fit(dataset, epochs=2, verbose=0)
            print("done")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.split() == ["once", "done"], done.stderr
