"""Is training slow? `InputMonitor` says if it waits for data, where, and what to change.

    KERAS_BACKEND=jax python examples/06_waiting.py

The loader takes 200 ms to "read" a batch, like a slow disk. The example trains, gets the warning,
follows its advice, and trains again. How much that helps depends on what else the machine is doing.
If training still waits, the monitor says what to change next.
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
    """Random images that take a while to read, however fast the processor is."""

    def load(self, rows):
        time.sleep(0.2)
        x = np.random.default_rng(rows[0]).random((len(rows), 32, 32, 3), np.float32)
        return x, (rows % 10).astype("int32")


keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        keras.layers.AveragePooling2D(8),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")


def train(**settings):
    """Train once; return the monitor and how long each step of the last epoch waited, in ms."""
    dataset = SlowDisk(320, batch_size=32, seed=0, **settings)
    monitor = npb.callbacks.InputMonitor(dataset, patience=5)
    history = model.fit(dataset, epochs=arguments.epochs, verbose=0, callbacks=[monitor]).history
    return monitor, history["data_wait_time_ms"][-1]


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    monitor, wait_ms = train(workers=0)
for warning in caught:
    if "waits for data" in str(warning.message):
        print(f"InputMonitor: {warning.message}")

if monitor.advice is None:
    raise SystemExit("here training hardly waits for data")
setting, value = monitor.advice
_, wait_now_ms = train(**{setting: value})
print(f"with {setting}={value} each step waits {wait_now_ms:.0f} ms for data, before {wait_ms:.0f}")
