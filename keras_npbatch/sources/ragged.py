"""`Ragged`: rows of any length, delivered padded.

    tokens = Ragged([np.array([3, 1, 2]), np.array([4])])
    tokens.read(np.array([1, 0]))      # [[4, 0, 0], [3, 1, 2]]

The rows stay where they are, in a list of arrays or in one array with offsets. Those of a batch are
copied once, into a buffer as wide as the longest of them, or as one of a few widths.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import refuses_unknown_arguments, row_numbers
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.packing import Bins, packed
from keras_npbatch.sources.padding import Beside, Padding, Side, held_by, totals
from keras_npbatch.sources.parquet_lists import StoredLists
from keras_npbatch.sources.sequences import sequences_of
from keras_npbatch.sources.source import Empty, Reading, Source
from keras_npbatch.sources.words import RAGGED

__all__ = ["Ragged", "ragged_source", "ragged_sources", "refuse_other_packing"]


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
            `values[offsets[i]:offsets[i + 1]]`; a column of lists of Arrow, Parquet, polars, pandas
            or `datasets`; or a `tf.RaggedTensor` with one ragged axis. Lists of Python's numbers
            are copied once, into an int64 or float64 array. A column of Parquet is read once for
            the lengths, and then row group by row group, as others are.
        pad_to: the width: None for the longest row of the batch; a number; or several, in rising
            order: the smallest that fits is taken, so there are at most that many shapes.
        pad_value: what is added.
        side: where it is added.
        truncate: the side at which time steps beyond the last `pad_to` are left out. False: a
            longer row is refused.
        lengths: True: the model gets `{"values": ..., "lengths": ...}`, with the length of each
            row, int64 `(batch_size,)`. `"mask"`: `{"values": ..., "mask": ...}`, with True where
            there is no padding, bool `(batch_size, width)`. For other names or places, give
            `ragged.lengths` and `ragged.mask` to the dataset yourself.
        pack: several sequences in each row, one after the other, to pad less: the model gets
            `{"values": ..., "segment_ids": ..., "positions": ...}`, the last two int32
            `(batch_size, width)`: 1 for the first sequence of a row, 2 for the second, 0 for
            padding; and the time step within its sequence. A sample is then a row: each is read
            once an epoch, and so is each sequence. Which sequences share a row follows from the
            lengths and `pad_to`, which must be a number, and stays the same in all epochs:
            `sequences_in(row)`. Targets for time steps are packed too: give
            `Ragged(tags, pad_to=..., pack=True).values`, with sequences of the same lengths.

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
        lengths: Beside = False,
        pack: bool = False,
    ) -> None:
        self._padding = padding = Padding(pad_to, pad_value, side, truncate, lengths)
        if pack:
            _check_packing(padding, pack)
        rows = padding.fitting(sequences_of(data), "Ragged")
        self._rows, self._lengths = rows, rows.lengths
        self._bins: Bins | None = None
        if pack:
            assert padding.width is not None
            if rows.stored is not None:
                raise InvalidDataError(
                    "pack=True was given with a column of Parquet files; expected sequences in "
                    "memory: a row has some from all over the files. Read the column: "
                    "`pyarrow.parquet.read_table(paths, columns=[name])[name]`."
                )
            self._bins = packed(rows.lengths, padding.width)
            self._lengths = totals(rows.lengths[self._bins.sequences], np.diff(self._bins.edges))
        self.dtype = rows.dtype
        """The dtype of a time step."""
        self.widest = padding.width_of(int(self._lengths.max()))
        """The width of the widest batch there can be."""
        self.shape: tuple[Any, ...] = (len(self._lengths), padding.width, *rows.inner_shape)
        """`(rows, width, *inner_shape)`; None for a width that differs from batch to batch."""
        self.is_in_memory = rows.is_in_memory
        """Whether reading never waits for a disk."""
        self._pad_value = held_by(self.dtype, pad_value)
        told = f"{padding.told}, pack=True" if pack else padding.told
        self.identity = f"Ragged({told}, {int(rows.lengths.sum())} time steps)"
        """What decides its batches, in words."""

    @property
    def beside(self) -> Beside:
        """Whether lengths or a mask come beside the values."""
        return self._padding.beside

    @property
    def lengths(self) -> Rows:
        """The length of each row as it is delivered, int64 `(num_rows,)`; read-only."""
        lengths = self._lengths.view()
        lengths.flags.writeable = False
        return lengths

    @property
    def mask(self) -> Mask:
        """True where there is no padding, bool `(batch_size, width)`; to be given to a dataset."""
        return Mask(self, np.dtype(bool))

    @property
    def weights(self) -> Mask:
        """1 where there is no padding, float32 `(batch_size, width)`: sample weights of targets."""
        return Mask(self, np.dtype(np.float32))

    @property
    def values(self) -> Values:
        """The padded rows alone, whatever else comes beside them; to be given to a dataset."""
        stored = self._rows.stored
        return Values(self) if stored is None else InRowGroups(self, stored)

    @property
    def segment_ids(self) -> InPacked:
        """Which sequence of its row a time step is of, from 1 up, int32 `(batch_size, width)`."""
        return InPacked(self, _segment_ids)

    @property
    def positions(self) -> InPacked:
        """Which time step of its sequence it is, from 0 up, int32 `(batch_size, width)`."""
        return InPacked(self, _positions)

    @property
    def source(self) -> Ragged | Values:
        """What the padded rows are read from: itself, unless they are stored in chunks."""
        return self if self._rows.stored is None else self.values

    def sequences_in(self, row: int) -> Rows:
        """The numbers of the sequences in a row, in their order.

        Args:
            row: from 0 to `len(self) - 1`.

        Returns:
            int64 array; of the row's own number, unless sequences are packed.

        Raises:
            IndexError: for a row that does not exist.
        """
        return self.packing(row_numbers([row], len(self)))[0]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._lengths)

    def __repr__(self) -> str:
        return f"<{self.identity}: {self.dtype} {self.shape}>"

    def __getstate__(self) -> dict[str, Any]:
        # One array instead of many: worker processes share it.
        return vars(self) | {"_rows": self._rows.flat()}

    def width(self, rows: Rows) -> int:
        """The width of a batch of these rows."""
        return self._padding.width_of(int(self._lengths[rows].max(initial=1)))

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
        chosen, counts = self.packing(np.asarray(rows, np.int64))
        self._padding.write(self._rows, chosen, out, self._pad_value, counts)
        return out

    def packing(self, rows: Rows) -> tuple[Rows, Rows | None]:
        """The sequences in some rows, row after row, and how many each has; None: one each."""
        return (rows, None) if self._bins is None else self._bins.of(rows)

    def write_inside(self, rows: Rows, out: npt.NDArray[Any], count: Count) -> None:
        """Write a number for each time step of packed rows, and 0 for padding.

        Args:
            rows: integers of shape `(n,)`.
            out: of shape `(n, width)`.
            count: gives the numbers.
        """
        chosen, counts = self.packing(rows)
        lengths = self._rows.lengths[chosen]
        out[...] = 0
        if len(rows):
            out[self.is_real(self._lengths[rows], out.shape[1])] = count(lengths, counts)

    @property
    def is_packed(self) -> bool:
        """Whether a row may have several sequences."""
        return self._bins is not None

    def is_packed_as(self, other: Ragged) -> bool:
        """Whether another one has sequences of the same lengths in each row."""
        if self.shape[:2] != other.shape[:2] or not (self.is_packed and other.is_packed):
            return False
        return np.array_equal(self._rows.lengths, other._rows.lengths)

    def is_real(self, lengths: Rows, width: int) -> npt.NDArray[np.bool_]:
        """Which time steps of rows of these lengths are not padding, `(n, width)`."""
        return self._padding.is_real(lengths, width)


class Values:
    """The padded rows of a `Ragged`, without what comes beside them."""

    chunk_rows: int | None = None

    def __init__(self, of: Ragged) -> None:
        self.of, self.dtype, self.shape, self.widest = of, of.dtype, of.shape, of.widest
        self.is_in_memory, self.identity = of.is_in_memory, of.identity

    def width(self, rows: Rows) -> int:
        """The width of a batch of these rows."""
        return self.of.width(rows)

    def read(
        self, rows: Rows, empty: Empty = np.empty, width: int | None = None
    ) -> npt.NDArray[Any]:
        """See `Ragged.read`."""
        return self.of.read(rows, empty, width)


class InRowGroups(Values):
    """The padded rows of a `Ragged` of Parquet files: a source in chunks, see `Prepared`."""

    def __init__(self, of: Ragged, stored: StoredLists) -> None:
        super().__init__(of)
        self._stored = stored
        self.chunk_rows = stored.chunk_rows
        self.chunk_starts = stored.chunk_starts
        """See `Chunked`, as for the others."""

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block once."""
        self._stored.keep(block_rows, blocks, ahead)

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing: what is stored may have changed."""
        self._stored.forget(pass_number)

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read."""
        return self._stored.reading(batch_size)

    @property
    def kept_in(self) -> object:
        """What keeps its chunks."""
        return self._stored.kept_in

    def chunks_of(self, rows: Rows) -> Rows:
        """The chunks that some rows are in, each once."""
        return self._stored.chunks_of(rows)

    def expect(self, numbers: Rows, until: int) -> None:
        """Let other chunks make room before these."""
        self._stored.expect(numbers, until)

    def prepare(self, number: int) -> None:
        """Decode a chunk before its rows are asked for."""
        self._stored.prepare(number)


Count: TypeAlias = Callable[[Rows, Rows | None], Rows]
"""A number for each time step, of the lengths of sequences and how many each row has."""


class _EachStep(ABC):
    """A number for each time step of a `Ragged`, as wide as its batches.

    Args:
        of: the sequences.
        dtype: of the numbers.
    """

    is_in_memory = True
    chunk_rows: int | None = None

    def __init__(self, of: Ragged, dtype: np.dtype[Any]) -> None:
        self.of, self.dtype = of, dtype
        self.shape: tuple[Any, ...] = of.shape[:2]
        self.widest = of.widest

    @abstractmethod
    def write(self, rows: Rows, out: npt.NDArray[Any]) -> None:
        """Write the numbers of these rows into an array of their width."""

    def width(self, rows: Rows) -> int:
        """The width of a batch of these rows."""
        return self.of.width(rows)

    def read(
        self, rows: Rows, empty: Empty = np.empty, width: int | None = None
    ) -> npt.NDArray[Any]:
        """See `Ragged.read`."""
        width = self.width(rows) if width is None else width
        out = empty((len(rows), width), self.dtype)
        self.write(rows, out)
        return out


class InPacked(_EachStep):
    """A number for each time step of a packed `Ragged`: of its segment, or its position."""

    def __init__(self, of: Ragged, count: Count) -> None:
        super().__init__(of, np.dtype(np.int32))
        self._count = count

    def write(self, rows: Rows, out: npt.NDArray[Any]) -> None:
        """See `_EachStep`."""
        self.of.write_inside(np.asarray(rows, np.int64), out, self._count)


def _segment_ids(lengths: Rows, counts: Rows | None) -> Rows:
    if counts is None:
        return np.ones(int(lengths.sum()), np.int64)
    first = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(lengths)) - np.repeat(first, counts) + 1, lengths)


def _positions(lengths: Rows, _: Rows | None) -> Rows:
    starts = np.cumsum(lengths) - lengths
    found: Rows = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    return found


class Mask(_EachStep):
    """Which time steps of a `Ragged` are not padding: True or 1 there, False or 0 elsewhere."""

    def write(self, rows: Rows, out: npt.NDArray[Any]) -> None:
        """See `_EachStep`."""
        out[...] = self.of.is_real(self.of.lengths[rows], out.shape[1])


def ragged_source(leaf: Any, path: str) -> Source | None:
    """The source of a `Ragged`, or of what belongs to one, such as its mask; else None."""
    if isinstance(leaf, Ragged):
        return leaf.source
    return leaf if isinstance(leaf, Values | Mask | InPacked) else None


def ragged_sources(leaf: Ragged) -> Source | dict[str, Source]:
    """The sources of what a `Ragged` gives to the model."""
    if leaf.beside is True:
        return {"values": leaf.source, "lengths": TakenArray(leaf.lengths)}
    if leaf.beside == "mask":
        return {"values": leaf.source, "mask": leaf.mask}
    if leaf.is_packed:
        return {"values": leaf, "segment_ids": leaf.segment_ids, "positions": leaf.positions}
    return leaf.source


def refuse_other_packing(found: dict[str, Source]) -> None:
    """Refuse packed sequences whose rows don't have the same time steps.

    Args:
        found: the sources of a dataset, by their paths.

    Raises:
        InvalidDataError: naming two that differ.
    """
    every = [(path, of) for path, of in _ragged_of(found).items() if of.is_packed]
    for path, each in every[1:]:
        first, leader = every[0]
        if not each.is_packed_as(leader):
            raise InvalidDataError(
                f"{path} is packed otherwise than {first}; expected sequences of the same lengths "
                "and the same pad_to, so that their time steps stand beside each other."
            )


def _ragged_of(found: dict[str, Source]) -> dict[str, Ragged]:
    ragged = {path: getattr(source, "of", source) for path, source in found.items()}
    return {path: of for path, of in ragged.items() if isinstance(of, Ragged)}


def _check_packing(padding: Padding, pack: Any) -> None:
    if pack is not True:
        raise InvalidArgumentError(f"pack is {describe(pack)}; expected True or False.")
    if padding.width is None:
        raise InvalidArgumentError(
            "pack=True was given without one width; expected pad_to=a number, such as 512: how "
            "many time steps a row has room for."
        )
    if padding.side != "right" or padding.beside:
        name = "side='left'" if padding.side != "right" else f"lengths={padding.beside!r}"
        raise InvalidArgumentError(
            f"pack=True was given with {name}; expected neither side nor lengths: sequences stand "
            "one after the other, and segment_ids are 0 where there is padding."
        )
