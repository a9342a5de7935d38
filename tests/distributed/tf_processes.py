"""Trains in several processes under `MultiWorkerMirroredStrategy`, which TF_CONFIG tells of.

Run by test_tensorflow.py with the names of scenarios; each rank says what it saw.
"""

import os
import sys
import warnings
from functools import partial

import keras
import tensorflow as tf
from launching import say
from tf_models import (
    BATCH,
    Model,
    ModelOfProcesses,
    Notes,
    compiled,
    dataset,
    losses,
    note,
    told,
    trained,
    weights_of,
)

import keras_npbatch as npb

EPOCHS = 3

rank, count = int(os.environ.pop("RANK")), int(os.environ.pop("WORLD_SIZE"))
if "two_devices" in sys.argv:
    # On processors the strategy takes one device a process, on GPUs all there are.
    from tensorflow.python.distribute.collective_all_reduce_strategy import (
        CollectiveAllReduceExtended,
    )

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    CollectiveAllReduceExtended._initialize_local_devices = lambda self, resolver, worker: (
        (f"{worker}/device:CPU:0", f"{worker}/device:CPU:1"),
        "CPU",
    )
strategy = tf.distribute.MultiWorkerMirroredStrategy()


def part(num_samples, **settings):
    """The dataset of this process."""
    return dataset(num_samples, **{"batch_size": BATCH // count, "shard": "auto", **settings})


def model_here(kind=ModelOfProcesses):
    with strategy.scope():
        return compiled(kind())


def error_of(call):
    try:
        call()
    except (ValueError, RuntimeError, UserWarning) as error:
        return told(error)
    return None


trainer, alone = model_here(), compiled(Model())


def fit():
    """Each remainder, beside one process with the same global batch."""
    for n, remainder in ((41, "pad"), (5, "pad"), (41, "drop"), (48, "keep"), (16, "spread")):
        data = part(n, remainder=remainder)
        ours = trained(trainer, data, epochs=EPOCHS, validation_data=part(13))
        say(scenario=f"fit {n} {remainder}", ours=ours, epoch=data.epoch)
        if rank == 0:
            data, validation = dataset(n, remainder=remainder), dataset(13)
            one = trained(alone, data, epochs=EPOCHS, validation_data=validation)
            say(scenario=f"fit {n} {remainder} by one", **one)


def again():
    """A second `fit` goes on, short epochs walk one order, process workers make the batches."""
    data = part(41)
    audit = npb.callbacks.CoverageAudit(data)
    seen = []
    for _ in range(2):
        trainer.fit(data, verbose=0, callbacks=[audit])
        seen.append(trainer.notes.take())
    receipts = [receipt.as_dict() for receipt in audit.receipts]
    say(scenario="second fit", seen=seen, receipts=receipts)
    endless = part(44, remainder="drop").repeat()
    say(
        scenario="short epochs",
        seen=trained(trainer, endless, epochs=5, steps_per_epoch=2)["seen"],
    )
    with part(41, workers=1, use_multiprocessing=True) as data:
        say(scenario="process workers", seen=trained(trainer, data, epochs=2)["seen"])


def walked(strategy, make):
    """What came of a training loop of one's own over `to_tf_dataset`."""
    notes = Notes()
    with strategy.scope():
        model = Model()
        model.dense.build((None, 1))
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        data = make()
        batches = strategy.distribute_datasets_from_function(lambda context: data.to_tf_dataset())

    def step(batch):
        x, ids, weights = keras.utils.unpack_x_y_sample_weight(batch)
        note(notes, ids, weights)
        replicas = tf.distribute.get_replica_context()
        size = replicas.all_reduce("SUM", tf.shape(ids)[0])
        with tf.GradientTape() as tape:
            each = losses(ids, model(x, training=True))[:, 0]
            loss = tf.nn.compute_average_loss(each, weights, global_batch_size=size)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    @tf.function(reduce_retracing=True)
    def in_each_replica(batch):
        strategy.run(step, args=(batch,))

    seen = []
    for _ in range(EPOCHS):
        for batch in batches:
            in_each_replica(batch)
        seen.append(notes.take())
    return {"seen": seen, "weights": weights_of(model)}


def loop():
    """A loop of one's own, for each remainder; also with parts of different sizes."""
    for n, remainder in ((41, "pad"), (41, "drop"), (46, "keep"), (43, "spread")):
        ours = walked(strategy, partial(part, n, remainder=remainder))
        say(scenario=f"loop {n} {remainder}", ours=ours)
        if rank == 0:
            one = walked(tf.distribute.get_strategy(), partial(dataset, n, remainder=remainder))
            say(scenario=f"loop {n} {remainder} by one", **one)


def autosharding():
    """What would shard a dataset that is a part already."""
    distributed = strategy.experimental_distribute_dataset(part(41).to_tf_dataset())
    seen = []
    for _, ids, weights in distributed:
        for each, counted in zip(
            strategy.experimental_local_results(ids),
            strategy.experimental_local_results(weights),
            strict=True,
        ):
            seen += each.numpy()[counted.numpy() > 0].tolist()
    say(scenario="autosharding", seen=seen)


def agreement():
    """What the processes tell each other before the first step."""
    errors = {}
    for name, settings in (
        ("seed", {"seed": rank}),
        ("data", {"num_samples": 41 + rank}),
        ("remainder", {"remainder": ("pad", "drop")[rank % 2]}),
        ("batch size", {"batch_size": 4 << rank}),
        ("shard", {"shard": (0, count)}),
        ("no shard", {"shard": None}),
    ):
        data = part(**{"num_samples": 41, **settings})
        errors[f"fit: {name}"] = error_of(partial(trainer.fit, data, verbose=0))
        assert not trainer.notes.take()
        with strategy.scope():
            if name != "no shard":
                errors[f"to_tf_dataset: {name}"] = error_of(data.to_tf_dataset)
    say(scenario="different", errors=errors)

    # Outside of the scope nobody is asked, so that one alone may call it.
    if rank == 0:
        part(41).to_tf_dataset()
    environment = os.environ.pop("TF_CONFIG")
    with strategy.scope():
        agreed = part(41, seed=None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset(41).to_tf_dataset()
    os.environ["TF_CONFIG"] = environment
    say(
        scenario="agreed",
        shard=[agreed.plan.shard.index, agreed.plan.shard.count],
        rows=[agreed.rows(step, epoch=1).tolist() for step in range(agreed.num_batches)],
        seed=agreed.seed,
        alone=error_of(lambda: part(41, seed=None)),
        warned=[str(each.message) for each in caught],
        trained=trained(trainer, agreed, epochs=1)["seen"],
    )


def refusals():
    """What Keras can't do under the strategy, and what is said before it tries."""
    plain = model_here(lambda: keras.Sequential([keras.layers.Dense(1)]))
    arrays = tf.data.Dataset.from_tensor_slices((tf.zeros((16, 1)), tf.zeros((16,)))).batch(8)
    say(
        scenario="refused",
        fit=error_of(lambda: plain.fit(part(41), verbose=0)),
        evaluate=error_of(lambda: plain.evaluate(part(41), verbose=0)),
        predict=error_of(lambda: plain.predict(dataset(41), verbose=0)),
        no_strategy=error_of(lambda: compiled(Model()).fit(part(41), verbose=0)),
        uneven=error_of(lambda: trainer.fit(part(43, remainder="keep"), verbose=0)),
        keras_with_tf_data=error_of(lambda: plain.fit(arrays, verbose=0, shuffle=False)),
        keras_with_scalars=error_of(lambda: model_here(Model).fit(part(41), verbose=0)),
    )


for scenario in sys.argv[1:]:
    if scenario != "two_devices":
        globals()[scenario]()
