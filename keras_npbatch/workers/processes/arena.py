"""The shared memory in which a worker makes its batches: slots of extents, used again and again.

arena = Arena(line.new_extent, line.check_available)
slot = arena.take(1 << 20)
arena.find(slot.__array_interface__["data"][0])    # (0, 0): the first extent, its beginning
arena.give(slot)
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable

from keras_npbatch.batches.slots import Slot

__all__ = ["Arena"]

_PAGE_BYTES = mmap.PAGESIZE
_SMALLEST_EXTENT_BYTES = 1 << 20


class Arena:
    """Slots in shared memory that grows; used by one thread of a worker process.

    It grows by extents, each at least as large as all before it together, so there are few
    segments. A request takes the smallest free slot that is large enough and at most twice as
    large: batches of varying shape share slots, and no small array occupies a large slot.

    Args:
        new_extent: makes an extent of this size, and tells the parent of it.
        check: refuses a request for more memory than is available: using it would kill the process.
    """

    def __init__(
        self, new_extent: Callable[[int], Slot], check: Callable[[int], None] = lambda _: None
    ) -> None:
        self._new_extent, self._check = new_extent, check
        self._extents: list[tuple[int, Slot]] = []
        self._used_bytes = 0
        self._free: list[Slot] = []
        self._returned: deque[Slot] = deque()

    def take(self, num_bytes: int) -> Slot:
        """Take an aligned slot of at least `num_bytes`, reused or new."""
        while self._returned:
            self._free.append(self._returned.popleft())
        fitting = [
            (slot.nbytes, -number)
            for number, slot in enumerate(self._free)
            if num_bytes <= slot.nbytes <= 2 * num_bytes
        ]
        if fitting:  # the smallest, and of equals the last returned: it may be in a cache
            return self._free.pop(-min(fitting)[1])
        # A power of two: else batches that are each a little larger than the one before would
        # never find a free slot. Pages that are never written take no memory.
        self._check(num_bytes)
        return self._new(max(_PAGE_BYTES, 1 << (num_bytes - 1).bit_length()))

    def give(self, slot: Slot) -> None:
        """Return a slot, which is then free."""
        self._returned.append(slot)  # nothing else: this may interrupt `take`

    def cleared(self) -> Arena:
        """This arena itself: shared memory stays until the process ends."""
        return self

    def find(self, address: int) -> tuple[int, int] | None:
        """The number of the extent that holds an address, and the offset in it; None if none."""
        for number, (start, extent) in enumerate(self._extents):
            if start <= address < start + extent.nbytes:
                return number, address - start
        return None

    def _new(self, num_bytes: int) -> Slot:
        extent = self._extents[-1][1] if self._extents else None
        if extent is None or self._used_bytes + num_bytes > extent.nbytes:
            total = sum(extent.nbytes for _, extent in self._extents)
            size = max(2 * num_bytes, total, _SMALLEST_EXTENT_BYTES)
            extent = self._new_extent(size)
            self._extents.append((extent.__array_interface__["data"][0], extent))
            self._used_bytes = 0
        slot = extent[self._used_bytes : self._used_bytes + num_bytes]
        self._used_bytes += num_bytes
        return slot
