"""`Concatenated`: many arrays or `.npy` files of different lengths as one.

    x = Concatenated(sorted(folder.glob("*.npy")))     # one recording a file
    train = keras_npbatch.ArrayDataset(x, y)

Nothing is copied together: each row is read from the part that it is in.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import array_source
from keras_npbatch.sources.categories import categories_of, what_differs
from keras_npbatch.sources.npy import Header, open_npy, read_header
from keras_npbatch.sources.paths import Paths, absolute_paths, refuse_no_list
from keras_npbatch.sources.progress import counted
from keras_npbatch.sources.scatter import groups, new, scatter
from keras_npbatch.sources.source import Empty, Source, stamp_of
from keras_npbatch.sources.sources import as_source
from keras_npbatch.sources.stored_parts import Parts

__all__ = ["Concatenated"]

_FEW = 16
"""Up to this many rows of a file are copied one by one."""


class Concatenated(Parts):
    """Parts of different lengths, one after the other.

    Their rows are numbered through: those of the first part, then those of the second. Files are
    opened when their rows are read; each worker process opens them itself. Chunks of parts that are
    stored in them are read once an epoch with `sampler=BlockShuffle()`.

    Example:

    ```python
    x = keras_npbatch.sources.Concatenated(sorted(Path("recordings").glob("*.npy")))
    train, test = keras_npbatch.ArrayDataset(x, y).split(0.8, groups=x.part_of(range(len(x))))
    ```

    Args:
        parts: a list of paths of `.npy` files, and of whatever `ArrayDataset` takes as a leaf:
            arrays, memory maps, HDF5 and Zarr datasets, other sources. Each has the shape
            `(num_rows, *feature_shape)`, with `feature_shape` and dtype in common.
        most_open: how many files are mapped at once, besides those that other threads are
            reading at that moment. The one that was read longest ago is closed first.

    Raises:
        InvalidDataError: if a part can't be read by rows, or differs from the first in more than
            its length, or numbers its categories otherwise. All headers are read for that, and no
            file is mapped.
        InvalidArgumentError: for an invalid `most_open`.
    """

    def __init__(self, parts: Iterable[Any], *, most_open: int = 128) -> None:
        refuse_no_list(parts, "parts", "paths, arrays or sources")
        if hasattr(parts, "shape"):
            raise InvalidDataError(
                f"parts is {describe(parts)}; expected a list of paths, arrays or sources."
            )
        given = list(parts)
        if not given:
            raise InvalidDataError(
                "parts has no items; expected at least one. Check how they were listed."
            )
        self.most_open = whole_number("most_open", most_open, least=1)
        """How many files are mapped at once."""
        with counted(range(len(given)), "reading the headers of Concatenated") as numbers:
            found = [_part(given[number], f"parts[{number}]") for number in numbers]
        first = found[0]
        self.dtype = first.dtype
        """The dtype of every part."""
        codes = [None if isinstance(part, Header) else categories_of(part) for part in found]
        self.categories = codes[0]
        """The categories of every part, in the order of their codes; None if they have none."""
        for number, (part, each) in enumerate(zip(given, found, strict=True)):
            if codes[number] is not None and codes[0] is not None:  # before their dtypes differ
                _refuse_other_codes(given, codes, number)
            if each.dtype != first.dtype or each.shape[1:] != first.shape[1:]:
                raise InvalidDataError(
                    f"parts[{number}], {_named(part)}, has samples of shape {each.shape[1:]} and "
                    f"dtype {each.dtype}; expected shape {first.shape[1:]} and dtype "
                    f"{first.dtype}, as parts[0], {_named(given[0])}, has. Convert it, or leave it "
                    "out."
                )
            _refuse_other_codes(given, codes, number)
        self._starts = np.cumsum([0, *(part.shape[0] for part in found)], dtype=np.int64)
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *first.shape[1:])
        """`(num_rows, *feature_shape)`: the rows of all parts."""
        files = [part for part in found if isinstance(part, Header)]
        self._sources = {
            number: part for number, part in enumerate(found) if not isinstance(part, Header)
        }
        self.is_in_memory = not files and all(
            source.is_in_memory for source in self._sources.values()
        )
        # In arrays, which worker processes share: there may be very many files.
        self._file_of = np.cumsum([isinstance(part, Header) for part in found]) - 1
        self._paths = Paths(header.path for header in files)
        self._places = np.array(
            [(file.is_fortran, file.offset, file.checksum) for file in files], np.int64
        )
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        left_behind = ("_lock", "_open")
        return {name: value for name, value in vars(self).items() if name not in left_behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def part_of(self, rows: Iterable[int]) -> npt.NDArray[np.int64]:
        """The part that each row is in: `groups=` for a split that keeps parts together.

        Args:
            rows: row numbers.

        Returns:
            int64 array of shape `(len(rows),)`, the index in `parts` of each.

        Raises:
            IndexError: for a row that does not exist.
        """
        numbers = np.fromiter(rows, np.int64) if isinstance(rows, range) else np.asarray(rows)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(
                f"rows go from {numbers.min()} to {numbers.max()}; expected numbers from 0 to "
                f"{len(self) - 1}"
            )
        return self._part_of(numbers)

    def _part_of(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def read(self, rows: Rows, empty: Empty) -> npt.NDArray[Any]:
        """Read the rows part by part, each into its place."""
        parts = self._part_of(rows)
        inside = rows - self._starts[parts]
        found = list(groups(parts))
        if len(found) == 1:
            return self._source(int(parts[0])).read(inside, empty)
        out = new((len(rows), *self.shape[1:]), self.dtype, empty)
        for number, places in found:
            if len(places) <= _FEW and number not in self._sources:
                array = self._mapped(number)
                for place in places.tolist():  # less work than to index by an array
                    out[place] = array[inside[place]]
            else:
                scatter(self._source(number), inside[places], out, places)
        return out

    def close(self) -> None:
        """Close all files. Those that are read after that are opened again."""
        with self._lock:
            self._open.clear()

    @property
    def stamp(self) -> str:
        """What changes if the files do; see `stamp_of`."""
        of_others = [stamp_of(source) for source in self._sources.values()]
        return f"{self._paths.stamp} {of_others}"

    def _source(self, number: int) -> Source:
        given = self._sources.get(number)
        if given is not None:
            return given
        source = array_source(self._mapped(number), "")
        assert source is not None
        return source

    def _mapped(self, number: int) -> npt.NDArray[Any]:
        """The array of a file, which is opened if it is not open."""
        with self._lock:
            found = self._open.get(number)
            if found is not None and not _is_cut(found):
                self._open.move_to_end(number)
                return found
        found = self._opened(number)  # perhaps by two threads at once, which does no harm
        with self._lock:
            self._open[number] = found
            while len(self._open) > self.most_open:
                self._open.popitem(last=False)
        return found

    def _opened(self, number: int) -> npt.NDArray[Any]:
        file = int(self._file_of[number])
        is_fortran, offset, checksum = self._places[file].tolist()
        shape = (int(self._starts[number + 1] - self._starts[number]), *self.shape[1:])
        header = Header(self._paths[file], shape, self.dtype, bool(is_fortran), offset, checksum)
        return open_npy(header).view(np.ndarray)  # a plain one is faster to index

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return (
            f"Concatenated({len(self._starts) - 1} parts, shape={self.shape}, dtype={self.dtype})"
        )


def _part(given: Any, name: str) -> Header | Source:
    if not isinstance(given, str | os.PathLike):
        source = as_source(given, name)
        if None in source.shape:
            raise InvalidDataError(
                f"{name} has sequences that are padded to another length in each batch; expected "
                "one length: Ragged(..., pad_to=256). Or make one Ragged of all sequences."
            )
        return source
    (path,) = absolute_paths([given], name)
    return read_header(path, name)


def _refuse_other_codes(given: list[Any], codes: list[list[Any] | None], number: int) -> None:
    """Refuse a part whose codes mean something else than those of the first."""
    names = (f"parts[{each}], {_named(given[each])}," for each in (number, 0))
    told = what_differs(codes[number], next(names), codes[0], next(names), "parts")
    if told is not None:
        raise InvalidDataError(told)


def _is_cut(array: npt.NDArray[Any]) -> bool:
    """Whether a file has become shorter than its map: to read it would end the process (SIGBUS)."""
    if not isinstance(array.base, np.memmap):
        return False
    mapped: Any = array.base._mmap  # type: ignore[attr-defined]  # the memory map itself
    return bool(mapped.size() < array.base.offset + array.nbytes)


def _named(part: Any) -> str:
    return repr(os.fspath(part)) if isinstance(part, str | os.PathLike) else describe(part)
