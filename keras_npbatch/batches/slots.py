"""Slots and leases: buffers for the leaves of batches, reused once nothing refers to them.

    slots = Slots(PrivateMemory(kept=8))
    image = slots.lease((256, 32, 32, 3), np.dtype("float32"))   # an array in a slot
    view = image[:4]
    del image        # the lease lives on in `view`
    del view         # now the slot is free for the next batch

A fresh array of a few megabytes costs more in page faults than the gather that fills it. A slot is
already in memory, and it is 64-byte aligned, so TensorFlow and JAX on a CPU take it without a copy.

The lease owns the array's memory (`array.base` ends there), so every view, slice, tensor or
framework that holds the memory holds the lease. When the last one is gone, the slot returns. There
is nothing to release by hand, and nothing to wait for: when no slot is free, a new one is made. So
keeping every batch costs memory, but never causes a deadlock or changes a batch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALIGNMENT_BYTES",
    "SMALLEST_SLOT_BYTES",
    "Leases",
    "Memory",
    "PrivateMemory",
    "Slot",
    "Slots",
    "aligned_copy",
    "is_lease",
]

ALIGNMENT_BYTES = 64
"""The alignment that TensorFlow and JAX need to take memory without a copy."""

SMALLEST_SLOT_BYTES = 64 * 1024
"""Below this, the allocator reuses memory by itself, faster than a lease can be made."""

Slot: TypeAlias = npt.NDArray[np.uint8]


def aligned_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A C-contiguous copy that begins at a multiple of `ALIGNMENT_BYTES`."""
    copy = np.ndarray(array.shape, array.dtype, _aligned_bytes(array.nbytes))
    copy[...] = array
    return copy


class Memory(Protocol):
    """Where slots come from.

    `give` is called wherever the last view of a slot is dropped: in any thread, even in a garbage
    collection that interrupts `take`. So it must never wait for a lock.
    """

    def take(self, num_bytes: int) -> Slot:
        """An aligned slot of at least `num_bytes`, free or new."""

    def give(self, slot: Slot) -> None:
        """Take a slot back; it is free."""

    def cleared(self) -> Memory:
        """Drop the free slots, and those that return later; the memory to use from now on."""


class PrivateMemory:
    """Slots in the memory of this process; the free ones are kept for requests of the same size.

    Nothing is locked: threads meet only in atomic operations of `deque` and `dict`, and a free slot
    that is missed for a moment only means that a new one is made.

    Args:
        kept: how many free slots of one size are kept for reuse.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._free: dict[int, deque[Slot]] = {}

    def take(self, num_bytes: int) -> Slot:
        """A slot of `num_bytes`, free or new."""
        free = self._free.get(num_bytes)
        if free is None:
            free = self._free.setdefault(num_bytes, deque(maxlen=self._kept))
        try:
            return free.pop()  # the last one returned is the most likely to be in a cache
        except IndexError:
            return _aligned_bytes(num_bytes)

    def give(self, slot: Slot) -> None:
        """Take a slot back; a full deque drops its oldest one."""
        free = self._free.get(slot.nbytes)
        if free is not None:  # not cleared in the meantime
            free.append(slot)

    def cleared(self) -> PrivateMemory:
        """Drop the free slots, and those that return later; the memory to use from now on."""
        self._free = {}
        return PrivateMemory(self._kept)


class Leases:
    """Arrays over slots; a slot returns when the last reference to its memory is gone."""

    def __init__(self) -> None:
        self._held: set[int] = set()

    def lease(
        self,
        slot: Slot,
        returned: Callable[[Slot], None],
        shape: tuple[int, ...] | None = None,
        dtype: npt.DTypeLike = np.uint8,
    ) -> npt.NDArray[Any]:
        """An array in the slot; its memory belongs to the lease.

        Args:
            slot: the memory.
            returned: called with the slot when the lease ends, in any thread, even in a garbage
                collection.
            shape: of the array; None: all bytes of the slot.
            dtype: of the array.
        """
        lease = _Lease(slot.shape, np.uint8, slot.view(_Stop))
        lease.end = (self._held, returned, slot)
        self._held.add(id(lease))
        return np.ndarray(slot.shape if shape is None else shape, dtype, lease)

    def __len__(self) -> int:
        """How many leases something still holds."""
        return len(self._held)


class Slots:
    """Makes leased arrays, for all threads of one dataset.

    Args:
        memory: where the slots come from.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._leases = Leases()

    def lease(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An uninitialised array that nothing else refers to; in a slot unless it is small.

        Args:
            shape: of the array.
            dtype: a dtype without Python objects.
        """
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes < SMALLEST_SLOT_BYTES:
            return np.empty(shape, dtype)
        memory = self._memory
        return self._leases.lease(memory.take(num_bytes), memory.give, shape, dtype)

    def lease_bytes(self, num_bytes: int) -> Slot:
        """At least `num_bytes` bytes, always in a slot, however few they are."""
        memory = self._memory
        return self._leases.lease(memory.take(num_bytes), memory.give)

    def clear(self) -> None:
        """Drop the free slots; leased ones stay valid, and are not kept when they return."""
        self._memory = self._memory.cleared()

    @property
    def num_leased(self) -> int:
        """How many leases something still holds."""
        return len(self._leases)


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """The owner of the memory of leased arrays: it dies with the last of them.

    It holds the slot itself, so that a batch outlives the dataset it came from. It is an array
    because NumPy takes memory from an array in half the time it needs for any other object.

    Walking up `.base` from a leased array ends here: beyond it is the slot, without a lease.
    """

    end: tuple[set[int], Callable[[Slot], None], Slot] | None = None
    """(set of live leases, callback for the slot, the slot); None for views of a lease."""

    @property
    def base(self) -> Any:
        """None for a lease, whatever NumPy itself knows; the lease, for a view of it."""
        return None if self.end is not None else super().base

    def __del__(self) -> None:
        if self.end is not None:
            held, returned, slot = self.end
            held.discard(id(self))
            returned(slot)


def is_lease(array: npt.NDArray[Any]) -> bool:
    """Whether `array` is a lease: the owner of a leased array's memory."""
    return isinstance(array, _Lease) and array.end is not None


class _Stop(np.ndarray[Any, np.dtype[np.uint8]]):
    """The array below a lease.

    To find the owner of an array's memory, NumPy goes from view to base as long as the base has
    exactly the class of the array (`PyArray_SetBaseObject` in its arrayobject.c). A lease is a view
    of this class, so NumPy stops at the lease.
    """


def _aligned_bytes(num_bytes: int) -> Slot:
    buffer = np.empty(num_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -buffer.__array_interface__["data"][0] % ALIGNMENT_BYTES
    return buffer[start : start + num_bytes]
