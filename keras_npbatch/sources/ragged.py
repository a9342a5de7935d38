"""`Ragged`: rows of any length, delivered padded.

    tokens = Ragged([np.array([3, 1, 2]), np.array([4])])
    tokens.read(np.array([1, 0]))      # [[4, 0, 0], [3, 1, 2]]

The rows stay where they are, in a list of arrays or in one array with offsets. Those of a batch are
copied once, into a buffer as wide as the longest of them, or as one of a few widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.padding import Beside, Padding, Side, held_by
from keras_npbatch.sources.sequences import sequences_of
from keras_npbatch.sources.source import Empty, Source

__all__ = ["Ragged", "ragged_source", "ragged_sources"]


class Ragged:
    """Sequences of any length, padded batch by batch: give it to a dataset in place of an array.

    Nothing is copied but the rows of a batch, into an array of shape
    `(batch_size, width, *inner_shape)`. The width is decided over the batch of all processes
    together, so that all of them compile the same shapes.

    Example:

    ```python
    texts = [np.array([3, 1, 2]), np.array([4]), np.array([2, 2])] * 20
    labels = np.array([0, 1, 1] * 20)
    tokens = keras_npbatch.sources.Ragged(texts, pad_to=(2, 4))
    train = keras_npbatch.ArrayDataset(tokens, labels, batch_size=4)
    ```

    Args:
        data: a list of arrays, or an object array of them, each of shape
            `(time_steps, *inner_shape)`; `(values, offsets)`, where row i is
            `values[offsets[i]:offsets[i + 1]]`; a column of lists of Arrow, polars or pandas; or a
            `tf.RaggedTensor` with one ragged axis. Lists of Python's numbers are copied once, into
            an int64 or float64 array.
        pad_to: the width: None for the longest row of the batch; a number; or several, rising, of
            which the smallest that fits is taken, so that there are at most so many shapes.
        pad_value: what is added.
        side: where it is added.
        truncate: the side at which time steps beyond the last `pad_to` are left out. False: a
            longer row is refused.
        lengths: True: the model gets `{"values": ..., "lengths": ...}`, with the length of each
            row, int64 `(batch_size,)`. `"mask"`: `{"values": ..., "mask": ...}`, with True for what
            is no padding, bool `(batch_size, width)`. For other names or places, give
            `ragged.lengths` and `ragged.mask` to the dataset yourself.

    Raises:
        InvalidDataError: for data of another kind, rows without a time step, of unequal inner
            shapes or dtypes, or longer than the last `pad_to`; the message names the row.
        InvalidArgumentError: for another invalid argument.
    """

    chunk_rows: int | None = None

    def __init__(
        self,
        data: Any,
        *,
        pad_to: int | Sequence[int] | None = None,
        pad_value: Any = 0,
        side: Side = "right",
        truncate: Side | Literal[False] = False,
        lengths: Beside = False,
    ) -> None:
        self._padding = padding = Padding(pad_to, pad_value, side, truncate, lengths)
        rows = padding.fitting(sequences_of(data), "Ragged")
        self._rows = rows
        self.dtype = rows.dtype
        """The dtype of a time step."""
        self.widest = padding.width_of(int(rows.lengths.max()))
        """The width of the widest batch there can be."""
        self.shape: tuple[Any, ...] = (len(rows.lengths), padding.width, *rows.inner_shape)
        """`(rows, width, *inner_shape)`; None for a width that differs from batch to batch."""
        self.is_in_memory = rows.is_in_memory
        """Whether reading never waits for a disk."""
        self._pad_value = held_by(self.dtype, pad_value)
        self.identity = f"Ragged({padding.told}, {int(rows.lengths.sum())} time steps)"
        """What decides its batches, in words."""

    @property
    def beside(self) -> Beside:
        """Whether lengths or a mask come beside the values."""
        return self._padding.beside

    @property
    def lengths(self) -> Rows:
        """The length of each row as it is delivered, int64 `(num_rows,)`; read-only."""
        lengths = self._rows.lengths.view()
        lengths.flags.writeable = False
        return lengths

    @property
    def mask(self) -> Mask:
        """True for what is no padding, bool `(batch_size, width)`; to be given to a dataset."""
        return Mask(self, np.dtype(bool))

    @property
    def weights(self) -> Mask:
        """1 for what is no padding, float32 `(batch_size, width)`: sample weights of targets."""
        return Mask(self, np.dtype(np.float32))

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows.lengths)

    def __repr__(self) -> str:
        return f"<{self.identity}: {self.dtype} {self.shape}>"

    def __getstate__(self) -> dict[str, Any]:
        # One array instead of many: worker processes share it.
        return vars(self) | {"_rows": self._rows.flat()}

    def width(self, rows: Rows) -> int:
        """The width of a batch of these rows."""
        return self._padding.width_of(int(self._rows.lengths[rows].max(initial=1)))

    def read(
        self, rows: Rows, empty: Empty = np.empty, width: int | None = None
    ) -> npt.NDArray[Any]:
        """The given rows, padded.

        Args:
            rows: integers of shape `(n,)`.
            empty: what allocates the result.
            width: of the result, at least that of the longest row; None: as these rows need.

        Returns:
            Array of shape `(n, width, *inner_shape)`.
        """
        width = self.width(rows) if width is None else width
        out = empty((len(rows), width, *self.shape[2:]), self.dtype)
        self._padding.write(self._rows, np.asarray(rows, np.int64), out, self._pad_value)
        return out

    def is_real(self, lengths: Rows, width: int) -> npt.NDArray[np.bool_]:
        """Which time steps of rows of these lengths are no padding, `(n, width)`."""
        return self._padding.is_real(lengths, width)


class Mask:
    """Which time steps of a `Ragged` are no padding: True or 1 there, False or 0 elsewhere."""

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, of: Ragged, dtype: np.dtype[Any]) -> None:
        self._of, self.dtype = of, dtype
        self.shape: tuple[Any, ...] = of.shape[:2]
        self.widest = of.widest

    def width(self, rows: Rows) -> int:
        """The width of a batch of these rows."""
        return self._of.width(rows)

    def read(
        self, rows: Rows, empty: Empty = np.empty, width: int | None = None
    ) -> npt.NDArray[Any]:
        """See `Ragged.read`."""
        width = self.width(rows) if width is None else width
        out = empty((len(rows), width), self.dtype)
        out[...] = self._of.is_real(self._of.lengths[rows], width)
        return out


def ragged_source(leaf: Any, path: str) -> Source | None:
    """The source of a `Ragged`, or of the mask of one; else None."""
    return leaf if isinstance(leaf, Ragged | Mask) else None


def ragged_sources(leaf: Ragged) -> Source | dict[str, Source]:
    """The sources of what a `Ragged` gives to the model."""
    if leaf.beside is True:
        return {"values": leaf, "lengths": TakenArray(leaf.lengths)}
    return {"values": leaf, "mask": leaf.mask} if leaf.beside == "mask" else leaf
