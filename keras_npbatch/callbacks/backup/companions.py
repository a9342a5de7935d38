"""The state of Keras's callbacks next to a `BackupAndRestore`: their counts and best values.

    companions = found_in(callbacks)            # EarlyStopping, ReduceLROnPlateau, ...
    facts, arrays = described(companions)       # for a snapshot
    refuse_nonsense(facts, arrays, weights)     # before it is used
    restore(companions, facts, arrays)          # in another process, after their on_train_begin

Keras does not save the state of callbacks. A few plain attributes of these classes decide how
training continues; their settings and other attributes are left alone.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import describe

__all__ = ["described", "found_in", "refuse_nonsense", "restore"]

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
Kind: TypeAlias = Literal["count", "number", "weights"]

_STATES: tuple[tuple[type, dict[str, Kind]], ...] = (
    (
        keras.callbacks.EarlyStopping,
        {
            "wait": "count",
            "stopped_epoch": "count",
            "best": "number",
            "best_epoch": "count",
            "best_weights": "weights",
        },
    ),
    (
        keras.callbacks.ReduceLROnPlateau,
        {"wait": "count", "cooldown_counter": "count", "best": "number"},
    ),
    (
        keras.callbacks.ModelCheckpoint,
        {
            "best": "number",
            "_batches_seen_since_last_saving": "count",
            "_last_batch_seen": "count",
        },
    ),
    (
        keras.callbacks.TensorBoard,
        {"_global_train_batch": "count", "_global_test_batch": "count"},
    ),
)
"""For each class, the attributes that are its state; all but counts can also be None."""


def found_in(callbacks: Iterable[Any]) -> list[Any]:
    """The callbacks whose state can be kept."""
    return [callback for callback in callbacks if _state_of(callback)]


def described(companions: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The state of the callbacks: facts for JSON, and arrays by name."""
    facts, arrays = [], {}
    for number, callback in enumerate(companions):
        state: dict[str, Any] = {}
        for name, kind in _state_of(callback).items():
            value = getattr(callback, name, None)
            if value is None:
                if kind != "count":
                    state[name] = None
            elif kind == "weights":
                state[name] = len(value)
                for each, array in enumerate(value):
                    arrays[_array_name(number, name, each)] = np.asarray(array)
            else:
                state[name] = int(value) if kind == "count" else float(value)
        facts.append({"callback": _identity(callback), "state": state})
    return facts, arrays


def refuse_nonsense(facts: Any, arrays: Arrays, weights: Sequence[Any]) -> set[str]:
    """Check facts and arrays read from a file: whether `described` can have returned them.

    Args:
        facts: the facts.
        arrays: all arrays in the file.
        weights: name, shape and dtype of each variable of the model.

    Returns:
        The names of the arrays that belong to the callbacks.

    Raises:
        ValueError: if `described` can't have returned them.
        LookupError: the same.
        TypeError: the same.
    """
    known = {name: kind for _, names in _STATES for name, kind in names.items()}
    shapes = [tuple(shape) for _, shape, _ in weights]
    names = set()
    for number, each in enumerate(_of_type(list, "callbacks", facts)):
        _of_type(str, "a callback", each["callback"])
        for name, value in _of_type(dict, "the state of a callback", each["state"]).items():
            kind = known[name]
            if value is None and kind != "count":
                continue
            if kind == "number":
                _of_type(float, name, value)
                continue
            whole_number(name, value, least=0)
            if kind == "count":
                continue
            found = [_array_name(number, name, weight) for weight in range(min(value, 10**6))]
            names.update(found)
            # There may be fewer: get_weights leaves out the states of random layers.
            if Counter(arrays[array].shape for array in found) - Counter(shapes):
                raise ValueError(f"{name} has weights of other shapes than the model")
    return names


def restore(
    companions: Sequence[Any], facts: Sequence[Mapping[str, Any]], arrays: Arrays
) -> list[str]:
    """Restore the state of each callback from that of the same class and metric.

    Returns:
        Texts that name what can't be restored: callbacks without a state in the backup, and states
        without a callback now.
    """
    left = dict(enumerate(facts))
    not_restored = []
    for callback in companions:
        number = next((n for n, f in left.items() if f["callback"] == _identity(callback)), None)
        if number is None:
            not_restored.append(f"{_identity(callback)}, of which the backup has no state")
            continue
        names = _state_of(callback)
        for name, value in left.pop(number)["state"].items():
            if names.get(name) == "weights" and value is not None:
                value = [np.array(arrays[_array_name(number, name, n)]) for n in range(value)]
            if name in names:
                setattr(callback, name, value)
    return not_restored + [
        f"{found['callback']}, which fit was not given now" for found in left.values()
    ]


def _state_of(callback: Any) -> dict[str, Kind]:
    classes = (names for of_class, names in _STATES if isinstance(callback, of_class))
    return dict(itertools.chain.from_iterable(names.items() for names in classes))


def _identity(callback: Any) -> str:
    monitor = getattr(callback, "monitor", None)
    return f"{type(callback).__name__}({'' if monitor is None else f'monitor={monitor!r}'})"


def _array_name(number: int, name: str, each: int) -> str:
    return f"callbacks/{number}/{name}/{each}"


def _of_type(expected: type, what: str, value: Any) -> Any:
    if not isinstance(value, expected):
        raise TypeError(f"{what} is {describe(value)}")
    return value
