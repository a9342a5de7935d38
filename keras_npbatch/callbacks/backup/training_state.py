"""The state that decides the next training step besides the data: variables and generators.

    groups = variables(model, with_metrics=True)      # {"model": [...], "optimizer": [...], ...}
    facts = described(model, groups)                  # for JSON, next to the arrays
    refuse_another_model(other, variables(other, with_metrics=True), facts)

`assign` and `set_generator_states` restore it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import global_seed_generator

from keras_npbatch.errors import InvalidStateError, describe
from keras_npbatch.fit.weighing import without_weights

__all__ = [
    "assign",
    "build",
    "described",
    "generator_states",
    "refuse_another_model",
    "refuse_generator_states",
    "set_generator_states",
    "variables",
]

Groups: TypeAlias = dict[str, list[Any]]

_GLOBAL_SEEDS = "global_seed_generator"
"""Keras's name for the generator of random functions without a seed."""


def variables(model: Any, *, with_metrics: bool, with_seeds: bool | None = None) -> Groups:
    """Keras's variables that decide the coming steps, in groups.

    Args:
        model: a compiled model.
        with_metrics: whether to include the metrics; for an epoch in progress, whose logs they
            make.
        with_seeds: whether to include the state of Keras's global random generator; None: if the
            generator exists.
    """
    if with_seeds:
        global_seed_generator()  # makes it
    optimizer = getattr(model, "optimizer", None)
    seeds = None if with_seeds is False else global_state.get_global_attribute(_GLOBAL_SEEDS)
    return {
        # Not `weights`: the states of random layers are only in `variables`.
        "model": list(model.variables),
        "optimizer": [] if optimizer is None else list(optimizer.variables),
        "metrics": list(model.metrics_variables) if with_metrics else [],
        "seeds": [] if seeds is None else [seeds.state],
    }


def described(model: Any, groups: Groups) -> dict[str, Any]:
    """The name of the optimizer, and the name, shape and dtype of each variable, for JSON."""
    return {
        "optimizer": type(getattr(model, "optimizer", None)).__name__,
        "variables": {
            group: [
                [found.name, list(found.shape), keras.backend.standardize_dtype(found.dtype)]
                for found in of_group
            ]
            for group, of_group in groups.items()
        },
    }


def refuse_another_model(model: Any, groups: Groups, facts: Mapping[str, Any]) -> None:
    """Compare a model with what `described` returned for the model of the backup.

    Raises:
        InvalidStateError: if they differ in more than the names of variables, which Keras numbers.
    """
    now, differences = described(model, groups), []
    if facts["optimizer"] != now["optimizer"]:
        differences.append(f"the optimizer was {facts['optimizer']} and is {now['optimizer']}")
    for group, ours in now["variables"].items():
        theirs = facts["variables"][group]
        if len(theirs) != len(ours):
            differences.append(f"{group} had {len(theirs)} variables and has {len(ours)}")
        else:
            differences.extend(
                f"variable {number} of {group} was {was} and is {found}"
                for number, (was, found) in enumerate(zip(theirs, ours, strict=True))
                if was[1:] != found[1:]
            )
    if differences:
        raise InvalidStateError(
            f"the backup is of another model: {'; '.join(differences[:5])}. Expected the model, "
            "compiled, as it was. Make it so, or remove the backup to start again."
        )


def assign(found: Iterable[Any], values: Iterable[npt.NDArray[Any]]) -> None:
    """Assign each variable its value."""
    for variable, value in zip(found, values, strict=True):
        variable.assign(value)


def build(model: Any, dataset: Any) -> None:
    """Create the variables that Keras on TensorFlow creates only in the first step."""
    if keras.backend.backend() == "tensorflow":
        batch = dataset[0]
        if dataset.remainder == "pad":  # only in `fit` do the weights have the shape for the model
            batch = without_weights(batch)
        model._symbolic_build(data_batch=batch)


def generator_states() -> list[npt.NDArray[np.uint8]]:
    """The random state that is not in variables: that of Torch's generators."""
    if keras.backend.backend() != "torch":
        return []
    from keras_npbatch.tensors import torch

    return torch.random_states()


def set_generator_states(states: list[npt.NDArray[np.uint8]]) -> None:
    """Restore what `generator_states` returned; does nothing on a backend other than Torch."""
    if states and keras.backend.backend() == "torch":
        from keras_npbatch.tensors import torch

        torch.set_random_states(states)


def refuse_generator_states(states: list[npt.NDArray[Any]]) -> None:
    """Check that these can be the states of generators.

    Raises:
        ValueError: if they can't.
    """
    for state in states:
        if state.dtype != np.uint8 or state.ndim != 1:
            raise ValueError(f"a generator has the state {describe(state)}")
    if states and keras.backend.backend() == "torch":
        from keras_npbatch.tensors import torch

        torch.refuse_random_state(states[0])
