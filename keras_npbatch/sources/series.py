"""One or many time series, from every form in which they come, without a copy.

arrays, edges = series_of(np.arange(6), boundaries=[4], ids=None)
edges                              # [0, 4, 6]: a series of four steps, and one of two
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import plain_array
from keras_npbatch.sources.slices import SlicedStorage, stored_in_slices
from keras_npbatch.sources.tables import refuse_nulls

__all__ = ["Steps", "series_of"]


Steps: TypeAlias = npt.NDArray[Any] | SlicedStorage
"""The time steps of a series: an array, or a dataset in a file."""


def series_of(series: Any, boundaries: Any, ids: Any) -> tuple[list[Steps], Rows]:
    """The arrays; for a single one, also where each series begins, and the last one ends.

    Args:
        series: see `Windows`, as for the others.
        boundaries: where series begin in a single array.
        ids: a value for each time step of a single array.

    Raises:
        InvalidDataError: if they are not series of one inner shape and dtype.
        InvalidArgumentError: for boundaries or ids that don't fit.
    """
    if not isinstance(series, list):
        array = _array(series, "series of Windows")
        return [array], _edges(array.shape[0], boundaries, ids)
    if boundaries is not None or ids is not None:
        raise InvalidArgumentError(
            "boundaries or ids were given with a list of series; expected either: a list has an "
            "array for each series."
        )
    if not series:
        raise InvalidDataError("series of Windows is an empty list; expected at least one series.")
    arrays = [_array(each, f"series {number} of Windows") for number, each in enumerate(series)]
    first = arrays[0]
    for number, array in enumerate(arrays):
        if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
            raise InvalidDataError(
                f"series {number} of Windows has time steps of shape {array.shape[1:]} and dtype "
                f"{array.dtype}, and series 0 of shape {first.shape[1:]} and dtype {first.dtype}; "
                "expected time steps of one shape and dtype."
            )
    return arrays, np.array([0, first.shape[0]], np.int64)


def _array(series: Any, name: str) -> Steps:
    refuse_nulls(series, name)
    if type(series).__module__.partition(".")[0] == "pandas" and hasattr(series, "to_numpy"):
        series = series.to_numpy()
    stored = stored_in_slices(series, name)
    if stored is not None:
        return stored
    array = plain_array(series, name)
    if array is None or array.ndim == 0:
        raise InvalidDataError(
            f"{name} is {describe(series)}; expected an array of shape (time_steps, "
            "*inner_shape), a memory map, a dataset of HDF5 or Zarr, or a list of such, one for "
            "each series."
        )
    return array


def _edges(steps: int, boundaries: Any, ids: Any) -> Rows:
    if boundaries is not None and ids is not None:
        raise InvalidArgumentError("boundaries and ids were both given; expected one of them.")
    if ids is not None:
        refuse_nulls(ids, "ids of Windows")
        return _edges_of_ids(steps, np.asarray(ids))
    if boundaries is None:
        return np.array([0, steps], np.int64)
    given = np.asarray(boundaries)
    are_numbers = given.ndim == 1 and (given.dtype.kind in "iu" or not len(given))
    inside: Sequence[int] = given.tolist() if are_numbers else [-1]
    edges = [*([] if inside[:1] == [0] else [0]), *inside]
    edges += [] if edges[-1] == steps else [steps]
    if edges[0] < 0 or any(after <= before for before, after in pairwise(edges)):
        raise InvalidArgumentError(
            f"boundaries is {describe(boundaries)}; expected rising positions between 0 and "
            f"{steps}, the number of time steps, at which a new series begins."
        )
    return np.array(edges, np.int64)


def _edges_of_ids(steps: int, ids: npt.NDArray[Any]) -> Rows:
    if ids.shape != (steps,):
        raise InvalidArgumentError(
            f"ids is {describe(ids)}; expected an id for each of the {steps} time steps."
        )
    missing = _missing(ids)
    if missing.any():
        step = int(missing.argmax())
        raise InvalidDataError(
            f"ids has {describe(ids.tolist()[step])} at time step {step}; expected the id of a "
            "series at each. Leave such time steps out, or give them an id of their own."
        )
    edges = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1, [steps]])
    seen: dict[Any, int] = {}
    for begin, name in zip(edges[:-1].tolist(), ids[edges[:-1]].tolist(), strict=True):
        if name in seen:
            raise InvalidDataError(
                f"ids has {describe(name)} in several places, from time steps {seen[name]} and "
                f"{begin} on; expected the steps of a series to stand together. Sort by id, and by "
                "time within it: `order = np.argsort(ids, kind='stable')`."
            )
        seen[name] = begin
    return edges.astype(np.int64)


def _missing(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which ids are None, NaN or NaT."""
    if ids.dtype.hasobject:
        return np.array([each is None or each != each for each in ids.tolist()], bool)
    found: npt.NDArray[np.bool_] = ids != ids
    return found
