"""`BackupAndRestore`: interrupted anywhere and started again, training ends with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.random.seed_generator import global_seed_generator

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import BackupAndRestore
from tests.installed import needs_several_steps_at_once
from tests.keras_loaders import Sines, shake

N, BATCH, EPOCHS = 50, 8, 3  # 7 steps an epoch


class StoppedError(Exception):
    """What stops a training here."""


def make_dataset(**settings):
    return Sines(N, **{"batch_size": BATCH, "seed": 3, "transform": shake} | settings)


def loss(y_true, y_pred):
    target = keras.ops.cast(y_true, "float32") / 50.0
    return keras.ops.square(y_pred[:, 0] - target)


def make_model(units=6, **compile_arguments):
    """All that keeps a state: moments, moving averages, seeds of dropout. Not built.

    Not compiled either, which would take longer than all its steps, except where a test says so.
    """
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )
    log = keras.saving.get_registered_object("tests>Log")()
    arguments = {
        "optimizer": keras.optimizers.Adam(0.01),
        "loss": loss,
        "metrics": [log, "mae"],
        "run_eagerly": True,
    }
    model.compile(**arguments | compile_arguments)
    model.log = log
    return model


class Watching(keras.callbacks.Callback):
    """Writes down what the model saw, the logs of epochs; stops after so many steps."""

    def __init__(self, stop_after=None, at_epoch_end=False):
        super().__init__()
        self.left, self.at_epoch_end = stop_after, at_epoch_end
        self.start = None
        self.logs, self.steps, self.begun = {}, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)
        self.steps.append(0)
        if self.start is None:
            self.start = int(self.model.log.written)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1
        if self.left is not None and not self.at_epoch_end:
            self.left -= 1
            if self.left == 0:
                raise StoppedError

    def on_epoch_end(self, epoch, logs=None):
        self.logs[epoch] = {name: float(value) for name, value in logs.items() if name != "log"}
        if self.at_epoch_end:
            self.left -= 1
            if self.left == 0:
                raise StoppedError


def saw(model, watching):
    ids = keras.ops.convert_to_numpy(model.log.ids)
    return ids[watching.start : int(model.log.written)].tolist()


def state(model):
    return [
        keras.ops.convert_to_numpy(variable)
        for variable in [*model.variables, *model.optimizer.variables]
    ]


def train(dataset, *callbacks, model=None, stop_after=None, at_epoch_end=False, **arguments):
    """A run of training, as a new process would make it; tells what became of it."""
    model = make_model() if model is None else model
    watching = Watching(stop_after, at_epoch_end)
    arguments = {"epochs": EPOCHS} | arguments
    try:
        model.fit(dataset, verbose=0, callbacks=[*callbacks, watching], **arguments)
    except StoppedError:
        assert stop_after is not None
    else:
        assert stop_after is None
    return model, watching


def assert_same_state(model, other):
    for ours, theirs in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


def rows_of(dataset, *places):
    """The rows of (epoch, first step, stop)."""
    return [
        int(row)
        for epoch, first, stop in places
        for step in range(first, stop)
        for row in dataset.rows(step, epoch)
    ]


@pytest.fixture(scope="module")
def steady():
    """The run that is never interrupted."""
    return train(make_dataset())


def test_interrupted_after_any_step_it_ends_with_the_same_bits(tmp_path):
    """Twice in one epoch, right after its first step, before its last, with other workers."""
    steady = train(make_dataset(), model=make_model(run_eagerly=False))
    seen, logs = [], {}
    for run, steps in enumerate([1, 2, 5, None]):
        dataset = make_dataset(workers=[0, 3, 1][run % 3])
        backup = BackupAndRestore(dataset, tmp_path / "backup", save_freq=1)
        model = make_model(run_eagerly=False)
        model, watching = train(dataset, backup, model=model, stop_after=steps)
        seen += saw(model, watching)
        logs |= watching.logs
    assert seen == saw(*steady)
    assert logs == steady[1].logs
    assert_same_state(model, steady[0])
    assert not (tmp_path / "backup").exists()


def test_interrupted_in_the_last_step_of_an_epoch_that_step_is_trained_again(steady, tmp_path):
    """Validation and other callbacks have not seen the end of that epoch."""
    dataset = make_dataset()
    train(dataset, BackupAndRestore(dataset, tmp_path, save_freq=1), stop_after=14)
    dataset = make_dataset()
    model, watching = train(dataset, BackupAndRestore(dataset, tmp_path))
    assert saw(model, watching) == rows_of(dataset, (1, 6, 7), (2, 0, 7))
    assert watching.logs == {epoch: steady[1].logs[epoch] for epoch in (1, 2)}
    assert_same_state(model, steady[0])


@pytest.mark.parametrize("save_freq", ["epoch", 3, 7, 10])
def test_what_came_after_the_last_backup_is_trained_again(steady, tmp_path, save_freq):
    """8 steps, so one of epoch 1; then up to the 16th."""
    begins = {"epoch": [0, 7, 14], 3: [0, 6, 15], 7: [0, 7, 14], 10: [0, 0, 10]}[save_freq]
    for done, stop in zip(begins, [8, 16], strict=False):
        dataset = make_dataset(workers=2)
        backup = BackupAndRestore(dataset, tmp_path, save_freq=save_freq)
        train(dataset, backup, stop_after=stop - done)
    done = begins[-1]
    dataset = make_dataset()
    backup = BackupAndRestore(dataset, tmp_path, save_freq=save_freq)
    model, watching = train(dataset, backup)
    epoch, step = divmod(done, 7)
    later = [(number, 0, 7) for number in range(epoch + 1, EPOCHS)]
    assert saw(model, watching) == rows_of(dataset, (epoch, step, 7), *later)
    assert watching.begun == list(range(epoch, EPOCHS))
    assert watching.logs == {number: steady[1].logs[number] for number in watching.begun}
    assert_same_state(model, steady[0])


@pytest.mark.parametrize("save_freq", ["epoch", 1, 7])
def test_interrupted_between_two_epochs(steady, tmp_path, save_freq):
    for interrupt in (True, False):
        dataset = make_dataset()
        backup = BackupAndRestore(dataset, tmp_path, save_freq=save_freq)
        stop = {"stop_after": 1, "at_epoch_end": True} if interrupt else {}
        model, watching = train(dataset, backup, **stop)
    assert watching.begun == [1, 2]
    assert saw(model, watching) == rows_of(dataset, (1, 0, 7), (2, 0, 7))
    assert_same_state(model, steady[0])


def test_with_validation_and_processes(tmp_path):
    def run(workers, stop_after=None, backup=True):
        dataset = make_dataset(workers=workers, use_multiprocessing=workers == 2)
        callbacks = [BackupAndRestore(dataset, tmp_path, save_freq=2)] if backup else []
        validation = make_dataset(shuffle=False, transform=None)
        return train(dataset, *callbacks, stop_after=stop_after, validation_data=validation)

    steady_model, steady_watching = run(0, backup=False)
    run(2, stop_after=9)
    model, watching = run(1)
    assert watching.begun == [1, 2]
    assert watching.steps == [6, 7]  # of 9 steps 8 were backed up
    assert "val_loss" in watching.logs[2]
    assert watching.logs == {epoch: steady_watching.logs[epoch] for epoch in (1, 2)}
    assert_same_state(model, steady_model)


@pytest.mark.parametrize("steps_per_epoch", [5, 10])
def test_short_epochs_of_an_endless_dataset(tmp_path, steps_per_epoch):
    """An epoch of Keras is then none of the data."""

    def run(stop_after=None, backup=True):
        dataset = make_dataset().repeat()
        callbacks = [BackupAndRestore(dataset, tmp_path, save_freq=1)] if backup else []
        return train(dataset, *callbacks, stop_after=stop_after, steps_per_epoch=steps_per_epoch)

    steady = run(backup=False)
    seen, steps = [], []
    for stop_after in (2, 1, steps_per_epoch + 1, None):
        model, watching = run(stop_after)
        seen += saw(model, watching)
        steps.append(watching.steps)
    assert seen == saw(*steady)
    n = steps_per_epoch
    assert steps == [[2], [1], [n - 3, 4], [n - 4, n]]
    assert_same_state(model, steady[0])


def test_short_epochs_that_divide_the_data(tmp_path):
    def run(stop_after=None, backup=True):
        dataset = Sines(48, batch_size=4, seed=3, transform=shake)
        callbacks = [BackupAndRestore(dataset, tmp_path, save_freq=1)] if backup else []
        return train(dataset, *callbacks, stop_after=stop_after, steps_per_epoch=4, epochs=6)

    steady = run(backup=False)
    seen = []
    for stop_after in (6, 5, 4, None):
        model, watching = run(stop_after)
        seen += saw(model, watching)
    assert seen == saw(*steady)
    assert_same_state(model, steady[0])


@pytest.mark.parametrize("steps_per_execution", [3])
@pytest.mark.skipif(
    keras.version().startswith("3.7."), reason="Keras 3.7: steps_per_execution; see docs/limits.md"
)
def test_steps_per_execution(tmp_path, backend, steps_per_execution):
    needs_several_steps_at_once(backend)

    def run(stop_after=None, backup=True):
        dataset = make_dataset()
        callbacks = [BackupAndRestore(dataset, tmp_path, save_freq=1)] if backup else []
        model = make_model(steps_per_execution=steps_per_execution, run_eagerly=False)
        return train(dataset, *callbacks, model=model, stop_after=stop_after)

    steady = run(backup=False)
    seen = []
    for stop_after in (1, 1, None):
        model, watching = run(stop_after)
        seen += saw(model, watching)
    assert seen == saw(*steady)
    assert_same_state(model, steady[0])


def test_a_second_fit_counts_its_own_epochs(steady, tmp_path):
    """The epoch of the data need not be that of Keras."""
    dataset = make_dataset()
    model, _ = train(dataset, epochs=1)
    watching = Watching(stop_after=3)
    backup = BackupAndRestore(dataset, tmp_path, save_freq=1)
    with pytest.raises(StoppedError):
        model.fit(dataset, epochs=2, verbose=0, callbacks=[backup, watching])
    dataset = make_dataset()
    backup = BackupAndRestore(dataset, tmp_path, save_freq=1)
    model, watching = train(dataset, backup, epochs=2)
    assert watching.begun == [0, 1]
    assert saw(model, watching) == rows_of(dataset, (1, 3, 7), (2, 0, 7))
    assert_same_state(model, steady[0])


def test_a_position_that_was_loaded_by_hand_is_backed_up(tmp_path):
    dataset = make_dataset()
    dataset.load_state_dict(dataset.state_dict(epoch=1, step=4))
    train(dataset, BackupAndRestore(dataset, tmp_path, save_freq=1), epochs=2, stop_after=4)
    dataset = make_dataset()
    model, watching = train(dataset, BackupAndRestore(dataset, tmp_path), epochs=2)
    assert watching.begun == [1]
    assert saw(model, watching) == rows_of(dataset, (2, 1, 7))


def test_the_model_goes_on_in_the_same_process(steady, tmp_path):
    """In a notebook: the same model, dataset and callback again."""
    dataset, model = make_dataset(), make_model()
    backup = BackupAndRestore(dataset, tmp_path, save_freq=1)
    for stop_after in (3, 5, None):
        train(dataset, backup, model=model, stop_after=stop_after)
    assert_same_state(model, steady[0])
    # A fit after the one that came to its end begins with Keras's epoch 0.
    _, watching = train(dataset, model=model, epochs=1)
    assert watching.begun == [0]


class Noise(keras.layers.Layer):
    """Draws from the generator that Keras keeps for those without a seed."""

    def call(self, x, training=False):
        return x + keras.random.normal(keras.ops.shape(x)) if training else x


@pytest.mark.skipif(
    keras.version().startswith("3.7."),
    reason="Keras 3.7: its global seed generator; see docs/limits.md",
)
def test_random_functions_without_a_seed(tmp_path, backend):
    if backend == "jax":
        pytest.skip("Keras: unseeded random functions are not supported with JAX")

    def run(stop_after=None, backup=True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([Noise(), keras.layers.Dense(1)])
        model.log = keras.saving.get_registered_object("tests>Log")()
        model.compile("adam", loss, metrics=[model.log])
        dataset = make_dataset()
        callbacks = [BackupAndRestore(dataset, tmp_path, save_freq=1)] if backup else []
        return train(dataset, *callbacks, model=model, stop_after=stop_after, epochs=2)[0]

    steady = run(backup=False)
    run(stop_after=3)
    assert_same_state(run(), steady)


def test_a_global_generator_that_was_made_since_the_backup_is_let_be(steady, tmp_path):
    dataset = make_dataset()
    train(dataset, BackupAndRestore(dataset, tmp_path, save_freq=1), stop_after=5)
    dataset, model = make_dataset(), make_model()  # which forgets the one that there was
    made = keras.ops.convert_to_numpy(global_seed_generator().state)
    train(dataset, BackupAndRestore(dataset, tmp_path), model=model)
    assert_same_state(model, steady[0])
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(global_seed_generator().state), made, strict=True
    )


@pytest.mark.more
def test_killed_while_training_and_started_again(steady, tmp_path, backend):
    """A process that is killed with SIGKILL, and another that comes after it."""
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        import keras
        import tests.on_a_backend
        from tests.callbacks.backup.test_callback import BackupAndRestore, make_dataset, train

        class Kill(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if (self.params["steps"], batch) == (7, 4):
                    os.kill(os.getpid(), signal.SIGKILL)

        dataset = make_dataset(workers=2)
        backup = BackupAndRestore(dataset, {str(tmp_path)!r}, save_freq=2)
        train(dataset, backup, Kill())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "KERAS_BACKEND": backend, "KERAS_NPBATCH_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    dataset = make_dataset(workers=0)
    model, watching = train(dataset, BackupAndRestore(dataset, tmp_path, save_freq=2))
    assert saw(model, watching) == rows_of(dataset, (0, 4, 7), (1, 0, 7), (2, 0, 7))
    assert_same_state(model, steady[0])


def test_a_metric_that_takes_weights_of_one_shape_alone(tmp_path):
    """`fit` gives the weights of padded batches that shape; a restored model is built like it."""

    def run(folder, *others):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
        score = keras.metrics.F1Score(name="score")
        model.compile("sgd", "categorical_crossentropy", weighted_metrics=[score], run_eagerly=True)
        x, y = np.arange(18.0)[:, np.newaxis], np.eye(2, dtype="int64")[np.arange(18) % 2]
        dataset = ArrayDataset(x, y, batch_size=BATCH, seed=1, remainder="pad")
        backup = BackupAndRestore(dataset, folder, save_freq=1)
        return model.fit(dataset, verbose=0, callbacks=[backup, *others]).history

    def stop(batch, logs):
        raise StoppedError

    with pytest.raises(StoppedError):
        run(tmp_path / "two", keras.callbacks.LambdaCallback(on_train_batch_end=stop))
    found, expected = run(tmp_path / "two"), run(tmp_path / "one")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)
