"""The errors of this library: each a subclass of the builtin it specialises.

Every message answers three questions: what came, what was expected, what to do. Messages give the
path (`x['image']`), shape and dtype of a leaf, and never the contents of an array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = [
    "AmbiguousCallError",
    "ClosedError",
    "CoverageError",
    "FaultyDatasetError",
    "InvalidArgumentError",
    "InvalidBatchError",
    "InvalidDataError",
    "InvalidStateError",
    "KerasNpBatchError",
    "MissingExtraError",
    "NonFiniteError",
    "RanksDisagreeError",
    "SetAsideError",
    "SharedMemoryError",
    "UnknownSettingError",
    "UnsendableError",
    "UnsupportedArgumentError",
    "WorkerDiedError",
    "WorkerError",
    "WorkerStartError",
]

_MAX_ROWS_SHOWN = 8


class KerasNpBatchError(Exception):
    """The common base class, for `except keras_npbatch.errors.KerasNpBatchError`."""


class InvalidArgumentError(KerasNpBatchError, ValueError):
    """A setting (`batch_size`, `seed`, `remainder`, ...) has an invalid value."""


class UnknownSettingError(InvalidArgumentError, TypeError):
    """There is no such setting or argument; the message says what to write."""


class InvalidDataError(KerasNpBatchError, ValueError):
    """The data given to a dataset can't be read by rows, or its leaves don't match."""


class InvalidBatchError(KerasNpBatchError, ValueError):
    """A `load` or a `transform` returned something that is not a batch."""


class InvalidStateError(KerasNpBatchError, ValueError):
    """A saved state is damaged, of another version, or of another dataset or model."""


class UnsupportedArgumentError(KerasNpBatchError, ValueError):
    """An argument of `fit`, `evaluate` or `predict` is not supported, or belongs in the dataset."""


class AmbiguousCallError(KerasNpBatchError, RuntimeError):
    """It is unclear whether `fit`, `evaluate` or `predict` asks for the batches."""


class ClosedError(KerasNpBatchError, RuntimeError):
    """A dataset was closed while one of its epochs was under way."""


class CoverageError(KerasNpBatchError, RuntimeError):
    """Training did not see each sample of an epoch exactly once; the message names the rows."""


class NonFiniteError(KerasNpBatchError, ArithmeticError):
    """The loss or an input is NaN or infinite; the message names the batch."""


class RanksDisagreeError(KerasNpBatchError, RuntimeError):
    """Processes that train together have different datasets; the message says what differs."""


class SetAsideError(KerasNpBatchError, RuntimeError):
    """Rows can't be read, and batches can't do without them; the message names the rows."""


class FaultyDatasetError(KerasNpBatchError, AssertionError):
    """`keras_npbatch.testing` found faults in a dataset; the message lists them."""


class SharedMemoryError(KerasNpBatchError, MemoryError):
    """Shared memory for worker processes can't be allocated."""


class UnsendableError(KerasNpBatchError, TypeError):
    """Something in a dataset can't be sent to worker processes; the message names its path."""


class WorkerDiedError(KerasNpBatchError, RuntimeError):
    """Worker processes died repeatedly over one batch; the message names the batch."""


class WorkerStartError(WorkerDiedError):
    """Worker processes can't be started here; the message says why, and what to do instead."""


class WorkerError(KerasNpBatchError, RuntimeError):
    """Stands in for an exception of a worker process that can't be sent; it carries the text."""


class MissingExtraError(KerasNpBatchError, ImportError):
    """An optional dependency is not installed; the message names the `pip install`."""


def describe(value: Any) -> str:
    """A short description of `value` for a message: its value and type, never array contents."""
    name = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    with contextlib.suppress(Exception):  # not an array, or one in a closed file
        if not isinstance(value, np.generic):
            return f"{name} of shape {tuple(value.shape)} and dtype {value.dtype}"
    with contextlib.suppress(Exception):  # not a table
        if not isinstance(value, np.generic):
            return f"{name} of shape {tuple(value.shape)}"
    if not isinstance(value, np.generic) and hasattr(value, "__array__"):  # an Arrow array, say
        with contextlib.suppress(Exception):
            return f"{name} of {len(value)} items"
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, list | tuple | dict) and any(hasattr(item, "shape") for item in items):
        return f"a {name} of {len(value)} items"
    text = " ".join(repr(value).split())  # the repr of a table spans several lines
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({name})"


def describe_error(error: BaseException, most: int | None = None) -> str:
    """An exception of the user's code for a message: its class and text, in one line.

    Args:
        error: the exception; its `__str__` may itself raise.
        most: the most characters.
    """
    try:
        said = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  # the user's own `__str__`
        said = "<its text can't be told>"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def describe_rows(rows: Iterable[int]) -> str:
    """Row numbers for a message: the first few, and how many there are."""
    numbers = [int(row) for row in rows]
    if len(numbers) <= _MAX_ROWS_SHOWN:
        return str(numbers)
    return f"[{', '.join(map(str, numbers[:_MAX_ROWS_SHOWN]))}, ...] ({len(numbers)} rows)"
