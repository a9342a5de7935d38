"""pandas DataFrames as sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty, Source, is_raw

__all__ = ["FrameRows", "frame_source"]


class FrameRows:
    """A pandas DataFrame; pandas selects the rows and converts the columns to one dtype."""

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.shape = tuple(frame.shape)
        dtypes = {
            # The NumPy dtype of a pandas extension column depends on whether values are missing.
            dtype if isinstance(dtype, np.dtype) else frame.iloc[:, number].to_numpy().dtype
            for number, dtype in enumerate(frame.dtypes)
        }
        are_numbers = all(dtype.kind in "biufc" for dtype in dtypes)
        self.dtype = np.dtype(object)  # the only dtype for dates and numbers together
        if len(dtypes) == 1 or (dtypes and are_numbers):
            self.dtype = np.result_type(*dtypes)

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Select the rows by position."""
        found = self._frame.iloc[rows].to_numpy(dtype=self.dtype)
        if not is_raw(self.dtype):
            return np.array(found, order="C")
        out = empty(found.shape, self.dtype)
        out[...] = found
        return out


def frame_source(leaf: Any, path: str) -> Source | None:
    """The source of a pandas DataFrame; else None."""
    package = type(leaf).__module__.partition(".")[0]
    if package == "pandas" and hasattr(leaf, "to_numpy") and leaf.ndim == 2:
        return FrameRows(leaf)
    return None
