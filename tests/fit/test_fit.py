"""`fit`: the model sees each sample exactly once an epoch, in the order the plan tells."""

from __future__ import annotations

import itertools
import threading
import time

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.callbacks import CoverageAudit
from tests.disturbed import whatever_else_runs
from tests.installed import needs_several_steps_at_once

N, BATCH = 50, 8


def order_of(dataset, epoch):
    return np.concatenate(
        [dataset.rows(step, epoch) for step in range(dataset.plan.num_batches)]
    ).tolist()


def flat(epochs):
    return list(itertools.chain.from_iterable(epochs))


class Loader(BatchDataset):
    """A custom loader: threads whatever the size of its batches."""

    def __init__(self, num_samples=N, **settings):
        super().__init__(num_samples, **settings)

    def load(self, rows):
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class ByIndex(BatchDataset):
    """Written as users of PyDataset write it."""

    def __getitem__(self, index):
        rows = self.rows(index)
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("kind", [Loader, ByIndex, "arrays"])
def test_model_sees_the_planned_rows_of_each_epoch(make_model, fit, data, kind, workers, built):
    if kind == "arrays":
        dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3, workers=workers)
    else:
        dataset = kind(N, batch_size=BATCH, seed=3, workers=workers)
    seen = fit(make_model(built=built), dataset, epochs=3)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(3)]
    assert all(sorted(ids) == list(range(N)) for ids in seen.epochs)
    assert seen.epochs[0] != seen.epochs[1] != seen.epochs[2]
    assert seen.steps == [7, 7, 7]
    assert dataset.epoch == 3


@pytest.mark.parametrize("num_samples", [1, 8, 9, 16, 17])
@pytest.mark.parametrize("remainder", ["keep", "spread"])
def test_every_sample_once_for_few_batches(make_model, fit, data, num_samples, remainder):
    """With one or two batches, what builds the model is the whole of an epoch."""
    dataset = ArrayDataset(*data(num_samples), batch_size=BATCH, seed=0, remainder=remainder)
    seen = fit(make_model(), dataset, epochs=3)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(3)]


def test_drop_leaves_out_only_the_remainder(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=0, remainder="drop")
    seen = fit(make_model(), dataset, epochs=2)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(2)]
    assert all(len(set(ids)) == 48 for ids in seen.epochs)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_is_the_one_that_is_told_whatever_fit_is_given(make_model, fit, data, shuffle):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=5)
    seen = fit(make_model(), dataset, epochs=2, shuffle=shuffle)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(2)]


def test_an_unshuffled_dataset_is_read_in_the_order_of_the_data(make_model, fit, data):
    seen = fit(make_model(), ArrayDataset(*data(N), batch_size=BATCH, shuffle=False), epochs=2)
    assert seen.epochs == [list(range(N))] * 2


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_short_epochs_that_divide_walk_one_order(make_model, fit, data, built):
    dataset = ArrayDataset(*data(48), batch_size=4, seed=0)
    seen = fit(make_model(built=built), dataset, epochs=6, steps_per_epoch=4)
    assert seen.steps == [4] * 6
    walked = flat(seen.epochs)
    assert walked == order_of(dataset, 0) + order_of(dataset, 1)


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("steps", [1, 5, 12, 17])
def test_endless_short_epochs_walk_order_after_order(make_model, fit, data, steps, built):
    dataset = ArrayDataset(*data(46), batch_size=4, seed=0)
    endless = dataset.repeat()
    seen = fit(make_model(built=built), endless, epochs=5, steps_per_epoch=steps)
    assert seen.steps == [steps] * 5
    walked = flat(seen.epochs)
    expected = flat(order_of(dataset, epoch) for epoch in range(9))
    assert walked == expected[: len(walked)]
    assert dataset.epoch == endless.epoch == 5 * steps // 12


def test_each_repeat_goes_on_where_the_last_one_ended(make_model, fit, data):
    """The object need not be kept: the epochs are counted by what it was made of."""
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=0)
    steps = len(dataset)
    walked = [fit(make_model(), dataset.repeat(), steps_per_epoch=steps).epochs for _ in range(3)]
    assert walked == [[order_of(dataset, epoch)] for epoch in range(3)]


def test_an_endless_dataset_needs_steps_per_epoch(make_model, data):
    endless = ArrayDataset(*data(N), batch_size=BATCH).repeat()
    with pytest.raises(ValueError, match=r"^fit with an endless dataset .* steps_per_epoch=7\.$"):
        make_model().fit(endless, verbose=0)
    with pytest.raises(ValueError, match=r"^fit with an endless .* validation_steps=7\.$"):
        make_model().fit(endless, steps_per_epoch=1, validation_data=endless.repeat(), verbose=0)
    with pytest.raises(ValueError, match=r"^fit with an endless .* validation_steps=7\.$"):
        make_model().fit(endless, steps_per_epoch=1, validation_data=endless, verbose=0)
    with pytest.raises(ValueError, match=r"^evaluate with an endless .* steps=7\.$"):
        make_model().evaluate(endless, verbose=0)


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("steps_per_execution", [2, 4, 10])
def test_steps_per_execution_loses_nothing(
    make_model, fit, data, backend, steps_per_execution, built
):
    needs_several_steps_at_once(backend)
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=0)
    model = make_model(built=built, steps_per_execution=steps_per_execution)
    assert fit(model, dataset, epochs=2).epochs == [order_of(dataset, e) for e in range(2)]


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_validation_reads_all_and_leaves_training_alone(make_model, fit, workers, built):
    train = Loader(batch_size=BATCH, seed=1, workers=workers)
    validation = Loader(21, batch_size=BATCH, seed=2, workers=workers)
    seen = fit(make_model(built=built), train, epochs=3, validation_data=validation)
    assert seen.epochs == [order_of(train, epoch) for epoch in range(3)]
    assert seen.validations == [list(range(21))] * 3
    assert validation.epoch == 0


def test_one_dataset_serves_training_and_its_validation(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
    seen = fit(make_model(), dataset, epochs=3, validation_data=dataset)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(3)]
    assert seen.validations == [list(range(N))] * 3


def test_initial_epoch_is_the_epoch_of_the_data(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
    seen = fit(make_model(), dataset, initial_epoch=2, epochs=4)
    assert seen.epochs == [order_of(dataset, 2), order_of(dataset, 3)]
    assert dataset.epoch == 4


def test_set_epoch_says_where_fit_begins(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
    dataset.set_epoch(7)
    seen = fit(make_model(), dataset, epochs=2)
    assert seen.epochs == [order_of(dataset, 7), order_of(dataset, 8)]


def test_a_callback_can_set_the_epoch_during_fit(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
    skip = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: dataset.set_epoch(10 * epoch)
    )
    seen = fit(make_model(), dataset, epochs=3, callbacks=[skip])
    assert seen.epochs == [order_of(dataset, 10 * epoch) for epoch in range(3)]


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.step:
            self.model.stop_training = True


@pytest.mark.parametrize("workers", [0, 4])
def test_a_fit_after_an_early_stop_sees_whole_epochs(make_model, fit, workers):
    dataset = Loader(batch_size=BATCH, seed=1, workers=workers)
    model = make_model()
    seen = fit(model, dataset, epochs=3, callbacks=[StopAt(2)])
    assert seen.epochs == [order_of(dataset, 0)[: 3 * BATCH]]
    written = len(seen.epochs[0])
    seen = fit(model, dataset, epochs=2)
    # The epoch that was not delivered whole is started again.
    assert flat(seen.epochs)[written:] == order_of(dataset, 0) + order_of(dataset, 1)


def test_consecutive_fits_go_on_with_new_epochs(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
    fit(make_model(), dataset, epochs=2)
    seen = fit(make_model(), dataset, epochs=2)
    assert seen.epochs == [order_of(dataset, 2), order_of(dataset, 3)]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_fits_at_once_do_not_disturb_each_other(make_model, fit, workers):
    dataset = Loader(batch_size=BATCH, seed=1, workers=workers)
    results = {}

    def train(name):
        results[name] = fit(make_model(built=True), dataset, epochs=4)

    threads = [threading.Thread(target=train, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first = results["a"].epochs[0]
    starts = {epoch: order_of(dataset, epoch) for epoch in range(8)}
    for name in ("a", "b"):
        begun = next(epoch for epoch, order in starts.items() if order == results[name].epochs[0])
        assert results[name].epochs == [starts[begun + later] for later in range(4)]
    assert sorted(first) == list(range(N))


def test_hooks_called_at_any_time_change_nothing(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)

    class Nuisance(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            dataset.on_epoch_end()
            dataset.on_epoch_begin()
            assert dataset.num_batches == len(dataset) == 7
            dataset[0], dataset[3]

    seen = fit(make_model(), dataset, epochs=2, callbacks=[Nuisance()])
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(2)]


@pytest.mark.parametrize("num_samples", [9, N])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_a_textbook_pydataset_with_our_base_sees_each_sample_once(
    make_model, fit, workers, built, num_samples
):
    """It shuffles its own index in on_epoch_end, which Keras calls after building, too."""

    class Textbook(BatchDataset):
        def __init__(self, **settings):
            super().__init__(num_samples, batch_size=BATCH, shuffle=False, **settings)
            self.index = np.arange(num_samples)
            self.rng = np.random.default_rng(0)

        def __getitem__(self, index):
            rows = self.index[index * BATCH : (index + 1) * BATCH]
            return rows.astype("float32")[:, np.newaxis], rows.astype("int32")

        def on_epoch_end(self):
            self.index = self.rng.permutation(self.index)

    seen = fit(make_model(built=built), Textbook(workers=workers), epochs=3)
    assert [sorted(ids) for ids in seen.epochs] == [list(range(num_samples))] * 3
    assert seen.epochs[0] != seen.epochs[1] != seen.epochs[2]


def test_a_callback_that_sets_the_epoch_wins_over_initial_epoch(make_model, fit, data):
    for built in (False, True):
        dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
        restore = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs, dataset=dataset: dataset.set_epoch(5)
        )
        model = make_model(built=built)
        seen = fit(model, dataset, initial_epoch=2, epochs=4, callbacks=[restore])
        assert seen.epochs == [order_of(dataset, 5), order_of(dataset, 6)]


@whatever_else_runs
@pytest.mark.parametrize("workers", [1, 2])
def test_jax_on_the_processor_leaves_time_to_gather(make_model, fit, data, backend, workers):
    """Where a step takes all cores in threads of its own, while Python goes on."""
    seen = set()

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.update(thread.name for thread in threading.enumerate())

    ids = np.arange(4 * 1024)
    x = np.zeros((len(ids), 100), "float32") + ids[:, np.newaxis]
    dataset = ArrayDataset(x, ids, batch_size=1024, seed=0, workers=workers)  # 400 KB
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    model.fit(dataset, epochs=2, verbose=0, callbacks=[Look()])
    assert ("keras_npbatch-worker" in seen) == (backend != "jax" or workers == 2)
    for _ in dataset:  # who asks for threads otherwise gets them
        seen = {thread.name for thread in threading.enumerate()}
        break
    assert "keras_npbatch-worker" in seen


@whatever_else_runs
def test_a_callback_that_raises_leaves_no_thread(make_model, fit):
    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ZeroDivisionError

    dataset = Loader(batch_size=BATCH, workers=4, max_queue_size=3)
    with pytest.raises(ZeroDivisionError):
        fit(make_model(), dataset, callbacks=[Fail()])
    deadline = time.monotonic() + 1.0
    while any(t.name.startswith("keras_npbatch") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_hooks_of_a_subclass_that_forget_super_change_nothing(make_model, fit):
    class Hooked(Loader):
        called = 0

        def on_epoch_begin(self):
            self.called += 1

        def on_epoch_end(self):
            self.called += 1

    dataset = Hooked(9, batch_size=BATCH, seed=1)
    seen = fit(make_model(), dataset, epochs=3)
    assert seen.epochs == [order_of(dataset, epoch) for epoch in range(3)]
    assert dataset.called >= 6


def test_closing_before_the_first_epoch_loses_nothing(make_model, fit):
    dataset = Loader(batch_size=BATCH, seed=1)
    close = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: dataset.close())
    assert fit(make_model(), dataset, callbacks=[close]).epochs == [order_of(dataset, 0)]


def test_backup_and_restore_goes_on_with_the_epoch_of_the_data(make_model, fit, data, tmp_path):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise ZeroDivisionError

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(ZeroDivisionError):
        fit(make_model(built=True), dataset, epochs=4, callbacks=[backup(), Crash()])
    again = ArrayDataset(*data(N), batch_size=BATCH, seed=1)  # as a new process would make it
    seen = fit(make_model(built=True), again, epochs=4, callbacks=[backup()])
    walked = flat(seen.epochs)[-2 * N :]
    assert walked == order_of(dataset, 2) + order_of(dataset, 3)


def test_epoch_and_rows_inside_load_are_those_of_the_batch(make_model, fit):
    """Workers run ahead of training: what they are told is the epoch they make."""

    class Asking(Loader):
        def load(self, rows):
            step, _ = self.locate(int(rows[0]))
            assert (self.rows(step) == rows).all()
            asked.append(self.epoch)
            return super().load(rows)

    asked = []
    fit(make_model(), Asking(batch_size=BATCH, seed=1, workers=3), epochs=3)
    # What was made for building the model only, and taken back, is made again.
    assert asked.count(0) >= 7
    assert [asked.count(epoch) for epoch in (1, 2, 3)] == [7, 7, 0]


def test_a_model_whose_fit_is_overridden_is_served(make_model, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=1)
    plain = make_model()

    class Override(type(plain)):
        def fit(self, *args, **kwargs):
            return super().fit(*args, **kwargs)

    model = Override()
    model.compile("sgd", "mse")
    model.fit(dataset, verbose=0)
    assert dataset.epoch == 1
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(dataset, sample_weight=np.ones(N), verbose=0)


def test_weights_after_training_equal_those_of_a_hand_written_loop(make_model, fit, data):
    x, y = data(N)
    dataset = ArrayDataset(x, y, batch_size=BATCH, seed=1, workers=2)
    trained, by_hand = make_model(built=True), make_model(built=True)
    fit(trained, dataset, epochs=2)
    for epoch in range(2):
        for step in range(len(dataset)):
            rows = dataset.rows(step, epoch)
            by_hand.train_on_batch(x[rows], y[rows])
    for ours, theirs in zip(trained.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_parts_of_a_split_train_and_validate(make_model, fit, data, workers):
    whole = ArrayDataset(*data(N), batch_size=BATCH, seed=3, workers=workers)
    train, validation = whole.split(0.7)
    audit = CoverageAudit(train, rows_of=lambda batch: batch[1])
    seen = fit(make_model(), train, epochs=3, validation_data=validation, callbacks=[audit])
    assert seen.epochs == [order_of(train, epoch) for epoch in range(3)]
    assert all(len(set(ids)) == len(ids) == 35 for ids in seen.epochs)
    left = sorted(set(range(N)) - set(seen.epochs[0]))
    assert seen.validations == [left] * 3
    assert all(receipt.is_whole and receipt.num_samples == 35 for receipt in audit.receipts)
    assert make_model(built=True).predict(validation, verbose=0).ravel().tolist() == left
    assert validation.rows_in_order().tolist() == left
