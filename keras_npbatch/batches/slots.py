"""Slots and leases: buffers for the leaves of batches, reused when nobody can see them any more.

    slots = Slots(PrivateMemory(kept=8))
    image = slots.lease((256, 32, 32, 3), np.dtype("float32"))   # an array in a slot
    view = image[:4]
    del image        # the lease lives on in `view`
    del view         # now the slot is free for the next batch

A fresh array of a few megabytes costs more in page faults than the gather that fills it; a slot
is in memory already, and 64-byte aligned, so TensorFlow and JAX on a CPU take it without a copy.

The lease is the owner of the array's memory (`array.base` ends there), so every view, slice,
tensor or framework that holds the memory holds the lease. When the last one is gone the slot
returns. There is nothing to forget, and no way to wait: when no slot is free a new one is made,
so keeping every batch costs their memory, never a deadlock and never a changed batch.
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
"""What TensorFlow and JAX ask of memory they take as it is."""

SMALLEST_SLOT_BYTES = 64 * 1024
"""Below this the allocator reuses memory by itself, faster than a lease can be made."""

Slot: TypeAlias = npt.NDArray[np.uint8]


def aligned_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A C-contiguous copy that begins at a multiple of `ALIGNMENT_BYTES`."""
    copy = np.ndarray(array.shape, array.dtype, _aligned_bytes(array.nbytes))
    copy[...] = array
    return copy


class Memory(Protocol):
    """Where slots come from.

    `give` is called wherever the last view of a slot was dropped: in any thread, also within a
    garbage collection that interrupts `take`. So it must not wait for a lock.
    """

    def take(self, num_bytes: int) -> Slot:
        """An aligned slot of at least `num_bytes`, free or new."""

    def give(self, slot: Slot) -> None:
        """The slot is free."""

    def cleared(self) -> Memory:
        """Lets the free slots go, and those that return later; what to take from instead."""


class PrivateMemory:
    """Slots in the memory of this process; the free ones of a size are kept for their like.

    Nothing is locked: threads meet only in operations of `deque` and `dict`, which are atomic, and
    a slot that is missed for a moment is merely made again.

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
            return free.pop()  # the last one returned is the likeliest to be in a cache
        except IndexError:
            return _aligned_bytes(num_bytes)

    def give(self, slot: Slot) -> None:
        """The slot is free; a full deque lets its oldest slot go."""
        free = self._free.get(slot.nbytes)
        if free is not None:  # not cleared meanwhile
            free.append(slot)

    def cleared(self) -> PrivateMemory:
        """Lets the free slots go, and those that return later; what to take from instead."""
        self._free = {}
        return PrivateMemory(self._kept)


class Leases:
    """Arrays over slots, each of which returns when the last reference to its memory is gone."""

    def __init__(self) -> None:
        self._held: set[int] = set()

    def lease(
        self,
        slot: Slot,
        returned: Callable[[Slot], None],
        shape: tuple[int, ...] | None = None,
        dtype: npt.DTypeLike = np.uint8,
    ) -> npt.NDArray[Any]:
        """An array in the slot, whose memory is the lease.

        Args:
            slot: the memory.
            returned: called with the slot when the lease ends, in any thread, also within a
                garbage collection.
            shape: of the array; None: all bytes of the slot.
            dtype: of the array.
        """
        lease = _Lease(slot.shape, np.uint8, slot.view(_Stop))
        lease.end = (self._held, returned, slot)
        self._held.add(id(lease))
        return np.ndarray(slot.shape if shape is None else shape, dtype, lease)

    def __len__(self) -> int:
        """Leases that something still holds."""
        return len(self._held)


class Slots:
    """Leased arrays, made by all threads of one dataset.

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
        """At least so many bytes, in a slot however few they are."""
        memory = self._memory
        return self._leases.lease(memory.take(num_bytes), memory.give)

    def clear(self) -> None:
        """Let the free slots go; leased ones stay valid, and are not kept when they return."""
        self._memory = self._memory.cleared()

    @property
    def num_leased(self) -> int:
        """Leases that something still holds."""
        return len(self._leases)


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """The owner of the memory of leased arrays: it goes when the last of them is gone.

    It holds the slot by itself, so that a batch outlives the dataset it came from. An array, since
    NumPy takes memory from an array in half the time that it takes for any other object.

    Who walks up `.base` from a leased array ends here: behind it is the slot, without a lease.
    """

    end: tuple[set[int], Callable[[Slot], None], Slot] | None = None
    """The leases that it is one of, whom to give the slot, and the slot; a view of it has none."""

    @property
    def base(self) -> Any:
        """None for a lease, whatever NumPy itself knows; that of a view is the lease."""
        return None if self.end is not None else super().base

    def __del__(self) -> None:
        if self.end is not None:
            held, returned, slot = self.end
            held.discard(id(self))
            returned(slot)


def is_lease(array: npt.NDArray[Any]) -> bool:
    """Whether it is the owner of a leased array's memory."""
    return isinstance(array, _Lease) and array.end is not None


class _Stop(np.ndarray[Any, np.dtype[np.uint8]]):
    """What lies below a lease.

    For the owner of an array's memory NumPy looks past arrays to what they are views of, as long
    as that is of the very class of the array (`PyArray_SetBaseObject` in its arrayobject.c). Where
    a lease is a view of this, it does not look past the lease.
    """


def _aligned_bytes(num_bytes: int) -> Slot:
    buffer = np.empty(num_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -buffer.__array_interface__["data"][0] % ALIGNMENT_BYTES
    return buffer[start : start + num_bytes]
