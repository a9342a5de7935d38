"""`ClassWeight`: sample weights from class labels, for one output of a model or for several.

weigh = ClassWeight({"digit": {0: 1.0, 1: 5.0}, "parity": None})
weigh(parts).sample_weight         # {"digit": float32 (n,), "parity": None}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.as_array import as_array
from keras_npbatch.batches.parts import Parts
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, describe
from keras_npbatch.tree import Tree

__all__ = ["ClassWeight", "Training"]


class ClassWeight:
    """Sample weights from class labels, as Keras makes them from `fit(class_weight=...)`.

    Args:
        weights: class number to weight; a class that is not in it weighs 1. For several outputs: a
            dict, tuple or list nested as the targets are, of such dicts; None for an output that is
            not weighed.

    Raises:
        InvalidArgumentError: for keys that are not class numbers, or invalid weights.
    """

    def __init__(self, weights: Any) -> None:
        is_list = isinstance(weights, tuple | list)
        is_of_numbers = is_list and any(isinstance(each, Real) for each in weights)
        if is_of_numbers or not (is_list or isinstance(weights, Mapping)):
            raise InvalidArgumentError(
                f"class_weight is {describe(weights)}; expected a dict from class number to "
                "weight, such as {0: 1.0, 1: 5.0}, or for several outputs a dict from the name of "
                "an output to such a dict."
            )
        self._weights = _checked(weights, "")

    @classmethod
    def of_pairs(cls, pairs: Any) -> ClassWeight:
        """The weights from what `pairs` gave."""
        return cls(_from_pairs(pairs))

    @property
    def pairs(self) -> Any:
        """`[[class number, weight], ...]`, sorted; nested for several outputs. JSON keeps it."""
        return _as_pairs(self._weights)

    @property
    def is_nested(self) -> bool:
        """Whether it is for several outputs."""
        return not isinstance(self._weights, _OfLabels)

    def check_outputs(self, targets: Tree) -> None:
        """Refuse targets that are nested in another way.

        Args:
            targets: nested as the targets are, with anything as leaves.

        Raises:
            InvalidArgumentError: naming the output by its path.
        """
        _match(self._weights, targets, "", InvalidArgumentError, lambda weights, leaf, path: None)

    def __eq__(self, other: object) -> bool:
        """Whether both weigh every class the same."""
        return isinstance(other, ClassWeight) and self._weights == other._weights

    def __hash__(self) -> int:
        """Equal weights have equal hashes."""
        return hash(repr(self.pairs))

    def __call__(self, parts: Parts) -> Parts:
        """The batch with the weights of its classes as `sample_weight`, float32 `(batch_size,)`.

        Raises:
            InvalidBatchError: if y is not class labels, or the batch has weights.
        """
        if parts.sample_weight is not None:
            raise InvalidBatchError(
                "class_weight was given, and the batches have a sample_weight; expected one of "
                "them. Multiply the class weights into sample_weight."
            )

        def weigh(weights: _OfLabels | None, leaf: Any, path: str) -> Any:
            return None if weights is None else weights(leaf, path)

        found = _match(self._weights, parts.y, "", InvalidBatchError, weigh)
        return parts._replace(sample_weight=found)


class _OfLabels(dict[int, float]):
    """The weight of each class of one output."""

    def __call__(self, y: Any, path: str) -> npt.NDArray[np.float32]:
        of = f" of y{path}" if path else ""
        labels = as_array(y)
        if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf":
            _refuse_several_classes(labels, of, path)
        if labels.ndim == 2 and labels.shape[1] > 0:
            labels = labels.argmax(-1) if labels.shape[1] != 1 else labels[:, 0]
        if labels.ndim != 1 or labels.dtype.kind not in "biuf" or not np.isfinite(labels).all():
            raise InvalidBatchError(
                f"class_weight{of} needs finite numbers of shape (n,), (n, 1) or one-hot "
                f"(n, classes); y{path} is {describe(y)}."
            )
        present, inverse = np.unique(np.round(labels).astype(np.int64), return_inverse=True)
        of_class = [self.get(int(label), 1.0) for label in present]
        return np.array(of_class, np.float32)[inverse]


def _checked(weights: Any, path: str) -> Any:
    if weights is None and path:
        return None
    if isinstance(weights, tuple | list):
        return tuple(_checked(each, f"{path}[{number}]") for number, each in enumerate(weights))
    if not isinstance(weights, Mapping):
        raise InvalidArgumentError(
            f"class_weight{path} is {describe(weights)}; expected a dict from class number to "
            "weight, or None for an output that is not weighed."
        )
    has_numbers = all(isinstance(each, Real) for each in weights.values())
    if not has_numbers and all(isinstance(name, str) for name in weights):
        return {name: _checked(each, f"{path}[{name!r}]") for name, each in weights.items()}
    for label, weight in weights.items():
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            named = " Number the classes: names, y = np.unique(labels, return_inverse=True)."
            raise InvalidArgumentError(
                f"class_weight{path} has the key {describe(label)}; expected class numbers as they "
                f"are in y, whole numbers.{named if isinstance(label, str) else ''}"
            )
        if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
            raise InvalidArgumentError(
                f"class_weight{path}[{label}] is {describe(weight)}; expected a finite number from "
                "0 up."
            )
    return _OfLabels({int(label): float(weight) for label, weight in weights.items()})


def _match(weights: Any, targets: Any, path: str, error: type[Exception], use: Any) -> Any:
    """`use(weights, leaf, path)` for each output, nested as the targets are."""
    if isinstance(weights, _OfLabels | None):
        if isinstance(targets, tuple | list | Mapping) or targets is None:
            came = "None" if targets is None else f"a {type(targets).__name__}"
            if weights is None and targets is not None:
                return None
            raise error(
                f"class_weight{path} needs one array of class labels in y{path}, which is {came}. "
                "With several outputs, give the weights of each, nested as y is: "
                "{'a': {0: 1.0, 1: 5.0}, 'b': None}."
            )
        return use(weights, targets, path)
    if isinstance(weights, dict):
        names = list(targets) if isinstance(targets, Mapping) else None
        if names is None or set(names) != set(weights):
            raise error(
                f"class_weight{path} is for the outputs {sorted(weights)}, and y{path} is "
                f"{_kind_of(targets)}; expected the same outputs, None for one that is not weighed."
            )
        return {
            name: _match(weights[name], targets[name], f"{path}[{name!r}]", error, use)
            for name in names
        }
    if not isinstance(targets, tuple | list) or len(targets) != len(weights):
        raise error(
            f"class_weight{path} is for {len(weights)} outputs, and y{path} is "
            f"{_kind_of(targets)}; expected one for each, None for one that is not weighed."
        )
    found = [
        _match(of_output, leaf, f"{path}[{number}]", error, use)
        for number, (of_output, leaf) in enumerate(zip(weights, targets, strict=True))
    ]
    return tuple(found) if isinstance(targets, tuple) else found


def _kind_of(targets: Any) -> str:
    if isinstance(targets, Mapping):
        return f"a dict of {sorted(map(str, targets))}"
    if isinstance(targets, tuple | list):
        return f"a {type(targets).__name__} of {len(targets)}"
    return "None" if targets is None else "one array"


def _as_pairs(weights: Any) -> Any:
    if weights is None:
        return None
    if isinstance(weights, _OfLabels):
        return [[label, weight] for label, weight in sorted(weights.items())]
    if isinstance(weights, dict):
        return {"dict": {name: _as_pairs(each) for name, each in sorted(weights.items())}}
    return {"list": [_as_pairs(each) for each in weights]}


def _from_pairs(pairs: Any) -> Any:
    if pairs is None:
        return None
    if isinstance(pairs, list | tuple):
        return {int(label): float(weight) for label, weight in pairs}
    if "list" in pairs:
        return tuple(_from_pairs(each) for each in pairs["list"])
    return {name: _from_pairs(each) for name, each in pairs["dict"].items()}


def _refuse_several_classes(labels: npt.NDArray[Any], of: str, path: str) -> None:
    """Refuse rows of whole numbers that are not one class: sequences of labels, several classes.

    A row of fractions is a smoothed or mixed one-hot row, and a row of zeros is class 0 to Keras.
    """
    numbers = labels.astype(np.float64)
    is_whole = (np.round(numbers) == numbers).all(1)
    wrong = np.flatnonzero(is_whole & ((numbers < 0).any(1) | (numbers.sum(1) > 1)))
    if len(wrong):
        raise InvalidBatchError(
            f"class_weight{of} needs one class for each sample; row {wrong[0]} of y{path}, "
            f"{describe(labels)}, is {describe(labels[wrong[0]].tolist())}, which is not one-hot. "
            "For sequences of labels, or several classes a sample, return a sample_weight instead."
        )


Training: TypeAlias = bool | ClassWeight | Literal["sent"]
"""Whether a batch is for training, which augments and weighs classes. A `ClassWeight` comes from
`fit(class_weight=...)`; `"sent"` stands for the one that was sent to worker processes with the
dataset, since it may be too long to send with each task."""
