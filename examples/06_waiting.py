"""Why is training slow? `InputMonitor` says whether it waits for data, where, and what to change.

    KERAS_BACKEND=jax python examples/06_waiting.py

The loader here takes 100 ms to "read" a batch, as a slow disk would. The example trains, gets the
warning, does what it says, and trains again.
"""

import argparse
import time
import warnings

import keras
import numpy as np

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=3)
arguments = parser.parse_args()


class SlowDisk(npb.BatchDataset):
    """Random images; reading them takes a while, whatever the processor does."""

    def load(self, rows):
        time.sleep(0.1)
        x = np.random.default_rng(rows[0]).random((len(rows), 32, 32, 3), np.float32)
        return x, (rows % 10).astype("int32")


keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")


def train(**settings):
    """Train once; returns the monitor and the share of the last epoch that was spent waiting."""
    dataset = SlowDisk(640, batch_size=32, seed=0, **settings)
    monitor = npb.callbacks.InputMonitor(dataset, patience=10)
    history = model.fit(dataset, epochs=arguments.epochs, verbose=0, callbacks=[monitor]).history
    return monitor, history["data_wait_share"][-1]


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    monitor, share = train(workers=1)
for warning in caught:
    if "waits for data" in str(warning.message):
        print(f"InputMonitor: {warning.message}")

setting, value = monitor.advice
_, share_now = train(**{setting: value})
print(f"with {setting}={value} training waits for {share_now:.0%} of the time, before {share:.0%}")
assert share_now < share
