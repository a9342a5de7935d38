"""From what `load` returned to what the model gets: one form, checked, weighted, padded.

A batch is what Keras takes from a `PyDataset`: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`,
where each part is an array or any nesting of arrays. Inside this package it is
`Parts(x, y, sample_weight)`; `pack` turns it back into the form that Keras expects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.as_array import as_array
from keras_npbatch.errors import InvalidBatchError, InvalidDataError, describe
from keras_npbatch.sources.tables import refuse_nulls
from keras_npbatch.tree import Tree, flatten, leaves, leaves_with_paths, map_leaves

__all__ = [
    "Parts",
    "check_lengths",
    "pack",
    "pad",
    "scale_weights",
    "scaled",
    "unpack",
]


class Parts(NamedTuple):
    """The parts of a batch."""

    x: Tree
    y: Tree = None
    sample_weight: Tree = None

    def leaves_with_paths(self) -> list[tuple[str, Any]]:
        """Each leaf, after its path: `x['image']`, `y`."""
        return [
            found
            for name, part in zip(self._fields, self, strict=True)
            for found in leaves_with_paths(part, name)
        ]


def unpack(batch: Tree, returned_by: str) -> Parts:
    """The parts of a batch in any form that Keras takes.

    Args:
        batch: what the user's function returned.
        returned_by: the function's name, for the message: `load`, `transform`.

    Raises:
        InvalidBatchError: if it is None, or a tuple or list of zero or more than three parts.
    """
    remedy = "Wrap several inputs into one: ((x1, x2), y)."
    if isinstance(batch, tuple | list):
        if 1 <= len(batch) <= 3:
            return Parts(*batch)
        came = f"a {type(batch).__name__} of {len(batch)}"
        if isinstance(batch, list) and batch and not returned_by.startswith("load_sample"):
            remedy = (
                "Samples are put together with np.stack, each part by itself; a SampleDataset does "
                "that, of samples that its load_sample(row) returns. Several inputs are one part: "
                "((x1, x2), y)."
            )
    elif batch is not None:
        return Parts(batch)
    else:
        came, remedy = "None", "Is there a `return` at its end?"
    raise InvalidBatchError(
        f"{returned_by} returned {came}; expected x, (x,), (x, y) or (x, y, sample_weight), each "
        f"an array or a nesting of arrays. {remedy}"
    )


def pack(parts: Parts) -> Tree:
    """The batch in the form that Keras takes; missing parts at the end are left out."""
    if parts.sample_weight is not None:
        return tuple(parts)
    if parts.y is not None:
        return parts.x, parts.y
    # A bare tuple or list would be read as (x, y).
    return (parts.x,) if isinstance(parts.x, tuple | list) else parts.x


def check_lengths(parts: Parts, num_rows: int | None, returned_by: str) -> None:
    """Refuse a leaf that is not an array of `num_rows` samples, or has missing values.

    Args:
        parts: the batch.
        num_rows: how many samples; None: any number.
        returned_by: the name of the function that returned it.

    Raises:
        InvalidBatchError: naming the leaf by its path.
    """
    if not leaves(parts.x):
        raise InvalidBatchError(
            f"{returned_by} returned no input; expected at least one array in x."
        )
    for leaf in leaves(parts):
        shape = getattr(leaf, "shape", None)
        if shape is None or not len(shape) or num_rows not in (None, shape[0]):
            _refuse_leaf(parts, num_rows, returned_by)
        if type(leaf) is not np.ndarray:
            _refuse_missing(parts)


def _refuse_missing(parts: Parts) -> None:
    """Refuse tables, columns and masked arrays with missing values."""
    for path, leaf in parts.leaves_with_paths():
        try:
            refuse_nulls(leaf, path)
        except InvalidDataError as error:
            raise InvalidBatchError(str(error)) from None
        if isinstance(leaf, np.ma.MaskedArray) and np.ma.is_masked(leaf):
            raise InvalidBatchError(
                f"{path} is a masked array with values masked, and its mask would be lost; "
                "expected an array. Fill it (`.filled(value)`) and return the mask as "
                "sample_weight or as an input of its own."
            )


def _refuse_leaf(parts: Parts, num_rows: int | None, returned_by: str) -> None:
    for name, part in zip(Parts._fields, parts, strict=True):
        for path, leaf in leaves_with_paths(part, name):
            shape = getattr(leaf, "shape", None)
            if isinstance(leaf, np.random.Generator):
                raise InvalidBatchError(
                    f"{returned_by} returned a random generator for {path}: it is called with "
                    "(batch, rng), not with the parts of a batch. Take them apart in it: x, y = "
                    "batch."
                )
            if shape is None or not len(shape):
                raise InvalidBatchError(
                    f"{returned_by} returned {describe(leaf)} for {path}; expected an array whose "
                    f"first dimension counts the "
                    f"{'' if num_rows is None else f'{num_rows} '}samples of the batch. Stack "
                    "single samples (`np.stack`), turn lists into arrays (`np.asarray`), pad lists "
                    "of different lengths (`keras.utils.pad_sequences`)."
                )
            if num_rows not in (None, shape[0]):
                stack = ""
                if type(part) is list:
                    shapes = {getattr(sample, "shape", None) for sample in part}
                    stack = " Stack the samples of a list (`np.stack`)."
                    if len(shapes) > 1:
                        stack = (
                            " Pad the samples of a list to one length, and stack them "
                            "(`keras.utils.pad_sequences`)."
                        )
                raise InvalidBatchError(
                    f"{returned_by} returned {describe(leaf)} for {path}; expected {num_rows} "
                    f"samples, one for each row of the batch.{stack}"
                )


def pad(parts: Parts, num_rows: int, batch_size: int) -> Parts:
    """A batch of `batch_size` samples, with a `sample_weight` of 0 for each added one.

    Added rows repeat the rows of the batch, so that every layer sees ordinary numbers. Full batches
    get a `sample_weight` too, so that all batches have one structure. Keras aligns weights with the
    last axes of what it weighs, so the weights of samples get an axis of size 1 for each further
    axis that the values of a loss may have, judging by the targets.

    Args:
        parts: `num_rows` samples; if that is 0, one sample, which does not count.
        num_rows: samples that count.
        batch_size: samples in the padded batch.
    """
    num_there = max(1, num_rows)

    def as_floats(weight: Any, axes: int) -> npt.NDArray[Any]:
        if weight is None:
            return np.ones((num_there,) + (1,) * axes, np.float32)
        array = as_array(weight)
        if array.ndim < 1 + axes:
            array = array.reshape(array.shape + (1,) * (1 + axes - array.ndim))
        return array if array.dtype.kind == "f" else array.astype(np.float32)

    weights = _for_each_target(parts, as_floats)
    if num_rows == batch_size:
        return parts._replace(sample_weight=weights)
    repeated = np.arange(batch_size) % num_there

    def added_zeros(weight: Any) -> npt.NDArray[Any]:
        padded = np.zeros((batch_size, *weight.shape[1:]), weight.dtype)
        padded[:num_rows] = weight[:num_rows]
        return padded

    return Parts(
        map_leaves(lambda leaf: _by_position(leaf)[repeated], parts.x),
        map_leaves(lambda leaf: _by_position(leaf)[repeated], parts.y),
        map_leaves(added_zeros, weights),
    )


def _for_each_target(parts: Parts, as_floats: Callable[[Any, int], npt.NDArray[Any]]) -> Tree:
    """`as_floats(weight, axes)` for the weights of each output; one array if all are alike.

    A weight of None gets an array too: padding must not weigh there.
    """
    weights, targets = parts.sample_weight, parts.y
    axes = [_axes_of_values(target) for target in leaves(targets)]
    is_nested = isinstance(weights, dict | list | tuple)
    if not is_nested and len(set(axes)) > 1:
        return map_leaves(lambda target: as_floats(weights, _axes_of_values(target)), targets)
    if not is_nested:
        return as_floats(weights, axes[0] if axes else 0)
    found, structure = flatten(weights, none_is_leaf=True)
    if len(found) != len(axes):
        axes = [0] * len(found)
    return structure.unflatten([as_floats(*pair) for pair in zip(found, axes, strict=True)])


def _axes_of_values(target: Any) -> int:
    """The most axes, after that of the samples, that the values of Keras's losses may have.

    A loss has one axis fewer than its targets, but just as many if whole numbers are the classes of
    positions.
    """
    shape = target.shape
    if len(shape) > 2:
        return len(shape) - 1
    return int(len(shape) == 2 and shape[1] > 1 and "int" in str(target.dtype))


def _by_position(leaf: Any) -> Any:
    if type(leaf).__module__.partition(".")[0] == "tensorflow":  # can't be indexed by an array
        return as_array(leaf)
    # pandas would take row numbers for labels.
    return getattr(leaf, "iloc", leaf)


def scale_weights(batch: Tree, factor: float) -> Tree:
    """The batch with its sample weights times `factor`, as float32 if they were not floats."""
    parts = unpack(batch, "the dataset")
    weights = map_leaves(lambda weight: scaled(weight, factor), parts.sample_weight)
    return pack(parts._replace(sample_weight=weights))


def scaled(weight: Any, factor: float) -> npt.NDArray[Any]:
    """An array of sample weights times `factor`, as float32 if they were not floats."""
    weight = as_array(weight)
    dtype = weight.dtype if weight.dtype.kind == "f" else np.dtype(np.float32)
    product: npt.NDArray[Any] = np.multiply(weight, factor, dtype=dtype)
    return product
