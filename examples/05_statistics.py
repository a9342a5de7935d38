"""See what was in the batches: statistics of each epoch, a receipt, and a picture.

    KERAS_BACKEND=jax python examples/05_statistics.py --folder .

Both callbacks count what the model was trained on, after the transform. They count neither the
batch that Keras reads to build the model nor validation.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
import rich
from sklearn.datasets import load_digits

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
arguments = parser.parse_args()
arguments.folder.mkdir(parents=True, exist_ok=True)

digits = load_digits()
images, labels = digits.images.astype("float32") / 16.0, digits.target.astype("int32")
train = npb.ArrayDataset(images[:1437], labels[:1437], batch_size=64, seed=0)

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

statistics = npb.callbacks.BatchStatistics(train, log="data/x/mean")
audit = npb.callbacks.CoverageAudit(train)
history = model.fit(
    train, epochs=arguments.epochs, verbose=0, callbacks=[statistics, audit]
).history
assert np.isclose(history["data/x/mean"][-1], images[:1437].mean())  # it is in the logs, too

rich.print(statistics.table())
counts = [f"{digit}: {statistics.history[f'data/y/class_{digit}'][-1]:.0f}" for digit in range(10)]
print(f"the digits of the last epoch: {', '.join(counts)}")

assert all(receipt.is_whole for receipt in audit.receipts)
print(
    f"the model saw each of {audit.receipts[-1].seen} samples once in {len(audit.receipts)} epochs"
)
print(f"the order of the last epoch has the digest {audit.receipts[-1].order_digest}")

statistics.plot().savefig(arguments.folder / "data.png")
print(f"the picture is in {arguments.folder / 'data.png'}")
