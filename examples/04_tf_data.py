"""Your own training loop over a `tf.data.Dataset`: a whole epoch inside one `tf.function`.

    python examples/04_tf_data.py

Each iteration over `batches` is the next epoch of the dataset, in a new order: TensorFlow starts a
new iteration each time the function runs. The same dataset then trains a Keras model, on any
backend.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

digits = load_digits()
x = (digits.data / 16.0).astype("float32")
y = digits.target.astype("int32")
targets = {"label": y[:1437], "row": np.arange(1437)}
train = npb.ArrayDataset(x[:1437], targets, batch_size=64, seed=0)
batches = train.to_tf_dataset()
print(f"{int(batches.cardinality())} batches of {batches.element_spec[0]}")

kernel, bias = tf.Variable(tf.zeros((64, 10))), tf.Variable(tf.zeros(10))
times_seen = tf.Variable(tf.zeros(1437, tf.int32))


@tf.function
def train_an_epoch():
    """Take one step of gradient descent for each batch."""
    for images, targets in batches:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                targets["label"], images @ kernel + bias
            )
            loss = tf.reduce_mean(losses)
        for variable, gradient in zip(
            (kernel, bias), tape.gradient(loss, (kernel, bias)), strict=True
        ):
            variable.assign_sub(0.5 * gradient)
        times_seen.scatter_add(tf.IndexedSlices(tf.ones_like(targets["label"]), targets["row"]))


for _ in range(arguments.epochs):
    train_an_epoch()
counts = np.unique(times_seen.numpy()).tolist()
print(f"after {train.epoch} epochs each sample was seen {counts} times")
predicted = tf.argmax(x[1437:] @ kernel + bias, axis=1).numpy()
print(f"test accuracy of the loop: {np.mean(predicted == y[1437:]):.3f}")

# Add any `tf.data` operation from here on. Keras takes the result on every backend.
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
labelled = batches.map(lambda images, targets: (images, targets["label"])).prefetch(1)
model.fit(labelled, epochs=arguments.epochs, shuffle=False, verbose=0)
print(f"the dataset has delivered {train.epoch} epochs")
