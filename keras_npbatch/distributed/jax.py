"""The processes of `jax.distributed`: which part of a batch each reads, and their messages.

    place_of(keras.distribution.distribution())    # MeshPlace(Shard(1, 4), processes=4, parts=2)
    say_to_all("seed 17", within_s=60)                           # ["seed 17", "seed 17", ...]

Messages go through the coordinator that all processes are connected to, not through the devices:
this needs no compilation, works whatever the devices are doing, and its waits have a timeout.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from keras_npbatch.errors import RanksDisagreeError, UnsupportedArgumentError
from keras_npbatch.plan.shard import Shard

__all__ = ["MeshPlace", "is_started", "place_of", "say", "say_to_all"]

_conversations = itertools.count()
"""All processes exchange messages equally often, so the same number means the same exchange."""


@dataclass(frozen=True, slots=True)
class MeshPlace:
    """The place of this process in the mesh of a `keras.distribution`."""

    shard: Shard
    """The part of each global batch that it reads; several processes may read the same one."""
    processes: int
    """How many processes there are."""
    parts: int
    """The number of parts into which it divides its batch among its devices."""


def is_started() -> bool:
    """Whether `jax.distributed` has been initialised."""
    is_initialized = getattr(jax.distributed, "is_initialized", None)
    if is_initialized is None:  # early versions of JAX
        return _coordinator() is not None
    return bool(is_initialized())


def place_of(distribution: Any) -> MeshPlace:
    """The place of this process in the mesh of a `keras.distribution.Distribution`.

    The mesh axis that divides batches has a number of positions; a process reads the part of the
    batch for the positions of its devices.

    Raises:
        UnsupportedArgumentError: if the processes have different numbers of positions, or if their
            positions partly overlap.
    """
    # Not `data_shard_id`: earlier versions of Keras lack it, and it only counts processes.
    layout = distribution.get_data_layout((1,))
    mesh = layout.device_mesh
    axis = list(mesh.axis_names).index(layout.axes[0])
    names = np.vectorize(_name, otypes=[object])(np.moveaxis(mesh.devices, axis, 0))
    process_of = {
        _name(device): int(device.process_index)
        for platform in {name.partition(":")[0] for name in names.flat}
        for device in jax.devices(platform)
    }
    positions: dict[int, list[int]] = {}
    for position, of_position in enumerate(names):
        for process in {process_of[name] for name in np.ravel(of_position)}:
            positions.setdefault(process, []).append(position)
    own = positions.get(jax.process_index())
    parts = sorted(set(map(tuple, positions.values())))
    is_even = len({len(part) for part in parts}) == 1
    if own is None or not is_even or sum(map(len, parts)) != len(names):
        told = {process: positions.get(process, []) for process in range(jax.process_count())}
        raise UnsupportedArgumentError(
            f"{type(distribution).__name__} divides batches among {len(names)} "
            f"positions of its mesh, at which the processes have devices: {told}; expected equally "
            "many for each process, and the same ones or others, not some of both. Make the mesh "
            "from keras.distribution.list_devices(), in that order."
        )
    shard = Shard(parts.index(tuple(own)), len(parts))
    return MeshPlace(shard, len(positions), len(own))


def say(message: str) -> int:
    """Send a message to the other processes, which read it in `say_to_all`, without waiting.

    Returns:
        The number of the exchange that it belongs to.
    """
    number = next(_conversations)
    _coordinator().key_value_set(f"keras_npbatch/{number}/{jax.process_index()}", message)
    return number


def say_to_all(message: str, within_s: float) -> list[str]:
    """Exchange messages with all processes of `jax.distributed`; all must call it.

    Returns:
        The message of each process, in process order.

    Raises:
        RanksDisagreeError: if a process does not call it within `within_s` seconds.
    """
    coordinator, own, count = _coordinator(), jax.process_index(), jax.process_count()
    number, said = say(message), []
    end = time.monotonic() + within_s
    try:
        for process in range(count):
            left_ms = max(1, round(1000 * (end - time.monotonic())))
            said.append(
                coordinator.blocking_key_value_get(f"keras_npbatch/{number}/{process}", left_ms)
            )
    except RuntimeError as error:
        # A process that comes later must not find this message and conclude that all are here.
        coordinator.key_value_delete(f"keras_npbatch/{number}/{own}")
        raise RanksDisagreeError(
            f"process {len(said)} of {count} did not say which dataset it has within "
            f"{within_s:.0f} s, though process {own} waited for it; expected all to "
            "make the same datasets and calls of fit and evaluate. Look at what that one does."
        ) from error
    # All have sent their message of this exchange, so all have read those of the one before.
    if number:
        coordinator.key_value_delete(f"keras_npbatch/{number - 1}/{own}")
    return said


def _coordinator() -> Any:
    # JAX has no public access to it. Libraries for multi-process checkpoints use the same path.
    from jax._src import distributed

    return distributed.global_state.client


def _name(device: Any) -> str:
    """The name of a device in `keras.distribution.list_devices()`, such as "cpu:0"."""
    if isinstance(device, jax.Device):
        return f"{device.platform}:{device.id}"
    return str(device) if ":" in str(device) else f"{device}:0"
