"""`ChunkCache`: decoded chunks in one block of memory, which all threads share.

    cache = ChunkCache(chunks=32, rows=64, shape=(3072,), dtype=np.dtype("float32"))
    cache.gather(rows, out, decode)      # decode(number, into) fills `into` with a chunk

Storage in chunks reads and decodes a whole chunk whatever is asked for, so it is kept for the rows
of the next batches. All chunks lie in one array, so the rows of a batch are gathered at once,
however many chunks they are in, and no memory is new after the first chunks.

One thread decodes a chunk, and others that need it wait. If that one fails, another tries. A chunk
whose rows are being gathered stays. Of the others, the one whose need ends first makes room, if
that is known; of several, the one used longest ago. Nobody waits for room: if all chunks are in
use, one more is decoded into memory of its own.

The same holds between processes, if `Holds` and the memory are theirs: see
`batches/linux_chunks.py`.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import is_raw
from keras_npbatch.sources.turns import Turns, others_last

__all__ = ["ChunkCache", "Decode", "Held", "Holds", "SharedMemory"]

Decode = Callable[[int, npt.NDArray[Any]], None]
"""`decode(number, into)`: fills the first rows of `into` with a chunk."""

_ALIGNMENT_BYTES = 64
_PASS_BIT = 40
"""Below it, a key is the number of a chunk and 1, above it that of the pass."""


class Held:
    """What one call of `gather` uses; nothing that it does not name is in use."""

    __slots__ = ("claimed", "slots")

    def __init__(self) -> None:
        self.slots: set[int] = set()
        """They are read from."""
        self.claimed: int | None = None
        """It is decoded into."""


class Holds(Protocol):
    """Who uses which slot. What a call holds ends with it, however it ends."""

    def call(self) -> contextlib.AbstractContextManager[Held]:
        """Within it, slots can be held and claimed."""

    def alone(self) -> contextlib.AbstractContextManager[object]:
        """Within it, nobody else looks at the directory. Nothing in it may wait."""

    def hold(self, held: Held, slot: int) -> None:
        """Read from a slot that is ready. Only within `alone`."""

    def claim(self, held: Held, slot: int) -> bool:
        """Decode into a slot, unless somebody uses it; return whether. Only within `alone`."""

    def settle(self, held: Held, slot: int) -> None:
        """Go on to read from a slot that was decoded into. Only within `alone`."""

    def wait(self, held: Held, slot: int) -> None:
        """Wait until nobody decodes into a slot. Not within `alone`."""

    def let_go(self, held: Held) -> None:
        """Stop reading from all slots."""


class SharedMemory(NamedTuple):
    """What processes share."""

    memory: npt.NDArray[np.uint8]
    """Of `ChunkCache.num_bytes` bytes, all 0 at first."""
    holds: Holds
    """Who uses which slot."""


class ChunkCache:
    """The chunks that were used last, each in a slot.

    Args:
        chunks: how many are kept, at least 1.
        rows: of a chunk.
        shape: of a row.
        dtype: of the rows.
        shared: if processes share it.
    """

    def __init__(
        self,
        chunks: int,
        rows: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        shared: SharedMemory | None = None,
    ) -> None:
        self.chunks, self.rows, self.shape, self.dtype = chunks, rows, shape, dtype
        self._pass = 0
        self._expected: dict[int, int] = {}
        """The position in the order up to which a chunk is needed, if that is known."""
        self._turns = Turns()
        self._allocating = threading.Lock()
        self._memory: npt.NDArray[Any] | None = None
        if shared is None:
            self._holds: Holds = _ThreadHolds()
            head = np.zeros(self._head_bytes, np.uint8)
        else:
            self._holds, head = shared.holds, shared.memory[: self._head_bytes]
            inside = shared.memory[self._head_bytes : self.num_bytes]
            self._memory = np.ndarray((chunks * rows, *shape), dtype, inside)
        numbers = head.view(np.int64)
        self._clock, self._keys = numbers[:1], numbers[1 : 1 + chunks]
        self._used, self._ready, self._until = numbers[1 + chunks : 1 + 4 * chunks].reshape(3, -1)

    @property
    def _head_bytes(self) -> int:
        return -(-8 * (1 + 4 * self.chunks) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES

    @property
    def num_bytes(self) -> int:
        """What processes need to share it."""
        of_row = math.prod(self.shape) * self.dtype.itemsize
        return self._head_bytes + self.chunks * self.rows * of_row

    @property
    def can_be_shared(self) -> bool:
        """Whether processes can read each other's rows: plain memory, and some of it."""
        return is_raw(self.dtype) and self.num_bytes > self._head_bytes

    def __getstate__(self) -> dict[str, Any]:
        names = "chunks", "rows", "shape", "dtype"
        return {name: getattr(self, name) for name in names}  # a copy decodes its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def forget(self, pass_number: int | None = None) -> None:
        """Use nothing that was decoded before: what is stored may have changed.

        Args:
            pass_number: of the pass over the data that begins, for processes that share the cache:
                what was decoded in the same pass is used. None: the next.
        """
        self._pass = self._pass + 1 if pass_number is None else pass_number
        self._expected = {}

    def has(self, numbers: Rows) -> npt.NDArray[np.bool_]:
        """Which of some chunks it has, at this moment."""
        return self._find(self._keys_of(numbers)) >= 0

    def expect(self, numbers: Rows, until: int) -> None:
        """Chunks are needed up to a position in the order: others make room before them."""
        with self._holds.alone():
            for number in numbers.tolist():
                self._expected[number] = max(until, self._expected.get(number, 0))
            here = np.isin(self._keys, self._keys_of(numbers))
            self._until[here] = np.maximum(self._until[here], until)

    def prepare(self, number: int, decode: Decode) -> None:
        """Decode a chunk before its rows are asked for, unless somebody does so or has."""
        if not (self._keys == self._keys_of(number)).any():
            with self._holds.call() as held:
                self._decoded(number, decode, held)

    def gather(self, rows: Rows, out: npt.NDArray[Any], decode: Decode) -> None:
        """Copy rows to `out`, from chunks that are kept or decoded."""
        numbers = rows // self.rows
        distinct, which = np.unique(numbers, return_inverse=True)
        inside = rows - numbers * self.rows
        with self._holds.call() as held:
            slots = self._held(distinct, held)
            missing = self._turns.turned(np.flatnonzero(slots < 0).tolist())
            for place in others_last(missing, lambda each: self._is_under_way(distinct[each])):
                number = int(distinct[place])
                slot = self._decoded(number, decode, held)
                if slot is None and held.slots:  # by those of this call, maybe
                    self._copy(slots[which], inside, out)
                    slots[:] = -1
                    self._holds.let_go(held)
                    slot = self._decoded(number, decode, held)
                if slot is not None:
                    slots[place] = slot
                    continue
                chunk = np.empty((self.rows, *self.shape), self.dtype)
                decode(number, chunk)
                here = which == place
                out[here] = chunk[inside[here]]
            self._copy(slots[which], inside, out)

    # ---------------------------------------------------------------- inside

    def _copy(self, slots: Rows, inside: Rows, out: npt.NDArray[Any]) -> None:
        """Copy the rows that are in a slot, each by its number there; -1: it is in none."""
        here = slots >= 0
        at = slots * self.rows + inside
        if here.all():
            self._all().take(at, 0, out, "clip")
        else:
            out[here] = self._all()[at[here]]

    def _all(self) -> npt.NDArray[Any]:
        """The rows of all slots, one slot after the other."""
        with self._allocating:
            if self._memory is None:
                self._memory = np.empty((self.chunks * self.rows, *self.shape), self.dtype)
            return self._memory

    def _keys_of(self, numbers: Any) -> Any:
        return (self._pass << _PASS_BIT) + 1 + numbers

    def _find(self, keys: Rows) -> Rows:
        """The slots of these keys that are ready; -1 for others."""
        order = np.argsort(self._keys)
        slots = order[np.searchsorted(self._keys, keys, sorter=order).clip(max=self.chunks - 1)]
        return np.where((self._keys[slots] == keys) & (self._ready[slots] == 1), slots, -1)

    def _is_under_way(self, number: np.int64) -> bool:
        """Whether somebody seems to decode a chunk; it may end at this moment."""
        slots = np.flatnonzero(self._keys == self._keys_of(number))
        return len(slots) > 0 and not self._ready[slots[0]]

    def _held(self, numbers: Rows, held: Held) -> Rows:
        """Hold the chunks that are there; -1 for others."""
        with self._holds.alone():
            slots = self._find(self._keys_of(numbers))
            found = slots[slots >= 0]
            for slot in found.tolist():
                self._holds.hold(held, slot)
            # The chunks of larger numbers last: of rows in order, they are needed again.
            self._used[found] = self._clock[0] + 1 + np.arange(len(found))
            self._clock[0] += len(found)
        return slots

    def _decoded(self, number: int, decode: Decode, held: Held) -> int | None:
        """Hold a chunk, decoded by whoever is first; None if there is no room for it."""
        key = int(self._keys_of(number))
        while True:
            with self._holds.alone():
                found = np.flatnonzero(self._keys == key)
                if len(found):
                    slot = int(found[0])
                    if self._ready[slot]:
                        self._holds.hold(held, slot)
                        return slot
                    is_ours = self._holds.claim(held, slot)  # if whoever decoded it has failed
                else:
                    room = self._claim_oldest(held)
                    if room is None:
                        return None
                    slot, is_ours = room, True
                    self._ready[slot] = 0  # in this order: the process may end at any point
                    self._keys[slot] = key
                    self._until[slot] = self._expected.get(number, 0)
            if not is_ours:
                self._holds.wait(held, slot)
                continue
            decode(number, self._all()[slot * self.rows : (slot + 1) * self.rows])
            with self._holds.alone():
                self._clock[0] += 1
                self._used[slot] = self._clock[0]
                self._ready[slot] = 1
                self._holds.settle(held, slot)
            return slot

    def _claim_oldest(self, held: Held) -> int | None:
        """Claim a slot that nobody uses: of those least needed, the one used longest ago."""
        for slot in np.lexsort((self._used, self._until, self._keys >> _PASS_BIT)).tolist():
            if self._holds.claim(held, slot):
                return int(slot)
        return None


class _ThreadHolds:
    """Which slots the threads of a process use.

    Ctrl-C may come anywhere. So a slot is in use while a `Held` names it, and a call ends by
    emptying its own.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: set[Held] = set()

    @contextlib.contextmanager
    def call(self) -> Iterator[Held]:
        held = Held()
        try:
            with self._changed:
                self._calls.add(held)
            yield held
        finally:
            held.slots, held.claimed = set(), None
            with self._changed:
                self._calls.discard(held)
                self._changed.notify_all()

    def alone(self) -> contextlib.AbstractContextManager[object]:
        return self._changed

    def hold(self, held: Held, slot: int) -> None:
        held.slots.add(slot)

    def claim(self, held: Held, slot: int) -> bool:
        if any(slot == each.claimed or slot in each.slots for each in self._calls):
            return False
        held.claimed = slot
        return True

    def settle(self, held: Held, slot: int) -> None:
        held.slots.add(slot)
        held.claimed = None
        self._changed.notify_all()

    def wait(self, held: Held, slot: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: all(each.claimed != slot for each in self._calls))

    def let_go(self, held: Held) -> None:
        held.slots = set()
