"""Parquet files as sources: row groups are chunks.

    data = Parquet("measurements/", columns=["age", "height", "label"])
    ArrayDataset(data[["age", "height"]], data["label"], sampler=BlockShuffle())

A row group is decoded by pyarrow, for all columns of a `Parquet` that a dataset has, and kept for
the rows of the next batches. A file is open only while one is read, so there is no handle to close,
and a worker process opens the files itself.
"""

from __future__ import annotations

import itertools
import os
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, MissingExtraError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrow import (
    ArrowColumn,
    are_numbers_of_one_type,
    chunks_of,
    refuse_nulls_of,
)
from keras_npbatch.sources.arrow_types import layout_of, list_sizes
from keras_npbatch.sources.chunks import ChunkRows, kept_chunks
from keras_npbatch.sources.columns import Codes
from keras_npbatch.sources.filled import UNFILLED, checked_value, columns_filled, unwrapped
from keras_npbatch.sources.joined_chunks import Chunk, JoinedChunks
from keras_npbatch.sources.progress import counted
from keras_npbatch.sources.remote import opened, paths_here
from keras_npbatch.sources.row_groups import RowGroups, row_groups_in
from keras_npbatch.sources.source import Empty, Source, is_raw
from keras_npbatch.sources.stock import Stock
from keras_npbatch.sources.tables import refuse_lists
from keras_npbatch.sources.turns import Turns, others_last

__all__ = [
    "Parquet",
    "ParquetColumn",
    "ParquetMatrix",
    "column_of",
    "parquet_columns",
    "parquet_source",
    "read_together",
]


class Parquet:
    """Columns of one or several Parquet files, one after the other.

    As a leaf of a dataset, columns of numbers of one type are a matrix, others a dict of columns.
    `data["label"]` is one column, `data[["age", "height"]]` some. Each row group is read and
    decoded whole, so give the dataset `sampler=BlockShuffle()`: of its blocks, the row groups of
    two groups of blocks are kept. A `pyarrow.parquet.ParquetFile` or a
    `pyarrow.dataset.Dataset` may be a leaf itself.

    Example:

    ```python
    data = keras_npbatch.sources.Parquet("measurements/")
    sampler = keras_npbatch.samplers.BlockShuffle(blocks=4)
    train = keras_npbatch.ArrayDataset(data[["age", "height"]], data["label"], sampler=sampler)
    ```

    Args:
        paths: a path, a list of paths, or a folder, whose files are read in the order of their
            names. Also addresses that pyarrow or fsspec opens, such as `"s3://bucket/folder"`.
        columns: the names of the columns to read; None: all.
        filesystem: of `pyarrow.fs` or fsspec, for paths in it.
        storage_options: what fsspec's filesystem of an address takes, such as `{"anon": True}`.

    Raises:
        MissingExtraError: if pyarrow is not installed, or fsspec for an address that needs it.
        InvalidDataError: if there is no such file or column, or a file is not a Parquet file.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        columns: Sequence[str] | None = None,
        *,
        filesystem: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import pyarrow.dataset as datasets
        except ImportError as error:
            raise MissingExtraError(
                "keras_npbatch.sources.Parquet needs pyarrow, which is not installed. Install it: "
                "pip install 'keras_npbatch[arrow]'."
            ) from error
        if isinstance(columns, str):
            raise InvalidArgumentError(
                f"columns is {columns!r}; expected a list of names. For one column: "
                f"Parquet(paths)[{columns!r}]."
            )
        if not isinstance(paths, str | os.PathLike | Sequence) or isinstance(paths, bytes):
            raise InvalidArgumentError(
                f"paths is {describe(paths)}; expected a path, or a list of paths."
            )
        given: Any
        if isinstance(paths, str | os.PathLike):
            given = os.fspath(paths)
        else:
            given = [os.fspath(path) for path in paths]
        if not given:
            raise InvalidDataError("Parquet was given no path; expected at least one.")
        if filesystem is None and storage_options is None:
            here = paths_here([given] if isinstance(given, str) else given)
            given = here[0] if isinstance(given, str) else here
        read = given
        if filesystem is None:
            filesystem, read = opened(given, storage_options) or (None, _absolute(given))
        elif storage_options is not None:
            raise InvalidArgumentError(
                "filesystem and storage_options were both given; expected one of them. Make the "
                "filesystem with its options: fsspec.filesystem('s3', anon=True)."
            )
        try:
            found = datasets.dataset(read, format="parquet", filesystem=filesystem)
        except (OSError, ValueError) as error:
            raise InvalidDataError(
                f"the Parquet files {describe(given)} can't be opened: {error}. Expected paths of "
                "Parquet files, or of a folder of them; of a pattern: "
                "`sorted(glob.glob(pattern))`."
            ) from error
        if not found.files:
            raise InvalidDataError(
                f"{describe(given)} has no Parquet file; expected the path of one, or of a folder "
                "of them. Check the path, or what was written to it."
            )
        self._groups = row_groups_in(found, "Parquet(paths)", schema_is_given=False)
        names = self._groups.names if columns is None else list(columns)
        self._names = self._checked(names)
        self._is_column = False

    @classmethod
    def _of(cls, groups: RowGroups, names: list[str], is_column: bool = False) -> Parquet:
        made = cls.__new__(cls)
        made._groups, made._is_column = groups, is_column
        made._names = made._checked(names)
        return made

    def _checked(self, names: list[str]) -> list[str]:
        available = self._groups.names
        for name in names:
            if available.count(name) != 1:
                told = "no column" if name not in available else "several columns"
                raise InvalidDataError(
                    f"the Parquet files have {told} {name!r}; expected one of "
                    f"{', '.join(map(repr, available))}."
                )
        if not names or len(set(names)) < len(names):
            raise InvalidDataError(
                f"the columns to read are {names!r}; expected at least one, each once."
            )
        return names

    @property
    def columns(self) -> list[str]:
        """The names of the columns that are read."""
        return list(self._names)

    def __len__(self) -> int:
        return int(self._groups.starts[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """A column as an array, such as the labels that a sampler or a split asks for.

        Raises:
            InvalidDataError: for several columns: they would be read as a whole.
        """
        if not self._is_column:
            raise InvalidDataError(
                f"the Parquet files have the columns {', '.join(map(repr, self._names))}; expected "
                f"one: data[{self._names[0]!r}]."
            )
        source = parquet_source(self, "the column")
        assert source is not None
        array = np.empty(source.shape, source.dtype)
        edges = list(itertools.pairwise(self._groups.starts.tolist()))
        with counted(edges, f"reading the column {self._names[0]!r}") as groups:
            for start, stop in groups:
                array[start:stop] = source.read(np.arange(start, stop), np.empty)
        return array.astype(dtype or source.dtype, copy=False)

    def __getitem__(self, names: str | Sequence[str]) -> Parquet:
        if isinstance(names, str):
            return self._of(self._groups, [names], is_column=True)
        if not isinstance(names, list | tuple):
            raise InvalidArgumentError(
                f"{describe(names)} is no column of the Parquet files; expected a name, or a list "
                "of names. Rows are chosen in the dataset: `subset(rows)`, `split(...)`."
            )
        return self._of(self._groups, list(names))

    def __repr__(self) -> str:
        return f"Parquet of {len(self)} rows, {len(self._groups.starts) - 1} row groups, " + (
            f"column {self._names[0]!r}" if self._is_column else f"columns {self._names}"
        )


class _Last(threading.local):
    """The last batch that a thread has taken; each source has a part of it."""

    rows: Rows | None = None
    records: npt.NDArray[Any] | None = None
    columns: dict[int, npt.NDArray[Any]]
    """Of the records, by what a source is known by; views, which are made once."""


def _absolute(paths: str | list[str]) -> str | list[str]:
    """Paths that name the same files from another folder; addresses stay as they are."""
    if isinstance(paths, str):
        return paths if "://" in paths else os.path.abspath(paths)
    return [path if "://" in path else os.path.abspath(path) for path in paths]


class _Together:
    """Columns that are read and decoded together, and kept together."""

    def __init__(self, groups: RowGroups) -> None:
        self.groups = groups
        self.members: list[_Member] = []
        self.stock: Stock[Chunk] = kept_chunks(groups.starts)
        self._fields: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = []
        self._joined = JoinedChunks(groups.starts, self._fields)
        self._turns = Turns()
        self._last = _Last()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_last": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _last=_Last())

    def add(self, member: _Member) -> int:
        """Read for one more source; the number of what it finds in a chunk."""
        self.members.append(member)
        self.forget()
        key = len(self.members) - 1
        if is_raw(member.dtype):
            self._fields.append((str(key), member.dtype, member.shape[1:]))
        self._joined = JoinedChunks(self.groups.starts, self._fields)
        return key

    def forget(self) -> None:
        """Keep nothing."""
        self.stock.forget()
        self._joined.forget()
        self._last = _Last()

    def decode(self, number: int) -> Chunk:
        """A row group."""
        self._joined.drop(self.stock.__contains__)
        names = sorted({name for member in self.members for name in member.names})
        table = self.groups.read(number, names)
        first = int(self.groups.starts[number])
        chunk = self._joined.new(number, self.stock.most)
        for member in self.members:
            member.put(table, first, chunk)
        return chunk

    def taken(self, rows: Rows) -> dict[int, npt.NDArray[Any]] | None:
        """The columns of the rows of a batch; None if they are to be read chunk by chunk.

        They are there until this thread asks for other rows.
        """
        last = self._last
        if last.rows is None or not _are_same(rows, last.rows):
            last.rows = None  # what it was taken to is written to
            records = self._take(rows, last.records)
            if records is not None and records is not last.records:
                last.columns = {int(name): records[name] for name, *_ in self._fields}
            last.records = records
            last.rows = rows.copy() if rows.flags.writeable else rows
        return None if last.records is None else last.columns

    def _take(self, rows: Rows, out: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        out = None if out is None or len(out) != len(rows) else out
        numbers = self.groups.pieces.numbers(rows)
        joined = self._joined
        times_forgotten = joined.times_forgotten
        found = joined.take(rows, numbers, out)
        if found is None:
            needed = np.unique(numbers).tolist()
            if np.diff(self.groups.starts)[needed].sum() > self.stock.most:
                return None  # of a full shuffle, whose batches have rows of all row groups
            self.stock.need(needed)
            chunks = {
                number: self.stock.get(number, self.decode)
                for number in others_last(self._turns.turned(needed), self.stock.is_under_way)
            }
            joined.show(chunks, times_forgotten)
            found = joined.take(rows, numbers, out)
        return found


def _are_same(rows: Rows, others: Rows) -> bool:
    """Whether two arrays have the same rows. What is written to is compared by its values."""
    return (rows is others and not rows.flags.writeable) or np.array_equal(rows, others)


class _Column:
    """What is known of a column before it is read.

    Args:
        groups: the row groups.
        name: of the column.
        path: of the leaf, for messages.
        value: what is read in place of a null.
    """

    def __init__(self, groups: RowGroups, name: str, path: str, value: Any) -> None:
        self._path = path
        groups.refuse_other_types(name, path)
        self._sizes = groups.list_sizes(name, path)
        self.layout = layout_of(groups.type_of(name), path, self._sizes)
        self.codes: Codes | None = None
        if self.layout.is_dictionary:
            self.codes = Codes(groups.categories(name), self.layout.dtype, value, path)
            self._fill, self.dtype = self.codes.fill, self.codes.dtype
        else:
            self.dtype = self.layout.dtype
            self._fill = checked_value(value, self.dtype, path, self.layout.objects)
        if self._fill is UNFILLED:
            groups.refuse_known_nulls(name, path)

    def of(self, column: Any, first: int) -> ArrowColumn:
        """The column in one row group, whose first row is row `first` of all."""
        chunks = chunks_of(column)
        if self._fill is UNFILLED:  # not all files tell how many nulls there are
            refuse_nulls_of(chunks, self._path, first=first)
        sizes = list_sizes(chunks, self._path)
        if sizes != self._sizes:
            refuse_lists(self._path, min(*sizes, *self._sizes), max(*sizes, *self._sizes))
        return ArrowColumn(chunks, self.layout, self._fill, self._path, self.codes)


class _Leaf:
    """One of the columns that are read together, as a leaf of a dataset."""

    def __init__(self, together: _Together, name: str) -> None:
        self.together, self.name = together, name


class _Member(ChunkRows):
    """A source that reads columns of Parquet files, together with others."""

    names: list[str]
    """Of the columns."""

    def __init__(self, together: _Together, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        groups = together.groups
        super().__init__(groups.starts, shape, dtype, together.stock, groups.pieces)
        self._is_in_records = is_raw(dtype)
        self.join(together)

    @abstractmethod
    def put(self, table: Any, first: int, chunk: Chunk) -> None:
        """Put a row group, whose first row is row `first` of all, into a chunk."""

    @property
    def together(self) -> _Together:
        """What reads for it."""
        return self._together

    def join(self, together: _Together) -> None:
        """Let another read for it, and for others."""
        self._together, self._stock = together, together.stock
        self._key = together.add(self)
        self._field = str(self._key)

    def forget(self, pass_number: int | None = None) -> None:
        """Keep nothing: what is stored may have changed."""
        self._together.forget()

    def decode(self, number: int) -> Chunk:
        """A row group, for all that are read together."""
        return self._together.decode(number)

    def pick(self, chunk: Chunk, rows: Rows) -> npt.NDArray[Any]:
        """Rows of a row group."""
        if self._is_in_records:
            return chunk.records[self._field][rows]
        found: npt.NDArray[Any] = chunk.others[self._key].read(rows, np.empty)
        return found

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Take the rows at once, or from one row group after the other."""
        columns = self._together.taken(rows) if self._is_in_records else None
        if columns is None:
            return super().read(rows, empty)
        out = empty((len(rows), *self.shape[1:]), self.dtype)
        out[...] = columns[self._key]
        return out


class ParquetColumn(_Member):
    """One column of Parquet files, read with others."""

    def __init__(self, leaf: _Leaf, path: str, value: Any) -> None:
        self.names = [leaf.name]
        self._column = _Column(leaf.together.groups, leaf.name, path, value)
        super().__init__(leaf.together, self._column.layout.shape, self._column.dtype)

    @property
    def categories(self) -> list[Any] | None:
        """The categories of a dictionary, in the order of their codes."""
        codes = self._column.codes
        return None if codes is None else codes.categories

    def put(self, table: Any, first: int, chunk: Chunk) -> None:
        """Its values, or the column of Arrow if they are objects."""
        column = self._column.of(table.column(self.names[0]), first)
        if self._is_in_records:
            column.fill(chunk.records[self._field])
        else:
            chunk.others[self._key] = column


class ParquetMatrix(_Member):
    """Columns of numbers of Parquet files, as a matrix."""

    def __init__(self, groups: RowGroups, columns: dict[str, Any], path: str) -> None:
        self.names = list(columns)
        self._columns = [
            _Column(groups, name, f"column {name!r} of {path}", unwrapped(column)[1])
            for name, column in columns.items()
        ]
        super().__init__(_Together(groups), (len(columns),), self._columns[0].dtype)

    def put(self, table: Any, first: int, chunk: Chunk) -> None:
        """Each column as one of its matrix."""
        matrix = chunk.records[self._field]
        for place, (name, column) in enumerate(zip(self.names, self._columns, strict=True)):
            column.of(table.column(name), first).fill(matrix[:, place])


def column_of(data: Parquet) -> tuple[RowGroups, str] | None:
    """The row groups and the name of a column; None for several columns."""
    return (data._groups, data._names[0]) if data._is_column else None


def read_together(sources: Sequence[Source]) -> None:
    """Let columns of the same Parquet files be read together, in whichever leaves they are."""
    first: dict[int, _Together] = {}
    for source in sources:
        if isinstance(source, _Member):
            together = first.setdefault(id(source.together.groups), source.together)
            if together is not source.together:
                source.join(together)


def _as_parquet(data: Any, path: str) -> Parquet | None:
    """A `Parquet` of what is one already, or of pyarrow's own objects; else None."""
    if isinstance(data, Parquet):
        return data
    if type(data).__module__.partition(".")[0] != "pyarrow":
        return None
    if not hasattr(data, "read_row_group") and not hasattr(data, "get_fragments"):
        return None
    groups = row_groups_in(data, path)
    return Parquet._of(groups, groups.names)


def _is_matrix(data: Parquet) -> bool:
    return are_numbers_of_one_type([data._groups.type_of(name) for name in data._names])


def parquet_columns(leaf: Any, path: str) -> dict[str, Any] | None:
    """The columns of Parquet files, unless they make a matrix; else None."""
    data, value = unwrapped(leaf)
    parquet = _as_parquet(data, path)
    if parquet is None or parquet._is_column or _is_matrix(parquet):
        return None
    together = _Together(parquet._groups)
    leaves = {name: _Leaf(together, name) for name in parquet._names}
    return columns_filled(leaves, value, path)


def parquet_source(leaf: Any, path: str) -> Source | None:
    """The source of a column of Parquet files, or of columns that make a matrix; else None."""
    data, value = unwrapped(leaf)
    if isinstance(data, _Leaf):
        return ParquetColumn(data, path, value)
    parquet = _as_parquet(data, path)
    if parquet is None:
        return None
    if parquet._is_column:
        together = _Together(parquet._groups)
        return ParquetColumn(_Leaf(together, parquet._names[0]), path, value)
    columns = dict.fromkeys(parquet._names)
    return ParquetMatrix(parquet._groups, columns_filled(columns, value, path), path)
