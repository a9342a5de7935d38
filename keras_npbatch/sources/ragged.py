"""`Ragged`: rows of any length, delivered padded.

    tokens = Ragged([np.array([3, 1, 2]), np.array([4])])
    tokens.read(np.array([1, 0]))      # [[4, 0, 0], [3, 1, 2]]

The rows stay where they are, in a list of arrays or in one array with offsets. Those of a batch are
copied once, into a buffer as wide as the longest of them, or as one of a few widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import refuses_unknown_arguments, whole_number
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe, describe_rows
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.sequences import Sequences, sequences_of
from keras_npbatch.sources.source import Empty, Source
from keras_npbatch.sources.words import RAGGED

__all__ = ["Ragged", "ragged_source", "ragged_sources"]

Side: TypeAlias = Literal["right", "left"]

_SHORT = 64
"""Rows of fewer time steps on average are written all at once, longer ones one by one."""
_MOST_WIDTH = 2**31


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

    @refuses_unknown_arguments(RAGGED)
    def __init__(
        self,
        data: Any,
        *,
        pad_to: int | Sequence[int] | None = None,
        pad_value: Any = 0,
        side: Side = "right",
        truncate: Side | Literal[False] = False,
        lengths: bool | Literal["mask"] = False,
    ) -> None:
        _check_sides(side, truncate, pad_to)
        if lengths not in (True, False, "mask"):
            raise InvalidArgumentError(
                f"lengths is {describe(lengths)}; expected True, False or 'mask'."
            )
        self._widths = _widths(pad_to)
        rows = sequences_of(data)
        longest = int(rows.lengths.max())
        if self._widths and longest > self._widths[-1]:
            rows = _truncated(rows, self._widths[-1], truncate)
            longest = self._widths[-1]
        self._rows, self._side = rows, side
        self.beside = lengths
        """Whether lengths or a mask come beside the values."""
        self.dtype = rows.dtype
        """The dtype of a time step."""
        self.widest = self._width_of(longest)
        """The width of the widest batch there can be."""
        width = self._widths[0] if len(self._widths) == 1 else None
        self.shape: tuple[Any, ...] = (len(rows.lengths), width, *rows.inner_shape)
        """`(rows, width, *inner_shape)`; None for a width that differs from batch to batch."""
        self.is_in_memory = rows.is_in_memory
        """Whether reading never waits for a disk."""
        self._pad_value = _checked(pad_value, self.dtype)
        self.identity = (
            f"Ragged(pad_to={pad_to if pad_to is None else list(self._widths)}, "
            f"pad_value={pad_value!r}, side={side!r}, {int(rows.lengths.sum())} time steps)"
        )
        """What decides its batches, in words."""

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
        return self._width_of(int(self._rows.lengths[rows].max(initial=1)))

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
        lengths, starts = self._rows.lengths[rows], self._rows.starts[rows]
        out = empty((len(rows), width, *self.shape[2:]), self.dtype)
        out[...] = self._pad_value
        parts, which = self._rows.parts, self._rows.which
        numbers = [0] * len(rows) if which is None else which[rows].tolist()
        total = int(lengths.sum())
        if 0 < total < _SHORT * len(rows) and (which is None or self._rows.are_whole):
            if which is None:
                ends = np.cumsum(lengths)
                at = np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
                steps = parts[0][at]
            else:
                steps = np.concatenate([parts[number] for number in numbers])
            out[self.is_real(lengths, width)] = steps
            return out
        begins = width - lengths if self._side == "left" else np.zeros_like(lengths)
        spans = zip(out, numbers, starts.tolist(), begins.tolist(), lengths.tolist(), strict=True)
        for padded, number, start, begin, length in spans:
            padded[begin : begin + length] = parts[number][start : start + length]
        return out

    def is_real(self, lengths: Rows, width: int) -> npt.NDArray[np.bool_]:
        """Which time steps of rows of these lengths are no padding, `(n, width)`."""
        steps = np.arange(width)
        if self._side == "left":
            return steps >= (width - lengths)[:, np.newaxis]
        return steps < lengths[:, np.newaxis]

    def _width_of(self, length: int) -> int:
        if not self._widths:
            return length
        return next(width for width in self._widths if width >= length)


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


# -------------------------------------------------------------------- arguments


def _check_sides(side: Any, truncate: Any, pad_to: Any) -> None:
    for name, value, others in (("side", side, ""), ("truncate", truncate, "False, ")):
        if value not in ("right", "left") and (name == "side" or value is not False):
            raise InvalidArgumentError(
                f"{name} is {describe(value)}; expected {others}'right' or 'left'."
            )
    if truncate and pad_to is None:
        raise InvalidArgumentError(
            f"truncate is {truncate!r} and pad_to None; expected a pad_to, beyond which rows are "
            "cut."
        )


def _widths(pad_to: Any) -> tuple[int, ...]:
    """The widths there are; none, if any may come."""
    if pad_to is None:
        return ()
    several = isinstance(pad_to, list | tuple | range | np.ndarray)
    widths = tuple(
        whole_number("pad_to", width, least=1, most=_MOST_WIDTH)
        for width in (pad_to if several else [pad_to])
    )
    if not widths or list(widths) != sorted(set(widths)):
        raise InvalidArgumentError(
            f"pad_to is {describe(pad_to)}; expected None, a number, or rising numbers, such as "
            "(64, 128, 256)."
        )
    return widths


def _truncated(rows: Sequences, most: int, side: Side | Literal[False]) -> Sequences:
    if not side:
        too_long = np.flatnonzero(rows.lengths > most)
        raise InvalidDataError(
            f"data of Ragged has up to {rows.lengths.max()} time steps in rows "
            f"{describe_rows(too_long)}, and pad_to ends at {most}; expected no longer row. Give a "
            "greater pad_to, leave these rows out, or say truncate='right' to cut their ends off."
        )
    lengths = np.minimum(rows.lengths, most)
    starts = rows.starts + (rows.lengths - lengths) if side == "left" else rows.starts
    return replace(rows, starts=starts, lengths=lengths, are_whole=False)


def _checked(pad_value: Any, dtype: np.dtype[Any]) -> Any:
    """`pad_value` as a scalar of the dtype.

    Raises:
        InvalidArgumentError: if the dtype can't hold it.
    """
    given = np.asarray(pad_value)
    try:
        with np.errstate(invalid="ignore"):
            found = given.astype(dtype)
        is_kept = given.ndim == 0 and (given.dtype.kind in "biufc") == (dtype.kind in "biufcV")
        if is_kept and dtype.kind in "biuSU":
            is_kept = bool(found == given)
    except (TypeError, ValueError, OverflowError):
        is_kept = False
    if not is_kept and dtype.kind in "US":
        raise InvalidArgumentError(
            f"the time steps of Ragged are words (dtype {dtype}), and pad_value is "
            f"{describe(pad_value)}; expected numbers, or a word to pad with. Turn words into "
            "numbers first, for example with keras.layers.StringLookup; to keep them, write "
            f"pad_value={'' if dtype.kind == 'U' else b''!r}."
        )
    if not is_kept:
        raise InvalidArgumentError(
            f"pad_value is {describe(pad_value)}; expected a value that the dtype of the time "
            f"steps, {dtype}, can hold."
        )
    return found[()]
