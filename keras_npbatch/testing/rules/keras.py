"""The rule about Keras itself: it trains on the dataset, on the current backend."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from typing import Any

import keras
from keras import ops

from keras_npbatch.batches.as_array import as_array
from keras_npbatch.batches.parts import unpack
from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.rules.structure import all_batches_have_one_structure, lengths_agree
from keras_npbatch.testing.subject.subject import NotChecked, Subject, Unreadable
from keras_npbatch.tree import Tree, flatten, leaves, map_leaves

__all__ = ["keras_trains_one_step"]

_TRAINING_BACKENDS = ("tensorflow", "jax", "torch")


@rule(
    why="fit would stop with this exception, whatever the model.",
    mend="Return numbers or booleans, not texts (which only a BatchDataset on TensorFlow can "
    "give), dates or objects; sample_weight as numbers of shape (n,), or nested as y is.",
    after=(all_batches_have_one_structure, lengths_agree),
)
def keras_trains_one_step(subject: Subject) -> Iterator[str]:
    """Trains a small model that takes any batch, for one step of `fit`."""
    backend = keras.backend.backend()
    if backend not in _TRAINING_BACKENDS:
        raise NotChecked(f"the backend {backend} does not train")
    _, y, weights = unpack(subject.read(subject.at_epoch(0), 0), "dataset[0]")
    if any(_is_text(leaf) for leaf in leaves(y)):
        raise NotChecked("the targets are texts: no loss takes them, but a train_step may")
    model = _Model(y)
    losses = None if y is None else _losses(y, weights)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=losses)
    try:
        model.fit(subject.copy(), steps_per_epoch=1, verbose=0)
    except Exception as error:  # noqa: BLE001  # whatever Keras raises
        yield str(Unreadable(f"model.fit(dataset) on {backend}", error))
        return
    if int(model.optimizer.iterations) != 1:
        yield f"model.fit(dataset, steps_per_epoch=1) took {int(model.optimizer.iterations)} steps"


class _Model(keras.Model):  # type: ignore[misc]  # Keras is untyped
    """A model that takes any nesting of inputs of any shape, with an output for each target."""

    def __init__(self, targets: Tree) -> None:
        super().__init__(name="keras_npbatch_check")
        ranks = map_leaves(lambda leaf: len(leaf.shape), targets)

        def outputs(out: Any) -> Tree:
            """An output of shape `(n, 1, ..., 1)` for each target, with the target's rank."""
            if targets is None:
                return out
            return map_leaves(lambda rank: ops.reshape(out, (-1,) + (1,) * (rank - 1)), ranks)

        self._outputs = outputs  # a function: Keras would wrap a dict
        self._has_targets = targets is not None
        self._factor = self.add_weight(shape=(), initializer="ones", name="factor")
        self.built = True  # Keras would build it on a batch, and a None in x is not an input

    def call(self, x: Tree) -> Any:
        """The outputs, each a sum of all inputs."""
        inputs = [_summed(leaf) for leaf in keras.tree.flatten(x) if leaf is not None]
        out = reduce(ops.add, inputs) * self._factor
        if not self._has_targets:
            self.add_loss(ops.mean(ops.square(out)))
        return self._outputs(out)


def _losses(targets: Tree, weights: Tree) -> Tree:
    """A loss for each target, whose values have the shape of its weights, such as `(n, steps)`."""
    ranks = [len(leaf.shape) for leaf in leaves(weights)] or [1]
    found, structure = flatten(targets)
    if len(ranks) != len(found):  # one weight for all targets
        ranks = [max(ranks)] * len(found)
    return structure.unflatten([partial(_squared, rank) for rank in ranks])


def _is_text(leaf: Any) -> bool:
    return as_array(leaf).dtype.kind in "USTO"


def _summed(leaf: Any) -> Any:
    """A number for each sample, of shape `(n, 1)`."""
    if keras.backend.standardize_dtype(leaf.dtype) == "string":  # on TensorFlow
        leaf = leaf == ""
    leaf = ops.cast(leaf, "float32")
    axes = tuple(range(1, len(leaf.shape)))
    return ops.expand_dims(ops.sum(leaf, axis=axes) if axes else leaf, -1)


def _squared(rank: int, y: Any, predicted: Any) -> Any:
    """The mean squared error over the axes from `rank` on; predictions are broadcast over `y`."""
    error = ops.square(ops.cast(y, "float32") - predicted)
    axes = tuple(range(rank, len(error.shape)))
    return ops.mean(error, axis=axes) if axes else error
