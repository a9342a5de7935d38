"""`RowCache`: what `load` returned, kept row by row, so that a second epoch reads no file.

    cache = RowCache(num_rows=60_000, most_bytes=8_000_000_000)
    batch = cache.load(rows, load, empty)      # the bytes of load(rows); it reads what is not kept

Which rows are kept is a function of their number: if there is room for a third, every third row.
So there is nothing to decide, to agree on or to throw out, and it is known beforehand what a
shuffled epoch finds. (Keeping the rows that were used last would not help: an epoch needs each row
once.)

All threads of a process use one cache. Its memory is in large pages where the system has them: a
batch is gathered from it in two thirds of the time. Worker processes share a `memfd`, which they
open through `/proc`: the rows move there when the cache is first sent to one, unless processes were
expected from the beginning. A row that is being written has no mark yet, so nobody reads it; if two
write the same row, they write the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import pickle
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optree

from keras_npbatch.batches.memory_size import in_words
from keras_npbatch.batches.row_layout import ALIKE, Layout, Leaf, room_for, sample_of
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree, flatten

__all__ = ["HEAD_BYTES", "IS_SHARED", "CacheInfo", "RowCache", "no_room"]

IS_SHARED = hasattr(os, "memfd_create")
"""Whether processes can share memory here: on Linux."""
if IS_SHARED:
    from keras_npbatch.batches import linux

HEAD_BYTES = 16 * 1024
"""Of the memory that processes share, before any row."""
_TOKEN_BYTES = 16
_HITS, _MISSES, _LENGTH = 2, 3, 4
"""Numbers in the head, by their place: 8 bytes each, after the token."""
_DIGEST = slice(40, 56)
"""Where the head has a digest of what a sample is."""
_SAMPLE_AT = 64
"""Where the head says what a sample is, for processes that have not read one."""


class CacheInfo(NamedTuple):
    """What a cache holds, and how often it was of use."""

    hits: int
    """Rows that were found in it."""
    misses: int
    """Rows that were read."""
    rows: int
    """Rows that it holds."""
    most_rows: int | None
    """Rows that it has room for; None before the first batch."""
    num_bytes: int
    """Bytes that they take."""
    most_bytes: int | None
    """Bytes that it may take; None if the disk alone is the bound."""


class RowCache:
    """Keeps samples by row.

    Args:
        num_rows: of the data.
        most_bytes: how much memory it takes at most.
        for_processes: whether worker processes are likely to ask for it: then its memory is theirs
            from the beginning, and need not move.
    """

    most_bytes: int | None

    def __init__(self, num_rows: int, most_bytes: int, for_processes: bool = False) -> None:
        self.num_rows, self.most_bytes = num_rows, most_bytes
        self._begin(for_processes)

    def _begin(self, for_processes: bool) -> None:
        """Begin with memory of its own."""
        self._token = secrets.token_bytes(_TOKEN_BYTES)
        self._use(linux.new_memory(self._total_bytes) if IS_SHARED and for_processes else None)
        self._memory[:_TOKEN_BYTES] = np.frombuffer(self._token, np.uint8)

    @property
    def _total_bytes(self) -> int:
        """Bytes of the memory that processes share."""
        assert self.most_bytes is not None
        return HEAD_BYTES + self.most_bytes

    def _use(self, descriptor: int | None) -> None:
        """Map the memory; pages that are never written take none."""
        self._lock = threading.Lock()
        self._layout: Layout | None = None
        self._descriptor, self._owner = descriptor, os.getpid()
        num_bytes = self._total_bytes
        if descriptor is None and IS_SHARED:
            memory = linux.private_memory(num_bytes)
        else:
            memory = mmap.mmap(-1 if descriptor is None else descriptor, num_bytes)
        self._memory = np.frombuffer(memory, np.uint8)
        self._numbers = self._memory[:_SAMPLE_AT].view(np.int64)
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)

    @property
    def setting(self) -> Any:
        """What a user writes to have it."""
        assert self.most_bytes is not None
        return in_words(self.most_bytes)

    # ---------------------------------------------------------------- in other processes

    def _share(self) -> None:
        """Move to memory that other processes can open.

        A batch that a thread makes at this moment may still be kept in the old memory alone: it is
        read once more.
        """
        with self._lock:
            if self._descriptor is not None:
                return
            descriptor, old = linux.new_memory(self._total_bytes), self._layout
            memory = np.frombuffer(mmap.mmap(descriptor, self._total_bytes), np.uint8)
            memory[:HEAD_BYTES] = self._memory[:HEAD_BYTES]
            weakref.finalize(self, os.close, descriptor)
            self._memory, self._numbers = memory, memory[:_SAMPLE_AT].view(np.int64)
            self._layout = moved = old and self._laid_out(old.structure, old.leaves)
            self._descriptor, self._owner = descriptor, os.getpid()
        if old is None or moved is None:
            return
        kept = np.flatnonzero(old.marks)
        for some in np.array_split(kept, -(-len(kept) * old.row_bytes // 2**20) or 1):
            for array, before in zip(moved.arrays, old.arrays, strict=True):
                array[some] = before[some]
            with self._alone():
                moved.marks[some] = old.marks[some]

    def __deepcopy__(self, memo: Any) -> RowCache:
        """Itself: what one copy of a dataset has read, the other need not."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        if IS_SHARED:
            self._share()
        return {
            "num_rows": self.num_rows,
            "most_bytes": self.most_bytes,
            "token": self._token,
            "at": None if self._descriptor is None else (self._owner, self._descriptor),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Share the memory with the process that has it; if it is gone, begin with none."""
        self.num_rows, self.most_bytes = state["num_rows"], state["most_bytes"]
        self._token = state["token"]
        descriptor = None
        if IS_SHARED and state["at"] is not None:
            descriptor = linux.memory_of(*state["at"])
        if descriptor is not None:
            if os.fstat(descriptor).st_size == self._total_bytes:
                self._use(descriptor)
                if self._memory[:_TOKEN_BYTES].tobytes() == self._token:
                    return
            else:
                os.close(descriptor)
        self._begin(for_processes=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Run the block in no other thread or process at the same time."""
        with self._lock:
            if self._descriptor is None:
                yield
            else:
                with linux.alone(self._descriptor):
                    yield

    # ---------------------------------------------------------------- rows

    def load(self, rows: Rows, load: Callable[[Rows], Tree], empty: Empty) -> Tree:
        """What `load(rows)` returns; only the rows that are not kept are read.

        Raises:
            InvalidBatchError: if samples are not arrays of one shape and dtype.
            InvalidArgumentError: if there is no room for a single one.
        """
        layout = self._layout or self._told() or self._found_again(load)
        if layout is None:
            found = load(rows)
            if not len(rows):
                return found
            layout = self._learn(found, rows)
            self._keep(layout, layout.places(rows), flatten(found)[0])
            with self._alone():
                self._count(0, len(rows))
            return found
        places = layout.places(rows)
        is_kept = self._are_kept(layout, places, counted=True)
        num_kept = int(np.count_nonzero(is_kept))
        if num_kept == len(rows):
            return layout.structure.unflatten(
                [
                    array.take(places, 0, empty((len(rows), *array.shape[1:]), array.dtype), "clip")
                    for array in layout.arrays
                ]
            )
        missing = ~is_kept
        found = load(rows[missing])
        arrays = layout.checked(found, len(rows) - num_kept)
        self._keep(layout, places[missing], arrays)
        if not num_kept:
            return found
        batch = []
        for array, new in zip(layout.arrays, arrays, strict=True):
            out = empty((len(rows), *array.shape[1:]), array.dtype)
            out[is_kept], out[missing] = array[places[is_kept]], new
            batch.append(out)
        return layout.structure.unflatten(batch)

    def info(self) -> CacheInfo:
        """What it holds, and how often it was of use, in all processes."""
        layout = self._layout or self._told()
        hits, misses = self._numbers[[_HITS, _MISSES]].tolist()
        if layout is None:
            return CacheInfo(hits, misses, 0, None, 0, self.most_bytes)
        kept = int(np.count_nonzero(layout.marks))
        return CacheInfo(
            hits, misses, kept, layout.most_rows, kept * layout.row_bytes, self.most_bytes
        )

    def _count(self, hits: int, misses: int) -> None:
        """Add to the counts; call it within `_alone`."""
        self._numbers[_HITS] += hits
        self._numbers[_MISSES] += misses

    def _are_kept(
        self, layout: Layout, places: Rows, *, counted: bool = False
    ) -> npt.NDArray[np.bool_]:
        """Whether each row is there; if `counted`, each is a hit or a miss."""
        is_kept: npt.NDArray[np.bool_] = places >= 0
        with self._alone():
            is_kept &= layout.marks[places] != 0
            if counted:
                hits = int(np.count_nonzero(is_kept))
                self._count(hits, len(places) - hits)
        return is_kept

    def _keep(self, layout: Layout, places: Rows, arrays: list[npt.NDArray[Any]]) -> None:
        """Write rows, and then mark them."""
        has_place = places >= 0
        places = places[has_place]
        for array, new in zip(layout.arrays, arrays, strict=True):
            array[places] = new[has_place]
        with self._alone():  # it also makes other processors see the rows before the marks
            layout.marks[places] = 1

    # ---------------------------------------------------------------- what a sample is

    def _found_again(self, load: Callable[[Rows], Tree]) -> Layout | None:
        """Where the rows of an earlier run lie, if it left any."""
        return None

    def _compare(self, layout: Layout, rows: Rows, arrays: list[npt.NDArray[Any]]) -> None:
        """Refuse to go on with the rows of an earlier run if they are not what is read now."""

    def _learn(self, found: Tree, rows: Rows) -> Layout:
        """What a sample is, from the first batch; and tell other processes."""
        structure, leaves = sample_of(found, len(rows))
        layout = self._laid_out(structure, leaves)
        self._compare(layout, rows, flatten(found)[0])
        digest = hashlib.blake2b(f"{structure} {leaves}".encode(), digest_size=16).digest()
        text = b""
        with contextlib.suppress(Exception):  # a class of the user's that has no name elsewhere
            text = pickle.dumps((structure.unflatten(range(len(leaves))), leaves), protocol=5)
        with self._alone():
            of_first = self._memory[_DIGEST]
            if not of_first.any():
                of_first[:] = np.frombuffer(digest, np.uint8)
                if len(text) <= HEAD_BYTES - _SAMPLE_AT:
                    self._memory[_SAMPLE_AT : _SAMPLE_AT + len(text)] = np.frombuffer(
                        text, np.uint8
                    )
                    self._numbers[_LENGTH] = len(text)
            is_same = of_first.tobytes() == digest
            if is_same:
                self._layout = layout = self._where_it_is_now(layout)
        if not is_same:  # of another process, which was first
            raise InvalidBatchError(
                f"load(rows) returned {describe(found)}, with samples of other shapes or dtypes "
                f"than in another worker process; {ALIKE}"
            )
        return layout

    def _where_it_is_now(self, layout: Layout) -> Layout:
        """The same, laid out again if the memory has moved meanwhile."""
        if np.may_share_memory(layout.marks, self._memory):
            return layout
        return self._laid_out(layout.structure, layout.leaves)

    def _told(self) -> Layout | None:
        """What a sample is, if another process knows it."""
        with self._alone():
            length = int(self._numbers[_LENGTH])
            if not length:
                return None
            text = self._memory[_SAMPLE_AT : _SAMPLE_AT + length].tobytes()
            numbers, leaves = pickle.loads(text)
            self._layout = self._laid_out(flatten(numbers)[1], leaves)
            return self._layout

    def _laid_out(self, structure: optree.PyTreeSpec, leaves: tuple[Leaf, ...]) -> Layout:
        assert self.most_bytes is not None
        most_rows = room_for(leaves, 1, self.num_rows, self.most_bytes)
        if not most_rows:
            of_row = 1 + sum(leaf.num_bytes for leaf in leaves)
            raise no_room(self.most_bytes, of_row)
        return Layout.of(structure, leaves, self._memory, HEAD_BYTES, self.num_rows, most_rows)


def no_room(most_bytes: int, of_row: int) -> InvalidArgumentError:
    """The error of a cache without room for a single sample."""
    return InvalidArgumentError(
        f"cache has {most_bytes} bytes, and a sample takes {of_row}; expected room "
        "for many. Say cache='8 GB', or leave it out."
    )
