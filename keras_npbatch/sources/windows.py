"""`Windows`: stretches of one or many time series, cut out as they are asked for.

    windows = Windows(np.arange(6), length=3)
    windows.read(np.array([0, 3]))     # [[0, 1, 2], [3, 4, 5]]

Nothing is copied but the windows of a batch, and no window crosses the boundary of a series. Row i
of all the windows of a dataset begins at the same time step of the same series, so targets are
windows with an offset. Only the rows exist that all of them have.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import refuses_unknown_arguments, whole_number
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import is_mapped
from keras_npbatch.sources.series import Steps, series_of
from keras_npbatch.sources.slices import SlicedStorage
from keras_npbatch.sources.source import Empty, Reading, Source, is_raw
from keras_npbatch.sources.words import WINDOWS

__all__ = ["Windows", "aligned", "aligned_leaves", "windows_source"]

_MOST = 2**31 - 1
_LONG_BYTES = 4096
"""Windows of this many bytes are copied one by one, into a slot; smaller ones all at once."""
_FEW_SERIES = 4
"""With this many rows a series in a batch, or more, those of a series are read together."""
_GAP_BYTES = 4096
"""Of a file, what lies between two windows is read with them if it is no more than this."""


class Windows:
    """Windows of time series: give it to a dataset in place of an array.

    Row i is `series[begin + offset :][: length * sampling_rate : sampling_rate]`, where `begin` is
    `i * stride`, counted from the beginning of each series.

    All windows that are given to one dataset must have the same series lengths and the same
    stride. They are aligned: row i begins at the same time step in each, and a row exists if all
    of them have it. So the targets of a window are another `Windows`, of any length, with an
    offset.

    Example:

    ```python
    series = np.sin(np.arange(1000) / 10)[:, None]
    inputs = keras_npbatch.sources.Windows(series, length=48)
    targets = keras_npbatch.sources.Windows(series[:, 0], length=12, offset=48)
    train = keras_npbatch.ArrayDataset(inputs, targets, batch_size=64)
    ```

    Args:
        series: an array of shape `(time_steps, *inner_shape)`, or a memory map, tensor, column of
            pandas, or dataset of HDF5, Zarr or TensorStore (only the stretches that a batch needs
            are read); or a list of such, one for each series.
        length: time steps in a window.
        stride: time steps from the beginning of a window to that of the next.
        offset: time steps from where a row begins to where its window does.
        sampling_rate: time steps from one that is in the window to the next that is.
        boundaries: if `series` is one array of several series, one after the other: the positions
            at which a new series begins, rising.
        ids: the same, given by a value for each time step, `(time_steps,)`: each series has one,
            and its steps stand together.

    Raises:
        InvalidDataError: if the data are not series of one inner shape and dtype, or one is shorter
            than a window; the message names it.
        InvalidArgumentError: for another invalid argument.
    """

    chunk_rows: int | None = None

    @refuses_unknown_arguments(WINDOWS)
    def __init__(
        self,
        series: Any,
        length: int,
        *,
        stride: int = 1,
        offset: int = 0,
        sampling_rate: int = 1,
        boundaries: Any = None,
        ids: Any = None,
    ) -> None:
        self._length = whole_number("length", length, least=1, most=_MOST)
        self._stride = whole_number("stride", stride, least=1, most=_MOST)
        self._offset = whole_number("offset", offset, least=0, most=_MOST)
        self._rate = whole_number("sampling_rate", sampling_rate, least=1, most=_MOST)
        self._arrays, edges = series_of(series, boundaries, ids)
        self._edges = edges
        """Where each series begins in its array, or, in one array, also where the last ends."""
        first = self._arrays[0]
        self.dtype = first.dtype
        """The dtype of a time step."""
        self.is_in_memory = not any(
            isinstance(array, SlicedStorage) or is_mapped(array) for array in self._arrays
        )
        """Whether reading never waits for a disk."""
        self._inner_shape = first.shape[1:]
        self._step_bytes = self.dtype.itemsize * math.prod(self._inner_shape)
        self._reach = self.own_reach
        short = np.flatnonzero(self.steps < self._reach)
        if len(short):
            number = int(short[0])
            more = f" (and {len(short) - 1} more are too short)" if len(short) > 1 else ""
            raise InvalidDataError(
                f"series {number} of Windows has {self.steps[number]} time steps, and a window "
                f"reaches over {self._reach}; expected at least as many in each{more}. Leave such "
                "series out, or take a smaller length, offset or sampling_rate."
            )
        self._count()

    def _count(self) -> None:
        """Count the rows that there are."""
        counts = (self.steps - self._reach) // self._stride + 1
        self._ends = np.cumsum(counts)
        self.shape: tuple[int, ...] = (int(self._ends[-1]), self._length, *self._inner_shape)
        """`(rows, length, *inner_shape)`."""
        self.identity = (
            f"Windows(length={self._length}, stride={self._stride}, offset={self._offset}, "
            f"sampling_rate={self._rate}, of {len(counts)} series)"
        )
        """What decides its rows, in words."""

    @property
    def stride(self) -> int:
        """Time steps from the beginning of a window to that of the next."""
        return self._stride

    @property
    def steps(self) -> Rows:
        """How many time steps each series has."""
        if len(self._arrays) == 1:
            return np.diff(self._edges)
        return np.array([array.shape[0] for array in self._arrays], np.int64)

    @property
    def own_reach(self) -> int:
        """Time steps from where a row begins to the end of its window."""
        return self._offset + (self._length - 1) * self._rate + 1

    @property
    def series(self) -> Rows:
        """The number of the series that each row is of, int64 `(num_rows,)`."""
        return np.repeat(np.arange(len(self._ends)), np.diff(self._ends, prepend=0))

    @property
    def starts(self) -> Rows:
        """The time step of its series at which each row begins, int64 `(num_rows,)`."""
        before = self._ends - np.diff(self._ends, prepend=0)
        found: Rows = (np.arange(len(self)) - before[self.series]) * self._stride
        return found

    @property
    def ends(self) -> Rows:
        """The time step after the last that any window of a row has, int64 `(num_rows,)`."""
        found: Rows = self.starts + self._reach
        return found

    def __len__(self) -> int:
        """How many rows there are."""
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.identity}: {self.dtype} {self.shape}>"

    def reaching(self, reach: int) -> Windows:
        """The same windows, with only the rows that are followed by this many time steps."""
        twin = copy.copy(self)
        twin._reach = reach
        twin._count()
        return twin

    def refuse_other(self, other: Windows, here: str, there: str) -> None:
        """Refuse windows whose row i would begin elsewhere.

        Args:
            other: the windows.
            here: what these are called.
            there: what the others are called.
        """
        if self._stride != other._stride:
            raise InvalidDataError(
                f"{there} has stride={other._stride}, and {here} stride={self._stride}; expected "
                "one stride: row i begins at the same time step in all windows."
            )
        if len(self._ends) != len(other._ends):
            raise InvalidDataError(
                f"{there} has {len(other._ends)} series, and {here} {len(self._ends)}; expected "
                "the same series in all windows."
            )
        differ = np.flatnonzero(self.steps != other.steps)
        if len(differ):
            number = int(differ[0])
            raise InvalidDataError(
                f"series {number} has {other.steps[number]} time steps in {there}, and "
                f"{self.steps[number]} in {here}; expected as many: row i begins at the same time "
                "step in all windows. Give whole series to all of them, and the shift as offset=."
            )

    def read(self, rows: Rows, empty: Empty = np.empty) -> npt.NDArray[Any]:
        """The given windows.

        Args:
            rows: integers of shape `(n,)`.
            empty: what allocates the result.

        Returns:
            Array of shape `(n, length, *inner_shape)`.
        """
        rows = np.asarray(rows, np.int64)
        if len(self._ends) == 1:
            is_plain = (self._stride, self._offset) == (1, 0)
            starts = rows if is_plain else rows * self._stride + self._offset
            return self._cut(self._arrays[0], starts, empty)
        which = np.searchsorted(self._ends, rows, "right")
        before = np.concatenate([[0], self._ends[:-1]])
        starts = (rows - before[which]) * self._stride + self._offset
        if len(self._arrays) == 1:
            return self._cut(self._arrays[0], starts + self._edges[which], empty)
        out = self._new(len(rows), empty)
        are_arrays = not any(isinstance(array, SlicedStorage) for array in self._arrays)
        if are_arrays and len(self._arrays) * _FEW_SERIES > len(rows):
            span, rate = self._span, self._rate
            for window, number, start in zip(out, which.tolist(), starts.tolist(), strict=True):
                window[...] = self._arrays[number][start : start + span : rate]
            return out
        for number in np.unique(which).tolist():
            here = which == number
            out[here] = self._cut(self._arrays[number], starts[here], np.empty)
        return out

    def _new(self, count: int, empty: Empty) -> npt.NDArray[Any]:
        shape = (count, self._length, *self._inner_shape)
        return empty(shape, self.dtype) if is_raw(self.dtype) else np.empty(shape, self.dtype)

    @property
    def _span(self) -> int:
        """Time steps from the first of a window to its last."""
        return (self._length - 1) * self._rate + 1

    def _read_and_cut(self, stored: SlicedStorage, starts: Rows, empty: Empty) -> npt.NDArray[Any]:
        """The windows of a file that begin at these positions, which need not be in order.

        What windows have in common is read once, and what lies close together at once.
        """
        if not len(starts):
            return self._new(0, empty)
        span, begins = self._span, np.unique(starts)
        apart = span + _GAP_BYTES // max(1, self._step_bytes)
        is_first = np.concatenate([[True], np.diff(begins) > apart])
        firsts, lasts = begins[is_first], begins[np.roll(is_first, -1)]
        sizes = lasts + span - firsts
        before = np.cumsum(sizes) - sizes
        read = stored.stretches(firsts, firsts + sizes)
        stretch = np.searchsorted(firsts, starts, "right") - 1
        return self._cut(read, starts - firsts[stretch] + before[stretch], empty)

    def _cut(self, array: Steps, starts: Rows, empty: Empty) -> npt.NDArray[Any]:
        """The windows of one array that begin at these positions."""
        if isinstance(array, SlicedStorage):
            return self._read_and_cut(array, starts, empty)
        inner, rate = self._step_bytes, self._rate
        size = self._length * inner
        if size >= _LONG_BYTES or self.dtype.kind == "T":  # NumPy makes no such view of these
            out, span = self._new(len(starts), empty), self._span
            for window, start in zip(out, starts.tolist(), strict=True):
                window[...] = array[start : start + span : rate]
            return out
        shape = (len(starts), self._length, *self._inner_shape)
        count = len(array) - self._span + 1
        if rate == 1 and inner and is_raw(self.dtype) and array.flags.c_contiguous:
            # Each window as one item of all its bytes: as fast as rows of an array that has them.
            # (Bytes, since NumPy gives no buffer of dates.)
            whole = np.ndarray((count,), f"V{size}", array.view(np.uint8), 0, (inner,))
            return whole[starts].view(self.dtype).reshape(shape)
        step = array.strides[0]
        view = np.lib.stride_tricks.as_strided(
            array,
            (count, self._length, *self._inner_shape),
            (step, step * rate, *array.strides[1:]),
            writeable=False,
        )
        return np.ascontiguousarray(view[starts])


class StoredWindows(Windows):
    """Windows of series in a file that is read chunk by chunk; see `Chunked`.

    Rows that are adjacent are windows that overlap, so a chunk of time steps is about as many rows
    as windows begin in it.
    """

    def __init__(self, of: Windows) -> None:
        vars(self).update(vars(of))
        self._chunk_steps = max((each.chunk_rows or 0 for each in self._stored), default=0)
        self.chunk_rows = max(1, self._chunk_steps // self._stride) if self._chunk_steps else None

    @property
    def _stored(self) -> list[SlicedStorage]:
        return [each for each in self._arrays if isinstance(each, SlicedStorage)]

    @property
    def chunk_starts(self) -> Rows | None:
        """None: all chunks count as equally long."""
        return None

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block once; see `Chunked`."""
        touched = 1 - (-(block_rows * self._stride + self._reach) // self._chunk_steps)
        for stored in self._stored:
            if stored.chunk_rows is not None:
                stored.keep(stored.chunk_rows, blocks * touched, ahead * self._stride)

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing: what is in the file may have changed."""
        for stored in self._stored:
            stored.forget(pass_number)

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        found = [stored.reading(batch_size) for stored in self._stored]
        if len(found) != 1 or found[0] is None:
            return None
        chunks = found[0].chunks * (1 + self._span / self._chunk_steps)
        assert self.chunk_rows is not None
        return Reading(self.chunk_rows, chunks, chunks * self.chunk_rows / batch_size)


def aligned(*windows: Windows) -> tuple[Windows, ...]:
    """The same windows, with only the rows that all of them have.

    A dataset does that with the windows it is given. Do it yourself to learn which rows it will
    have, for a split by time:

    Example:

    ```python
    series = np.sin(np.arange(1000) / 10)[:, None]
    inputs, targets = keras_npbatch.sources.aligned(
        keras_npbatch.sources.Windows(series, length=48),
        keras_npbatch.sources.Windows(series[:, 0], length=12, offset=48),
    )
    data = keras_npbatch.ArrayDataset(inputs, targets, batch_size=64)
    train = data.subset(inputs.ends <= 800)
    validation = data.subset(inputs.starts >= 800)
    ```

    Args:
        *windows: with the same stride and the same lengths of series.

    Returns:
        As many windows, each with the same number of rows.

    Raises:
        InvalidDataError: if they can't be aligned; the message names the series.
    """
    if not windows:
        raise InvalidArgumentError("aligned was given nothing; expected Windows.")
    for number, each in enumerate(windows):
        if not isinstance(each, Windows):
            raise InvalidArgumentError(
                f"argument {number} of aligned is {describe(each)}; expected Windows."
            )
    return tuple(aligned_leaves({f"windows[{n}]": each for n, each in enumerate(windows)}).values())


def aligned_leaves(found: dict[str, Windows]) -> dict[str, Windows]:
    """The windows by their paths, with only the rows that all of them have.

    Raises:
        InvalidDataError: if they can't be aligned.
    """
    (first, leader), *others = found.items()
    for path, each in others:
        leader.refuse_other(each, first, path)
    reach = max(each._reach for each in found.values())
    made = {path: each.reaching(reach) for path, each in found.items()}
    files: dict[Any, SlicedStorage] = {}
    for each in made.values():  # what several of them need of a file is read once
        each._arrays = [
            files.setdefault(array.identity_of_data, array)
            if isinstance(array, SlicedStorage)
            else array
            for array in each._arrays
        ]
    return made


def windows_source(leaf: Any, path: str) -> Source | None:
    """The source of `Windows`, which they are themselves, unless they are in a file; else None."""
    if not isinstance(leaf, Windows):
        return None
    stored = StoredWindows(leaf)
    return leaf if stored.chunk_rows is None else stored
