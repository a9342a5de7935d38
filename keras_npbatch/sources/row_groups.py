"""`RowGroups`: the row groups of Parquet files, and what the files tell about them.

    groups = row_groups_in(pyarrow.dataset.dataset("measurements/"), "x")
    groups.read(7, ["age", "height"])        # a table of Arrow

Footers are read once. They tell how many rows there are, and mostly how many nulls.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources.arrow import categories_in, chunks_of, refuse_nulls_of
from keras_npbatch.sources.arrow_types import is_list, list_sizes
from keras_npbatch.sources.pieces import Pieces, starts_of
from keras_npbatch.sources.progress import counted

__all__ = ["RowGroups", "row_groups_in"]


class RowGroups(ABC):
    """The row groups of one or several files, one after the other; none is empty.

    Args:
        schema: of the tables that are read.
        places: for each row group, the number of its file and its number there.
        footers: the metadata of each file.
    """

    def __init__(self, schema: Any, places: list[tuple[int, int]], footers: list[Any]) -> None:
        self.schema = schema
        self.names: list[str] = list(schema.names)
        self._footers = footers
        self._schemas: list[tuple[int, Any]] = []
        """The schemas of several files that there are, each with the first file that has it."""
        counts = [footers[file].row_group(group).num_rows for file, group in places]
        self._places = [place for place, rows in zip(places, counts, strict=True) if rows]
        self.starts = starts_of([rows for rows in counts if rows])
        """The first row of each row group, and the number of all rows."""
        self.pieces = Pieces(self.starts)
        """Which of a batch's rows are in which row group: the same for all columns."""
        self._categories: dict[str, list[Any]] = {}

    @abstractmethod
    def open(self, file: int, group: int, names: list[str]) -> Any:
        """Read some columns of row group `group` of the file `file`, as a table of Arrow."""

    def read(self, number: int, names: list[str]) -> Any:
        """Some columns of a row group, as a table of Arrow."""
        file, group = self._places[number]
        try:
            table = self.open(file, group, names)
        except Exception as error:
            error.add_note(
                f"keras_npbatch: raised by row group {group} of {self.name_of(file)}, in columns "
                f"{', '.join(map(repr, names))}"
            )
            if self.has_changed(file):
                error.add_note(
                    f"keras_npbatch: {self.name_of(file)} is not as it was when the dataset was "
                    "made. Make a new dataset when a file changes."
                )
            raise
        expected = int(self.starts[number + 1] - self.starts[number])
        if table.num_rows != expected:
            raise InvalidDataError(
                f"row group {group} of {self.name_of(file)} has {table.num_rows} rows; expected "
                f"{expected}, as when the dataset was made. Make a new dataset when a file changes."
            )
        return table

    def name_of(self, file: int) -> str:
        """What a file is called in messages."""
        return "the file"

    def has_changed(self, file: int) -> bool:
        """Whether a file is known to be another one than when the dataset was made."""
        return False

    def refuse_other_types(self, name: str, path: str) -> None:
        """Refuse a column of numbers if a file has some that its type can't hold.

        pyarrow reads all files as the type of the first.

        Raises:
            InvalidDataError: naming two files, and what each has.
        """
        expected = self.type_of(name)
        if not _is_number(expected):
            return
        same: int | None = None
        other: tuple[int, Any] | None = None
        for file, schema in self._schemas:
            place = schema.get_field_index(name)  # -1: it has no such column, or several
            if place < 0:
                continue
            kind = schema.field(place).type
            if kind == expected:
                same = file if same is None else same
            elif other is None and not _holds(expected, kind):
                other = file, kind
        if same is not None and other is not None:
            raise InvalidDataError(
                f"{path} is of type {other[1]} in {self.name_of(other[0])}, and {expected} in "
                f"{self.name_of(same)}; expected a type that holds the numbers of all files. Write "
                "them with one type, or say which all are read as: "
                "`pyarrow.dataset.dataset(paths, schema=schema)`, in place of `Parquet(paths)`."
            )

    def type_of(self, name: str) -> Any:
        """The type of a column."""
        return self.schema.field(name).type

    def list_sizes(self, name: str, path: str) -> tuple[int, ...]:
        """How long the lists of a column are; see `arrow_types.list_sizes`.

        Raises:
            InvalidDataError: if it is known that their lengths differ.
        """
        if not is_list(self.type_of(name)) or not self._places:
            return ()
        sizes = list_sizes(chunks_of(self.read(0, [name]).column(name)), path)
        if len(sizes) == 1:
            for number, (file, group) in enumerate(self._places):
                rows = int(self.starts[number + 1] - self.starts[number])
                values, nulls = self._told(file, group, name)
                if nulls == 0 and values != sizes[0] * rows:
                    both = [self.read(each, [name]).column(name) for each in (0, number)]
                    list_sizes([chunk for each in both for chunk in each.chunks], path)
        return sizes

    def categories(self, name: str) -> list[Any]:
        """The categories of a column of dictionaries: this column is read once, in all groups."""
        if name not in self._categories:
            found: dict[Any, None] = {}
            what = f"reading the categories of {name}"
            with counted(range(len(self._places)), what) as groups:
                for number in groups:
                    chunks = chunks_of(self.read(number, [name]).column(name))
                    found.update(dict.fromkeys(categories_in(chunks)))
            self._categories[name] = list(found)
        return self._categories[name]

    def refuse_known_nulls(self, name: str, path: str) -> None:
        """Refuse a column if the files say that values are missing.

        Raises:
            InvalidDataError: naming the first row without a value.
        """
        for number, (file, group) in enumerate(self._places):
            _, nulls = self._told(file, group, name)
            if nulls:  # of a list, this also counts lists without values
                column = self.read(number, [name]).column(name)
                refuse_nulls_of(chunks_of(column), path, first=int(self.starts[number]))

    def _told(self, file: int, group: int, name: str) -> tuple[int, int | None]:
        """How many values a column has in a row group, and how many nulls, if the file says so."""
        footer = self._footers[file].row_group(group)
        values, nulls, is_told = 0, 0, False
        for number in range(footer.num_columns):
            column = footer.column(number)
            if column.path_in_schema.partition(".")[0] != name and column.path_in_schema != name:
                continue
            values += column.num_values
            statistics = column.statistics
            if statistics is None or not statistics.has_null_count:
                return values, None
            nulls, is_told = nulls + statistics.null_count, True
        return values, nulls if is_told else None


class _OfDataset(RowGroups):
    """Row groups of the files of a `pyarrow.dataset.Dataset`, each opened while it is read."""

    def __init__(self, dataset: Any, fragments: list[Any], schema_is_given: bool) -> None:
        self._fragments = fragments
        with counted(fragments, "reading the footers of Parquet files") as each:
            footers = [fragment.metadata for fragment in each]
        places = [
            (file, group.id)
            for file, fragment in enumerate(fragments)
            for group in fragment.row_groups
        ]
        super().__init__(dataset.schema, places, footers)
        for file, fragment in enumerate([] if schema_is_given else fragments):
            schema = fragment.physical_schema  # known with the footer
            if not any(schema.equals(known) for _, known in self._schemas):
                self._schemas.append((file, schema))

    def open(self, file: int, group: int, names: list[str]) -> Any:
        """Read some columns of a row group; the file is open only for as long as that takes."""
        of_file = self._fragments[file].subset(row_group_ids=[group])
        rows = self._footers[file].row_group(group).num_rows
        return of_file.to_table(schema=self.schema, columns=names, batch_size=max(rows, 1))

    def name_of(self, file: int) -> str:
        """The path of a file."""
        return repr(self._fragments[file].path)

    def has_changed(self, file: int) -> bool:
        """Whether the footer is another one, or gone; of files elsewhere this is not asked."""
        from pyarrow import fs, parquet

        fragment = self._fragments[file]
        if not isinstance(fragment.filesystem, fs.LocalFileSystem) or fragment.buffer is not None:
            return False
        try:
            return not parquet.read_metadata(fragment.path).equals(self._footers[file])
        except Exception:  # noqa: BLE001  # it could be read when the dataset was made
            return True


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    is_real = types.is_integer(kind) or types.is_floating(kind)
    return bool(is_real or types.is_boolean(kind))


def _holds(kind: Any, other: Any) -> bool:
    """Whether a type of numbers holds those of another one; real numbers may be rounded."""
    import pyarrow as pa

    if not _is_number(other):  # texts of numbers, say, which pyarrow reads
        return True
    if pa.types.is_floating(kind):
        return True
    return bool(np.can_cast(other.to_pandas_dtype(), kind.to_pandas_dtype(), "safe"))


class _OfOpenFile(RowGroups):
    """Row groups of a `pyarrow.parquet.ParquetFile`, read through its one handle."""

    def __init__(self, file: Any) -> None:
        self._file, self._lock = file, threading.Lock()
        footer = file.metadata
        places = [(0, group) for group in range(footer.num_row_groups)]
        super().__init__(file.schema_arrow, places, [footer])

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "a ParquetFile is open in one process; expected keras_npbatch.sources.Parquet(path), "
            "which each process opens itself"
        )

    def open(self, file: int, group: int, names: list[str]) -> Any:
        """Read some columns of a row group, one thread at a time."""
        with self._lock:
            return self._file.read_row_group(group, columns=names)


def row_groups_in(data: Any, path: str, *, schema_is_given: bool = True) -> RowGroups:
    """The row groups of a `pyarrow.parquet.ParquetFile` or a `pyarrow.dataset.Dataset`.

    Args:
        data: either of them.
        path: of the leaf, for messages.
        schema_is_given: whether the user may have said as which types all files are read.

    Raises:
        InvalidDataError: for a dataset that is filtered, or of other files.
    """
    if hasattr(data, "read_row_group"):
        return _OfOpenFile(data)
    try:
        fragments = list(data.get_fragments())
    except ValueError as error:
        raise InvalidDataError(
            f"{path} is a filtered or projected pyarrow Dataset, whose rows are not known before "
            f"they are read; expected one of whole files. Read it: `{path}.to_table()`."
        ) from error
    for fragment in fragments:
        if not hasattr(fragment, "row_groups"):
            raise InvalidDataError(
                f"{path} is a pyarrow Dataset of other files than Parquet, or of none; expected "
                f"Parquet files. Read it (`{path}.to_table()`), or write it as Parquet files: "
                f"`pyarrow.dataset.write_dataset({path}, folder, format='parquet')`."
            )
    return _OfDataset(data, fragments, schema_is_given)
