"""What the processes that train together have each for themselves, in one backup of all.

    others = states_of_others(shard, own)       # {"processes/1/metrics/0": array}
    own_state(arrays, "metrics/0", processes=2, shard=Shard(1, 2), group="metrics", rule="sum")

On JAX and TensorFlow the framework keeps all variables alike. On Torch, within an epoch, each
process has metrics, moving statistics and random numbers of its own, and only weights are those of
all. The first process writes the file: its own arrays, and of the others those that are not the
same.
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
    """Whether the processes have states of their own, and can tell each other of them."""
    return keras.backend.backend() == "torch" and shard.count > 1 and started_torch() is not None


def states_of_others(shard: Shard, own: Arrays) -> dict[str, npt.NDArray[Any]]:
    """What the other processes have that the first has not. All must call it.

    Args:
        shard: which of how many this is.
        own: its arrays, by name; the names are those of all.

    Returns:
        The arrays by `processes/INDEX/NAME`.
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
    """What a process begins with that goes on from a backup.

    It is what it had. If there are more or fewer than there were, metrics and statistics are put
    together such that in the end they are those of all samples; random numbers are those of
    another process.

    Args:
        arrays: those of the backup.
        name: of the array.
        processes: how many have made the backup.
        shard: which of how many this is.
        group: of which the array is.
        rule: how Keras puts the values of a metric together: `"sum"`, `"mean"` or another.
    """
    each = [arrays.get(_name(index, name), arrays[name]) for index in range(processes)]
    if shard.count == processes:
        return each[shard.index]
    if group == "metrics" and rule == "sum":
        # Once for all: as an epoch ends, those of the processes are added.
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
