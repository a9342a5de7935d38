"""scipy sparse matrices as sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, Source

__all__ = ["SparseRows", "sparse_source"]


class SparseRows:
    """A scipy sparse matrix; the rows of a batch are delivered dense."""

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.tocsr()  # no copy if it is CSR already
        self.shape, self.dtype = tuple(matrix.shape), np.dtype(matrix.dtype)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Fill a dense buffer with the rows."""
        out = empty((len(rows), self.shape[1]), self.dtype)
        filled: npt.NDArray[Any] = self._matrix[rows].toarray(out=out)
        return filled


def sparse_source(leaf: Any, path: str) -> Source | None:
    """The source of a scipy sparse matrix; else None."""
    if type(leaf).__module__.partition(".")[0] != "scipy" or not hasattr(leaf, "tocsr"):
        return None
    if len(leaf.shape) != 2:
        raise InvalidDataError(
            f"{path} is a sparse array of shape {tuple(leaf.shape)}; expected two dimensions, "
            "samples and features."
        )
    return SparseRows(leaf)
