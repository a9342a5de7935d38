"""Memory that nobody wrote to, made visible.

    with filled(0):
        zeros = np.empty(3)
    with filled(1):
        ones = np.empty(3)

`np.empty` returns whatever the memory held, which is often what the last batch left there: a row
that a loader never writes may look right. Two reads, each with another filling, differ exactly in
what was not written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["filled", "restore"]

_ORIGINALS = {"empty": np.empty, "empty_like": np.empty_like}
_replaced: list[tuple[dict[str, Any], str, Any]] = []


@contextmanager
def filled(value: int, kind: type) -> Iterator[None]:
    """Within it, `np.empty` and `np.empty_like` return arrays that are full of `value`.

    NumPy itself is changed for as long, and so are the modules of `kind` that imported these
    functions by name. Others who call them meanwhile get what they may get at any time.

    Args:
        value: 0 or 1, which every dtype holds, and which casts keep.
        kind: the class of the dataset.
    """
    modules = [vars(np)]
    of_kind = {base.__module__ for base in kind.__mro__[:-1]} & sys.modules.keys()
    modules += [vars(sys.modules[name]) for name in of_kind]
    originals = {id(original): original for original in _ORIGINALS.values()}
    for names in modules:
        for name, known in list(names.items()):
            if id(known) in originals:
                _replaced.append((names, name, known))
                names[name] = _filling(known, value)
    try:
        yield
    finally:
        restore()


def restore() -> None:
    """Give NumPy its functions back, also where a dataset hangs in `filled`."""
    while _replaced:
        names, name, original = _replaced.pop()
        names[name] = original


def _filling(original: Callable[..., npt.NDArray[Any]], value: int) -> Callable[..., Any]:
    def empty(*args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        array = original(*args, **kwargs)
        if array.dtype.kind in "biufc":
            array.fill(value)
        elif array.dtype.kind in "mM":
            array.view("i8").fill(value)
        elif array.dtype.kind in "SU":
            array.fill(str(value))
        return array

    return empty
