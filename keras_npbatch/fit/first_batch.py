"""Checks the first batch of a `fit` or `evaluate`, before Keras fails on it.

    look_at(batch, "fit", model, dataset)

Two inputs without targets are fine for `predict`, and strings for a model that looks them up. Only
the call decides whether they are wrong: a loss that Keras computes needs targets that are numbers,
and Keras's own errors name neither cause.
"""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_npbatch.batches.as_array import as_array
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.parts import unpack
from keras_npbatch.errors import InvalidBatchError
from keras_npbatch.plan.plan import Kind, Plan
from keras_npbatch.tree import Tree, leaves, leaves_with_paths

__all__ = ["look_at", "save_weights", "warn_of_lone_samples", "warn_of_lost_weights"]

_STEPS = {"fit": "train_step", "evaluate": "test_step"}


def look_at(batch: Tree, kind: Kind, model: Any, dataset: Any) -> None:
    """Refuse targets from which the loss of the model can't be computed.

    Args:
        batch: the first batch.
        kind: the kind of call.
        model: the model; None if it is not known.
        dataset: the dataset of the batch.

    Raises:
        InvalidBatchError: if Keras's own step computes the loss, and there are no targets, or they
            are text.
    """
    if not _needs_targets(kind, model):
        return
    x, y, _ = unpack(batch, "the dataset")
    name = type(dataset).__name__
    if not leaves(y):
        raise InvalidBatchError(
            f"the batches of the {name} have no targets, but {kind} computes a loss; expected "
            f"(x, y). {_where_targets_are(x, kind, dataset)}"
        )
    for path, leaf in leaves_with_paths(y, "y"):
        if _is_text(leaf):
            raise InvalidBatchError(
                f"{path} of the {name} is text ({as_array(leaf).dtype}), but {kind} "
                "computes a loss; expected numbers. Number the classes: "
                "names, y = np.unique(labels, return_inverse=True)."
            )


def _needs_targets(kind: Kind, model: Any) -> bool:
    """Whether Keras certainly computes a loss that fails without targets."""
    if kind not in _STEPS or model is None:
        return False
    own = (_STEPS[kind], "compute_loss")
    if any(getattr(type(model), name) is not getattr(keras.Model, name) for name in own):
        return False
    losses = [loss for loss in keras.tree.flatten(model.loss) if loss is not None]
    called = keras.losses.Loss.__call__  # converts the targets; an override may not need them
    return bool(losses) and all(
        not isinstance(loss, keras.losses.Loss) or type(loss).__call__ is called for loss in losses
    )


def _where_targets_are(x: Tree, kind: Kind, dataset: Any) -> str:
    makes_any = type(dataset).__name__
    if not core_of(dataset).data:
        return f"Let {core_of(dataset).made_by} return (x, y)."
    if isinstance(x, tuple | list) and len(x) in (2, 3):
        return (
            f"{makes_any}((x, y)) has two inputs and no targets: write {makes_any}(x, y). If they "
            f"are inputs, give the targets too: {makes_any}((x1, x2), y)."
        )
    core = core_of(dataset)
    applied = [core.transform, core.augment if kind == "fit" else None]
    functions = " and ".join(function.setting for function in applied if function is not None)
    if functions:
        return f"Let {functions} return (x, y), not x alone, and give the dataset both."
    return f"Write {makes_any}(x, y)."


def _is_text(leaf: Any) -> bool:
    kind = getattr(getattr(leaf, "dtype", None), "kind", None)
    if kind == "O":
        flat = as_array(leaf).reshape(-1)
        return len(flat) > 0 and isinstance(flat[0], str | bytes)
    return kind in ("U", "S", "T")


def warn_of_lone_samples(plan: Plan, kind: Kind, model: Any, dataset: Any) -> None:
    """Warn about a batch of one sample if a Torch layer refuses to normalise over it.

    Args:
        plan: which rows are in which batch.
        kind: the kind of call.
        model: the model; None if it is not known.
        dataset: the dataset of the batches.
    """
    if kind != "fit" or model is None or keras.backend.backend() != "torch":
        return
    last = plan.num_batches - 1
    if plan.batch_size == 1 or plan.sizes(last)[0] != 1 or plan.remainder == "pad":
        return
    import torch

    # Keras's own BatchNormalization computes the moments itself, and accepts one sample.
    kind_of_torch = torch.nn.modules.batchnorm._BatchNorm
    wrapped = [getattr(layer, "module", None) for layer in model._flatten_layers()]
    modules = [module for module in wrapped if isinstance(module, torch.nn.Module)]
    if any(isinstance(part, kind_of_torch) for module in modules for part in module.modules()):
        warnings.warn(
            f"the last batch of an epoch of the {type(dataset).__name__} has one sample, and Torch "
            "refuses to normalise over one ('Expected more than 1 value per channel when "
            "training'). Give the dataset remainder='spread', or 'drop'.",
            stacklevel=2,
        )


def save_weights(error: Exception, kind: Kind, model: Any) -> None:
    """After an error, put the weights back into a model on JAX, or add a note that they are lost.

    On JAX, Keras takes the values out of the model's variables before the first step of a call, and
    puts them back from the result of the last one: `fit` does that when an error ends it too,
    `evaluate` and `predict` do not. If there is no batch for the first step, they are lost.
    """
    if model is None or keras.backend.backend() != "jax":
        return
    if getattr(model, "_jax_state", None):
        if kind != "fit":
            model.jax_state_sync()
            model._jax_state = None  # as at the end of the call
    elif _has_lost_weights(model):
        error.add_note(
            "keras_npbatch: on JAX, Keras had taken the weights out of the model for its first "
            "step, so the model can't be used again, whatever the data. Build and compile it again "
            "(and set_weights, if you have kept get_weights())."
        )


def warn_of_lost_weights(kind: Kind, model: Any) -> None:
    """Warn about a model on JAX that an earlier call has left without weights: Keras will fail."""
    if model is None or keras.backend.backend() != "jax" or not _has_lost_weights(model):
        return
    warnings.warn(
        f"{kind} will fail ('NoneType' object is not callable): the model has no weights, since an "
        "error in the first step of an earlier call has left Keras without them, on JAX. Build and "
        "compile the model again.",
        stacklevel=2,
    )


def _has_lost_weights(model: Any) -> bool:
    for variable in model.variables:
        if getattr(variable, "_value", variable) is None and variable._initializer is None:
            return True
    return False
