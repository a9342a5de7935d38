"""Makes memory that was never written visible.

    with filled(0):
        zeros = np.empty(3)
    with filled(1):
        ones = np.empty(3)

`np.empty` returns whatever the memory held, often the values of the last batch, so a row that a
loader never writes may look right. Two reads with different fillings differ exactly where nothing
was written.
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
    """Within the block, `np.empty` and `np.empty_like` return arrays filled with `value`.

    NumPy itself is patched, and so are the modules of `kind` that imported these functions by name.
    Other code that calls them meanwhile gets values that it may get at any time.

    Args:
        value: 0 or 1, which every dtype can hold and every cast keeps.
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
    """Restore NumPy's functions, even while a dataset hangs in `filled`."""
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
