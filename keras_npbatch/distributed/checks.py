"""Checks what the engines that train in several processes, or on several devices, accept.

    check_engine(plan, "fit", dataset)      # refuses what would hang, or train samples twice

Each engine has different requirements, and reports a violation late, or never: JAX waits forever if
processes have batches of different sizes. The checks here run before the first batch is made.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_npbatch.batches.core import core_of
from keras_npbatch.distributed.agreement import compare, report, say_in
from keras_npbatch.distributed.rank import Found, find_process, mesh_place
from keras_npbatch.errors import UnsupportedArgumentError
from keras_npbatch.plan.plan import Kind, Plan

if TYPE_CHECKING:
    from keras_npbatch.distributed.jax import MeshPlace
    from keras_npbatch.distributed.torch_trainer import Rewired

__all__ = [
    "check_engine",
    "check_rest",
    "is_strategy",
    "join_strategy",
    "refuse_part",
    "refuse_second_shard",
    "rewire",
    "warn_of_others",
]

_KEEPS_ROWS = (3, 10)
"""The first version of Keras whose JAX backend divides a batch among devices in order."""


def check_engine(
    plan: Plan, kind: Kind, dataset: Any, model: Any = None, callbacks: Any = None
) -> None:
    """Check the training engine before the first batch.

    Args:
        plan: which rows are in which batch.
        kind: the kind of call.
        dataset: the dataset of the batches, for messages.
        model: the model, if it is known.
        callbacks: what `fit` was given: a callback, several of them, or Keras's list.

    Raises:
        UnsupportedArgumentError: if it would train samples twice, fail, or never end.
    """
    name, count = type(dataset).__name__, plan.shard.count
    on_jax = keras.backend.backend() == "jax"
    distribution = keras.distribution.distribution() if on_jax else None
    if distribution is not None:
        from keras_npbatch.distributed.jax import place_of

        here, engine = place_of(distribution), type(distribution).__name__
        if kind == "predict" and here.processes > 1:
            raise UnsupportedArgumentError(
                f"predict was called under a {engine} over {here.processes} processes, where "
                "Keras fails to collect the outputs from all of them; expected none. Call "
                "keras.distribution.set_distribution(None) before predict: each process then "
                "predicts alone, with the same model, from a dataset without a shard."
            )
        if kind == "predict" and here.parts > 1 and _keras_version() < _KEEPS_ROWS:
            raise UnsupportedArgumentError(
                f"predict was called under a {engine} over {here.parts} devices, to which Keras "
                f"{keras.__version__} gives the parts of a batch in any order, so that results "
                "would be those of other rows; expected Keras 3.10 or later, or "
                "keras.distribution.set_distribution(None) before predict."
            )
        _check_place(here, engine, plan, kind, name)
    if kind == "predict":
        refuse_part(plan, name)
    if distribution is not None or kind != "fit":
        return
    if not core_of(dataset).is_part:
        warn_of_others(name, find_process())
    elif count > 1 and on_jax:
        _warn_of_no_distribution(name, find_process())
    elif count > 1:
        _warn_of_gradients(name, model, callbacks)
        _warn_of_no_strategy(name, model)


def rewire(plan: Plan, kind: Kind, dataset: Any, model: Any) -> Rewired | None:
    """Make Keras's Torch trainer wait for other processes only if they have parts of the same data.

    Args:
        plan: which rows are in which batch.
        kind: the kind of call.
        dataset: the dataset of the batches.
        model: the model on which `kind` was called, if it is known.

    Returns:
        The `Rewired` to end after the call, or None if Keras is right by itself.
    """
    if keras.backend.backend() != "torch" or model is None:
        return None
    is_alone = plan.shard.count == 1
    if kind == "fit" and not (is_alone and core_of(dataset).is_part):
        return None  # without any mention of a shard, all may train on all of the data
    from keras_npbatch.distributed.torch_trainer import Rewired, trains_together

    return Rewired(model, is_alone=is_alone) if trains_together(model) else None


def refuse_part(plan: Plan, name: str) -> None:
    """Refuse a `predict` that would read a shard.

    Args:
        plan: which rows are in which batch.
        name: the dataset's name.

    Raises:
        UnsupportedArgumentError: if it would.
    """
    count = plan.shard.count
    if count > 1:
        raise UnsupportedArgumentError(
            f"predict was given the dataset ({name}) with a shard (one of {count}), whose part of "
            "each batch is no run of rows of the data; expected a dataset without one. Give each "
            "process a dataset of the rows it is to predict."
        )


def check_rest(plan: Plan, kind: Kind, strategy: Any = None) -> None:
    """Check the sizes of the remaining batches of a resumed epoch, before the first of them.

    Args:
        plan: which rows are in them.
        kind: the kind of call.
        strategy: the TensorFlow strategy that trains, if one does.

    Raises:
        UnsupportedArgumentError: for sizes that the engine does not accept. The check covers the
            sizes on all processes, so it refuses on all of them.
    """
    if strategy is not None:
        from keras_npbatch.distributed import tensorflow as tf_strategy

        if kind == "fit":
            parts = tf_strategy.num_local_replicas(strategy)
            _check_sizes(tf_strategy.name_of(strategy), plan, kind, parts)
        return
    on_jax = keras.backend.backend() == "jax"
    distribution = keras.distribution.distribution() if on_jax else None
    if distribution is not None:
        from keras_npbatch.distributed.jax import place_of

        _check_sizes(type(distribution).__name__, plan, kind, place_of(distribution).parts)


def _keras_version() -> tuple[int, ...]:
    return tuple(int(part) for part in keras.__version__.split(".")[:2])


def refuse_second_shard(plan: Plan, name: str) -> None:
    """Refuse a `tf.data.Dataset` that is already a shard, if Keras would shard it again.

    Args:
        plan: which rows are in which batch.
        name: the dataset's name.

    Raises:
        UnsupportedArgumentError: if it would.
    """
    if plan.shard.count == 1 or mesh_place() is None:
        return
    distribution = keras.distribution.distribution()
    shards_again = getattr(distribution, "_auto_shard_dataset", True)  # private in Keras 3.7
    if getattr(distribution, "auto_shard_dataset", shards_again):
        raise UnsupportedArgumentError(
            f"the {name} is shard {plan.shard.index} of {plan.shard.count}, and a "
            f"{type(distribution).__name__} with auto_shard_dataset=True would shard its "
            "tf.data.Dataset once more, so that samples were lost; expected False. Give fit the "
            f"{name} itself, or make the {type(distribution).__name__} with "
            "auto_shard_dataset=False."
        )


def _check_place(here: MeshPlace, engine: str, plan: Plan, kind: Kind, name: str) -> None:
    count, parts = here.shard.count, here.parts
    if plan.shard.count != count:
        raise UnsupportedArgumentError(
            f"{engine} divides each batch into {_described(count, 'shard')} for "
            f"{_described(here.processes, 'process', 'es')}, and the {name} has "
            f"{plan.shard.count}; expected {count}. Give it shard='auto', after "
            "keras.distribution.set_distribution."
        )
    _check_sizes(engine, plan, kind, parts)


def join_strategy(
    strategy: Any,
    plan: Plan,
    kind: Kind,
    dataset: Any,
    model: Any,
    description: Mapping[str, Any],
) -> None:
    """Check a TensorFlow strategy before the first batch, on all of its processes.

    Args:
        strategy: the strategy.
        plan: which rows are in which batch.
        kind: the kind of call.
        dataset: the dataset of the batches, for messages.
        model: the model, or None if it is not known.
        description: what must be the same on all processes, by name; values that JSON takes.

    Raises:
        UnsupportedArgumentError: if it would train incorrectly, or fail.
        RanksDisagreeError: on every process, if they don't each have a part of the same dataset.
    """
    from keras_npbatch.distributed import tensorflow as tf_strategy

    told, name = tf_strategy.name_of(strategy), type(dataset).__name__
    if told not in tf_strategy.STRATEGIES:
        known = ", ".join(tf_strategy.STRATEGIES)
        raise UnsupportedArgumentError(
            f"the model was made under a {told}; expected one of {known}. Give {kind} the "
            f"{name}.to_tf_dataset(), or make and compile the model outside of the strategy's "
            "scope."
        )
    processes = tf_strategy.process_of(strategy).count
    if processes > 1:
        if kind == "predict":
            raise UnsupportedArgumentError(
                f"predict under a {told} puts the results of all processes together, whatever "
                "they have read; expected a model outside of the strategy's scope. Make one of "
                "the same kind, and give it the weights: other.set_weights(model.get_weights())."
            )
        _check_step(told, model, "train_step" if kind == "fit" else "test_step")
        # Before any check that may fail on one process alone, for which the others would wait.
        compare(say_in(strategy, report(plan.shard, description)), processes)
    if kind == "fit":
        _check_sizes(told, plan, kind, tf_strategy.num_local_replicas(strategy))


def _check_step(told: str, model: Any, step: str) -> None:
    if model is None or getattr(type(model), step) is not getattr(keras.Model, step):
        return
    raise UnsupportedArgumentError(
        f"{step} of the {type(model).__name__} is Keras's own, whose results are scalars, and "
        f"Keras fails to reduce scalars over the processes of a {told} ('Invalid reduction "
        f"dimension 0'); expected results with an axis to reduce. Derive a class of models: def "
        f"{step}(self, data): return {{name: tf.expand_dims(value, 0) for name, value in "
        f"super().{step}(data).items()}}"
    )


def _check_sizes(engine: str, plan: Plan, kind: Kind, parts: int) -> None:
    for step in (0, plan.num_batches - 1):
        smallest, largest = plan.sizes(step)
        if plan.remainder == "pad":
            smallest = largest = plan.batch_size
        if smallest != largest:
            way_out = "Use remainder='pad', the default with a shard, or 'drop'"
            if plan.skip:  # not another remainder: the state would be that of another dataset
                left = _described(plan.epoch_size - plan.skip, "sample")
                way_out = (
                    f"Of the epoch {left} were left: go on with another batch_size or number of "
                    "processes, or call set_epoch to start it again"
                )
            raise UnsupportedArgumentError(
                f"{engine} needs batches of one size on all processes, and at step {step} they "
                f"have {smallest} to {largest} samples; expected equal numbers. {way_out}."
            )
        if largest % parts:
            way_out = (
                "predict pads no batch: choose a batch_size that leaves no other, or call "
                "keras.distribution.set_distribution(None) before"
                if kind == "predict"
                else "Choose such a batch_size, with remainder='pad' or 'drop'"
            )
            raise UnsupportedArgumentError(
                f"{engine} divides each batch among {parts} devices of this process, and that of "
                f"step {step} has {_described(largest, 'sample')}; expected a multiple of {parts}. "
                f"{way_out}."
            )


def warn_of_others(name: str, found: Found | None) -> None:
    """Warn about a dataset without a shard if other processes train too.

    Args:
        name: the dataset's name.
        found: what is known about this process.
    """
    if found is not None and found.shard.count > 1:
        warnings.warn(
            f"{_describe_process(found)}, and the {name} has no shard: each of them trains on all "
            "samples. Give it shard='auto', or shard=(0, 1) if it is meant so.",
            stacklevel=2,
        )


def _warn_of_no_distribution(name: str, found: Found | None) -> None:
    if found is not None and found.shard.count > 1:
        warnings.warn(
            f"{_describe_process(found)}, and there is no keras.distribution: each of them trains "
            f"a model of its own, on its shard of the {name}. Call "
            "keras.distribution.set_distribution(keras.distribution.DataParallel()) before the "
            "model is made.",
            stacklevel=2,
        )


def _warn_of_no_strategy(name: str, model: Any) -> None:
    strategy = getattr(model, "distribute_strategy", None)
    if os.environ.get("TF_CONFIG") and strategy is not None and not is_strategy(strategy):
        warnings.warn(
            f"TF_CONFIG tells of other processes, the {name} has a shard, and the model was made "
            "outside of the scope of a strategy: each process trains a model of its own. Make and "
            "compile it within `with strategy.scope():` of a "
            "tf.distribute.MultiWorkerMirroredStrategy.",
            stacklevel=2,
        )


def is_strategy(strategy: Any) -> bool:
    """Whether it is a real TensorFlow strategy, and not the default one that stands for none."""
    return strategy is not None and type(strategy).__name__ != "_DefaultDistributionStrategy"


def _describe_process(found: Found) -> str:
    return f"{found.where} says that this is process {found.shard.index} of {found.shard.count}"


def _described(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural * (number != 1)}"


def _warn_of_gradients(name: str, model: Any, given: Any) -> None:
    """Warn if nothing averages the gradients: Keras's Torch trainer may not do it itself."""
    if keras.backend.backend() != "torch" or model is None or find_process() is None:
        return
    from keras_npbatch.distributed.torch_trainer import averages_gradients

    if averages_gradients(model):
        return
    callbacks = getattr(given, "callbacks", None)
    if callbacks is None:  # Keras has not made its CallbackList yet
        callbacks = keras.tree.flatten(given)
    if any(getattr(callback, "averages_gradients", False) for callback in callbacks):
        return
    # A custom train_step, or hooks on gradients, may average them.
    if type(model).train_step is not keras.Model.train_step or any(
        getattr(parameter, "_post_accumulate_grad_hooks", None) or parameter._backward_hooks
        for parameter in model.parameters()
    ):
        return
    warnings.warn(
        f"the {name} has a shard, and nothing averages the gradients of the processes: each of "
        "them trains a model of its own on its part of the samples. Give fit "
        "callbacks=[keras_npbatch.callbacks.TorchDataParallel(), ...].",
        stacklevel=2,
    )
