"""A dataset that is resumed in the middle of an epoch: `fit` sees the rest, then whole epochs."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from tests.installed import needs_several_steps_at_once
from tests.keras_loaders import Ids as Loader

N, BATCH = 50, 8


def rest_of(dataset, epoch, step=0):
    """The rows of an epoch from a step on."""
    steps = range(step, dataset.plan.num_batches)
    return np.concatenate([dataset.rows(step, epoch) for step in steps]).tolist()


class Steps(keras.callbacks.Callback):
    """What Keras says an epoch has, and what the progress bar counts to."""

    def on_train_begin(self, logs=None):
        self.told = self.params["steps"]
        self.bars = []

    def on_epoch_end(self, epoch, logs=None):
        if self.bars is not None:
            self.bars.append(self.progress.progbar.target)


class Progress(keras.callbacks.ProgbarLogger):
    def set_params(self, params):
        super().set_params(params | {"verbose": 0})


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("step", [1, 5, 6])
def test_fit_sees_the_rest_of_the_epoch_and_then_whole_ones(make_model, fit, workers, step, built):
    """Warnings are errors: Keras must not say that it ran out of data."""
    dataset = Loader(N, batch_size=BATCH, seed=3, workers=workers)
    state = json.dumps(dataset.state_dict(epoch=2, step=step))
    dataset.load_state_dict(json.loads(state))
    steps = Steps()
    steps.progress = Progress()
    model = make_model(built=built)
    seen = fit(model, dataset, initial_epoch=2, epochs=5, callbacks=[steps.progress, steps])
    assert seen.epochs == [rest_of(dataset, 2, step), rest_of(dataset, 3), rest_of(dataset, 4)]
    assert seen.steps == [7 - step, 7, 7]
    assert steps.told == 7 - step
    assert steps.bars == [7 - step, 7, 7]
    assert dataset.state_dict() == dataset.state_dict(epoch=5, step=0)


def test_with_processes_too(make_model, fit):
    dataset = Loader(N, batch_size=BATCH, seed=3, workers=2, use_multiprocessing=True)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=5))
    seen = fit(make_model(), dataset, epochs=2)
    assert seen.epochs == [rest_of(dataset, 2, 5), rest_of(dataset, 3)]


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_callback_can_load_a_state_when_training_begins(make_model, fit, data, epoch):
    """Keras has asked how many steps there are before any callback is called."""
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    state = dataset.state_dict(epoch=epoch, step=4)
    load = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: dataset.load_state_dict(state)
    )
    for built in (False, True):
        steps = Steps()
        steps.progress = Progress()
        callbacks = [load, steps.progress, steps]
        seen = fit(make_model(built=built), dataset, epochs=3, callbacks=callbacks)
        assert seen.epochs == [
            rest_of(dataset, epoch, 4),
            rest_of(dataset, epoch + 1),
            rest_of(dataset, epoch + 2),
        ]
        assert steps.bars == [3, 7, 7]


def test_going_back_to_a_whole_epoch_makes_it_whole(make_model, fit, data):
    """What was to be a short epoch becomes a long one, after Keras was told its length."""
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=5))
    back = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: dataset.load_state_dict(
            dataset.state_dict(epoch=2, step=3)
        )
    )
    seen = fit(make_model(), dataset, epochs=3, callbacks=[back])
    assert seen.epochs == [rest_of(dataset, 2, 5), *[rest_of(dataset, 2, 3)] * 2]


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_validation_of_a_resumed_epoch_reads_all(make_model, fit, data, built):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=5))
    seen = fit(make_model(built=built), dataset, epochs=2, validation_data=dataset)
    assert seen.epochs == [rest_of(dataset, 2, 5), rest_of(dataset, 3)]
    assert seen.validations == [list(range(N))] * 2


def test_evaluate_and_predict_read_all_and_leave_the_position(make_model, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=5))
    model = make_model()
    assert len(model.predict(dataset, verbose=0)) == N
    model.evaluate(dataset, verbose=0)
    assert dataset.state_dict() == dataset.state_dict(epoch=2, step=5)


def test_another_initial_epoch_begins_that_epoch_whole(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=5))
    seen = fit(make_model(), dataset, initial_epoch=3, epochs=4)
    assert seen.epochs == [rest_of(dataset, 3)]


@pytest.mark.parametrize("steps_per_execution", [2, 3, 10])
def test_steps_per_execution_loses_nothing_of_the_rest(
    make_model, fit, data, backend, steps_per_execution
):
    needs_several_steps_at_once(backend)
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=0)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=2))
    model = make_model(steps_per_execution=steps_per_execution)
    seen = fit(model, dataset, epochs=2)
    assert seen.epochs == [rest_of(dataset, 2, 2), rest_of(dataset, 3)]


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_endless_short_epochs_go_on_from_the_position(make_model, fit, data, built):
    dataset = ArrayDataset(*data(46), batch_size=4, seed=0)
    endless = dataset.repeat()
    endless.load_state_dict(dataset.state_dict(epoch=1, step=7))
    seen = fit(make_model(built=built), endless, epochs=3, steps_per_epoch=5)
    walked = [row for epoch in seen.epochs for row in epoch]
    expected = rest_of(dataset, 1, 7) + rest_of(dataset, 2)
    assert walked == expected[: len(walked)]
    assert seen.steps == [5, 5, 5]


@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
def test_fit_forgets_what_an_iteration_had_reached(make_model, fit, data, built):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    for _ in range(4):
        for step, _ in enumerate(dataset):
            if step == 5:
                break
        assert dataset.state_dict()["step"] == 6

        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                assert dataset.state_dict()["step"] == 0
                if batch == 2:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fit(make_model(built=built), dataset, callbacks=[Stop()])
        assert dataset.state_dict() == dataset.state_dict(epoch=0, step=0)


def test_a_stop_in_a_resumed_epoch_leaves_it_to_the_next_fit(make_model, fit, data):
    dataset = ArrayDataset(*data(N), batch_size=BATCH, seed=3)
    dataset.load_state_dict(dataset.state_dict(epoch=2, step=4))
    model = make_model()

    def stop(step, logs):
        model.stop_training = True

    fit(model, dataset, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=stop)])
    assert dataset.state_dict() == dataset.state_dict(epoch=2, step=4)
    seen = fit(make_model(), dataset, epochs=2)
    assert seen.epochs == [rest_of(dataset, 2, 4), rest_of(dataset, 3)]
