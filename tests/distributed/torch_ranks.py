"""One of several processes that train with Keras's Torch backend; started by test_torch.py.

    RANK=0 WORLD_SIZE=2 python torch_ranks.py FOLDER fit disagree loop fail

Says, for each scenario, what its model was trained on and what came of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import keras
import numpy as np
import torch
import torch.distributed.nn  # before the group is made: its defaults would hold the group for ever
from launching import say
from torch import distributed

import keras_npbatch as npb

RANK, COUNT = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
GLOBAL_BATCH, EPOCHS = 8, 3
BATCH = GLOBAL_BATCH // COUNT


@keras.saving.register_keras_serializable("tests")
class Seen(keras.metrics.Metric):
    """Notes the ids that count of what the model is given, when it is."""

    def __init__(self, name="seen"):
        super().__init__(name=name)
        self.ids = []

    def update_state(self, y_true, y_pred, sample_weight=None):
        if y_true.is_meta:  # Keras is building
            return
        ids = y_true.detach().flatten()
        if sample_weight is not None:
            ids = ids[sample_weight.flatten() > 0]
        self.ids.extend(ids.tolist())

    def result(self):
        return 0.0

    def reset_state(self):
        """Ids are taken by `Epochs`."""


class Aggregated(keras.metrics.Metric):
    """How many samples the processes have read, put together in each way there is."""

    def __init__(self, aggregation):
        super().__init__(name=aggregation)
        self.number = self.add_variable((), "zeros", aggregation=aggregation, name="number")

    def update_state(self, y_true, y_pred, sample_weight=None):
        # Another number on each process, but for the sum.
        times = 1 if self.number.aggregation == "sum" else RANK + 1
        self.number.assign_add(float(y_true.shape[0] * times))

    def result(self):
        return self.number + 0.0

    def reset_state(self):
        self.number.assign(0.0)


class Epochs(keras.callbacks.Callback):
    """The ids of each epoch of training and of each validation."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.trained, self.validated, self.steps = seen, [], [], []

    def _take(self, where):
        where.append(list(self.seen.ids))
        self.seen.ids.clear()

    def on_train_begin(self, logs=None):
        self.seen.ids.clear()  # what Keras has only built the metrics with

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1

    def on_test_begin(self, logs=None):
        self._take(self.trained)

    def on_test_end(self, logs=None):
        self._take(self.validated)

    def on_epoch_end(self, epoch, logs=None):
        if len(self.trained) < len(self.steps):
            self._take(self.trained)


def squares(ids, predicted):
    """A loss that differs from sample to sample."""
    return keras.ops.square(predicted - keras.ops.sin(keras.ops.cast(ids, "float32")))


def make_model(seed, normalized=False, features=4, dropout_seed=None, **of_optimizer):
    # Not keras.utils.set_random_seed, which imports TensorFlow where there is one.
    first, second = (keras.initializers.GlorotUniform(seed=2 * seed + each) for each in (0, 1))
    layers = [keras.layers.Dense(8, activation="tanh", kernel_initializer=first)]
    if features is not None:
        layers.insert(0, keras.Input((features,)))
    if normalized:
        layers.append(keras.layers.BatchNormalization())
    if dropout_seed is not None:
        layers.append(keras.layers.Dropout(0.3, seed=dropout_seed))
    model = keras.Sequential([*layers, keras.layers.Dense(1, kernel_initializer=second)])
    seen = Seen()
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9, **of_optimizer),
        squares,
        weighted_metrics=[keras.metrics.MeanMetricWrapper(squares, name="squares"), seen],
    )
    return model, seen


def arrays(num_samples):
    ids = np.arange(num_samples)
    x = np.random.default_rng(0).normal(size=(num_samples, 4)).astype("float32")
    return x, ids[:, np.newaxis]


def digest(model):
    """Of all weights, to the bit."""
    return hashlib.sha256(b"".join(map(np.ndarray.tobytes, model.get_weights()))).hexdigest()


def train(
    num_samples, *, alone=False, normalized=False, optimizer=(), validated=None, calls=1, **settings
):
    """A real `fit` of all ranks together, or of one process with the global batch."""
    # Ranks begin with different weights: those of the first must win.
    model, seen = make_model(0 if alone else RANK, normalized, **dict(optimizer))
    where = (
        {"batch_size": GLOBAL_BATCH, "shard": (0, 1)}
        if alone
        else {"batch_size": BATCH, "shard": "auto"}
    )
    remainder = settings.get("remainder", "pad")
    dataset = npb.ArrayDataset(
        *arrays(num_samples), **where, **{"seed": 5, **settings, "remainder": remainder}
    )
    validation = (
        None
        if validated is None
        else npb.ArrayDataset(*arrays(validated), **where, remainder="pad", shuffle=False)
    )
    epochs = Epochs(seen)
    first = [] if alone else [npb.callbacks.TorchDataParallel()]
    histories = []
    for call in range(calls):
        history = model.fit(
            dataset,
            validation_data=validation,
            initial_epoch=call * EPOCHS,
            epochs=(call + 1) * EPOCHS,
            verbose=0,
            callbacks=[*first, epochs],
        )
        histories.append(history.history)
    return {
        "trained": epochs.trained,
        "validated": epochs.validated,
        "steps": epochs.steps,
        "order": [
            [row for step in range(len(dataset)) for row in dataset.rows(step, epoch).tolist()]
            for epoch in range(EPOCHS * calls)
        ],
        "seed": dataset.seed,
        "digest": digest(model),
        "weights": [weight.ravel().tolist() for weight in model.get_weights()],
        "histories": histories,
    }


CASES = {
    # 50 samples: two are left for the last step, so that of four processes two have no row.
    "pad": {"num_samples": 50, "remainder": "pad", "validated": 21},
    "drop": {"num_samples": 50, "remainder": "drop"},
    "keep, unequal": {"num_samples": 53, "remainder": "keep"},
    "spread": {"num_samples": 53, "remainder": "spread"},
    "fewer samples than processes": {"num_samples": 1, "remainder": "pad"},
}
if COUNT == 2:  # with more processes these would take longer, and show no more
    CASES |= {
        "pad, whole": {"num_samples": 48, "remainder": "pad"},
        "keep, equal": {"num_samples": 52, "remainder": "keep"},
        "two calls": {"num_samples": 50, "calls": 2},
        # The mean of clipped gradients is not the clipped mean.
        "clipped": {"num_samples": 50, "optimizer": {"global_clipnorm": 0.3}},
        "accumulated": {"num_samples": 50, "optimizer": {"gradient_accumulation_steps": 2}},
        "threads": {"num_samples": 50, "workers": 3, "transform": lambda batch: batch},
        "processes": {
            "num_samples": 50,
            "workers": 2,
            "use_multiprocessing": True,
            "transform": lambda batch: batch,
        },
    }
COMPARED = set(CASES) - {"keep, unequal", "spread", "threads", "processes"}
"""Those whose weights one process with the global batch has too."""


def fit():
    for name, settings in CASES.items():
        say(scenario="fit", case=name, **train(**settings))
        if RANK == 0 and name in COMPARED:
            say(scenario="alone", case=name, **train(**settings, alone=True))
    say(scenario="fit", case="normalized", **train(50, validated=21, normalized=True))
    np.random.seed(RANK)  # noqa: NPY002  # which a seed is drawn from
    say(scenario="fit", case="no seed", **train(50, seed=None))
    part = npb.ArrayDataset(*arrays(50), batch_size=BATCH).shard(RANK, COUNT)
    say(scenario="made", case="no seed", seed=part.seed)


def disagree():
    """What is different on the last process is told to all, before any has trained a step."""
    last = RANK == COUNT - 1
    x, ids = arrays(50)
    shard = {"batch_size": BATCH, "shard": (RANK, COUNT), "seed": 5}
    for name, made in {
        "seed": lambda: npb.ArrayDataset(x, ids, **{**shard, "seed": 6 if last else 5}),
        "samples": lambda: npb.ArrayDataset(x[: 49 + last], ids[: 49 + last], **shard),
        "batch_size": lambda: npb.ArrayDataset(x, ids, **{**shard, "batch_size": BATCH + last}),
        "remainder": lambda: npb.ArrayDataset(x, ids, **shard, remainder=("pad", "drop")[last]),
        "dtype": lambda: npb.ArrayDataset(x.astype(("f4", "f8")[last]), ids, **shard),
        "shard": lambda: npb.ArrayDataset(x, ids, **{**shard, "shard": (0, COUNT)}),
        # A model that is made for them has other weights, which can't be shared.
        "features": lambda: npb.ArrayDataset(x[:, : 4 - last], ids, **shard),
    }.items():
        model, seen = make_model(0, features=None if name == "features" else 4)
        try:
            model.fit(made(), verbose=0, callbacks=[npb.callbacks.TorchDataParallel()])
        except npb.errors.RanksDisagreeError as error:
            say(scenario="told", case=name, told=str(error), trained=seen.ids)
    dataset = npb.ArrayDataset(x, ids, **shard)
    dataset.set_epoch(3 if last else 2)
    try:
        next(iter(dataset))
    except npb.errors.RanksDisagreeError as error:
        say(scenario="told", case="position", told=str(error), trained=[])
    for name, dataset, callbacks in (
        ("no shard", npb.ArrayDataset(x, ids, batch_size=BATCH), []),
        ("meant so", npb.ArrayDataset(x, ids, batch_size=BATCH, shard=(0, 1)), []),
        ("no callback", npb.ArrayDataset(x, ids, **shard), []),
        ("right", npb.ArrayDataset(x, ids, **shard), [npb.callbacks.TorchDataParallel()]),
    ):
        model = make_model(0)[0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model.fit(dataset, verbose=0, callbacks=callbacks)
        texts = [str(each.message) for each in caught if each.category is UserWarning]
        say(scenario="told", case=name, told=texts, digest=digest(model))
    hooked, _ = make_model(0)
    for parameter in hooked.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda parameter: None)
    hooked.fit(npb.ArrayDataset(x, ids, **shard), verbose=0)  # a warning would be an error
    say(scenario="told", case="hooks", told=[])
    try:
        make_model(0)[0].fit(
            npb.ArrayDataset(x, ids, **shard),
            verbose=0,
            callbacks=[keras.callbacks.TerminateOnNaN(), npb.callbacks.TorchDataParallel()],
        )
    except npb.errors.InvalidArgumentError as error:
        say(scenario="told", case="second", told=str(error))
    built_on_one()
    own_step()
    broken_off()
    stopping()


class OwnResult(keras.Sequential):
    """Asks each metric by itself, and Keras for nothing."""

    def get_metrics_result(self):
        return {metric.name: metric.result() for metric in self.metrics[1:]}


class OwnResultOfKeras(keras.Sequential):
    """Adds to what Keras says."""

    def get_metrics_result(self):
        return {**super().get_metrics_result(), "own": 1.0}


class IsAveraged(keras.callbacks.Callback):
    """Whether the optimizer was made to average gradients."""

    def on_train_batch_end(self, batch, logs=None):
        self.found = "apply" in vars(self.model.optimizer)


def count_metrics(kind=keras.Sequential):
    """A model whose every prediction is 1, with metrics of every kind."""
    layers = [keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")]
    model = kind(layers)
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        metrics=[
            keras.metrics.TruePositives(name="positives"),
            keras.metrics.MeanSquaredError(name="ratio"),
            keras.metrics.F1Score(average=None, threshold=0.5, name="vector"),
            *map(Aggregated, ("sum", "mean", "only_first_replica")),
        ],
    )
    return model


def metrics():
    """Every kind of metric, in `fit` and `evaluate`, together and alone; 24 of 32 are positive."""
    x = np.ones((32, 1), "float32")
    y = (np.arange(32) % 4 > 0).astype("float32")[:, np.newaxis]
    shard = {"batch_size": 8, "seed": 5, "shard": "auto"}
    for kind in (keras.Sequential, OwnResult, OwnResultOfKeras):
        model, averaged = count_metrics(kind), IsAveraged()
        first = npb.callbacks.TorchDataParallel()
        history = model.fit(
            npb.ArrayDataset(x, y, **shard),
            validation_data=npb.ArrayDataset(x[:16], y[:16], **shard),
            verbose=0,
            callbacks=[first, averaged],
        ).history
        history = {name: np.ravel(values).tolist() for name, values in history.items()}
        say(
            scenario="metrics",
            case=kind.__name__,
            history=history,
            averaged=averaged.found,
            by_keras=hasattr(model, "ddp_model"),
        )
    model = count_metrics()
    model.fit(npb.ArrayDataset(x, y, **shard), verbose=0, callbacks=[first])
    wrapped = vars(model).get("ddp_model")
    part = model.evaluate(npb.ArrayDataset(x, y, **shard), verbose=0, return_dict=True)
    alone, new = {}, count_metrics()  # on all, since Torch sorts parameters by Keras's names
    if RANK == COUNT - 1:  # the others don't evaluate: nothing may wait for them
        for name, each in {"trained": model, "new": new}.items():
            for part_of in (None, (0, 1)):
                dataset = npb.ArrayDataset(x, y, batch_size=8, shuffle=False, shard=part_of)
                found = each.evaluate(dataset, verbose=0, return_dict=True)
                predicted = each.predict(dataset, verbose=0).ravel().tolist()
                alone[f"{name}, {part_of}"] = {**numbers_of(found), "predicted": predicted}
        with contextlib.suppress(OSError):
            new.evaluate(Unreadable(8, batch_size=4, shard=(0, 1)), verbose=0)
        new.fit(npb.ArrayDataset(x, y, batch_size=8, shard=(0, 1)), verbose=0)
        check_rewired(new, None)
    check_rewired(model, wrapped)
    say(scenario="metrics", case="evaluate", part=numbers_of(part), alone=alone)
    distributed.barrier()


def check_rewired(model, wrapped):
    """Nothing of it is left."""
    assert vars(model).get("ddp_model") is wrapped
    left = [name for name in vars(model) if name == "get_metrics_result" or "npbatch" in name]
    assert not left


def numbers_of(results):
    return {name: np.ravel(value).tolist() for name, value in results.items()}


class Unreadable(npb.BatchDataset):
    def load(self, rows):
        raise OSError("the disk is gone")


def built_on_one():
    """The first process has evaluated its model before; the others build theirs in `fit`."""
    model, seen = make_model(RANK)
    x, ids = arrays(50)
    if RANK == 0:
        # Not of arrays: from Keras 3.16 on that waits for the other process.
        model.evaluate(npb.ArrayDataset(x, ids, shard=(0, 1)), verbose=0)
    epochs = Epochs(seen)
    dataset = npb.ArrayDataset(x, ids, batch_size=BATCH, seed=5, shard="auto")
    model.fit(dataset, verbose=0, callbacks=[npb.callbacks.TorchDataParallel(), epochs])
    say(scenario="told", case="built on one", trained=epochs.trained, digest=digest(model))


def own_step():
    """Who has a step of his own may average there: no warning, which would be an error."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            return super().train_step(data)

    model = Model()
    model.compile("sgd", squares)
    dataset = npb.ArrayDataset(*arrays(50), batch_size=BATCH, shard=(RANK, COUNT), seed=5)
    model.fit(dataset, verbose=0)
    say(scenario="told", case="own step", told=[])


def broken_off():
    """A `fit` that ends with an exception leaves nothing that the next one would add to."""

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    dataset = npb.ArrayDataset(*arrays(50), batch_size=BATCH, shard=(RANK, COUNT), seed=5)
    reductions, reduce = [], distributed.all_reduce

    def counting(*arguments, **settings):
        reductions.append(arguments)
        return reduce(*arguments, **settings)

    def count(model):
        reductions.clear()
        model.fit(dataset, verbose=0, callbacks=[npb.callbacks.TorchDataParallel()])
        return len(reductions)

    broken, whole = make_model(0)[0], make_model(0)[0]
    try:
        callbacks = [npb.callbacks.TorchDataParallel(), Break()]
        broken.fit(dataset, verbose=0, callbacks=callbacks)
    except KeyboardInterrupt:
        pass
    count(whole)  # from Keras 3.16 on, building the metrics sums them too
    distributed.all_reduce = counting
    found = {"reductions": count(broken), "reductions_after_a_whole_fit": count(whole)}
    distributed.all_reduce = reduce
    is_restored = "apply" not in vars(broken.optimizer)
    say(scenario="told", case="broken off", told=[], is_restored=is_restored, **found)


def stopping():
    """Validation data without a shard, and different on each process, get worse at other times."""
    model, _ = make_model(0)
    dataset = npb.ArrayDataset(*arrays(50), batch_size=BATCH, shard=(RANK, COUNT), seed=5)
    x, ids = arrays(8)
    noise = np.random.default_rng(RANK).normal(size=x.shape).astype("float32")
    validation = npb.ArrayDataset(x + 3 * noise, ids + 20 * RANK, batch_size=8, shard=(0, 1))
    history = model.fit(
        dataset,
        validation_data=validation,
        epochs=30,
        verbose=0,
        callbacks=[
            npb.callbacks.TorchDataParallel(),
            keras.callbacks.EarlyStopping("val_loss", patience=0),
        ],
    )
    say(scenario="told", case="stopping", epochs=len(history.epoch))


class Stop(keras.callbacks.Callback):
    """Breaks training off after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def train_with_backup(folder, stop_after):
    """A run of training, as if the processes had just been started; random layers differ."""
    torch.manual_seed(RANK)
    model, seen = make_model(0, normalized=True, dropout_seed=RANK)
    dataset = npb.ArrayDataset(*arrays(50), batch_size=BATCH, shard="auto", seed=5)
    epochs = Epochs(seen)
    backup = [] if folder is None else [npb.callbacks.BackupAndRestore(dataset, folder, 1)]
    first = npb.callbacks.TorchDataParallel()
    callbacks = [first, *backup, epochs, Stop(stop_after)]
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(dataset, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    history = {} if not hasattr(model, "history") else model.history.history
    return {
        "trained": [*(row for rows in epochs.trained for row in rows), *seen.ids],
        "digest": digest(model),
        "history": history,
    }


def back_up():
    """Interrupted within the first epoch and within the second; 7 steps are one."""
    steady = train_with_backup(None, 0)
    folder = Path(sys.argv[1]) / "backup"
    runs = [train_with_backup(folder, stop_after) for stop_after in (3, 6, 0)]
    is_left = RANK == 0 and folder.exists()
    say(scenario="backup", case="one folder", steady=steady, runs=runs, is_left=is_left)
    folder = Path(sys.argv[1]) / f"backup-{RANK}"
    train_with_backup(folder, 3)
    try:
        train_with_backup(folder, 3)
    except npb.errors.RanksDisagreeError as error:
        say(scenario="backup", case="own folders", told=str(error).replace(str(folder), "FOLDER"))


def fail():
    """The last process can't read its data at step 3."""

    class Broken(npb.BatchDataset):
        def load(self, rows):
            x, ids = arrays(50)
            if RANK == COUNT - 1 and self.locate(rows[0])[0] == 3:
                raise OSError("the disk is gone")
            return x[rows], ids[rows]

    dataset = Broken(50, batch_size=BATCH, shard="auto", seed=5)
    try:
        make_model(0)[0].fit(dataset, verbose=0, callbacks=[npb.callbacks.TorchDataParallel()])
    except (OSError, RuntimeError) as error:
        say(scenario="failed", case="", told=str(error), notes=getattr(error, "__notes__", []))
    # And here, as without `except`, the process ends.


def of_broken(failing, raises=OSError, **settings):
    """Samples of which some can't be read."""
    x, ids = arrays(50)

    def load_sample(row):
        if row in failing:
            raise raises(f"row {row} is broken")
        return x[row], ids[row]

    chosen = {"seed": 5, "batch_size": BATCH, "shard": "auto", "on_error": "set_aside"}
    return npb.SampleDataset(
        load_sample, num_samples=50, **chosen | {"max_set_aside": 0.5} | settings
    )


def set_aside():
    """Rows that one process or another can't read: one of them a whole batch, and a whole step."""
    warnings.filterwarnings("ignore", "row .* could not be read")
    plan = of_broken(())
    failing = {3, 17, 40, *plan.rows(1, 0, shard=1).tolist()}
    failing |= {*plan.rows(4, 0, shard=0).tolist(), *plan.rows(4, 0, shard=1).tolist()}
    told = {}
    for case, alone, settings in (
        ("two", False, {}),
        ("threads", False, {"workers": 2}),
        ("one", True, {"batch_size": GLOBAL_BATCH, "shard": (0, 1)}),
    ):
        model, seen = make_model(0)
        dataset, epochs = of_broken(failing, **settings), Epochs(seen)
        first = [] if alone else [npb.callbacks.TorchDataParallel()]
        if alone and RANK:
            continue
        history = model.fit(dataset, epochs=2, verbose=0, callbacks=[*first, epochs]).history
        told[case] = {
            "trained": epochs.trained,
            "steps": epochs.steps,
            "loss": history["loss"],
            "weights": [weight.ravel().tolist() for weight in model.get_weights()],
            "set_aside": list(dataset.set_aside),
            "state": dataset.state_dict()["set_aside"],
        }
    say(scenario="set aside", case="fit", failing=sorted(failing), **told)
    model, validation = make_model(0)[0], of_broken({9}, shuffle=False)
    parallel = npb.callbacks.TorchDataParallel
    for case, dataset, validated in (
        ("too many", of_broken({3, 17, 40}, max_set_aside=2 / 50, workers=2), None),
        ("no memory", of_broken({3} if RANK else (), raises=MemoryError), None),
        ("validation", of_broken(()), validation),
    ):
        reached = Epochs(make_model(0)[1])
        try:
            model.fit(
                dataset, validation_data=validated, verbose=0, callbacks=[parallel(), reached]
            )
        except Exception as error:  # noqa: BLE001  # which one it is is tested
            kind, message = type(error).__name__, str(error)
            steps = sum(reached.steps)
            say(scenario="set aside", case=case, error=kind, message=message, steps=steps)


def loop():
    """A custom loop: DistributedDataParallel around a Keras model, and around a Torch module."""
    for name in ("keras", "torch"):
        for remainder in ("pad", "keep", "spread", "drop") if COUNT == 2 else ("pad",):
            torch.manual_seed(RANK)
            module = make_model(0)[0] if name == "keras" else torch.nn.Linear(4, 1)
            dataset = npb.ArrayDataset(
                *arrays(53), batch_size=BATCH, seed=5, shard="auto", remainder=remainder
            )
            before = [each.detach().clone() for each in module.parameters()]
            for each in before:
                distributed.broadcast(each, 0)
            trained, after = run_loop(torch.nn.parallel.DistributedDataParallel(module), dataset)
            alone = npb.ArrayDataset(
                *arrays(53), batch_size=GLOBAL_BATCH, seed=5, shard=(0, 1), remainder=remainder
            )
            with torch.no_grad():
                for each, value in zip(module.parameters(), before, strict=True):
                    each.copy_(value)
            _, expected = run_loop(module, alone)
            say(
                scenario="loop",
                case=f"{name}, {remainder}",
                trained=trained,
                weights=after,
                alone=expected,
                steps=[len(dataset)],
            )


def run_loop(module, dataset):
    count = dataset.plan.shard.count
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.05)
    trained = []
    for _ in range(EPOCHS):
        seen = []
        for batch in dataset:
            x, ids = map(torch.from_numpy, batch[:2])
            weights = torch.from_numpy(batch[2]) if len(batch) == 3 else torch.ones(len(x))
            seen += ids[weights > 0].flatten().tolist()
            of_all = weights.sum()
            if count > 1:
                distributed.all_reduce(of_all)
            losses = (module(x) - torch.sin(ids.float())).square().flatten()
            # DistributedDataParallel takes the mean over the processes.
            loss = (losses * weights).sum() * count / of_all
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained.append(seen)
    return trained, [each.detach().flatten().tolist() for each in module.parameters()]


torch.set_num_threads(1)
distributed.init_process_group(
    "gloo",
    init_method=f"file://{Path(sys.argv[1]) / 'store'}",
    rank=RANK,
    world_size=COUNT,
    timeout=timedelta(seconds=60),
)
try:
    for scenario in sys.argv[2:]:
        {
            "fit": fit,
            "metrics": metrics,
            "disagree": disagree,
            "back_up": back_up,
            "fail": fail,
            "loop": loop,
            "set_aside": set_aside,
        }[scenario]()
finally:
    distributed.destroy_process_group()
