"""Train one model in several processes with `fit`: MultiWorkerMirroredStrategy.

    workers=127.0.0.1:29501,127.0.0.1:29502
    for index in 0 1; do
        python examples/tensorflow_fit.py --workers $workers --index $index &
    done; wait

On a cluster, `--workers` lists the host and port of each process. On one machine with several
devices, use `tf.distribute.MirroredStrategy()`, which needs neither `--workers` nor `Model` below.
"""

import argparse
import hashlib
import json
import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import keras_npbatch as npb

GLOBAL_BATCH = 128

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--workers", required=True, type=lambda text: text.split(","))
parser.add_argument("--index", type=int, required=True)
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()


class Model(keras.Sequential):
    """Gives the results of a step a first axis: Keras reduces over it, but its own have none."""

    def train_step(self, data):
        return {name: tf.expand_dims(value, 0) for name, value in super().train_step(data).items()}

    def test_step(self, data):
        return {name: tf.expand_dims(value, 0) for name, value in super().test_step(data).items()}


# --- join the other processes
task = {"type": "worker", "index": arguments.index}
os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": arguments.workers}, "task": task})
strategy = tf.distribute.MultiWorkerMirroredStrategy()
keras.utils.set_random_seed(0)

# --- data: all processes make the same datasets; each reads its own part
digits = load_digits()
x, y = (digits.images / 16.0).astype("float32"), digits.target.astype("int32")
is_test = np.arange(len(x)) % 5 == 0
settings = {"batch_size": GLOBAL_BATCH // len(arguments.workers), "shard": "auto"}
train = npb.ArrayDataset(x[~is_test], y[~is_test], seed=0, **settings)
test = npb.ArrayDataset(x[is_test], y[is_test], shuffle=False, **settings)

# --- model
with strategy.scope():
    model = Model(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    # Padded rows weigh nothing in a weighted metric.
    model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
history = model.fit(
    train,
    validation_data=test,
    epochs=arguments.epochs,
    verbose=2 if arguments.index == 0 else 0,
)

# --- results; each line is one write, so that the lines of two processes don't mix
digest = hashlib.sha256(b"".join(map(np.ndarray.tobytes, model.get_weights()))).hexdigest()
accuracy = float(np.mean(history.history["val_accuracy"][-1]))
print(
    f"process {arguments.index} of {len(arguments.workers)}: weights {digest[:12]}, "
    f"test accuracy {accuracy:.4f}\n",
    end="",
)
if arguments.index == 0:
    print(train.explain(epoch=0, step=len(train) - 1))
