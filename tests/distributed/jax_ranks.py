"""One of several processes that train together by `jax.distributed`; see test_jax.py.

RANK, WORLD_SIZE and PORT tell which one it is. With a WORLD_SIZE of 1 it is the process that the
others are compared with, and trains on four devices too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import warnings
from functools import partial

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from keras import ops
from launching import say

import keras_npbatch as npb
from keras_npbatch.distributed import agreement

RANK, COUNT = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
KEEPS_ROWS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 10)
GLOBAL_BATCH = 16
EPOCHS = 3
SCENARIOS = {
    # 16, 16, 1: with two or four processes some have no row of the last batch
    "pad": {"num_samples": 33},
    "drop": {"num_samples": 45, "remainder": "drop"},
    "keep": {"num_samples": 40, "remainder": "keep"},
    "spread": {"num_samples": 36, "remainder": "spread"},
}


class Log(keras.metrics.Metric):
    """Writes down each target and its weight, in the order in which the model gets them."""

    def __init__(self):
        super().__init__(name="log", dtype="float32")
        self.ids = self.add_weight(shape=(1024,), initializer="zeros", dtype="int32", name="ids")
        self.weights = self.add_weight(shape=(1024,), initializer="zeros", name="weights")
        self.written = self.add_weight(shape=(), initializer="zeros", dtype="int32", name="n")

    def update_state(self, y_true, y_pred, sample_weight=None):
        ids = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        weights = ops.ones(ids.shape) if sample_weight is None else ops.reshape(sample_weight, -1)
        at = ops.reshape(self.written + ops.arange(ids.shape[0], dtype="int32"), (-1, 1))
        self.ids.assign(ops.scatter_update(self.ids, at, ids))
        self.weights.assign(ops.scatter_update(self.weights, at, weights))
        self.written.assign_add(ids.shape[0])

    def result(self):
        return ops.cast(self.written, "float32")

    def reset_state(self):
        """Keras resets metrics at each epoch; this one goes on."""


def loss(y_true, y_pred):
    """Bounded, and different for each id."""
    return ops.mean(ops.square(y_pred - ops.cast(y_true % 7, "float32")), axis=-1)


def make_model(units=1):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(units, name="only")])
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.log = Log()
    model.compile(optimizer, loss, weighted_metrics=[model.log, "mae"])
    return model


def arrays(num_samples):
    ids = np.arange(num_samples, dtype="int32")
    x = np.random.default_rng(0).normal(size=(num_samples, 3)).astype("float32")
    return x, ids[:, np.newaxis]


def make_dataset(num_samples, *, shards=COUNT, **settings):
    settings = {"seed": 5, "shard": "auto", "batch_size": GLOBAL_BATCH // shards} | settings
    return npb.ArrayDataset(*arrays(num_samples), **settings)


def seen(model):
    log = model.log
    count = int(log.written)
    return {
        "ids": np.asarray(log.ids)[:count].tolist(),
        "weights": np.asarray(log.weights)[:count].tolist(),
    }


def trained(model):
    """The weights, also those that are in several processes."""
    values = [v.value for v in [*model.trainable_variables, *model.optimizer.variables]]
    gathered = [
        np.asarray(v) if v.is_fully_replicated else multihost_utils.process_allgather(v, tiled=True)
        for v in values
    ]
    return [value.ravel().tolist() for value in gathered]


def fit(name, dataset, model=None, **arguments):
    model = make_model() if model is None else model
    history = model.fit(dataset, **{"epochs": EPOCHS, "verbose": 0} | arguments).history
    say(name=name, **seen(model), trained=trained(model), history=history, seed=dataset.seed)
    return model


def caught(name, action):
    """Say what an action warns of, or raises."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            action()
        except Exception as error:  # noqa: BLE001  # any: which one it was is tested
            say(name=name, error=type(error).__name__, message=str(error))
        else:
            messages = [str(each.message) for each in found if each.category is UserWarning]
            say(name=name, error=None, warnings=messages)


def train_all(datasets):
    for name, dataset in datasets.items():
        validation = None
        if name == "pad":
            validation = make_dataset(33, seed=7, remainder=dataset.remainder)
        model = fit(name, dataset, validation_data=validation)
        if name == "pad":
            evaluated = model.evaluate(validation, verbose=0, return_dict=True)
            say(name="evaluate", result=evaluated)


def of_broken(failing, raises=OSError, **settings):
    """Samples of which some can't be read."""
    x, ids = arrays(33)

    def load_sample(row):
        if row in failing:
            raise raises(f"row {row} is broken")
        return x[row], ids[row]

    chosen = {"seed": 5, "batch_size": GLOBAL_BATCH // COUNT, "shard": "auto", "remainder": "pad"}
    chosen |= {"on_error": "set_aside", "max_set_aside": 0.5}
    return npb.SampleDataset(load_sample, num_samples=33, **chosen | settings)


def set_aside():
    """Rows that one process or the other can't read: also the only one of the last step."""
    warnings.filterwarnings("ignore", "row .* could not be read")
    order = make_dataset(33).rows(2, 0, shard=(0, 2)).tolist()
    dataset = of_broken({3, 17, 18, *order})
    fit("set aside", dataset)
    say(name="set aside, rows", rows=list(dataset.set_aside), failing=sorted({3, 17, 18, *order}))
    if COUNT > 1:
        few = of_broken({3, 17, 18}, max_set_aside=2 / 33)
        caught("too many", lambda: make_model().fit(few, verbose=0))
        of_one = of_broken({3} if RANK else (), raises=MemoryError)
        caught("no memory", lambda: make_model().fit(of_one, verbose=0))


def interrupt():
    """An epoch, and the others with a dataset that goes on where the first has stopped."""
    settings = SCENARIOS["drop"]
    first, model = make_dataset(**settings), make_model()
    model.fit(first, epochs=1, verbose=0)
    second = make_dataset(**settings)
    second.load_state_dict(first.state_dict())
    fit("interrupted", second, model, initial_epoch=1)


class Stop(keras.callbacks.Callback):
    """Breaks training off after its first three steps."""

    def on_train_batch_end(self, batch, logs=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            raise KeyboardInterrupt


def go_on_within():
    """The rest of an epoch, and whole ones."""
    settings = SCENARIOS["drop"]
    dataset = make_dataset(**settings)
    dataset.load_state_dict(dataset.state_dict(epoch=0, step=1))
    fit("rest", dataset)


def back_up():
    """Broken off in the second epoch of two steps, and started again by all."""
    for stop in ([Stop()], []):
        dataset, model = make_dataset(**SCENARIOS["drop"]), make_model()
        backup = npb.callbacks.BackupAndRestore(dataset, sys.argv[1], save_freq=1)
        with contextlib.suppress(KeyboardInterrupt):
            fit("backed up", dataset, model, callbacks=[backup, *stop])


def share_one_model(shape):
    """Parts of the model on several devices: those of one replica read the same rows."""
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout["only/kernel"] = (None, "model")
    layout["only/bias"] = ("model",)
    name = "x".join(map(str, shape))
    distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    with distribution.scope():
        shards = min(COUNT, shape[0])
        dataset = make_dataset(33, shards=shards)
        shard, drawn = dataset.plan.shard, make_dataset(33, shards=shards, seed=None).seed
        say(name=f"shard of {name}", shard=[shard.index, shard.count], seed=drawn)
        model = fit(name, dataset, make_model(units=4))
        caught(f"unlike {name}", lambda: model.fit(make_dataset(33, shards=shards, seed=RANK)))


# ---------------------------------------------------------------- what goes wrong


def go_wrong(model):
    fit_quietly = partial(model.fit, verbose=0)
    x, y = arrays(33)
    caught("seed", lambda: fit_quietly(make_dataset(33, seed=RANK)))
    caught("data", lambda: fit_quietly(npb.ArrayDataset(x + RANK, y, seed=0, shard="auto")))
    caught("settings", lambda: fit_quietly(make_dataset(33, batch_size=4 + 4 * RANK)))
    caught("samples", lambda: fit_quietly(make_dataset(33 + 16 * RANK)))
    caught("epoch", lambda: fit_quietly(moved(make_dataset(33), RANK)))
    caught("same shard", lambda: fit_quietly(make_dataset(33, shard=(1, 2))))
    caught("evaluate others", lambda: model.evaluate(make_dataset(33 + RANK), verbose=0))
    caught("one is refused", lambda: fit_quietly(make_dataset(35, remainder=["keep", "pad"][RANK])))
    caught("one draws a seed", lambda: fit_quietly(make_dataset(33, seed=[None, 3][RANK])))
    caught("no shard", lambda: fit_quietly(make_dataset(33, shard=None)))
    caught("other shards", lambda: fit_quietly(make_dataset(33, shard=(RANK, 3))))
    caught("unequal", lambda: fit_quietly(make_dataset(35, remainder="keep")))
    validation = make_dataset(33, shard=None)
    caught("validation", lambda: fit_quietly(make_dataset(33), validation_data=validation))
    caught("predict", lambda: model.predict(make_dataset(33), verbose=0))
    caught("to_tf_dataset", lambda: make_dataset(33).to_tf_dataset())
    restored = make_dataset(33)
    caught("restored", lambda: make_model().fit(restored, verbose=0, callbacks=[Restore(restored)]))
    # 13 samples are left of 16: 8, and of the other 5 one process would have 3.
    alone = make_dataset(16, shard=None, batch_size=3, remainder="keep")
    state, uneven = alone.state_dict(epoch=0, step=1), {"batch_size": 4, "remainder": "keep"}
    resumed, later = make_dataset(16, **uneven), make_dataset(16, **uneven)
    resumed.load_state_dict(state)
    caught("unequal rest", lambda: make_model().fit(resumed, verbose=0))
    restore = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: later.load_state_dict(state)
    )
    caught("unequal rest, restored", lambda: make_model().fit(later, callbacks=[restore]))
    with keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:1]).scope():
        caught("small mesh", lambda: make_dataset(33))


class Restore(keras.callbacks.Callback):
    """Begins with another epoch on each process, as if each had a backup of its own."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset = dataset

    def on_train_begin(self, logs=None):
        self.dataset.set_epoch(RANK)


def moved(dataset, epoch):
    dataset.set_epoch(epoch)
    return dataset


def fit_tf_dataset():
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    with distribution.scope():
        model, dataset = make_model(), make_dataset(**SCENARIOS["drop"])
        model.fit(dataset.to_tf_dataset(), epochs=EPOCHS, shuffle=False, verbose=0)
        say(name="tf.data", **seen(model), trained=trained(model))


def predict_alone(model):
    keras.distribution.set_distribution(None)
    x, y = arrays(33)
    caught("predict a shard", lambda: model.predict(make_dataset(33), verbose=0))
    own = slice(RANK, None, 2)
    dataset = npb.ArrayDataset(x[own], y[own], batch_size=8)
    kernel, bias = model.get_weights()
    say(
        name="predict alone",
        predicted=model.predict(dataset, verbose=0).tolist(),
        expected=(x[own] @ kernel + bias).tolist(),
    )


def forget_the_distribution():
    caught("no distribution", lambda: make_model().fit(make_dataset(33), verbose=0))
    dataset = make_dataset(33, shard=None)
    caught("neither", lambda: make_model().fit(dataset, verbose=0))
    meant = make_dataset(33, shard=(0, 1))
    caught("on purpose", lambda: make_model().fit(meant, verbose=0))


def one_never_comes(model):
    if RANK == 0:
        agreement.OTHERS_COME_WITHIN_S = 1.0
        caught("alone", lambda: model.fit(make_dataset(33), verbose=0))


# ---------------------------------------------------------------- who does what


def be_one_of_several():
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # an early JAX has no default
    # One before the distribution is set, the others after.
    jax.distributed.initialize(f"127.0.0.1:{os.environ['PORT']}", COUNT, RANK)
    early = make_dataset(**SCENARIOS["keep"])
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    datasets = {name: make_dataset(**settings) for name, settings in SCENARIOS.items()}
    train_all(datasets | {"keep": early})
    np.random.seed(RANK)  # noqa: NPY002  # what datasets draw seeds from
    model = fit("no seed", make_dataset(33, seed=None))
    share_one_model((2, len(jax.devices()) // 2))
    if COUNT == 2:
        set_aside()
        share_one_model((1, len(jax.devices())))
        interrupt()
        go_on_within()
        back_up()
        workers = make_dataset(33, workers=2, use_multiprocessing=True)
        fit("processes", workers)
        fit_tf_dataset()
        go_wrong(model)
        predict_alone(model)
        forget_the_distribution()
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        one_never_comes(model)


def be_the_only_one():
    datasets = {name: make_dataset(**settings) for name, settings in SCENARIOS.items()}
    train_all(datasets | {"pad": make_dataset(33, remainder="keep")})
    set_aside()
    fit("four outputs", make_dataset(33, remainder="keep"), make_model(units=4))
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    for shard in (None, "auto"):
        model = fit(f"devices, shard={shard}", make_dataset(33, shard=shard, remainder="pad"))
    caught("one device too many", lambda: model.fit(make_dataset(33, shard=None), verbose=0))
    x, y = arrays(33)
    even = npb.ArrayDataset(x[:32], y[:32], batch_size=16)
    odd = npb.ArrayDataset(x, y, batch_size=16, remainder="pad")
    kernel, bias = model.get_weights()
    expected = (x @ kernel + bias).tolist()
    if KEEPS_ROWS:
        predicted = model.predict(even, verbose=0).tolist()
        say(name="predict on devices", predicted=predicted, expected=expected[:32])
    else:
        caught("predict on devices", lambda: model.predict(even, verbose=0))
    caught("predict the rest", lambda: model.predict(odd, verbose=0))
    keras.distribution.set_distribution(None)
    predicted = model.predict(odd, verbose=0).tolist()
    say(name="predict on one device", predicted=predicted, expected=expected)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(float(os.environ["TELL_AFTER_S"]))  # where a hang is
    if COUNT > 1:
        be_one_of_several()
    else:
        be_the_only_one()
    sys.stdout.flush()
