"""Semi-supervised training: a few labelled digits beside many that have no label.

    KERAS_BACKEND=jax python examples/12_semi_supervised.py

At each step the model gets a batch of each. On the labelled one it learns the labels; on the other
one it learns to say the same of a digit and of a shifted copy of it, where it is sure.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_npbatch as npb


def shifted(batch, rng):
    """Each picture beside a copy that is shifted by one pixel, up, down, left or right."""
    moved = np.empty_like(batch)
    for index, picture in enumerate(batch):
        moved[index] = np.roll(picture, rng.integers(-1, 2), axis=int(rng.integers(2)))
    return {"plain": batch, "shifted": moved}


class SemiSupervised(keras.Model):
    """Reads batches `((x, y), {"plain": ..., "shifted": ...})`."""

    def __init__(self):
        super().__init__()
        self.network = keras.Sequential(
            [
                keras.layers.Conv2D(16, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, x):
        return self.network(x)

    @property
    def metrics(self):
        return [self.loss_tracker]

    def loss_of(self, data):
        (x, y), more = data
        of_labels = ops.mean(keras.losses.sparse_categorical_crossentropy(y, self(x)))
        guessed = ops.stop_gradient(self(more["plain"]))
        is_sure = ops.cast(ops.max(guessed, axis=-1) > 0.95, "float32")
        of_others = keras.losses.sparse_categorical_crossentropy(
            ops.argmax(guessed, axis=-1), self(more["shifted"])
        )
        return of_labels + 0.5 * ops.mean(is_sure * of_others)

    def train_step(self, *given):
        return {"jax": self._on_jax, "tensorflow": self._on_tensorflow, "torch": self._on_torch}[
            keras.backend.backend()
        ](*given)

    def _on_jax(self, state, data):
        import jax

        trainable, rest, optimizer, metrics = state

        def loss_of(trainable):
            values = [*zip(self.trainable_variables, trainable, strict=True)]
            values += zip(self.non_trainable_variables, rest, strict=True)
            with keras.StatelessScope(values) as scope:
                loss = self.loss_of(data)
            return loss, [scope.get_current_value(each) for each in self.non_trainable_variables]

        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        metrics = self.loss_tracker.stateless_update_state(metrics, loss)
        logs = {"loss": self.loss_tracker.stateless_result(metrics)}
        return logs, (trainable, rest, optimizer, metrics)

    def _on_tensorflow(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.loss_of(data)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def _on_torch(self, data):
        self.zero_grad()
        loss = self.loss_of(data)
        loss.backward()
        self.optimizer.apply(
            [variable.value.grad for variable in self.trainable_variables],
            self.trainable_variables,
        )
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--labelled", type=int, default=60, help="digits that have a label")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    test = npb.ArrayDataset(x[:500], batch_size=100)
    known = slice(500, 500 + options.labelled)
    labelled = npb.ArrayDataset(x[known], y[known], batch_size=16, seed=0)
    unlabelled = npb.ArrayDataset(x[500:], batch_size=112, seed=0, augment=shifted)

    train = npb.zip(labelled, unlabelled, until="longest")
    model = SemiSupervised()
    model(x[:1])  # builds it: from a batch of two datasets Keras could not
    model.compile("adam")
    history = model.fit(train, epochs=options.epochs, verbose=0).history
    right = model.predict(test, verbose=0).argmax(axis=-1) == y[:500]
    print(f"loss {history['loss'][0]:.2f}, then {history['loss'][-1]:.2f}")
    print(f"{options.labelled} labels: {right.mean():.1%} of 500 other digits are right")


if __name__ == "__main__":
    main()
