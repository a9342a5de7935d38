"""Keras's callbacks beside a `BackupAndRestore`: interrupted, they end as if they had not been."""

from __future__ import annotations

import itertools
import warnings

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import BackupAndRestore
from keras_npbatch.callbacks.backup import snapshot
from keras_npbatch.errors import InvalidStateError

N, BATCH, EPOCHS = 24, 8, 10  # 3 steps an epoch
LOSSES = [5.0, 4.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


class StoppedError(Exception):
    """What interrupts a training here."""


class Validated(keras.callbacks.Callback):
    """A `val_loss` that is best in epoch 2; the weights at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.weights, self.rates = {}, {}

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = LOSSES[epoch]
        self.weights[epoch] = self.model.get_weights()
        self.rates[epoch] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Interrupt(keras.callbacks.Callback):
    """After so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_begin(self, batch, logs=None):
        if self.left == 0:
            raise StoppedError
        self.left -= 1


def make_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dropout(0.2)]
    )
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", run_eagerly=True)
    return model


def others(folder):
    return [
        keras.callbacks.EarlyStopping("val_loss", patience=4, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2),
        keras.callbacks.ModelCheckpoint(
            str(folder / "best.weights.h5"), save_best_only=True, save_weights_only=True
        ),
    ]


def trained(folder, backup_at=None, interrupt=None, save_freq="epoch", make_others=others):
    """A run; its model, callbacks, and what was seen at the ends of its epochs."""
    x = np.random.default_rng(0).normal(size=(N, 2)).astype("float32")
    dataset = ArrayDataset(x, x.sum(axis=1), batch_size=BATCH, seed=0)
    validated, callbacks = Validated(), make_others(folder)
    given = [*callbacks]
    if backup_at is not None:
        given.insert(backup_at, BackupAndRestore(dataset, folder / "backup", save_freq))
    given = [validated, *given]
    if interrupt is not None:
        given.append(Interrupt(interrupt))
    model = make_model()
    try:
        model.fit(dataset, epochs=EPOCHS, verbose=0, callbacks=given)
    except StoppedError:
        assert interrupt is not None
    return model, callbacks, validated


def plain(callback):
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
    return {name: getattr(callback, name) for name in names if hasattr(callback, name)}


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """The run that is never interrupted: best in epoch 2, stopped after epoch 6."""
    folder = tmp_path_factory.mktemp("steady")
    model, callbacks, validated = trained(folder)
    assert plain(callbacks[0]) == {"wait": 4, "best": 1.0, "best_epoch": 2, "stopped_epoch": 6}
    assert len(set(validated.rates.values())) == 2
    return model, callbacks, validated, (folder / "best.weights.h5").read_bytes()


def assert_ended_alike(folder, steady, resumed):
    model, callbacks, validated = resumed
    np.testing.assert_equal(model.get_weights(), steady[0].get_weights())
    np.testing.assert_equal(model.get_weights(), steady[2].weights[2])
    for ours, theirs in zip(callbacks, steady[1], strict=True):
        assert plain(ours) == plain(theirs)
    for epoch, rate in validated.rates.items():
        assert rate == steady[2].rates[epoch]
    other = make_model()
    other.optimizer.build(other.trainable_variables)
    other.load_weights(folder / "best.weights.h5")
    np.testing.assert_equal(other.get_weights(), steady[2].weights[2])


@pytest.mark.parametrize("backup_at", [0, 1, 3])
@pytest.mark.parametrize("steps", [7, 13])  # in epoch 2, in epoch 4
@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_an_interrupted_run_ends_as_one_that_was_not(steady, tmp_path, backup_at, steps, save_freq):
    trained(tmp_path, backup_at, steps, save_freq)
    resumed = trained(tmp_path, backup_at, save_freq=save_freq)
    assert max(resumed[2].weights) == 6
    assert_ended_alike(tmp_path, steady, resumed)
    assert not (tmp_path / "backup").exists()


def test_interrupted_in_each_epoch(steady, tmp_path):
    for _ in itertools.repeat(None, 20):
        resumed = trained(tmp_path, 0, interrupt=4)
        if resumed[1][0].stopped_epoch:
            break
    assert_ended_alike(tmp_path, steady, resumed)


class Kill(keras.callbacks.Callback):
    """When training is over, before other callbacks have heard of it."""

    def on_train_end(self, logs=None):
        raise StoppedError


def test_interrupted_when_training_was_stopped_it_is_not_trained_on(steady, tmp_path):
    def killed(folder):
        return [Kill(), *others(folder)]

    trained(tmp_path, 4, interrupt=100, make_others=killed)
    resumed = trained(tmp_path, 0)
    assert resumed[2].weights == {}
    assert_ended_alike(tmp_path, steady, resumed)


def test_a_callback_without_a_counterpart_is_told_of(tmp_path):
    trained(tmp_path, 0, interrupt=7)

    def changed(folder):
        return [
            keras.callbacks.EarlyStopping("loss", patience=20),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2),
        ]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        trained(tmp_path, 0, make_others=changed)
    (text,) = [str(each.message) for each in caught if each.category is UserWarning]
    assert text == (
        "BackupAndRestore has not restored the state of EarlyStopping(monitor='loss'), of which "
        "the backup has no state; EarlyStopping(monitor='val_loss'), which fit was not given now; "
        "ModelCheckpoint(monitor='val_loss'), which fit was not given now. Expected the callbacks "
        "that fit was given when the backup was made; these start again."
    )


# -------------------------------------------------------------------- facts that no backup has


def with_facts(change):
    def changed(facts, arrays):
        change(facts)
        return facts, arrays

    return changed


def without(name):
    return lambda facts, arrays: (facts, {n: a for n, a in arrays.items() if n != name})


def with_array(name, array):
    return lambda facts, arrays: (facts, arrays | {name: array})


def fact(*path, value):
    def change(facts):
        for name in path[:-1]:
            facts = facts[name]
        facts[path[-1]] = value

    return with_facts(change)


NONSENSE = {
    "step": fact("fit", "step", value=10**9),
    "negative step": fact("fit", "step", value=-1),
    "epoch": fact("fit", "epoch", value=10**9),
    "negative epoch": fact("fit", "epoch", value=-1),
    "half an epoch": fact("fit", "epoch", value=1.5),
    "true": fact("fit", "epoch", value=True),
    "no fit": fact("fit", value=None),
    "another step than the dataset's": fact("fit", "step", value=0),
    "step of the dataset": fact("dataset", "step", value=10**9),
    "epoch of the dataset": fact("dataset", "epoch", value=-1),
    "skip": fact("dataset", "skip", value=10**9),
    "no dataset": fact("dataset", value=[]),
    "no description of the dataset": fact("dataset", "dataset", value=3),
    "processes": fact("processes", value=0),
    "many processes": fact("processes", value=10**12),
    "optimizer": fact("optimizer", value=7),
    "variables": fact("variables", value={}),
    "groups": fact("variables", "others", value=[]),
    "name": fact("variables", "model", 0, value=["kernel"]),
    "shape": fact("variables", "model", 0, value=["kernel", [3, 2], "float32"]),
    "dtype": fact("variables", "model", 0, value=["kernel", [2, 3], "int32"]),
    "no dtype": fact("variables", "model", 0, value=["kernel", [2, 3], "nonsense"]),
    "stopped": fact("stopped", value="yes"),
    "callbacks": fact("callbacks", value={"a": 1}),
    "callback": fact("callbacks", 0, value=[]),
    "attribute": fact("callbacks", 0, "state", value={"model": 1}),
    "wait": fact("callbacks", 0, "state", "wait", value=-1),
    "no wait": fact("callbacks", 0, "state", "wait", value=None),
    "best": fact("callbacks", 0, "state", "best", value="1"),
    "best of no size": fact("callbacks", 0, "state", "best", value=10**400),
    "weights": fact("callbacks", 0, "state", "best_weights", value=10**9),
    "an array is missing": without("model/0"),
    "best weights are missing": without("callbacks/0/best_weights/0"),
    "array of another shape": with_array("model/0", np.zeros((3, 2), "float32")),
    "array of another dtype": with_array("model/0", np.zeros((2, 3), "float64")),
    "best weights of another shape": with_array("callbacks/0/best_weights/0", np.zeros(7)),
    "a stranger": with_array("model/99", np.zeros(1)),
    "of another process": with_array("processes/5/model/0", np.zeros((2, 3), "float32")),
    "generator": with_array("generators/0", np.zeros(3, "uint8")),
    "generator of floats": with_array("generators/0", np.zeros(3)),
}


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory):
    """Files of two backups, the second after 2 steps of epoch 2."""
    folder = tmp_path_factory.mktemp("backed_up")
    found = []
    for steps in (4, 8):
        trained(folder, 0, interrupt=steps, save_freq=2)
        found.append((folder / "backup" / "latest.snapshot").read_bytes())
        (folder / "backup" / "latest.snapshot").unlink()
    return found


@pytest.mark.parametrize("name", NONSENSE)
def test_facts_that_no_backup_has_are_damage(tmp_path, backed_up, name):
    if name == "generator" and keras.backend.backend() != "torch":
        pytest.skip("only Torch has generators of its own")
    folder = tmp_path / "backup"
    folder.mkdir()
    latest = folder / "latest.snapshot"
    latest.write_bytes(backed_up[1])
    facts, arrays = snapshot.read(latest)
    snapshot.write(latest, *NONSENSE[name](facts, arrays))
    with pytest.raises(InvalidStateError, match=r"latest.snapshot is damaged, or not written by"):
        trained(tmp_path, 0)
    (folder / "previous.snapshot").write_bytes(backed_up[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        _, _, validated = trained(tmp_path, 0, interrupt=3)
    (text,) = [str(each.message) for each in caught if each.category is UserWarning]
    assert text.endswith("Training goes on from the backup before it.")
    assert min(validated.weights) == 1


def test_what_is_not_changed_is_believed(tmp_path, backed_up):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "latest.snapshot").write_bytes(backed_up[1])
    assert min(trained(tmp_path, 0)[2].weights) == 2
