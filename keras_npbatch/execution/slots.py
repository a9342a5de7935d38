"""Slots and leases: buffers for the leaves of batches, reused when nobody can see them any more.

    slots = Slots(kept=8)
    image = slots.lease((256, 32, 32, 3), np.dtype("float32"))   # an array in a slot
    view = image[:4]
    del image        # the lease lives on in `view`
    del view         # now the slot is free for the next batch

A fresh array of a few megabytes costs more in page faults than the gather that fills it; a slot
is in memory already, and 64-byte aligned, so TensorFlow and JAX on a CPU take it without a copy.

The lease is an object behind the array's memory (`array.base` ends there), so every view, slice,
tensor or framework that holds the memory holds the lease. When the last one is gone the slot
returns. There is nothing to forget, and no way to wait: when no slot is free a new one is made,
so keeping every batch costs their memory, never a deadlock and never a changed batch.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["ALIGNMENT_BYTES", "SMALLEST_SLOT_BYTES", "Slots", "aligned_copy"]

ALIGNMENT_BYTES = 64
"""What TensorFlow and JAX ask of memory they take as it is."""

SMALLEST_SLOT_BYTES = 64 * 1024
"""Below this the allocator reuses memory by itself, faster than a lease can be made."""


def aligned_copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A C-contiguous copy that begins at a multiple of `ALIGNMENT_BYTES`."""
    copy = _in_buffer(_aligned_bytes(array.nbytes), array.shape, array.dtype)
    copy[...] = array
    return copy


class Slots:
    """Slots of any size, shared by all threads of one dataset.

    Nothing is locked: threads meet only in `deque.append`, `deque.pop` and `set` operations,
    which are atomic, and a slot that is missed for a moment is merely made again.

    Args:
        kept: how many free slots of one size are kept for reuse.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._free: dict[int, deque[npt.NDArray[np.uint8]]] = {}
        self._leases: set[_LeaseReference] = set()

    def lease(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An uninitialised array that nothing else refers to; in a slot unless it is small.

        Args:
            shape: of the array.
            dtype: a dtype without Python objects.
        """
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes < SMALLEST_SLOT_BYTES:
            return np.empty(shape, dtype)
        free = self._free.get(num_bytes)
        if free is None:
            free = self._free.setdefault(num_bytes, deque(maxlen=self._kept))
        try:
            slot = free.pop()  # the last one returned is the likeliest to be in a cache
        except IndexError:
            slot = _aligned_bytes(num_bytes)
        lease = _Lease(slot)
        self._leases.add(_LeaseReference(lease, self._returned, slot, free))
        return _in_buffer(np.asarray(lease), shape, dtype)

    def clear(self) -> None:
        """Let the free slots go; leased ones stay valid, and are not kept when they return."""
        cleared, self._free = self._free, {}
        for free in cleared.values():
            free.clear()

    @property
    def num_leased(self) -> int:
        """Leases that something still holds."""
        return len(self._leases)

    def _returned(self, reference: weakref.ref[_Lease]) -> None:
        # Runs wherever the last reference was dropped, in any thread, also inside a garbage
        # collection: so it takes no lock and calls nothing but atomic operations.
        assert isinstance(reference, _LeaseReference)
        if self._free.get(reference.slot.nbytes) is reference.free:  # not cleared meanwhile
            reference.free.append(reference.slot)  # a full deque lets its oldest slot go
        self._leases.discard(reference)


class _Lease:
    """The owner that NumPy keeps alive behind an array's memory.

    It holds the slot by itself, so that a batch outlives the dataset it came from.
    """

    __slots__ = ("__array_interface__", "__weakref__", "_slot")

    def __init__(self, slot: npt.NDArray[np.uint8]) -> None:
        self.__array_interface__ = slot.__array_interface__
        self._slot = slot


class _LeaseReference(weakref.ref[_Lease]):
    """Notices the end of a lease; holds the slot, which would go with it."""

    __slots__ = ("free", "slot")

    slot: npt.NDArray[np.uint8]
    free: deque[npt.NDArray[np.uint8]]

    def __new__(cls, lease: _Lease, callback: Any, *_: Any) -> Self:
        return super().__new__(cls, lease, callback)

    def __init__(
        self,
        lease: _Lease,
        callback: Any,
        slot: npt.NDArray[np.uint8],
        free: deque[npt.NDArray[np.uint8]],
    ) -> None:
        super().__init__(lease, callback)  # type: ignore[call-arg]  # weakref.ref takes both
        self.slot = slot
        self.free = free


def _aligned_bytes(num_bytes: int) -> npt.NDArray[np.uint8]:
    buffer = np.empty(num_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -buffer.__array_interface__["data"][0] % ALIGNMENT_BYTES
    return buffer[start : start + num_bytes]


def _in_buffer(
    buffer: npt.NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    return np.ndarray(shape, dtype, buffer)
