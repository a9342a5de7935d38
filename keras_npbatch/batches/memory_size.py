"""Sizes of memory as users write them.

in_bytes("8 GB", "cache")     # 8_000_000_000
in_bytes(0.5, "cache")        # half of the memory that this process may use
size_of("8 GB")               # 8_000_000_000; None for anything else
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from keras_npbatch.batches.machine import total_bytes
from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["in_bytes", "in_words", "size_of"]

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}


def in_bytes(size: Any, name: str) -> int:
    """The bytes that a setting such as `cache` asks for.

    Args:
        size: an int; a text such as `"8 GB"` or `"512 MiB"`; or a float, a share of the memory.
        name: of the setting, for the message.

    Raises:
        InvalidArgumentError: for anything else, or for more than there is.
    """
    number = size_of(size)
    if isinstance(size, float | np.floating) and 0 < size <= 1:
        number = int(total_bytes() * float(size))
    if number is None or number < 1:
        raise InvalidArgumentError(
            f"{name} is {describe(size)}; expected a size such as '8 GB', a number of bytes, or a "
            "share of the memory from 0.0 to 1.0."
        )
    if number > total_bytes():
        raise InvalidArgumentError(
            f"{name} is {describe(size)}, and there are {in_words(total_bytes())} of memory; "
            "expected less. A share such as 0.5 fits any machine."
        )
    return number


def size_of(size: Any) -> int | None:
    """The bytes of a number of them, or of a text such as `"512 MiB"`; None for anything else."""
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", size)
        if found and found[2].upper() in _UNITS:
            return int(float(found[1]) * _UNITS[found[2].upper()])
    elif isinstance(size, int | np.integer) and not isinstance(size, bool):
        return int(size)
    return None


def in_words(num_bytes: int) -> str:
    """A size for a message: `"8 GB"`."""
    unit = next((unit for unit in ("TB", "GB", "MB", "KB") if num_bytes >= _UNITS[unit]), "B")
    return f"{num_bytes / _UNITS[unit]:.3g} {unit}"
