"""`scatter`: rows of a source to places in an array, as `out[places] = source.read(rows)`.

    for number, places in groups(np.array([1, 0, 1])):     # (0, [1]), (1, [0, 2])
        scatter(sources[number], rows[places], out, places)

NumPy has no call that gathers and scatters at once. So what is to lie together is read into its
place, long rows of arrays are copied one by one, and others all at once, through an array between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.source import Empty, Source, is_raw

__all__ = ["groups", "items", "new", "put", "scatter"]

_LONG_BYTES = 2**13
"""Rows of this many bytes are copied one by one: the second copy would take longer than the
loop."""


def groups(numbers: Rows) -> Iterator[tuple[int, Rows]]:
    """Each number that there is, rising, and its places, which rise too."""
    order = np.argsort(numbers, kind="stable")
    rising = numbers[order]
    cuts = (np.flatnonzero(rising[1:] != rising[:-1]) + 1).tolist()
    for begin, end in pairwise([0, *cuts, len(numbers)]):
        if begin < end:
            yield int(rising[begin]), order[begin:end]


def scatter(source: Source, rows: Rows, out: npt.NDArray[Any], places: Rows) -> None:
    """Write rows of a source to places in an array.

    Args:
        source: of the dtype of `out`, and with samples of its shape.
        rows: at least one.
        out: C-contiguous.
        places: where in `out` each row belongs, rising.
    """
    first, last = int(places[0]), int(places[-1])
    if last - first == len(places) - 1:
        there = out[first : last + 1]
        found = source.read(rows, _giving(there))
        if found is not there:
            there[...] = found
    elif isinstance(source, TakenArray) and out[0].nbytes >= _LONG_BYTES:
        array = source.array
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            out[place] = array[row]
    else:
        put(source.read(rows, np.empty), out, places)


def put(array: npt.NDArray[Any], out: npt.NDArray[Any], places: Rows) -> None:
    """Write the rows of an array to places in another of its dtype: `out[places] = array`."""
    items(out)[places] = items(array)


def new(shape: tuple[int, ...], dtype: np.dtype[Any], empty: Empty) -> npt.NDArray[Any]:
    """An array of that shape, from `empty` if its dtype is plain memory."""
    return (empty if is_raw(dtype) else np.empty)(shape, dtype)


def items(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The rows of a contiguous array as items of this many bytes, which NumPy copies fastest."""
    if not array.size or not is_raw(array.dtype):
        return array
    return array.reshape(-1).view(f"V{array.nbytes // len(array)}")


def _giving(out: npt.NDArray[Any]) -> Empty:
    """An `empty` that gives this array."""
    return lambda shape, dtype: out
