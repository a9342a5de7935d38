"""Finds the shape in which a model's losses and weighted metrics take weights of samples.

    forms = forms_of(model, batch, plan, "fit")     # one for each output of the model
    forms[0].shaped(weights)                        # (n,) becomes (n, 1) for values of (n, time)

Weights `(n,)` would weight the last axis of the values `(n, time)` of a sequence's loss, but
`F1Score` takes no other shape. So each loss is traced for the shape of its values, the behaviour of
each Keras metric is known here, and a shape is chosen that all of them take. Keras's code for
weights is in `losses/loss.py` (`reduce_weighted_values`), `metrics/reduction_metrics.py`,
`metrics/metrics_utils.py`, `metrics/f_score_metrics.py` and `metrics/iou_metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NoReturn, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.parts import unpack
from keras_npbatch.errors import UnsupportedArgumentError
from keras_npbatch.fit.compiled import Compiled, Output, compiled
from keras_npbatch.plan.plan import Plan
from keras_npbatch.tree import Tree

__all__ = ["Form", "forms_of", "way_out"]

_Axes: TypeAlias = tuple[int, ...]
"""The sizes of the axes after the sample axis."""
_Takes: TypeAlias = Callable[[_Axes], bool]
"""Whether weights with these axes weight the samples, and nothing else."""


@dataclass(frozen=True)
class Form:
    """The form that sample weights for one output must have."""

    target: int
    """The leaf of the targets with which the output is compared."""
    takers: tuple[_Takes, ...]
    """The losses and the weighted metrics of the output."""
    candidates: tuple[_Axes, ...]
    """The axes to try for weights that not all of them take, in this order."""
    is_sum: bool
    """Whether the loss is a sum over the samples of a batch, not a mean."""
    outputs: Any
    """A nesting with the structure of the model's outputs."""

    def shaped(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The weights with axes that the losses and all metrics take.

        If no such axes exist, the weights stay unchanged, for Keras to refuse.
        """
        if self._is_taken(weights.shape[1:]):
            return weights
        given = weights.shape[1:]
        while given and given[-1] == 1:
            given = given[:-1]
        for axes in self.candidates:
            if len(axes) < len(given):
                continue
            padded = given + (1,) * (len(axes) - len(given))
            filled = tuple(max(pair) for pair in zip(axes, padded, strict=True))
            if _fills(padded, filled) and self._is_taken(filled):
                column = weights.reshape(len(weights), *padded)
                return np.ascontiguousarray(np.broadcast_to(column, (len(weights), *filled)))
        return weights

    def _is_taken(self, axes: _Axes) -> bool:
        return all(takes(axes) for takes in self.takers)


def forms_of(
    model: Any,
    batch: Tree,
    plan: Plan,
    kind: Literal["fit", "evaluate"],
    setting: str = "remainder='pad'",
) -> Sequence[Form] | None:
    """The forms that the weights for each output of a compiled model must have.

    Args:
        model: a compiled model.
        batch: any batch; only its shapes and dtypes matter.
        plan: which rows are in which batch.
        kind: what the batches are for.
        setting: why there are padded rows, for messages.

    Returns:
        A form for each output, in the order of Keras's flattened outputs; None if the batch has no
        targets, or if the model has neither a loss nor metrics.

    Raises:
        UnsupportedArgumentError: if no weights exclude padded rows from what is computed.
        Exception: of any kind, if the model can't be traced.
    """
    found = compiled(model, unpack(batch, "the dataset"))
    if found is None:
        return None
    try:
        return [
            _form(output, number, found, plan, kind) for number, output in enumerate(found.outputs)
        ]
    except _RefusedError as refused:
        raise UnsupportedArgumentError(
            f"{setting} gives padded rows a sample_weight of 0, and {refused.what}. Expected "
            f"results as without them. {refused.instead}; or {way_out(setting)}."
        ) from None


def way_out(setting: str) -> str:
    """What to write instead of a setting that pads, for messages."""
    if setting != "remainder='pad'":
        return "leave it out"
    return "use remainder='drop', or 'keep' or 'spread' where batches may differ in size"


def _form(
    output: Output, number: int, found: Compiled, plan: Plan, kind: Literal["fit", "evaluate"]
) -> Form:
    where = f" of output {number}" if len(found.outputs) > 1 else ""
    takers: list[_Takes] = []
    names: list[str] = []
    candidates: list[_Axes] = [(1,) * count for count in range(len(output.target) + 1)]
    reductions = {loss.reduction for loss in output.losses}
    for loss in output.losses:
        name = f"the loss {loss.name!r}{where}"
        if output.is_masked and loss.reduction in ("sum_over_batch_size", "mean"):
            _refuse(
                f"{name} is divided by the positions that the mask of the predictions leaves, "
                "those of padded rows too",
                "Leave the mask out (mask_zero=False) and give a sample_weight of its zeros and "
                "ones",
            )
        if loss.values is None or loss.is_joint:
            _refuse(
                f"{name} gives no value for each sample: padded rows are in what it computes",
                "Let the loss return one value for each sample, of shape (n,)",
            )
        whole = loss.reduction == "mean_with_sample_weight"
        smallest, largest = plan.sizes(plan.num_batches - 1)
        if whole and (kind == "evaluate" or smallest != largest):
            _refuse(
                f"{name} has the reduction 'mean_with_sample_weight', which undoes the scale by "
                "which batches with padded rows count less",
                "Use the reduction 'sum_over_batch_size'",
            )
        takers.append(_of_values(loss.values, whole))
        names.append(name)
        candidates += [loss.values] if whole else []
    for metric, values in output.metrics:
        name = f"the weighted metric {metric.name!r}{where}"
        if kind == "evaluate" and _counts(metric):
            _refuse(
                f"{name} adds up the sample weights, which are scaled in padded batches",
                "Use a metric that is a ratio, such as Precision or Recall",
            )
        taker = _of_metric(metric, values, output)
        if taker is not None:
            takers.append(taker)
            names.append(name)
    candidates += [output.target, output.target[:-1], (*output.target[:-1], 1)]
    is_sum = bool(reductions) and reductions <= {"sum", "none", None}
    form = Form(output.index, tuple(takers), tuple(candidates), is_sum, found.structure)
    if len(reductions) > 1 and not (is_sum or reductions == {"sum_over_batch_size", "mean"}):
        _refuse(f"the losses{where} have the reductions {sorted(map(str, reductions))}", "Use one")
    if not any(form._is_taken(axes) for axes in candidates):
        _refuse(
            f"{', '.join(names)}: there is no shape of sample weights that all of them take",
            "Use other metrics, or put them into metrics=[...]",
        )
    return form


class _RefusedError(Exception):
    """Weights can't exclude padded rows."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(what, instead)
        self.what, self.instead = what, instead


def _refuse(what: str, instead: str) -> NoReturn:
    raise _RefusedError(what, instead)


def _of_values(values: _Axes, whole: bool = False) -> _Takes:
    """A test for weights that multiply the values of a loss as they should."""

    def takes(axes: _Axes) -> bool:
        if len(values) == len(axes) + 1 and values[-1] == 1:
            axes = (*axes, 1)
        elif len(axes) == len(values) + 1 and axes[-1] == 1:
            axes = axes[:-1]
        if len(axes) != len(values):
            return False
        return axes == values if whole else _fills(axes, values)

    return takes


def _of_metric(metric: Any, values: _Axes | None, output: Output) -> _Takes | None:
    """A test for weights that a metric takes as weights of samples; None if that is not known."""
    metrics = keras.metrics
    if isinstance(metric, metrics.FBetaScore):
        return lambda axes: axes == ()
    if isinstance(metric, metrics.R2Score):
        return lambda axes: len(axes) < 2
    if isinstance(metric, metrics.IoU):
        counted = list(output.target)
        if not metric.sparse_y_true:
            axis = metric.axis if metric.axis < 0 else metric.axis - 1
            del counted[axis]
        count = prod(counted)
        return lambda axes: prod(axes) == count
    if _sees_pairs(metric):
        target, prediction = output.target, output.prediction
        if (len(target) == len(prediction) + 1 and target[-1] == 1 and prediction) or (
            len(prediction) == 1 and not target
        ):
            target = prediction
        return lambda axes: _fills(axes, target) or (_fills(axes, target[:-1]) and target != ())
    if values is None:
        return None
    of_values = _of_values(values)
    return lambda axes: of_values(axes) or _fills(axes, values[: len(axes)])


def _fills(axes: _Axes, whole: _Axes) -> bool:
    """Whether an array with these axes broadcasts, axis by axis, to one with the axes `whole`."""
    return len(axes) == len(whole) and all(
        axis in (1, size) for axis, size in zip(axes, whole, strict=True)
    )


_COUNTS = tuple(
    getattr(keras.metrics, name)
    for name in ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives", "Sum")
)
_PAIRS = tuple(
    getattr(keras.metrics, name)
    for name in (
        *("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"),
        *("Precision", "Recall", "AUC", "SensitivityAtSpecificity", "SpecificityAtSensitivity"),
        *("PrecisionAtRecall", "RecallAtPrecision"),
    )
)


def _counts(metric: Any) -> bool:
    return isinstance(metric, _COUNTS)


def _sees_pairs(metric: Any) -> bool:
    """Whether the metric compares each number of the targets with one of the predictions."""
    return isinstance(metric, _PAIRS)
