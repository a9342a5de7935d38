"""Train one model in several processes with `fit`: JAX and keras.distribution.

    for rank in 0 1; do
        python examples/jax_fit.py --address 127.0.0.1:29500 --processes 2 --rank $rank &
    done; wait

On several machines, give the address of the first machine, and each process its own rank. Where JAX
finds these by itself (TPU pods, Slurm), `jax.distributed.initialize()` needs no arguments.
"""

import argparse
import hashlib
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_npbatch as npb

GLOBAL_BATCH = 128

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--address", required=True)
parser.add_argument("--processes", type=int, required=True)
parser.add_argument("--rank", type=int, required=True)
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

# --- join the other processes
jax.config.update("jax_cpu_collectives_implementation", "gloo")  # early JAX has no default
jax.distributed.initialize(arguments.address, arguments.processes, arguments.rank)
keras.distribution.set_distribution(keras.distribution.DataParallel())
keras.utils.set_random_seed(0)

# --- data: all processes make the same datasets; each reads its own part
digits = load_digits()
x, y = (digits.images / 16.0).astype("float32"), digits.target.astype("int32")
is_test = np.arange(len(x)) % 5 == 0
settings = {"batch_size": GLOBAL_BATCH // arguments.processes, "shard": "auto"}
train = npb.ArrayDataset(x[~is_test], y[~is_test], seed=0, **settings)
test = npb.ArrayDataset(x[is_test], y[is_test], shuffle=False, **settings)

# --- model
model = keras.Sequential(
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
    verbose=2 if arguments.rank == 0 else 0,
)

# --- results; each line is one write, so that the lines of two processes don't mix
digest = hashlib.sha256(b"".join(map(np.ndarray.tobytes, model.get_weights()))).hexdigest()
accuracy = history.history["val_accuracy"][-1]
print(
    f"process {arguments.rank} of {arguments.processes}: weights {digest[:12]}, "
    f"test accuracy {accuracy:.4f}\n",
    end="",
)
if arguments.rank == 0:
    print(train.explain(epoch=0, step=len(train) - 1))
