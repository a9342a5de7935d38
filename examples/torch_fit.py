"""Train one model in several processes with `fit`: Torch and torch.distributed.

    KERAS_BACKEND=torch torchrun --standalone --nproc-per-node 2 examples/torch_fit.py

On two machines, run this on each: `torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d
--rdzv-endpoint HOST:29400 examples/torch_fit.py`. Each process reads its part of every global batch
of 128 samples. The weights are those of one process with `batch_size=128`.
"""

import argparse
import hashlib
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
import torch.distributed.nn  # before the group is made: its defaults would hold the group for ever
from sklearn.datasets import load_digits
from torch import distributed

import keras_npbatch as npb

GLOBAL_BATCH = 128

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

# --- join the other processes
if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, count = distributed.get_rank(), distributed.get_world_size()

# --- data: all processes make the same datasets; each reads its own part
digits = load_digits()
x, y = (digits.images / 16.0).astype("float32"), digits.target.astype("int32")
is_test = np.arange(len(x)) % 5 == 0
train = npb.ArrayDataset(
    x[~is_test], y[~is_test], batch_size=GLOBAL_BATCH // count, seed=0, shard="auto"
)
test = npb.ArrayDataset(x[is_test], y[is_test], batch_size=GLOBAL_BATCH // count, shard="auto")

# --- model: all processes take the initial weights of the first
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
    verbose=2 if rank == 0 else 0,
    callbacks=[npb.callbacks.TorchDataParallel()],  # first in the list
)

# --- results; each line is one write, so that the lines of two processes don't mix
digest = hashlib.sha256(b"".join(map(np.ndarray.tobytes, model.get_weights()))).hexdigest()
accuracy = history.history["val_accuracy"][-1]
print(f"process {rank} of {count}: weights {digest[:12]}, test accuracy {accuracy:.4f}\n", end="")
if rank == 0:
    print(train.explain(epoch=0, step=len(train) - 1))
distributed.destroy_process_group()
