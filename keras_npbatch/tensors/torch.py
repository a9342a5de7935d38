"""Batches as Torch tensors that share the memory of the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import keras
import numpy as np
import torch
from torch import distributed

from keras_npbatch.tensors.conversion import converted, in_native_order
from keras_npbatch.tree import Tree

__all__ = [
    "gather",
    "numbers",
    "random_states",
    "refuse_random_state",
    "set_random_states",
    "to_tensors",
]

_T = TypeVar("_T")
_groups_kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""A group to communicate between CPUs, for the group of all processes, while there is one."""
_SHARED_DTYPES = frozenset(
    np.dtype(name)
    for name in (
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    )
)
"""The dtypes that Torch and Keras have in common; Keras widens others (uint32 becomes int64)."""


def gather(value: _T, within_s: float, *, kept: bool = False) -> list[_T]:
    """Gather the value of each process of `torch.distributed`, in rank order; all must call it.

    Args:
        value: of this process.
        within_s: how long to wait for the others.
        kept: whether to keep the group of processes for the next time, which is faster.

    Raises:
        RuntimeError: if one does not call it within `within_s` seconds.
    """
    # A separate group: it communicates between CPUs whatever the accelerators use, and its waits
    # have a timeout.
    group = _groups_kept.get(distributed.group.WORLD) if kept else None
    if group is None:
        group = distributed.new_group(timeout=timedelta(seconds=within_s), backend="gloo")
    if kept:
        _groups_kept[distributed.group.WORLD] = group
    try:
        of_all: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(of_all, value, group=group)
    finally:
        if not kept:
            distributed.destroy_process_group(group)
    return of_all


def numbers(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results in the form of `logs`: without nesting, and scalars as floats."""
    found = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            found.update(numbers(value))
        else:
            array = keras.ops.convert_to_numpy(value)
            found[name] = float(array) if array.ndim == 0 else array
    return found


def random_states() -> list[np.ndarray[Any, Any]]:
    """The states of Torch's generators: the CPU's, then each GPU's.

    Keras's `Dropout` draws from them if it has no seed.
    """
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states += torch.cuda.get_rng_state_all()
    return [state.numpy() for state in states]


def set_random_states(states: list[np.ndarray[Any, Any]]) -> None:
    """Restore `random_states`, for the devices that this machine has."""
    tensors = [torch.from_numpy(np.array(state)) for state in states]
    torch.set_rng_state(tensors[0])
    if torch.cuda.is_available():
        for device, state in enumerate(tensors[1 : 1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)


def refuse_random_state(state: np.ndarray[Any, Any]) -> None:
    """Check a state of the CPU's generator.

    Raises:
        ValueError: if the generator can't have this state.
    """
    try:
        torch.Generator().set_state(torch.from_numpy(np.array(state)))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"a generator of Torch has no such state: {error}") from error


def to_tensors(batch: Tree) -> Tree:
    """The batch with a tensor for each leaf, on the device that Keras uses.

    A tensor that shares an array's memory keeps the array alive.
    """
    return converted(batch, _to_tensor, "Torch")


def _to_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        leaf = in_native_order(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype in _SHARED_DTYPES:
        # Keras would copy an array (`np.array` in its convert_to_tensor), but not a tensor.
        # Torch refuses negative strides, and warns about read-only memory.
        if not leaf.flags.c_contiguous or not leaf.flags.writeable:
            leaf = np.array(leaf, order="C")
        leaf = torch.from_numpy(leaf)
    return keras.ops.convert_to_tensor(leaf)
