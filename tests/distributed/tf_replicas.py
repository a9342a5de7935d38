"""Trains on two replicas in one process: `MirroredStrategy` of two logical CPUs.

Run by test_tensorflow.py; says what the replicas saw, and what one model makes of the same.
"""

import numpy as np
import tensorflow as tf
from launching import say
from tf_models import BATCH, Model, compiled, dataset, told, trained

import keras_npbatch as npb

EPOCHS = 3

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def model_under(strategy, **arguments):
    with strategy.scope():
        return compiled(Model(), **arguments)


replicas, alone = model_under(strategy), compiled(Model())


def both(scenario, make, *, two=replicas, **arguments):
    """The same `fit` on two replicas and on one."""
    arguments = {"epochs": EPOCHS, **arguments}
    say(
        scenario=scenario,
        two=trained(two, make(), **arguments),
        one=trained(alone, make(), **arguments),
    )


# ---------------------------------------------------------------- fit(dataset)

for n, remainder in ((41, "pad"), (5, "pad"), (41, "drop"), (48, "keep"), (18, "spread")):
    both(f"fit {n} {remainder}", lambda n=n, of=remainder: dataset(n, remainder=of))
both(
    "short epochs",
    lambda: dataset(44, remainder="drop").repeat(),
    epochs=5,
    steps_per_epoch=2,
)
both(
    "two steps at once",
    lambda: dataset(41, remainder="pad"),
    two=model_under(strategy, steps_per_execution=2),
)
both(
    "process workers",
    lambda: dataset(41, remainder="pad", workers=1, use_multiprocessing=True),
)
both("one device", lambda: dataset(41), two=model_under(tf.distribute.OneDeviceStrategy("CPU:0")))

validation = dataset(9, seed=5)  # of its last batch one replica gets nothing
both(
    "validation",
    lambda: dataset(41, remainder="pad"),
    validation_data=validation,
)
data = dataset(41, remainder="pad")
say(
    scenario="evaluated and predicted",
    evaluated=[each.evaluate(data, verbose=0, return_dict=True) for each in (replicas, alone)],
    predicted=[each.predict(data, verbose=0).ravel().tolist() for each in (replicas, alone)],
    epoch=data.epoch,
)

# A model is built on a first batch whose parts differ in size.
fresh = [model_under(strategy), compiled(Model())]
say(
    scenario="fresh",
    evaluated=[each.evaluate(dataset(5), verbose=0, return_dict=True) for each in fresh],
)

data = dataset(41, remainder="pad")
data.load_state_dict(data.state_dict(epoch=1, step=2))
audit = npb.callbacks.CoverageAudit(data)
replicas.fit(data, epochs=2, verbose=0, callbacks=[audit])
say(
    scenario="resumed",
    seen=replicas.notes.take(),
    expected=[
        [data.rows(step, epoch).tolist() for step in range(first, 6)]
        for epoch, first in ((1, 2), (2, 0))
    ],
    receipts=[[receipt.seen, receipt.is_right] for receipt in audit.receipts],
)


class Broken(npb.BatchDataset):
    def load(self, rows):
        if 13 in rows:
            raise OSError("sample-13.png is broken")
        return rows.astype("float32")[:, np.newaxis], rows


try:
    replicas.fit(Broken(48, batch_size=BATCH, seed=0, workers=2), verbose=0)
except OSError as error:
    say(scenario="broken", error=told(error), notes=error.__notes__)

central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
refused = {}
for name, model, data in (
    ("uneven", replicas, dataset(41)),
    ("batch size", replicas, dataset(41, batch_size=7, remainder="pad")),
    ("unknown", model_under(central), dataset(48)),
):
    try:
        model.fit(data, verbose=0)
    except ValueError as error:
        refused[name] = told(error)
say(scenario="refused", errors=refused)

# ---------------------------------------------------------------- to_tf_dataset

for workers, n, remainder in (
    (0, 48, "keep"),
    (2, 49, "keep"),
    (0, 41, "pad"),
    (2, 41, "drop"),
    (2, 43, "spread"),
):
    data = dataset(n, remainder=remainder, workers=workers, transform=lambda batch: batch)
    distributed = strategy.experimental_distribute_dataset(data.to_tf_dataset())
    parts = [
        [
            [part.numpy().tolist() for part in strategy.experimental_local_results(batch[1])]
            for batch in distributed
        ]
        for _ in range(EPOCHS)
    ]
    say(scenario=f"loop {n} {remainder}", parts=parts)

for n, remainder in ((41, "pad"), (41, "drop"), (48, "keep"), (49, "keep"), (43, "spread")):
    both(
        f"tf.data {n} {remainder}",
        lambda n=n, of=remainder: dataset(n, remainder=of).to_tf_dataset(),
        shuffle=False,
    )
