"""Which process this is, out of how many.

    find_shard()        # Shard(index=1, count=4)

Only frameworks that are already imported are asked, and none is initialised: a process that trains
with others has joined them before it makes its datasets.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.shard import Shard

__all__ = [
    "Found",
    "can_talk_by_jax",
    "entered_strategy",
    "find_in_strategy",
    "find_process",
    "find_shard",
    "has_others",
    "is_first",
    "mesh_place",
    "started_torch",
]

_log = logging.getLogger("keras_npbatch")


@dataclass(frozen=True, slots=True)
class Found:
    """What a framework or the environment says about this process."""

    where: str
    """The name of the framework or the variables."""
    shard: Shard
    """Which process it is, out of how many."""
    reads: Shard | None = None
    """The part it reads, if that differs: several processes may hold one model together."""


def find_shard() -> Shard:
    """Find the shard of this process, from the framework or the environment.

    Asks `keras.distribution` on JAX (else `jax.distributed`), `torch.distributed` (else the
    variables `RANK` and `WORLD_SIZE`), and the TensorFlow strategy whose scope is active (else
    `TF_CONFIG`). Logs the result.

    Returns:
        The shard; the only one if no other processes are found.

    Raises:
        InvalidArgumentError: if the answers differ.
        UnsupportedArgumentError: if the distribution does not divide batches evenly.
    """
    askers = (
        (_ask_keras, _ask_jax),
        (_ask_torch, _ask_environment),
        (find_in_strategy, _ask_tf_config),
    )
    answers = []
    for asked_in_turn in askers:
        for ask in asked_in_turn:
            found = ask()
            if found is not None:
                answers.append(found)
                break
    if len({found.shard for found in answers}) > 1:
        answer = "; ".join(
            f"{found.where} says process {found.shard.index} of {found.shard.count}"
            for found in answers
        )
        raise InvalidArgumentError(
            f"shard='auto' found different answers: {answer}. Expected one. Say which: "
            "shard=keras_npbatch.Shard(index, count)."
        )
    if not answers:
        _log.info("shard='auto': found no other processes; this one reads all samples")
        return Shard()
    shard = answers[0].shard
    reads = answers[0].reads or shard
    _log.info(
        "shard='auto': process %d of %d, says %s%s",
        shard.index,
        shard.count,
        " and ".join(found.where for found in answers),
        "" if reads == shard else f"; it reads {reads}",
    )
    return reads


def find_process() -> Found | None:
    """What an initialised framework says about this process, or None; never raises."""
    return _ask_jax() or _ask_torch()


def find_in_strategy() -> Found | None:
    """What the TensorFlow strategy whose scope is active says about this process, or None."""
    strategy = entered_strategy()
    if strategy is None:
        return None
    from keras_npbatch.distributed.tensorflow import name_of, process_of

    shard = process_of(strategy)
    return Found(name_of(strategy), shard) if shard.count > 1 else None


def has_others(shard: Shard) -> bool:
    """Whether other processes train together with this one.

    Processes that hold parts of one model may all read the same shard, even the only one.
    """
    return shard.count > 1 or mesh_place() is not None


def is_first(shard: Shard) -> bool:
    """Whether this is the one process that writes files, of all that train together."""
    found = _ask_jax() if mesh_place() is not None else None
    return (shard if found is None else found.shard).index == 0


# ---------------------------------------------------------------- what can be asked


def can_talk_by_jax(count: int) -> bool:
    """Whether `jax.distributed` connects the processes that read `count` shards."""
    jax, here = _started_jax(), mesh_place()
    return bool(jax and jax.process_count() == (count if here is None else here.processes))


def _started_jax() -> Any:
    jax: ModuleType | None = sys.modules.get("jax")
    if jax is None:
        return None
    from keras_npbatch.distributed.jax import is_started

    return jax if is_started() else None


def started_torch() -> Any:
    """`torch.distributed`, if it has been initialised."""
    distributed: ModuleType | None = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def entered_strategy() -> Any:
    """The TensorFlow strategy whose scope is active, or None."""
    tensorflow: ModuleType | None = sys.modules.get("tensorflow")
    if tensorflow is None or not tensorflow.distribute.has_strategy():
        return None
    return tensorflow.distribute.get_strategy()


def mesh_place() -> Any:
    """The `MeshPlace` of this process in a `keras.distribution` over several processes, or None."""
    keras = sys.modules.get("keras")
    if keras is None or keras.backend.backend() != "jax":
        return None
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    from keras_npbatch.distributed.jax import place_of

    found = place_of(distribution)
    return found if found.processes > 1 else None


def _ask_keras() -> Found | None:
    here, found = mesh_place(), _ask_jax()
    if here is None or found is None:
        return None
    return Found("keras.distribution", found.shard, reads=here.shard)


def _ask_jax() -> Found | None:
    jax = _started_jax()
    if jax is None:
        return None
    return Found("jax.distributed", Shard(jax.process_index(), jax.process_count()))


def _ask_torch() -> Found | None:
    distributed = started_torch()
    if distributed is None:
        return None
    return Found("torch.distributed", Shard(distributed.get_rank(), distributed.get_world_size()))


def _ask_environment() -> Found | None:
    rank, world_size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world_size is None:
        return None
    where = f"the environment (RANK={rank}, WORLD_SIZE={world_size})"
    try:
        return Found(where, Shard(int(rank or ""), int(world_size or "")))
    except ValueError as error:
        raise InvalidArgumentError(
            f"shard='auto' found {where}; expected two whole numbers, of which RANK is the "
            "smaller. Set both, or say shard=keras_npbatch.Shard(index, count)."
        ) from error


def _ask_tf_config() -> Found | None:
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
        first = {"chief": 0, "worker": len(chiefs)}[task["type"]]
        shard = Shard(first + int(task["index"]), len(chiefs) + len(workers))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(
            f"shard='auto' found TF_CONFIG={describe(text)}; expected a cluster, and a task whose "
            "type is 'chief' or 'worker'. Say shard=keras_npbatch.Shard(index, count)."
        ) from error
    return Found("TF_CONFIG", shard)
