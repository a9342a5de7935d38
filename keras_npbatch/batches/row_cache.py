"""`RowCache`: what `load` returned, kept row by row, so that a second epoch reads no file.

    cache = RowCache(num_rows=60_000, most_bytes=8_000_000_000)
    batch = cache.load(rows, load, empty)      # the bytes of load(rows); it reads what is not kept

Which rows are kept is a function of their number: if there is room for a third, every third row.
So there is nothing to decide, to agree on or to throw out, and what a shuffled epoch finds is known
beforehand. (The rows that were used last would be the wrong ones: an epoch needs each row once.)

All threads of a process use one cache, and so do its worker processes: the memory is a `memfd`,
which another process opens through `/proc`. A row that is being written has no mark yet, so nobody
reads it; if two write the same row, they write the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import pickle
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optree

from keras_npbatch.batches.slots import ALIGNMENT_BYTES
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, is_raw
from keras_npbatch.tree import Tree, flatten, leaves_with_paths

__all__ = ["IS_SHARED", "CacheInfo", "RowCache"]

IS_SHARED = hasattr(os, "memfd_create")
"""Whether processes can share a cache here: on Linux."""
if IS_SHARED:
    from keras_npbatch.batches import linux

_HEAD_BYTES = 16 * 1024
_TOKEN_BYTES = 16
_HITS, _MISSES, _LENGTH = 2, 3, 4
"""Numbers in the head, by their place: 8 bytes each, after the token."""
_MOST = np.iinfo(np.int64).max
_DIGEST = slice(40, 56)
"""Where the head has a digest of what a sample is."""
_SAMPLE_AT = 64
"""Where the head says what a sample is, for processes that have not read one."""
_ALIKE = (
    "expected samples that are alike, since cache= keeps them one by one. A sample must not depend "
    "on which others are in its batch: pad to one length, or leave cache out."
)


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
    most_bytes: int
    """Bytes that it may take."""


class _Leaf(NamedTuple):
    """One array of a sample."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the rows lie."""

    structure: optree.PyTreeSpec
    leaves: tuple[_Leaf, ...]
    num_rows: int
    """Of the data."""
    most_rows: int
    """Rows that there is room for."""
    marks: npt.NDArray[np.uint8]
    """1 for each row that is kept."""
    arrays: tuple[npt.NDArray[Any], ...]
    """Of each leaf, of shape `(most_rows, *shape)`."""

    def places(self, rows: Rows) -> Rows:
        """Where each row is kept; -1 for those that never are."""
        if self.most_rows == self.num_rows:
            return rows
        first, after = rows * self.most_rows // self.num_rows, (rows + 1) * self.most_rows
        return np.where(after // self.num_rows > first, first, -1)


class RowCache:
    """Keeps samples by row.

    Args:
        num_rows: of the data.
        most_bytes: how much memory it takes at most.
    """

    def __init__(self, num_rows: int, most_bytes: int) -> None:
        self.num_rows, self.most_bytes = num_rows, most_bytes
        self._token = secrets.token_bytes(_TOKEN_BYTES)
        descriptor = None
        if IS_SHARED:
            descriptor = linux.new_memory(self._total_bytes)
        self._use(descriptor)
        self._memory[:_TOKEN_BYTES] = np.frombuffer(self._token, np.uint8)

    @property
    def _total_bytes(self) -> int:
        return _HEAD_BYTES + self.most_bytes

    def _use(self, descriptor: int | None) -> None:
        """Map the memory; pages that are never written take none."""
        self._lock = threading.Lock()
        self._layout: _Layout | None = None
        self._descriptor, self._owner = descriptor, os.getpid()
        number = -1 if descriptor is None else descriptor
        self._memory = np.frombuffer(mmap.mmap(number, self._total_bytes), np.uint8)
        self._numbers = self._memory[:_SAMPLE_AT].view(np.int64)
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)

    # ---------------------------------------------------------------- in other processes

    def __getstate__(self) -> dict[str, Any]:
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
        self.__init__(self.num_rows, self.most_bytes)  # type: ignore[misc]  # with memory of its own

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """In no other thread and no other process at the same time."""
        with self._lock:
            if self._descriptor is None:
                yield
            else:
                with linux.alone(self._descriptor):
                    yield

    # ---------------------------------------------------------------- rows

    def load(self, rows: Rows, load: Callable[[Rows], Tree], empty: Empty) -> Tree:
        """What `load(rows)` returns, of which only the rows that are not kept are read.

        Raises:
            InvalidBatchError: if samples are not arrays of one shape and dtype.
            InvalidArgumentError: if there is no room for a single one.
        """
        layout = self._layout or self._told()
        if layout is None:
            found = load(rows)
            if not len(rows):
                return found
            layout = self._learn(found, len(rows))
            self._keep(layout, layout.places(rows), found)
            self._count(0, len(rows))
            return found
        places = layout.places(rows)
        with self._alone():
            is_kept = (places >= 0) & (layout.marks[places] == 1)
            num_kept = int(np.count_nonzero(is_kept))
            self._numbers[_HITS] += num_kept
            self._numbers[_MISSES] += len(rows) - num_kept
        if num_kept == len(rows):
            return layout.structure.unflatten(
                [
                    array.take(places, 0, empty((len(rows), *array.shape[1:]), array.dtype), "clip")
                    for array in layout.arrays
                ]
            )
        missing = ~is_kept
        found = load(rows[missing])
        arrays = self._checked(layout, found, len(rows) - num_kept)
        self._keep(layout, places[missing], found)
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
        of_row = sum(leaf.num_bytes for leaf in layout.leaves)
        return CacheInfo(hits, misses, kept, layout.most_rows, kept * of_row, self.most_bytes)

    def _count(self, hits: int, misses: int) -> None:
        with self._alone():
            self._numbers[_HITS] += hits
            self._numbers[_MISSES] += misses

    def _keep(self, layout: _Layout, places: Rows, found: Tree) -> None:
        """Write rows, and then mark them."""
        has_place = places >= 0
        places = places[has_place]
        for array, new in zip(layout.arrays, flatten(found)[0], strict=True):
            array[places] = new[has_place]
        with self._alone():  # it also makes other processors see the rows before the marks
            layout.marks[places] = 1

    # ---------------------------------------------------------------- what a sample is

    def _learn(self, found: Tree, num_rows: int) -> _Layout:
        """What a sample is, from the first batch; and tell other processes."""
        leaves, structure = flatten(found)
        for (path, leaf), _ in zip(leaves_with_paths(found, "load(rows)"), leaves, strict=True):
            is_array = type(leaf) is np.ndarray and leaf.ndim and is_raw(leaf.dtype)
            if not is_array or len(leaf) != num_rows:
                raise InvalidBatchError(
                    f"{path} is {describe(leaf)}; expected a NumPy array of numbers or text with "
                    f"{num_rows} rows, since cache= keeps it row by row. Convert it "
                    "(`np.asarray`), or leave cache out."
                )
        kinds = tuple(_Leaf(leaf.shape[1:], leaf.dtype) for leaf in leaves)
        layout = self._laid_out(structure, kinds)
        digest = hashlib.blake2b(f"{structure} {kinds}".encode(), digest_size=16).digest()
        text = b""
        with contextlib.suppress(Exception):  # a class of the user's that has no name elsewhere
            text = pickle.dumps((structure.unflatten(range(len(kinds))), kinds), protocol=5)
        with self._alone():
            of_first = self._memory[_DIGEST]
            if not of_first.any():
                of_first[:] = np.frombuffer(digest, np.uint8)
                if len(text) <= _HEAD_BYTES - _SAMPLE_AT:
                    self._memory[_SAMPLE_AT : _SAMPLE_AT + len(text)] = np.frombuffer(
                        text, np.uint8
                    )
                    self._numbers[_LENGTH] = len(text)
            is_same = of_first.tobytes() == digest
        if not is_same:  # of another process, which was first
            raise InvalidBatchError(
                f"load(rows) returned {describe(found)}, with samples of other shapes or dtypes "
                f"than in another worker process; {_ALIKE}"
            )
        self._layout = layout
        return layout

    def _told(self) -> _Layout | None:
        """What a sample is, if another process knows it."""
        with self._alone():
            length = int(self._numbers[_LENGTH])
            text = self._memory[_SAMPLE_AT : _SAMPLE_AT + length].tobytes()
        if not length:
            return None
        numbers, kinds = pickle.loads(text)
        self._layout = self._laid_out(flatten(numbers)[1], kinds)
        return self._layout

    def _laid_out(self, structure: optree.PyTreeSpec, kinds: tuple[_Leaf, ...]) -> _Layout:
        of_row = 1 + sum(leaf.num_bytes for leaf in kinds)
        room = self.most_bytes - ALIGNMENT_BYTES * (1 + len(kinds))
        # Of extremely many rows fewer are kept, so that `places` stays within 64 bits.
        most_rows = min(self.num_rows, max(0, room) // of_row, _MOST // self.num_rows)
        if not most_rows:
            raise InvalidArgumentError(
                f"cache has {self.most_bytes} bytes, and a sample takes {of_row}; expected room "
                "for many. Say cache='8 GB', or leave it out."
            )
        marks = self._memory[_HEAD_BYTES : _HEAD_BYTES + most_rows]
        end, arrays = _HEAD_BYTES + most_rows, []
        for leaf in kinds:
            start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            end = start + most_rows * leaf.num_bytes
            memory = self._memory[start:end]
            arrays.append(np.ndarray((most_rows, *leaf.shape), leaf.dtype, memory))
        return _Layout(structure, kinds, self.num_rows, most_rows, marks, tuple(arrays))

    def _checked(self, layout: _Layout, found: Tree, num_rows: int) -> list[npt.NDArray[Any]]:
        """The arrays of a batch, which must be like those of the first."""
        arrays, structure = flatten(found)
        if structure != layout.structure:
            raise InvalidBatchError(
                f"load(rows) returned {describe(found)}, nested in another way than before; "
                f"{_ALIKE}"
            )
        for (path, leaf), kind in zip(
            leaves_with_paths(found, "load(rows)"), layout.leaves, strict=True
        ):
            expected = (num_rows, *kind.shape)
            is_alike = type(leaf) is np.ndarray and leaf.dtype == kind.dtype
            if not is_alike or leaf.shape != expected:
                raise InvalidBatchError(
                    f"{path} is {describe(leaf)}, and those before had shape {expected} and dtype "
                    f"{kind.dtype}; {_ALIKE}"
                )
        return arrays
