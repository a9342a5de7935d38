"""Anything else with `shape`, `dtype` and row indexing as a source."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, Source, is_raw, refuse_scalar
from keras_npbatch.sources.tables import CONVERTED, how_to_convert

__all__ = ["IndexedStorage", "storage_source"]


class IndexedStorage:
    """Anything else with `shape`, `dtype` and row indexing: a user's class.

    Rows are read in increasing order, then put in the order asked for: most storage reads faster
    that way.
    """

    is_in_memory = False
    chunk_rows: int | None = None

    def __init__(self, storage: Any, path: str) -> None:
        self.shape, self.dtype = tuple(storage.shape), np.dtype(storage.dtype)
        self._storage, self._path = storage, path

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read each row once, and copy the rows into the order asked for."""
        increasing, back = np.unique(rows, return_inverse=True)
        try:
            found = np.asarray(self._storage[increasing])
        except Exception as error:
            error.add_note(
                f"keras_npbatch: raised by {self._path}[rows], a {type(self._storage).__name__}"
            )
            raise
        expected = (len(increasing), *self.shape[1:])
        if found.shape != expected or found.dtype != self.dtype:
            raise InvalidDataError(
                f"{self._path}: {type(self._storage).__name__}[rows] with {len(increasing)} rows "
                f"gave {describe(found)}; expected shape {expected} and dtype {self.dtype}, as it "
                "tells. Indexing with an int64 array must return these rows."
            )
        # Always into our own memory: the storage may have returned a view of what it keeps.
        if not is_raw(self.dtype):
            return found[back]
        out = empty((len(rows), *self.shape[1:]), self.dtype)
        return found.take(back, 0, out, "clip")


def storage_source(leaf: Any, path: str) -> Source | None:
    """The source of anything that can be indexed by row numbers; else None."""
    if not all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")):
        return None
    try:
        storage = IndexedStorage(leaf, path)
    except (TypeError, ValueError) as error:
        package = type(leaf).__module__.partition(".")[0]
        line = f" {how_to_convert(leaf, path)}" if package in CONVERTED else ""
        raise InvalidDataError(
            f"{path} is a {type(leaf).__name__} of shape {leaf.shape!r} and dtype {leaf.dtype!r}; "
            f"expected a tuple of numbers, and a dtype that NumPy knows.{line}"
        ) from error
    refuse_scalar(storage.shape, path)
    return storage
