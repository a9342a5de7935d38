"""Adapts to Keras's Torch trainer, which from Keras 3.16 on handles several processes itself.

Once `torch.distributed` has a process group, the trainer wraps each model in
`DistributedDataParallel`, which averages gradients. At each step it also sums all metric variables
over the processes, whatever their `aggregation`. A process that reads all of the data alone would
wait for the others forever. Earlier versions of Keras ignore other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from keras_npbatch.tensors.torch import numbers

__all__ = ["Rewired", "averages_gradients", "metrics_of_all", "trains_together"]

_TRAINER = "keras.src.backend.torch.trainer"
_RESULT = "get_metrics_result"
_BEFORE = "_keras_npbatch_before"


def trains_together(model: Any) -> bool:
    """Whether Keras itself trains and evaluates `model` on all processes together."""
    if not distributed.is_available() or not distributed.is_initialized():
        return False
    return distributed.get_world_size() > 1 and hasattr(model, "ddp_model")


def averages_gradients(model: Any) -> bool:
    """Whether Keras itself averages the gradients in a starting or running `fit` of `model`.

    Keras wraps a model when it first makes its train function. A custom `train_step` may bypass the
    wrapper.
    """
    if not trains_together(model) or type(model).train_step is not keras.Model.train_step:
        return False
    if model.ddp_model is None:
        return model.train_function is None
    return isinstance(model.ddp_model, DistributedDataParallel)


def metrics_of_all(model: Any) -> dict[str, Any]:
    """The metrics that a single process would have after reading all the data, as numbers.

    All processes must call it. Keras may sum all variables again. So the first process gets the
    combined values, and the others get zeros: the results of the first are right, however often
    they are summed.
    """
    variables = model.metrics_variables
    of_one = [variable.value.data for variable in variables]
    is_counted = distributed.get_rank() == 0 or not trains_together(model)
    for variable, value in _values_of_all(variables):
        variable.value.data = value if is_counted else value.zero_()
    found = [numbers(type(model).get_metrics_result(model))]
    for variable, value in zip(variables, of_one, strict=True):
        variable.value.data = value
    distributed.broadcast_object_list(found, 0)
    return found[0]


def _values_of_all(variables: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Each variable with its value over all processes, combined according to its `aggregation`."""
    pairs = []
    for variable in variables:
        value = variable.value.detach().clone()
        if variable.aggregation in ("sum", "mean"):
            distributed.all_reduce(value)
            if variable.aggregation == "mean":
                value.copy_(value / distributed.get_world_size())
        else:
            distributed.broadcast(value, 0)
        pairs.append((variable, value))
    return pairs


class Rewired:
    """Until `end`, makes Keras wait for no other process, or combine metrics correctly.

    It sets attributes on the instance, which take precedence over those of its class. A model with
    its own `get_metrics_result` keeps it. Several of these may exist for a model at once, and end
    in any order.

    Args:
        model: the model that Keras evaluates, predicts with or trains.
        is_alone: whether this process has all of the data; if not, all evaluate together.
    """

    def __init__(self, model: Any, *, is_alone: bool) -> None:
        self._model = model
        before = vars(model).get(_BEFORE)
        if before is None:
            before = _Before(model.ddp_model)
            object.__setattr__(model, _BEFORE, before)
            if is_alone:
                # Keras wraps a model that has no wrapper yet, so the model itself is set as its
                # wrapper. `object.__setattr__` does not make it a submodule of itself.
                object.__setattr__(model, "ddp_model", model)
            owner = next(each for each in type(model).__mro__ if _RESULT in vars(each))
            if owner.__module__ == _TRAINER:
                of_one = getattr(super(owner, model), _RESULT)
                result = of_one if is_alone else partial(_result_of_all, model, of_one)
                object.__setattr__(model, _RESULT, result)
        before.users += 1

    def end(self) -> None:
        """Restore the model, if this is the last of its `Rewired` objects."""
        model, before = self._model, vars(self._model)[_BEFORE]
        before.users -= 1
        if before.users:
            return
        if vars(model)["ddp_model"] is model:
            object.__setattr__(model, "ddp_model", before.wrapped)
        for name in (_BEFORE, _RESULT):
            vars(model).pop(name, None)


@dataclass(slots=True)
class _Before:
    """The state of a model before it was rewired."""

    wrapped: Any
    users: int = 0


def _result_of_all(model: Any, result: Callable[[], Any]) -> Any:
    with keras.StatelessScope(state_mapping=_values_of_all(model.metrics_variables)):
        return result()
