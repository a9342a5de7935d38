"""Callbacks are copied and pickled, before and after a fit, and go on watching their dataset."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import warnings

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import (
    CALLBACKS,
    BackupAndRestore,
    BatchStatistics,
    CoverageAudit,
    InputMonitor,
    NaNReport,
    TorchDataParallel,
)

N, BATCH = 40, 8


def make_dataset(**settings):
    x = np.arange(N, dtype="float32")[:, np.newaxis] / N
    return ArrayDataset(x, x[:, 0], **{"batch_size": BATCH, "seed": 1} | settings)


def make_callbacks(dataset, folder, validation=None):
    return [
        BackupAndRestore(dataset, folder / "backup"),
        CoverageAudit(dataset),
        BatchStatistics(dataset, validation=validation, log="*"),
        InputMonitor(dataset),
        NaNReport(dataset, folder / "nan"),
    ]


def fit(dataset, callbacks, **arguments):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() != "jax")
    model.fit(dataset, verbose=0, callbacks=callbacks, **arguments)
    return model


def test_every_callback_of_the_list_is_tried(tmp_path):
    assert {type(each) for each in make_callbacks(make_dataset(), tmp_path)} == set(CALLBACKS)


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


def assert_they_watch(callbacks, dataset, **arguments):
    backup, audit, statistics, monitor, report = callbacks
    receipts = len(audit.receipts)
    fit(dataset, callbacks, **arguments)
    assert [receipt.is_whole for receipt in audit.receipts[receipts:]] == [True]
    assert statistics.history["data/samples"][-1] == N
    for callback in (backup, monitor, report):
        assert callback.dataset is dataset


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_copy_watches_the_same_dataset(tmp_path, copied, workers):
    """As KerasTuner makes them, which gives fit the original."""
    dataset, validation = make_dataset(workers=workers), make_dataset(shuffle=False)
    callbacks = make_callbacks(dataset, tmp_path, validation)
    for _ in range(3):  # before a fit, and after one
        copies = [copied(callback) for callback in callbacks]
        assert all(each.dataset is dataset for each in copies)
        assert copies[2].validation is validation
        receipts = len(callbacks[1].receipts)
        assert_they_watch(copies, dataset, validation_data=validation)
        if copied is copy.deepcopy:
            assert len(callbacks[1].receipts) == receipts
        callbacks = copies


def test_a_deep_copy_shares_the_dataset_with_what_is_copied_with_it(tmp_path):
    dataset = make_dataset()
    callbacks = make_callbacks(dataset, tmp_path)
    copies, same = copy.deepcopy((callbacks, dataset))
    assert copies[0].dataset is copies[3].dataset is same
    assert_they_watch(copies, same)
    other, copies = copy.deepcopy((dataset, callbacks))
    assert copies[0].dataset is copies[3].dataset is other is not dataset
    assert_they_watch(copies, other)


def test_a_pickle_holds_the_dataset(tmp_path):
    dataset, validation = make_dataset(workers=2), make_dataset(shuffle=False)
    callbacks = make_callbacks(dataset, tmp_path, validation)
    for _ in range(2):
        callbacks = through_pickle(callbacks)
        dataset, validation = callbacks[0].dataset, callbacks[2].validation
        assert_they_watch(callbacks, dataset, validation_data=validation)


class CopyEverything(keras.callbacks.Callback):
    """In the middle of a fit."""

    def __init__(self, callbacks):
        super().__init__()
        self.callbacks, self.copies = callbacks, None

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.copies = copy.deepcopy(self.callbacks), through_pickle(self.callbacks)


def test_in_the_middle_of_a_fit_what_belongs_to_the_fit_is_left_behind(tmp_path):
    dataset = make_dataset(workers=2)
    callbacks = make_callbacks(dataset, tmp_path)
    copying = CopyEverything(callbacks)
    fit(dataset, [*callbacks, copying])
    deep, pickled = copying.copies
    for callback in (*deep, *pickled):
        assert callback.model is None
    fit(dataset, deep[2:])
    assert deep[2].history["data/samples"] == [N]
    fit(pickled[2].dataset, pickled[2:])


def test_torch_data_parallel_is_copied_too(backend):
    if backend != "torch":
        pytest.skip("needs Torch")
    callback = TorchDataParallel()
    callback.set_model(fit(make_dataset(), []))
    for other in (copy.deepcopy(callback), through_pickle(callback)):
        assert other.model is None
        assert callback.model is not None


@pytest.mark.skipif(
    importlib.util.find_spec("keras_tuner") is None,
    reason="keras-tuner is not installed; it is in the extra 'dev'",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")
@pytest.mark.more  # it takes long; that copies are right is tested above
@pytest.mark.parametrize("executions", [1, 2])
def test_a_search_of_keras_tuner_with_all_callbacks(tmp_path, executions):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras_tuner

    def build(parameters):
        model = keras.Sequential(
            [keras.layers.Dense(parameters.Int("units", 1, 3)), keras.layers.Dense(1)]
        )
        model.compile("sgd", "mse")
        return model

    dataset, validation = make_dataset(), make_dataset(shuffle=False)
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs["coverage/seen"], logs["val_data/samples"]))

        def __deepcopy__(self, memo):
            return self

    tuner = keras_tuner.GridSearch(
        build,
        objective="val_loss",
        directory=tmp_path,
        project_name="search",
        executions_per_trial=executions,
    )
    callbacks = [
        *make_callbacks(dataset, tmp_path, validation),
        keras.callbacks.EarlyStopping("val_loss", patience=5),
        Seen(),
    ]
    tuner.search(dataset, validation_data=validation, epochs=2, verbose=0, callbacks=callbacks)
    assert seen == [(epoch, N, N) for epoch in range(2)] * 3 * executions
    assert len(tuner.get_best_hyperparameters(3)) == 3
    assert not (tmp_path / "backup").exists()
