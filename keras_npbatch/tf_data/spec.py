"""The form in which TensorFlow gets the batches of a dataset, and each batch as arrays of it.

    layout = Layout(None, lambda: ({"image": images}, labels), batch_size=None, made_by="load")
    layout.element_spec      # ({"image": TensorSpec((None, 32, 32, 3), uint8)}, TensorSpec(...))
    layout.arrays(batch)     # [array, array], checked: never cast, never of another shape

TensorFlow would cast an array of another dtype, or fail in a later op on one of another shape.
Here such an array is refused, and the message gives its path, what came and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_npbatch.batches.parts import unpack
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, InvalidDataError, describe
from keras_npbatch.tensors.conversion import remedy
from keras_npbatch.tree import Tree, flatten, is_flat, leaves, map_leaves

__all__ = ["Layout"]


class Layout:
    """The form of every batch of a dataset.

    Args:
        element_spec: a nesting of `tf.TensorSpec`, or None for the specs of an example.
        example: makes a batch, if one is needed.
        batch_size: samples in each batch; None if sizes differ or are unknown.
        made_by: the name of what makes batches, for messages.
        varied: makes the same batch with other sizes of the axes that vary; None if none does.

    Raises:
        InvalidArgumentError: for an invalid `element_spec`.
        InvalidDataError: for a leaf of the example for which TensorFlow has no dtype.
    """

    def __init__(
        self,
        element_spec: Any,
        example: Callable[[], Tree],
        batch_size: int | None,
        made_by: str,
        varied: Callable[[], Tree] | None = None,
    ) -> None:
        self._made_by = made_by
        if element_spec is None:
            element_spec = _spec_of(as_nest(example()), batch_size, made_by)
            if varied is not None:
                other = _spec_of(as_nest(varied()), batch_size, made_by)
                element_spec = map_leaves(_common, element_spec, other)
        else:
            element_spec = _checked(as_nest(element_spec))
        self.element_spec = element_spec
        """The spec, without lists."""
        self._specs, self._structure = flatten(element_spec)
        self._forms = [_form(spec) for spec in self._specs]
        is_flat_spec = type(element_spec) is tuple and list(element_spec) == self._specs
        # Arrays of strings are not handed over as they are: their owner might write to them.
        self._is_flat = is_flat_spec and not any(dtype.hasobject for dtype, _ in self._forms)

    def of_chunks(self) -> Layout:
        """The layout of several batches joined into one, with any number of samples."""
        spec = map_leaves(
            lambda spec: tf.TensorSpec([None, *spec.shape[1:]], spec.dtype), self.element_spec
        )
        return Layout(spec, lambda: None, None, self._made_by)

    def arrays(self, batch: Tree) -> list[npt.NDArray[Any]]:
        """The leaves of a batch as arrays.

        Raises:
            InvalidBatchError: if the batch has another form.
        """
        # The fast path of most batches, without optree; see `tree`.
        may_be_flat = self._is_flat and is_flat(batch) and len(batch) == len(self._forms)
        if may_be_flat and all(map(_fits, batch, self._forms)):
            return list(batch)
        batch = as_nest(batch)
        found, structure = flatten(batch)
        if structure != self._structure:
            raise InvalidBatchError(
                f"{self._made_by} gave a batch of the structure {_describe_structure(structure)}; "
                f"expected {_describe_structure(self._structure)}, as the first had. Every batch "
                "needs the same parts and names."
            )
        arrays = list(map(_as_array, found))
        if not all(map(_fits, arrays, self._forms)):
            self._refuse(batch)
        return arrays

    def _refuse(self, batch: Tree) -> None:
        found = unpack(batch, self._made_by).leaves_with_paths()
        for (path, leaf), spec in zip(found, self._specs, strict=True):
            if not _fits(_as_array(leaf), _form(spec)):
                raise InvalidBatchError(
                    f"{self._made_by} gave {describe(leaf)} for {path}; expected shape "
                    f"{spec.shape} and dtype {spec.dtype.name}, as in every batch. Return the same "
                    "each time, or give to_tf_dataset an element_spec, with None for an axis that "
                    "varies."
                )


_Form: TypeAlias = tuple[np.dtype[Any], tuple[int | None, ...]]


def _form(spec: Any) -> _Form:
    return np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list())


def _fits(array: npt.NDArray[Any], form: _Form) -> bool:
    dtype, axes = form
    shape = array.shape
    if array.dtype != dtype or len(shape) != len(axes):
        return False
    # Usually only the number of samples varies; a loop over the axes takes longer.
    return axes in (shape, (None, *shape[1:])) or all(
        axis in (None, size) for axis, size in zip(axes, shape, strict=True)
    )


def as_nest(tree: Tree) -> Tree:
    """The same tree with tuples in place of lists, which `tf.data` treats as tensors."""
    if isinstance(tree, dict):
        return {key: as_nest(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return tuple(map(as_nest, tree))
    if isinstance(tree, tuple):
        parts = map(as_nest, tree)
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def _as_array(leaf: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.asarray(leaf)
    kind = array.dtype.kind
    if kind in "OUST":  # TensorFlow's own conversion fails on non-ASCII text
        return _as_bytes(array)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def _as_bytes(texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    encoded = np.empty(texts.shape, object)
    flat = encoded.reshape(-1)
    for number, text in enumerate(texts.reshape(-1).tolist()):
        flat[number] = text.encode() if isinstance(text, str) else text
    return encoded


def _spec_of(batch: Tree, batch_size: int | None, made_by: str) -> Any:
    specs = []
    for path, leaf in unpack(batch, made_by).leaves_with_paths():
        array = np.asarray(leaf)
        if array.ndim == 0:
            raise InvalidDataError(
                f"{path} is {describe(leaf)}; expected an array whose first dimension counts "
                "samples. Return dense arrays: tf.data batches of others can't be made here."
            )
        if array.dtype.kind == "O" and not all(isinstance(v, str | bytes) for v in array.flat):
            raise InvalidDataError(_no_dtype(path, leaf))
        try:
            dtype = tf.as_dtype(array.dtype)
        except TypeError:
            raise InvalidDataError(_no_dtype(path, leaf)) from None
        specs.append(tf.TensorSpec([batch_size, *array.shape[1:]], dtype))
    return flatten(batch)[1].unflatten(specs)


def _common(spec: Any, other: Any) -> Any:
    """The spec of both: None for an axis that differs."""
    axes = zip(spec.shape.as_list(), other.shape.as_list(), strict=True)
    return tf.TensorSpec([one if one == two else None for one, two in axes], spec.dtype)


def _no_dtype(path: str, leaf: Any) -> str:
    return (
        f"{path} is {describe(leaf)}; expected numbers, booleans or strings, since TensorFlow has "
        f"no dtype for others. {remedy(leaf)}"
    )


def _checked(element_spec: Any) -> Any:
    for spec in leaves(element_spec):
        if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank:
            raise InvalidArgumentError(
                f"element_spec has {describe(spec)}; expected a tf.TensorSpec whose first axis "
                "counts samples, nested as a batch is: (tf.TensorSpec((None, 32), tf.float32), "
                "...)."
            )
    return element_spec


def _describe_structure(structure: Any) -> str:
    return repr(structure).removeprefix("PyTreeSpec(").removesuffix(")")
