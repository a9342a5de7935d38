"""The states that differ between the processes that train together, in one backup for all.

    others = states_of_others(shard, own)       # {"processes/1/metrics/0": array}
    own_state(arrays, "metrics/0", processes=2, shard=Shard(1, 2), group="metrics", rule="sum")

On JAX and TensorFlow, the framework keeps all variables equal. On Torch, within an epoch, each
process has its own metrics, moving statistics and random numbers; only the weights are equal. The
first process writes the file: its own arrays, and the arrays of the others that differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_npbatch.distributed.agreement import OTHERS_COME_WITHIN_S
from keras_npbatch.distributed.rank import started_torch
from keras_npbatch.plan.shard import Shard

__all__ = ["keeps_own_states", "own_state", "states_of_others"]

Arrays = Mapping[str, npt.NDArray[Any]]


def keeps_own_states(shard: Shard) -> bool:
    """Whether the processes have their own states and can exchange them."""
    return keras.backend.backend() == "torch" and shard.count > 1 and started_torch() is not None


def states_of_others(shard: Shard, own: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The differing arrays of all processes but the first. All processes must call it.

    Args:
        shard: the shard of this process.
        own: the arrays of this process, by name; all processes have the same names.

    Returns:
        The arrays, by `processes/INDEX/NAME`.
    """
    from keras_npbatch.tensors.torch import gather

    digests = gather({name: _digest(array) for name, array in own.items()}, OTHERS_COME_WITHIN_S)
    different = [name for name in own if len({of_one[name] for of_one in digests}) > 1]
    said = gather((shard.index, {name: own[name] for name in different}), OTHERS_COME_WITHIN_S)
    return {
        _name(index, name): array
        for index, arrays in said
        if index != 0
        for name, array in arrays.items()
    }


def own_state(
    arrays: Arrays, name: str, processes: int, shard: Shard, group: str, rule: str
) -> npt.NDArray[Any]:
    """The state with which a process resumes from a backup.

    With the same number of processes, it is the state that the process had. Otherwise metrics and
    statistics are combined so that in the end they are those of all samples, and random numbers
    may be those of another process.

    Args:
        arrays: the arrays of the backup.
        name: the name of the array.
        processes: number of processes that made the backup.
        shard: the shard of this process.
        group: the group of the array.
        rule: how Keras combines the values of a metric: `"sum"`, `"mean"` or another.
    """
    each = [arrays.get(_name(index, name), arrays[name]) for index in range(processes)]
    if shard.count == processes:
        return each[shard.index]
    if group == "metrics" and rule == "sum":
        # One process has the total: at the end of an epoch, the values of all are added.
        total = np.sum(each, axis=0, dtype=each[0].dtype)
        return total if shard.index == 0 else np.zeros_like(total)
    if group == "metrics" and rule != "mean":
        return each[0]
    if group in ("metrics", "model") and each[0].dtype.kind == "f":
        return np.mean(each, axis=0, dtype=each[0].dtype)
    return each[shard.index % processes]


def _digest(array: npt.NDArray[Any]) -> str:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(data.data, digest_size=16).hexdigest()


def _name(index: int, name: str) -> str:
    return f"processes/{index}/{name}"
