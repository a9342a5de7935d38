"""What a call of Keras means for the dataset, and which of its arguments Keras would ignore.

kind_of(core, call)          # "fit", "evaluate" or "predict"
reads_in_order(core, fit)    # fit(shuffle=False) reads in the order of the data
weights_of(core, fit)        # fit(class_weight=...)
check_arguments(core, call, steps)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import Core
from keras_npbatch.batches.loader import Batches
from keras_npbatch.errors import AmbiguousCallError, UnsupportedArgumentError, describe
from keras_npbatch.fit.call import Call
from keras_npbatch.plan.plan import Kind
from keras_npbatch.samplers.mixture import Mixture
from keras_npbatch.samplers.own import is_plain, order_setting

__all__ = [
    "check_arguments",
    "initial_epoch",
    "is_for_both",
    "kind_of",
    "passes_in_all",
    "reads_in_order",
    "refuse_ignored",
    "refuse_to_guess",
    "refuse_validation_split",
    "weights_of",
]

_STEPS = {"fit": "steps_per_epoch", "evaluate": "steps", "predict": "steps"}


def kind_of(core: Core, call: Call | None) -> Kind:
    """What Keras does with the batches.

    Raises:
        AmbiguousCallError: if that can't be determined and matters.
    """
    if call is not None:
        # While fit makes the iterator for its validation, fit itself is the innermost call.
        if call.kind == "fit" and not call.is_given("x", core.owner):
            return "evaluate"
        return call.kind
    refuse_to_guess(core)
    return "fit"


def refuse_to_guess(core: Core) -> None:
    """Refuse to serve an unknown call if it matters which call it is.

    Raises:
        AmbiguousCallError: if the calls are not all given the same batches.
    """
    differences = _differences(core)
    if differences:
        raise AmbiguousCallError(
            "Keras asks for batches, but it can't be told whether for fit, evaluate or predict, "
            f"and the {core.name} has others for each of them, because of "
            f"{', '.join(differences)}. Expected a call of model.fit, model.evaluate or "
            "model.predict. Call one of them, iterate over the dataset yourself, or make one "
            "without these settings."
        )


def _differences(core: Core) -> list[str]:
    """The settings for which `fit`, `evaluate` and `predict` are not given the same batches."""
    plan = core.plan
    draws = core.load_draws or (core.transform is not None and core.transform.draws)
    reasons = {
        order_setting(plan.sampler): plan.shuffle,
        "the shard": plan.shard.count > 1,
        "random numbers in load or transform": draws,
        "the position within an epoch (load_state_dict)": core.clock.place.is_rest,
    }
    found = [reason for reason, matters in reasons.items() if matters]
    return found + core.for_training_alone


def reads_in_order(core: Core, fit: Call | None) -> bool:
    """Whether `fit(shuffle=False)` asks for an order other than the dataset's own.

    `shuffle=True` is the default of `fit`, so it leaves the order to the dataset.

    Args:
        core: what the dataset is inside.
        fit: the call that trains on the dataset, or None if none does.

    Raises:
        UnsupportedArgumentError: for any other value, such as `"batch"`.
    """
    if fit is None:
        return False
    shuffle = fit.arguments.get("shuffle", True)
    if not isinstance(shuffle, bool | np.bool_):
        raise UnsupportedArgumentError(
            f"fit(shuffle=...) was given {describe(shuffle)} with the dataset "
            f"({core.name}), which shuffles samples, not batches; expected "
            "False for the order of the data. Leave it out for the dataset's own order."
        )
    if not shuffle and not is_plain(core.plan.sampler):
        whose = f"whose {order_setting(core.plan.sampler)} decides the order"
        instead = "make the dataset with shuffle=False instead of the sampler"
        if isinstance(core.plan.sampler, Mixture) or not core.has_rows:
            whose = "whose datasets are each read in their own order"
            instead = "make these datasets with shuffle=False"
        raise UnsupportedArgumentError(
            f"fit(shuffle=False) was given with the dataset ({core.name}), {whose}; expected no "
            f"shuffle. Leave it out, or {instead}."
        )
    return core.plan.shuffle and not shuffle


def weights_of(core: Core, fit: Call | None) -> ClassWeight | None:
    """The weights of `fit(class_weight=...)`, or None if it was not given.

    Args:
        core: what the dataset is inside.
        fit: the call that trains on the dataset, or None if none does.

    Raises:
        InvalidArgumentError: for keys that are not class numbers, or values that are not weights.
        UnsupportedArgumentError: if the dataset already has weights of its own.
    """
    given = None if fit is None else fit.arguments.get("class_weight")
    if given is None:
        return None
    weights = ClassWeight(given)
    core.check_class_weight(weights)
    return weights


def initial_epoch(core: Core, call: Call | None, steps: int | None) -> int | None:
    """The epoch of the data with which `fit(initial_epoch=...)` begins, or None.

    None also if `steps_per_epoch` makes the epochs of `fit` differ from those of the data.
    """
    if call is None or call.kind != "fit" or not call.is_given("x", core.owner):
        return None
    if steps not in (None, core.plan.num_batches):
        return None
    return call.arguments.get("initial_epoch") or None


def passes_in_all(call: Call | None) -> int | None:
    """The number of passes before the last one, or None if the call does not say."""
    if call is None or call.kind != "fit" or not isinstance(call.arguments.get("epochs"), int):
        return None
    first = call.arguments.get("initial_epoch") or 0
    return int(call.arguments["epochs"]) - first - 1


def _check_validation(call: Call) -> None:
    given = call.arguments.get("validation_data")
    if given is None:
        return
    data, *beside = _as_tuple(given)
    if not isinstance(data, Batches):
        return
    name = type(data).__name__
    if any(isinstance(part, Batches) for part in beside):
        raise UnsupportedArgumentError(
            f"fit(validation_data=...) was given {1 + len(beside)} datasets ({name}, ...), and "
            "Keras would ignore all but the first; expected one. Take the parts of a split apart: "
            "train, validation = dataset.split(0.8)."
        )
    if any(part is not None for part in beside):
        raise UnsupportedArgumentError(
            f"fit(validation_data=...) was given targets or weights beside the dataset ({name}), "
            "and Keras would ignore them; expected the dataset alone. Put them into the dataset."
        )
    batch_size = call.arguments.get("validation_batch_size")
    if batch_size not in (None, data.batch_size):
        raise UnsupportedArgumentError(
            f"fit(validation_batch_size=...) was given {describe(batch_size)} with the dataset "
            f"({name}) of batch_size={data.batch_size}, and Keras would ignore it. Give "
            "batch_size to the dataset."
        )


def _as_tuple(data: Any) -> tuple[Any, ...]:
    return tuple(data) if isinstance(data, tuple | list) and data else (data,)


def is_for_both(call: Call, dataset: Any) -> bool:
    """Whether a `fit` trains on the dataset and validates with it."""
    if call.kind != "fit" or not call.is_given("x", dataset):
        return False
    return _as_tuple(call.arguments.get("validation_data"))[0] is dataset


def refuse_validation_split(call: Call | None, dataset: Any) -> None:
    """Refuse `validation_split`, which Keras supports for arrays only.

    Raises:
        UnsupportedArgumentError: if the call is a `fit(validation_split=...)` of the dataset.
    """
    if call is None or call.kind != "fit" or not call.is_given("x", dataset):
        return
    fraction = call.arguments.get("validation_split")
    if fraction:
        raise UnsupportedArgumentError(
            f"fit(validation_split={fraction}) was given with the dataset "
            f"({type(dataset).__name__}), and Keras splits arrays alone; expected none. Write "
            f"train, validation = dataset.split({1 - fraction:g}), then fit(train, "
            "validation_data=validation)."
        )


def refuse_ignored(dataset: Any, called: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that Keras would silently ignore.

    Args:
        dataset: the dataset that was given with them.
        called: the name of the method that was called.
        arguments: its arguments, by parameter name.

    Raises:
        UnsupportedArgumentError: if there are any.
    """
    for name, instead in (
        ("y", "Put the targets into the dataset."),
        ("sample_weight", "Put the weights into the dataset."),
        ("class_weight", "Give it to fit or to the dataset."),
    ):
        given = arguments.get(name)
        if given is not None:
            if isinstance(given, Batches):
                instead = "To validate on another dataset, write fit(train, validation_data=other)."
            raise UnsupportedArgumentError(
                f"{called}({name}=...) was given with the dataset ({type(dataset).__name__}), and "
                f"Keras would ignore it; expected None. {instead}"
            )


def check_arguments(core: Core, call: Call | None, steps: int | None) -> None:
    """Refuse what Keras would silently ignore because the data comes from an adapter."""
    if call is None:
        return
    owner = core.owner
    is_validation = call.kind == "fit" and not call.is_given("x", owner)
    if core.endless and steps is None:
        name = "validation_steps" if is_validation else _STEPS[call.kind]
        if call.kind == "fit" and call.arguments.get("steps_per_epoch") is not None:
            name = "validation_steps"
        raise UnsupportedArgumentError(
            f"{call.kind} with an endless dataset ({core.name}.repeat()) would never end; expected "
            f"{name}. One pass over the data is {name}={core.plan.num_batches}."
        )
    if call.kind == "fit":
        _check_validation(call)
    if is_validation:
        return
    refuse_validation_split(call, owner)  # with a validation_data, Keras ignores it
    honoured = {"class_weight": None} if call.kind == "fit" else {}
    refuse_ignored(owner, call.kind, call.arguments | honoured)
    batch_size = call.arguments.get("batch_size")
    if batch_size is not None and batch_size != core.plan.batch_size:
        raise UnsupportedArgumentError(
            f"{call.kind}(batch_size=...) was given {describe(batch_size)} with the dataset "
            f"({core.name}) of batch_size={core.plan.batch_size}, and Keras would ignore it. Give "
            "batch_size to the dataset."
        )
