"""Checks the facts of a backup before they are used.

    refuse_nonsense(facts, arrays, dataset, epochs=10, steps_per_epoch=None)     # or ValueError

A file may be complete and still describe an impossible training: step 1,000,000,000, epoch -1, an
array with another shape than its variable. That is damage too, and the backup before it is used.
Whether the backup is of another model or dataset is checked elsewhere: that is not damage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.core import core_of
from keras_npbatch.callbacks.backup import companions, training_state
from keras_npbatch.errors import describe
from keras_npbatch.plan import position

__all__ = ["refuse_nonsense"]

_GROUPS = {"model", "optimizer", "metrics", "seeds"}
_MOST_PROCESSES = 2**20


def refuse_nonsense(
    facts: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
    dataset: Any,
    epochs: int | None,
    steps_per_epoch: int | None,
) -> None:
    """Refuse facts and arrays that no backup has.

    Args:
        facts: the facts of a snapshot.
        arrays: its arrays.
        dataset: the dataset that resumes.
        epochs: the argument of `fit`, if known.
        steps_per_epoch: the same.

    Raises:
        ValueError: for an invalid value.
        LookupError: if something is missing.
        TypeError: if something has the wrong type.
    """
    fit, state = facts["fit"], facts["dataset"]
    most = None if steps_per_epoch is None else steps_per_epoch - 1
    whole_number("epoch", fit["epoch"], least=0, most=epochs)
    step = whole_number("step", fit["step"], least=0, most=most)
    if not isinstance(facts["stopped"], bool):
        raise TypeError(f"stopped is {describe(facts['stopped'])}")
    if not isinstance(state, dict) or not isinstance(state["dataset"], dict):
        raise TypeError(f"the position is {describe(state)}")
    core = core_of(dataset)
    if position.is_of(state, core.fingerprint()):
        core.place_of(state)
        if steps_per_epoch is None and state["step"] != step:
            raise ValueError(f"fit was at step {step} and the dataset at step {state['step']}")
    processes = whole_number("processes", facts["processes"], least=1, most=_MOST_PROCESSES)
    if not isinstance(facts["optimizer"], str):
        raise TypeError(f"optimizer is {describe(facts['optimizer'])}")
    variables = facts["variables"]
    if variables.keys() != _GROUPS:
        raise ValueError(f"the groups of variables are {describe(list(variables))}")
    known = set()
    for group, of_group in variables.items():
        for number, (name, shape, dtype) in enumerate(of_group):
            known.add(f"{group}/{number}")
            array = arrays[f"{group}/{number}"]
            if list(array.shape) != shape or not _fits(array.dtype, dtype):
                raise ValueError(
                    f"{group}/{number} has shape {array.shape} and dtype {array.dtype}; expected "
                    f"those of {name}, {shape} and {dtype}"
                )
    generators = [name for name in arrays if re.fullmatch(r"generators/\d+", name)]
    training_state.refuse_generator_states([arrays[name] for name in generators])
    known |= {*generators}
    known |= companions.refuse_nonsense(facts["callbacks"], arrays, variables["model"])
    for name, array in arrays.items():
        of_other = re.fullmatch(r"processes/(\d+)/(.+)", name)
        if of_other and int(of_other[1]) < processes and of_other[2] in known:
            whole = arrays[of_other[2]]
            if (array.shape, array.dtype) == (whole.shape, whole.dtype):
                continue
        if name not in known:
            raise ValueError(f"{name} is an array of nothing")


def _fits(dtype: np.dtype[Any], of_variable: str) -> bool:
    expected = np.dtype(of_variable)
    # Keras returns small floats that NumPy does not know, such as bfloat16, as float32.
    return dtype == expected or (expected.kind == "V" and dtype == np.float32)
