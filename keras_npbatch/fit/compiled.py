"""What a compiled model computes from a batch, as shapes: outputs, losses and weighted metrics.

    found = compiled(model, parts)
    found.outputs[0].losses[0].values       # (time,): the loss has a value for each position

Nothing is computed: the model, its losses and its metrics are traced, as Keras does to build them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import keras
from keras.src.backend import compute_output_spec
from keras.src.backend.common.masking import get_keras_mask
from keras.src.trainers.compile_utils import CompileLoss, CompileMetrics

from keras_npbatch.batches.parts import Parts

__all__ = ["Compiled", "Loss", "Output", "compiled", "layers_with_losses"]

_Axes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of one output."""

    name: str
    """The user's name for it."""
    reduction: str | None
    """How its values are reduced."""
    values: _Axes | None
    """The axes of its values after the sample axis; None if that is not their first axis."""
    is_joint: bool
    """Whether its values are known to depend on other samples of the batch."""


@dataclass(slots=True)
class Output:
    """An output of the model; its axes don't include the sample axis."""

    index: int
    """The leaf of the targets with which it is compared."""
    target: _Axes
    """The axes of that leaf."""
    prediction: _Axes
    """The axes of the prediction."""
    is_masked: bool
    """Whether the prediction carries a mask."""
    losses: list[Loss] = field(default_factory=list)
    """The losses of this output."""
    metrics: list[tuple[Any, _Axes | None]] = field(default_factory=list)
    """Each weighted metric, and the axes of the values it averages; None if it averages none."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """All outputs of a model."""

    outputs: list[Output]
    """The outputs, in the order in which Keras flattens them."""
    structure: Any
    """A nesting with the structure of the outputs."""


def compiled(model: Any, parts: Parts) -> Compiled | None:
    """Trace what a compiled model computes from a batch.

    Args:
        model: the model; it is built if it is not yet.
        parts: the batch.

    Returns:
        The outputs; None if the batch has no targets, or if the model has neither a loss nor
        metrics.

    Raises:
        Exception: of any kind, from the user's code or Keras's, if the model can't be traced.
    """
    loss, metrics = model._compile_loss, model._compile_metrics
    if parts.y is None or (loss is None and metrics is None):
        return None
    return _traced(model, loss, metrics, parts)


def layers_with_losses(model: Any) -> list[str]:
    """The names of the layers that add a loss of their own, for a batch as a whole.

    They have an `activity_regularizer`, or call `add_loss` in a class that is not Keras's.
    """
    return [
        layer.name
        for layer in model._flatten_layers()
        if layer.activity_regularizer is not None or _calls_add_loss(type(layer))
    ]


def _calls_add_loss(kind: type) -> bool:
    own = [base for base in kind.__mro__ if not base.__module__.startswith("keras.")]
    codes = [getattr(value, "__code__", None) for base in own for value in vars(base).values()]
    return any(code is not None and "add_loss" in code.co_names for code in codes)


def _traced(model: Any, loss: Any, metrics: Any, parts: Parts) -> Compiled:
    predicted, masks = _predictions(model, parts.x)
    targets = _specs(parts.y)
    sizes = {
        size
        for leaf in keras.tree.flatten((targets, predicted))
        if leaf is not None
        for size in leaf.shape[1:]
    }
    # The sample axis gets a size that no other axis has, so it can be recognised.
    samples = next(size for size in count(3) if size not in sizes)
    targets, predicted = (_with_samples(tree, samples) for tree in (targets, predicted))
    flat = keras.tree.flatten(predicted)
    numbers = keras.tree.pack_sequence_as(predicted, list(range(len(flat))))
    of_targets = keras.tree.flatten(targets)
    outputs = [
        Output(0, (), tuple(leaf.shape[1:]), masked)
        for leaf, masked in zip(flat, masks, strict=True)
    ]

    def look(targets: Any, predicted: Any) -> Any:
        all_targets, all_predicted = keras.tree.flatten(targets), keras.tree.flatten(predicted)

        def pair(target: Any, prediction: Any) -> Output:
            output = outputs[_place(all_predicted, prediction)]
            output.index = _place(all_targets, target)
            output.target = tuple(of_targets[output.index].shape[1:])
            return output

        total = 0.0
        if loss is not None:
            for output in outputs:
                output.losses.clear()
            recording = _Recording(loss, lambda *given: _note_loss(pair, samples, *given))
            total = recording(targets, predicted)
        return total

    if loss is not None:
        compute_output_spec(look, targets, predicted)
    if metrics is not None and metrics._user_weighted_metrics:
        _note_metrics(metrics, targets, predicted, outputs, numbers, samples)
    return Compiled(outputs, numbers)


def _predictions(model: Any, x: Any) -> tuple[Any, list[bool]]:
    """The outputs, as a nesting of symbolic tensors, and whether each has a mask."""
    functional = getattr(model, "_functional", model)  # a Sequential model has a `_functional`
    outputs = getattr(functional, "_outputs_struct", None)
    if outputs is not None and not any(
        None in leaf.shape[1:] for leaf in keras.tree.flatten(outputs)
    ):
        return outputs, _have_masks(outputs)
    masks: list[bool] = []

    def predict(x: Any) -> Any:
        with _with_values(model):
            predicted = model(x, training=False)
        masks[:] = _have_masks(predicted)
        return predicted

    return compute_output_spec(predict, _specs(x)), masks


def _with_values(model: Any) -> AbstractContextManager[Any]:
    """On JAX, Keras takes the values out of the model's variables before its first step."""
    gone = [each for each in model.variables if getattr(each, "_value", each) is None]
    if not gone:
        return nullcontext()
    values = [(each, keras.ops.zeros(each.shape, each.dtype)) for each in gone]
    scope: AbstractContextManager[Any] = keras.StatelessScope(values)
    return scope


def _have_masks(tree: Any) -> list[bool]:
    return [get_keras_mask(leaf) is not None for leaf in keras.tree.flatten(tree)]


def _note_loss(pair: Any, samples: int, loss: Any, target: Any, prediction: Any) -> Any:
    values = loss.call(
        keras.ops.convert_to_tensor(target, dtype=loss.dtype),
        keras.ops.convert_to_tensor(prediction, dtype=loss.dtype),
    )
    shape = tuple(values.shape)
    is_by_sample = shape[:1] == (samples,)
    is_joint = shape[1:].count(samples) > 0 or (
        isinstance(loss, keras.losses.Circle) or getattr(loss, "fn", None) is keras.losses.circle
    )
    pair(target, prediction).losses.append(
        Loss(loss.name, loss.reduction, shape[1:] if is_by_sample else None, is_joint)
    )
    return keras.ops.sum(values)


class _Recording(CompileLoss):  # type: ignore[misc]  # Keras is untyped
    """The losses of a model: Keras assigns them to the outputs, and each is noted when called."""

    _flat_losses: Any

    def __init__(self, loss: Any, note: Any) -> None:
        super().__init__(
            loss=loss._user_loss,
            loss_weights=loss._user_loss_weights,
            output_names=loss.output_names,
        )
        self._note = note

    def build(self, y_true: Any, y_pred: Any) -> None:
        """Build as Keras does, then replace each loss by one that is noted, without weights."""
        super().build(y_true, y_pred)

        def noted(loss: Any) -> Any:
            return lambda target, prediction, _: self._note(loss, target, prediction)

        self._flat_losses = [each._replace(loss=noted(each.loss)) for each in self._flat_losses]


def _note_metrics(
    metrics: Any, targets: Any, predicted: Any, outputs: list[Output], numbers: Any, samples: int
) -> None:
    found = CompileMetrics(None, metrics._user_weighted_metrics, output_names=metrics.output_names)
    found.build(targets, predicted)
    for several, target, prediction, number in zip(
        found._flat_weighted_metrics,
        found._flatten_y(targets),
        found._flatten_y(predicted),
        found._flatten_y(numbers),
        strict=True,
    ):
        if not several:
            continue
        output = outputs[number]
        if not output.losses:
            output.index = _place(keras.tree.flatten(targets), target)
            output.target = tuple(target.shape[1:])
        for metric in several.metrics:
            axes = _axes_of_values(metric, target, prediction, samples)
            output.metrics.append((metric, axes))


def _axes_of_values(metric: Any, target: Any, prediction: Any, samples: int) -> _Axes | None:
    if isinstance(metric, keras.metrics.RootMeanSquaredError):
        values = compute_output_spec(_differences, target, prediction)
    elif isinstance(metric, keras.metrics.MeanMetricWrapper):

        def wrapped(target: Any, prediction: Any) -> Any:
            return metric._fn(target, prediction, **metric._fn_kwargs)

        values = compute_output_spec(wrapped, target, prediction)
    else:
        return None
    shape = tuple(values.shape)
    return shape[1:] if shape[:1] == (samples,) else None


def _differences(target: Any, prediction: Any) -> Any:
    # Keras's `Accuracy` brings both to the same rank, as RootMeanSquaredError does.
    return keras.metrics.Accuracy()._fn(target, prediction)


def _place(leaves: list[Any], leaf: Any) -> int:
    return next(number for number, each in enumerate(leaves) if each is leaf)


def _specs(tree: Any) -> Any:
    def spec(leaf: Any) -> Any:
        if leaf is None:
            return None
        return keras.KerasTensor(tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype))

    return keras.tree.map_structure(spec, tree)


def _with_samples(tree: Any, samples: int) -> Any:
    def resized(leaf: Any) -> Any:
        return None if leaf is None else keras.KerasTensor((samples, *leaf.shape[1:]), leaf.dtype)

    return keras.tree.map_structure(resized, tree)
