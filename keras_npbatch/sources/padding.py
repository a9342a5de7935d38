"""`Padding`: how sequences of any length become one array: its width, and what is added where.

    padding = Padding(pad_to=(2, 4))
    rows = sequences_of([np.array([3, 1, 2]), np.array([4])])
    padding.padded(rows, np.empty)      # [[3, 1, 2, 0], [4, 0, 0, 0]]

`Ragged` pads the rows of a source with it, and `pad` what a `load` returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe, describe_rows
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.sequences import Sequences
from keras_npbatch.sources.source import Empty

__all__ = ["Beside", "Padding", "Side", "held_by", "totals"]

Side: TypeAlias = Literal["right", "left"]
Beside: TypeAlias = bool | Literal["mask"]

_SHORT = 64
"""Rows of fewer time steps on average are written all at once, longer ones one by one."""
_MOST_WIDTH = 2**31


class Padding:
    """How sequences are padded; for the arguments see `Ragged`.

    Raises:
        InvalidArgumentError: for an invalid argument.
    """

    def __init__(
        self,
        pad_to: int | Sequence[int] | None = None,
        pad_value: Any = 0,
        side: Side = "right",
        truncate: Side | Literal[False] = False,
        lengths: Beside = False,
    ) -> None:
        _check_sides(side, truncate, pad_to)
        if not isinstance(lengths, bool | str) or lengths not in (True, False, "mask"):
            raise InvalidArgumentError(
                f"lengths is {describe(lengths)}; expected True, False or 'mask'."
            )
        self.widths = _widths(pad_to)
        """The widths there are, rising; none, if any may come."""
        self.value, self.side, self.truncate, self.beside = pad_value, side, truncate, lengths
        widths = None if pad_to is None else list(self.widths)
        self.told = f"pad_to={widths}, pad_value={pad_value!r}, side={side!r}"
        """The settings that decide the values, in words."""

    @property
    def width(self) -> int | None:
        """The width, if there is only one."""
        return self.widths[0] if len(self.widths) == 1 else None

    def width_of(self, longest: int) -> int:
        """The width of a batch whose longest row has this many time steps."""
        if not self.widths:
            return longest
        return next(width for width in self.widths if width >= longest)

    def fitting(self, rows: Sequences, name: str) -> Sequences:
        """The rows, none longer than the last width.

        Args:
            rows: of any length.
            name: what they are called, for messages.

        Raises:
            InvalidDataError: for a row that is longer, if it is not to be cut.
        """
        if not self.widths or int(rows.lengths.max()) <= self.widths[-1]:
            return rows
        most = self.widths[-1]
        if not self.truncate:
            too_long = np.flatnonzero(rows.lengths > most)
            raise InvalidDataError(
                f"data of {name} has up to {rows.lengths.max()} time steps in rows "
                f"{describe_rows(too_long)}, and pad_to ends at {most}; expected no longer row. "
                "Give a greater pad_to, leave these rows out, or say truncate='right' to cut their "
                "ends off."
            )
        lengths = np.minimum(rows.lengths, most)
        starts = rows.starts + (rows.lengths - lengths) if self.truncate == "left" else rows.starts
        return replace(rows, starts=starts, lengths=lengths, are_whole=False)

    def is_real(self, lengths: Rows, width: int) -> npt.NDArray[np.bool_]:
        """Which time steps of rows of these lengths are not padding, `(n, width)`."""
        steps = np.arange(width)
        if self.side == "left":
            return steps >= (width - lengths)[:, np.newaxis]
        return steps < lengths[:, np.newaxis]

    def write(
        self,
        rows: Sequences,
        chosen: Rows,
        out: npt.NDArray[Any],
        value: Any,
        counts: Rows | None = None,
    ) -> None:
        """Write some sequences into rows, and the pad value everywhere else.

        Args:
            rows: none longer than `out` is wide.
            chosen: which of them, row after row.
            out: of shape `(n, width, *inner_shape)`.
            value: the pad value, of its dtype.
            counts: how many each row of `out` has, of shape `(n,)`; None: one each.
        """
        lengths, starts, width = rows.lengths[chosen], rows.starts[chosen], out.shape[1]
        out[...] = value
        ends = np.cumsum(lengths)
        parts, which = rows.parts, rows.which
        of_rows = np.zeros(len(chosen), np.int64) if which is None else which[chosen]
        total = int(ends[-1]) if len(ends) else 0
        if 0 < total < _SHORT * len(chosen) and (which is None or rows.are_whole):
            if which is None:
                at = np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
                steps = parts[0][at]
            else:
                steps = np.concatenate([parts[number] for number in of_rows.tolist()])
            out[self.is_real(totals(lengths, counts), width)] = steps
            return
        if counts is not None:
            places = np.repeat(np.arange(len(out)), counts)
            before = np.cumsum(totals(lengths, counts)) - totals(lengths, counts)
            begins = ends - lengths - before[places]
        else:
            places = np.arange(len(out))
            begins = width - lengths if self.side == "left" else np.zeros_like(lengths)
        columns: tuple[npt.NDArray[Any], ...] = places, of_rows, starts, begins, lengths
        if rows.stored is not None:  # of each row group all rows at once: it is decoded
            order = np.argsort(of_rows, kind="stable")
            columns = tuple(column[order] for column in columns)
        spans = zip(*(column.tolist() for column in columns), strict=True)
        last = -1
        for place, number, start, begin, length in spans:
            if number != last:
                part, last = parts[number], number
            out[place, begin : begin + length] = part[start : start + length]

    def padded(self, rows: Sequences, empty: Empty, more: int = 0) -> npt.NDArray[Any]:
        """All of the rows, which are no longer than the last width, as one array.

        Args:
            rows: the sequences.
            empty: allocates the array.
            more: by how many time steps it is wider than it need be, if its width varies.
        """
        width = self.width_of(int(rows.lengths.max())) + (more if self.width is None else 0)
        out = empty((len(rows.lengths), width, *rows.inner_shape), rows.dtype)
        self.write(rows, np.arange(len(out)), out, held_by(rows.dtype, self.value))
        return out


def totals(lengths: Rows, counts: Rows | None) -> Rows:
    """How many time steps each row has, of sequences of these lengths.

    Args:
        lengths: of the sequences, row after row.
        counts: how many sequences each row has, at least one; None: one each.
    """
    if counts is None or not len(counts):
        return lengths
    found: Rows = np.add.reduceat(lengths, np.cumsum(counts) - counts)
    return found


def held_by(dtype: np.dtype[Any], pad_value: Any) -> Any:
    """`pad_value` as a scalar of the dtype.

    Raises:
        InvalidArgumentError: if the dtype can't hold it.
    """
    given = np.asarray(pad_value)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            found = given.astype(dtype)
        is_kept = given.ndim == 0 and (given.dtype.kind in "biufc") == (dtype.kind in "biufcV")
        if is_kept and dtype.kind in "biuSU":
            is_kept = bool(found == given)
        elif is_kept and dtype.kind in "fc":
            is_kept = bool(np.isfinite(found) == np.isfinite(given))
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


def _check_sides(side: Any, truncate: Any, pad_to: Any) -> None:
    for name, value, others in (("side", side, ""), ("truncate", truncate, "False, ")):
        is_side = isinstance(value, str) and value in ("right", "left")
        if not is_side and (name == "side" or value is not False):
            raise InvalidArgumentError(
                f"{name} is {describe(value)}; expected {others}'right' or 'left'."
            )
    if truncate and pad_to is None:
        raise InvalidArgumentError(
            f"truncate is {truncate!r} and pad_to None; expected a pad_to, beyond which rows are "
            "cut."
        )


def _widths(pad_to: Any) -> tuple[int, ...]:
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
