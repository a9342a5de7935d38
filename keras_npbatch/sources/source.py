"""`Source`: random-access storage, what the rows of one leaf are read from. One of the four seams.

    source.read(rows, empty=np.empty)      # the rows, in the order asked for

A source **must** return a new array of shape `(len(rows), *shape[1:])` and of its `dtype`, in the
order asked for, repeated rows too; accept calls from several threads at once; and say
`is_in_memory = False` if a read can wait for a disk, a network or user code.

It **may** take memory from `empty`, so that the batch lies in a reused slot, unless its dtype has
Python objects; rely on `rows` being int64 and in range; and keep what it has decoded, up to a
bound.

It **must never** return a view of the data or of what it keeps, write to anything shared, or copy
the data as a whole.

Optional protocols say more. A source that reads adjacent rows together is `Chunked`, and `Prepared`
if it can read them before they are needed. One whose rows differ in length is `Padded`: the width
of a batch is decided over the rows of all processes, which one process alone does not read. One of
files may have a `stamp`, by which a cache in a folder notices that they have changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.samplers.order import Rows

__all__ = [
    "Chunked",
    "Empty",
    "Padded",
    "Prepared",
    "Reading",
    "Source",
    "is_raw",
    "own_source",
    "refuse_scalar",
    "stamp_of",
]

Empty: TypeAlias = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
"""`empty(shape, dtype)`: an uninitialised C-contiguous array that only the caller may write to."""


class Source(Protocol):
    """The rows of one leaf.

    `read` may be called from several threads at once. It must not write to anything shared, and
    never keeps the array it returns: the caller owns it.
    """

    shape: tuple[int, ...]
    """`(rows, *feature_shape)`."""
    dtype: np.dtype[Any]
    """The dtype of what `read` returns."""
    is_in_memory: bool
    """Whether reading never waits for a disk, a network or user code."""
    chunk_rows: int | None
    """How many rows the storage reads together, if it reads in chunks."""

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """The given rows, in the given order, as a new array.

        Args:
            rows: int64 array of shape `(n,)`, each in `range(shape[0])`; not checked here.
            empty: what allocates the result, if the source can fill a buffer.

        Returns:
            Array of shape `(n, *feature_shape)`.
        """


@runtime_checkable
class Chunked(Source, Protocol):
    """A source that reads adjacent rows together, and keeps the last ones."""

    @property
    def chunk_starts(self) -> Rows | None:
        """The first row of each chunk, and the number of all rows, if chunks differ in size.

        Then `chunk_rows` is the size of the largest.
        """

    def keep(self, block_rows: int, blocks: int, ahead: int = 0) -> None:
        """Keep what is needed to read each block of rows once.

        Args:
            block_rows: rows of a block. One block of one row: they are read in their order.
            blocks: how many blocks are read at a time, before the next ones are.
            ahead: rows by which one thread may be ahead of another.
        """

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing of what was read: it may have changed.

        Args:
            pass_number: of the pass over the data that begins, if worker processes share what is
                kept: what one of them has read in this pass is kept. None: the next.
        """

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""


@runtime_checkable
class Prepared(Chunked, Protocol):
    """A chunked source that can decode a chunk before its rows are asked for."""

    @property
    def kept_in(self) -> object:
        """What keeps its chunks: the same for sources that are read together."""

    def chunks_of(self, rows: Rows) -> Rows:
        """The numbers of the chunks that some rows are in, each once."""

    def expect(self, numbers: Rows, until: int) -> None:
        """Say how long chunks are needed; those whose need ends earlier make room before them.

        Args:
            numbers: of the chunks, whether they are kept already or not.
            until: a position in the order of the rows, after which none of their rows comes.
        """

    def prepare(self, number: int) -> None:
        """Decode a chunk, and keep it, unless another thread does so or has."""


@runtime_checkable
class Padded(Source, Protocol):
    """A source whose rows differ in length: a batch is padded to one width.

    If the width differs from batch to batch, `shape[1]` is None.
    """

    widest: int
    """The width of the widest batch there can be."""

    def width(self, rows: Rows) -> int:
        """The width of a batch that is read by several processes, which together read `rows`."""

    def read(self, rows: Rows, empty: Empty, width: int | None = None) -> npt.NDArray[Any]:
        """As for any source; `width` is that of the result, None for that of these rows alone."""


class Reading(NamedTuple):
    """What a batch of rows from all over the data reads."""

    chunk_rows: int
    """Rows of a chunk."""
    chunks: float
    """Chunks that a batch touches, on average."""
    times: float
    """The bytes of these chunks, as a multiple of those of the batch."""


def own_source(leaf: Any, path: str) -> Source | None:
    """`leaf` itself if it is a source: of `keras_npbatch.sources`, or a user's; else None."""
    names = ("shape", "dtype", "is_in_memory", "chunk_rows", "read")
    if not all(hasattr(leaf, name) for name in names):
        return None
    refuse_scalar(tuple(leaf.shape), path)
    source: Source = leaf
    return source


def is_raw(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of it are plain memory: no objects, no variable-length strings (kind T)."""
    return not dtype.hasobject and dtype.kind != "T"


def refuse_scalar(shape: tuple[int, ...], path: str) -> None:
    """Refuse data without a dimension.

    Raises:
        InvalidDataError: naming the leaf.
    """
    if len(shape) == 0:
        raise InvalidDataError(
            f"{path} has no dimension; expected the first dimension to count samples."
        )


def stamp_of(source: Source) -> str | None:
    """What changes if the files of a source do: a digest of their names, sizes and times.

    None if the source has no property `stamp`: it is not known which files it has.
    """
    found: str | None = getattr(source, "stamp", None)
    return found
