"""Sample weights in the shape and scale with which Keras excludes padded rows.

Rows that could not be read (`on_error="set_aside"`) are padded rows too.

    weigh = Weighing("fit", model)
    weigh(plan, batch, step)        # the batch as that model is given it

Keras multiplies the values of a loss by the sample weights, aligned at the *last* axis: weights of
shape `(n,)` weight the positions of values `(n, time)`, not the samples. The right shape depends on
the values, and so on the loss and metrics of the model: `model_weights` finds it.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_npbatch.batches.parts import pack, scale_weights, scaled, unpack
from keras_npbatch.errors import UnsupportedArgumentError, describe_error
from keras_npbatch.fit.compiled import layers_with_losses
from keras_npbatch.fit.model_weights import Form, forms_of, way_out
from keras_npbatch.plan.plan import Plan
from keras_npbatch.tree import Tree, leaves, map_leaves

__all__ = ["Weighing", "weighed_for_evaluate", "weighed_for_fit", "without_weights"]


class Weighing:
    """The sample weights of padded batches, for one call of Keras.

    Args:
        kind: what the batches are for.
        model: the model that is trained or evaluated. None if it is not known: then the weights
            keep the shapes that the targets suggest.
        steps: how many batches `evaluate` reads in total; None: those of an epoch.
        sets_aside: whether any batch of `fit` may have rows that could not be read.
    """

    def __init__(
        self,
        kind: Literal["fit", "evaluate"],
        model: Any = None,
        steps: int | None = None,
        sets_aside: bool = False,
    ) -> None:
        self._kind, self._steps = kind, steps
        self._sets_aside = sets_aside and kind == "fit"
        self._model = None if model is None else weakref.ref(model)
        self._forms: Sequence[Form] | None = None
        self._unpadded: Plan | None = None
        """A plan without padded rows, for which the model would be refused if it had any."""

    def weighs(self, plan: Plan) -> bool:
        """Whether it changes the batches of a plan."""
        return plan.remainder == "pad" or self._sets_aside

    def __call__(self, plan: Plan, batch: Tree, step: int, num_lacking: int = 0) -> Tree:
        """The batch of a step with the weights that the model is given.

        Args:
            plan: which rows are in which batch.
            batch: the batch.
            step: its step.
            num_lacking: how many of its rows could not be read.

        Raises:
            UnsupportedArgumentError: if no weights exclude padded rows from what it computes.
        """
        if not self.weighs(plan):
            return batch
        model = None if self._model is None else self._model()
        if model is not None and plan != self._unpadded:  # tracing a model is slow
            self._look_at(model, plan, batch)
        mean, total = self._factors(plan, step, num_lacking)
        if self._forms is None:
            return scale_weights(batch, mean)
        parts = unpack(batch, "the dataset")
        weights = _formed(parts.sample_weight, parts.y, self._forms, mean, total)
        return pack(parts._replace(sample_weight=weights))

    def _look_at(self, model: Any, plan: Plan, batch: Tree) -> None:
        setting = "on_error='set_aside'" if self._sets_aside else "remainder='pad'"
        try:
            self._forms = forms_of(model, batch, plan, self._kind, setting)
        except UnsupportedArgumentError:
            if plan.pads or self._sets_aside:
                raise
            self._unpadded = plan  # all rows weigh the same, but a later epoch may be longer
            return
        except Exception as error:  # noqa: BLE001  # from the user's code, or from another Keras
            if plan.pads or self._sets_aside:
                warnings.warn(
                    f"{setting} gives padded rows a sample_weight of 0. Its shape follows the "
                    "targets, since the losses of the model could not be traced "
                    f"({describe_error(error)}). If a loss has a value for each position, "
                    "it can weight positions instead of samples: compare the loss of evaluate with "
                    "that of remainder='keep'.",
                    stacklevel=2,
                )
        layers = layers_with_losses(model) if plan.pads or self._sets_aside else []
        if layers:
            warnings.warn(
                f"{setting} gives padded rows a sample_weight of 0, but the losses that layers add "
                f"themselves (activity_regularizer, add_loss; here {', '.join(layers)}) have no "
                "weights: they count padded rows as samples. For the figures without them, "
                f"{way_out(setting)}.",
                stacklevel=2,
            )
        self._model = None

    def _factors(self, plan: Plan, step: int, num_lacking: int) -> tuple[float, float]:
        """The factors for the weights of a step: for a loss that is a mean, and for a sum.

        Keras divides the loss of a batch by the number of all its rows, including padded ones, and
        then weights that batch by the same number. In `fit` the gradient must be that of the real
        rows, so in a padded batch each weighs `batch_size / real rows`. In `evaluate` the mean over
        the batches that are read must be that over their real rows, so in every batch each weighs
        `all rows / real rows`, counted over all these batches. A sum is not divided, but `evaluate`
        weights the sums of batches by all their rows instead of the real ones.
        """
        start, stop = plan.global_span(step)
        if self._kind == "fit":
            size = plan.global_batch_size if plan.remainder == "pad" else stop - start
            # If there is no real row, the weights are zeros.
            return size / max(stop - start - num_lacking, 1), 1.0
        steps = self._steps or plan.num_batches
        passes, rest = divmod(steps, plan.num_batches)
        real = passes * plan.num_samples + (plan.global_span(rest - 1)[1] if rest else 0)
        return steps * plan.global_batch_size / real, steps * (stop - start) / real


def weighed_for_fit(plan: Plan, batch: Tree, step: int) -> Tree:
    """The batch of a training step as `fit` gives it to an unknown model."""
    return Weighing("fit")(plan, batch, step)


def weighed_for_evaluate(plan: Plan, batch: Tree, steps: int) -> Tree:
    """A batch as `evaluate`, which reads `steps` of them, gives it to an unknown model."""
    return Weighing("evaluate", steps=steps)(plan, batch, 0)


def without_weights(batch: Tree) -> Tree:
    """The batch as Keras needs it to build a model, without sample weights."""
    return pack(unpack(batch, "the dataset")._replace(sample_weight=None))


def _formed(weights: Tree, targets: Tree, forms: Sequence[Form], mean: float, total: float) -> Tree:
    """The weights for each output; a single array if all outputs take the same weights."""
    found = leaves(weights)
    is_nested = isinstance(weights, dict | list | tuple)
    if is_nested and len(found) != len(leaves(targets)):  # Keras says what is wrong with it
        return map_leaves(lambda weight: scaled(weight, mean), weights)
    by_output = [
        form.shaped(scaled(found[form.target if is_nested else 0], total if form.is_sum else mean))
        for form in forms
    ]
    first = by_output[0]
    if not is_nested and all(
        each.shape == first.shape and form.is_sum == forms[0].is_sum
        for each, form in zip(by_output, forms, strict=True)
    ):
        return first
    return keras.tree.pack_sequence_as(forms[0].outputs, by_output)
