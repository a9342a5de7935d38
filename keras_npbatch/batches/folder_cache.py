"""`FolderCache`: a `RowCache` whose rows are in a folder, for later runs too.

    cache = FolderCache(60_000, Path("decoded"), most_bytes=None, data={"dataset": "Slides"})
    batch = cache.load(rows, load, empty)

A row has a checksum for its mark, so a row that is not whole after a crash, or was damaged later,
is read again. The checksum is compared when a process first takes the row; later epochs cost
nothing more.

Whether the rows are those of this dataset is asked twice. The head of the file names the data
(shapes, dtypes, files with their sizes and times) and what a sample is. And each run first reads a
few of the rows that it finds, and compares them. What differs is refused, not deleted: it may be
the work of days.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optree

from keras_npbatch.batches.cache_file import CacheFile, DamagedFileError, make_file, read_head
from keras_npbatch.batches.memory_size import in_words
from keras_npbatch.batches.row_cache import HEAD_BYTES, CacheInfo, RowCache, no_room
from keras_npbatch.batches.row_layout import Layout, Leaf, room_for, rows_at
from keras_npbatch.batches.slots import ALIGNMENT_BYTES
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree, leaves_with_paths

__all__ = ["FolderCache"]

_NAME = "rows.cache"
_MARK = np.dtype("<u4")
_SAMPLE, _ROOM = "a sample", "rows with room"
_UNBOUNDED = 2**62
_ROWS_COMPARED = 8
_ELSE = "Name another folder, or delete this one."


class FolderCache(RowCache):
    """Keeps samples by row, in a file.

    Args:
        num_rows: of the data.
        path: of the folder, which is made if it is not there.
        most_bytes: how much of the disk it takes at most; None: what all rows take.
        data: what identifies the data, by name; values that JSON takes.

    Raises:
        InvalidArgumentError: if the folder can't be used, or has the rows of other data.
    """

    def __init__(
        self, num_rows: int, path: Path, most_bytes: int | None, data: Mapping[str, Any]
    ) -> None:
        self.num_rows, self.path, self.most_bytes = num_rows, path.absolute(), most_bytes
        self._data = json.loads(json.dumps(dict(data)))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        self._head()
        self._begin(for_processes=True)  # it is small, since the rows are in the file

    @property
    def _total_bytes(self) -> int:
        return HEAD_BYTES

    @property
    def setting(self) -> Any:
        """What a user writes to have it."""
        folder = str(self.path)
        return folder if self.most_bytes is None else (folder, in_words(self.most_bytes))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"path": self.path, "data": self._data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self._data = state["path"], state["data"]
        super().__setstate__(state)

    def _use(self, descriptor: int | None) -> None:
        super()._use(descriptor)
        self._file: CacheFile | None = None
        self._is_whole = np.empty(0, np.bool_)
        """Of each place, whether this process knows that its row is whole."""
        self._takes_more, self._has_warned = True, False

    def info(self) -> CacheInfo:
        """What it holds, also before this run has read any of it."""
        found = super().info()
        head = self._head() if found.most_rows is None else None
        if head is None:
            return found
        file, room = CacheFile(self._at), head[_ROOM]
        rows = int(np.count_nonzero(_marks(file, room)))
        lost = ALIGNMENT_BYTES * (1 + len(head[_SAMPLE]))
        of_row = (len(file.memory) - file.start - lost) // room - _MARK.itemsize
        return found._replace(rows=rows, most_rows=room, num_bytes=rows * of_row)

    # ---------------------------------------------------------------- rows

    def _where_it_is_now(self, layout: Layout) -> Layout:
        """The same: a file stays where it is."""
        return layout

    def _are_kept(
        self, layout: Layout, places: Rows, *, counted: bool = False
    ) -> npt.NDArray[np.bool_]:
        is_kept = super()._are_kept(layout, places, counted=counted)
        doubtful = np.unique(places[is_kept & ~self._is_whole[places]]).tolist()
        damaged = [place for place in doubtful if not self._is_right(layout, place)]
        if damaged:
            are_damaged = np.isin(places, damaged)
            if counted:
                with self._alone():
                    wrong = int(np.count_nonzero(is_kept & are_damaged))
                    self._count(-wrong, wrong)
            is_kept &= ~are_damaged
            self._warn_of_damage(layout, damaged)
        return is_kept

    def _is_right(self, layout: Layout, place: int) -> bool:
        row = [_bytes_of(array[place : place + 1])[0] for array in layout.arrays]
        is_right = _checksum(place, row) == layout.marks[place]
        self._is_whole[place] = is_right
        return bool(is_right)

    def _keep(self, layout: Layout, places: Rows, arrays: list[npt.NDArray[Any]]) -> None:
        """Write rows, and then their marks."""
        file, leaves = self._file, [_bytes_of(array) for array in arrays]
        assert file is not None
        try:
            for at, place in enumerate(places.tolist()):
                if place < 0 or self._is_whole[place] or not self._takes_more:
                    continue
                row = [leaf[at] for leaf in leaves]
                for start, leaf in zip(layout.starts, row, strict=True):
                    file.write(start + place * len(leaf), leaf)
                mark = np.array([_checksum(place, row)], _MARK).view(np.uint8)
                file.write(file.start + place * _MARK.itemsize, mark)
                self._is_whole[place] = True
        except OSError as error:
            self._takes_more = False
            warnings.warn(
                f"the cache in {self.path} takes no more rows ({error}); those that it lacks are "
                "read in each epoch. If the disk is full, free some of it, or begin another "
                "folder with a bound: cache=('./another', '50 GB').",
                stacklevel=2,
            )

    def _warn_of_damage(self, layout: Layout, places: Sequence[int]) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        row = rows_at(np.array(places[:1]), self.num_rows, layout.most_rows)[0]
        warnings.warn(
            f"row {row} in the cache in {self.path} is damaged: it is read anew. No further "
            "warning follows. After a crash of the system some rows may be so; if not, the disk "
            "may be failing.",
            stacklevel=2,
        )

    # ---------------------------------------------------------------- rows of earlier runs

    def _found_again(self, load: Callable[[Rows], Tree]) -> Layout | None:
        """Where the rows of an earlier run lie, after a comparison of some with the data."""
        head = self._head()
        if head is None:
            return None
        self._file = CacheFile(self._at)
        room = head[_ROOM]
        places = np.flatnonzero(_marks(self._file, room))
        if not len(places):
            return None
        some = np.linspace(0, len(places) - 1, min(len(places), _ROWS_COMPARED)).astype(np.int64)
        rows = rows_at(places[some], self.num_rows, room)
        try:
            found = load(rows)
        except Exception as error:
            rows = rows[[_can_be_read(load, rows[at : at + 1]) for at in range(len(rows))]]
            if not len(rows):
                raise InvalidArgumentError(
                    f"cache is the folder {self.path}, which has rows "
                    f"{rows_at(places[some], self.num_rows, room).tolist()}, and they can't be "
                    f"read any more ({type(error).__name__}: {error}); expected the data that "
                    f"it is of. {_ELSE}"
                ) from error
            found = load(rows)
        return self._learn(found, rows)

    def _compare(self, layout: Layout, rows: Rows, arrays: list[npt.NDArray[Any]]) -> None:
        """Refuse rows of an earlier run that are not what is read now.

        Raises:
            InvalidArgumentError: naming the row.
        """
        places = layout.places(rows)
        is_kept = self._are_kept(layout, places)
        is_other = np.zeros(len(rows), np.bool_)
        for kept, new in zip(layout.arrays, arrays, strict=True):
            differ = _bytes_of(kept[places[is_kept]]) != _bytes_of(new[is_kept])
            is_other[is_kept] |= differ.any(axis=1)
        if is_other.any():
            raise InvalidArgumentError(
                f"cache is the folder {self.path}, in which row {rows[is_other][0]} has other "
                "values than load gives now; expected the same. The folder is of other data, or "
                "what reads them has changed, or it does not give the same each time. "
                f"{_ELSE}"
            )

    # ---------------------------------------------------------------- the file

    @property
    def _at(self) -> Path:
        return self.path / _NAME

    def _head(self) -> dict[str, Any] | None:
        """What the file says that it has; None if there is none, or if it is to be made again.

        Raises:
            InvalidArgumentError: if it is of other data, or not a cache.
        """
        try:
            found = read_head(self._at)
        except OSError as error:
            raise self._unusable(error) from error
        except DamagedFileError as error:
            if not error.is_ours:
                raise InvalidArgumentError(
                    f"cache is the folder {self.path}, whose file {_NAME} is no cache: {error}; "
                    f"expected an empty folder, or one that was a cache before. {_ELSE}"
                ) from error
            warnings.warn(
                f"the cache in {self.path} is damaged ({error}) and is made anew.", stacklevel=2
            )
            self._at.unlink(missing_ok=True)
            return None
        if found is not None:
            self._refuse_other(found, self._data)
        return found

    def _refuse_other(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        differ = [name for name in expected if found.get(name) != expected[name]]
        if differ == [_ROOM]:
            raise InvalidArgumentError(
                f"cache is {self.setting!r}, which has room for {expected[_ROOM]} rows, and the "
                f"folder was made with room for {found[_ROOM]}; expected the same bound. {_ELSE}"
            )
        if differ:
            each = "; ".join(f"{name}: {found.get(name)}, not {expected[name]}" for name in differ)
            raise InvalidArgumentError(
                f"cache is the folder {self.path}, which has rows of other data ({each}); "
                f"expected a folder for each dataset. {_ELSE}"
            )

    def _laid_out(self, structure: optree.PyTreeSpec, leaves: tuple[Leaf, ...]) -> Layout:
        most_bytes = _UNBOUNDED if self.most_bytes is None else self.most_bytes
        most_rows = room_for(leaves, _MARK.itemsize, self.num_rows, most_bytes)
        of_row = _MARK.itemsize + sum(leaf.num_bytes for leaf in leaves)
        if not most_rows:
            raise no_room(most_bytes, of_row)
        paths = leaves_with_paths(structure.unflatten(range(len(leaves))), "load(rows)")
        sample = [
            f"{path} {leaf.shape} {np.lib.format.dtype_to_descr(leaf.dtype)}"
            for (path, _), leaf in zip(paths, leaves, strict=True)
        ]
        head = self._data | {_SAMPLE: sample, _ROOM: most_rows}
        if self._file is None:
            num_bytes = of_row * most_rows + ALIGNMENT_BYTES * (1 + len(leaves))
            try:
                if self._head() is None:  # on a full disk, only the first process could make one
                    make_file(self._at, head, num_bytes, _MARK.itemsize * most_rows)
                self._file = CacheFile(self._at)
            except (OSError, OverflowError) as error:
                raise self._unusable(error) from error
        self._refuse_other(self._file.head, head)
        self._is_whole = np.zeros(most_rows, np.bool_)
        memory, start = self._file.memory, self._file.start
        return Layout.of(structure, leaves, memory, start, self.num_rows, most_rows, _MARK)

    def _unusable(self, error: Exception) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"cache is the folder {self.path}, which can't be used ({error}); expected one in "
            "which files can be made and written."
        )


def _marks(file: CacheFile, room: int) -> npt.NDArray[Any]:
    return file.memory[file.start : file.start + room * _MARK.itemsize].view(_MARK)


def _can_be_read(load: Callable[[Rows], Tree], rows: Rows) -> bool:
    try:
        load(rows)
    except Exception:  # noqa: BLE001  # whatever the user's code raises
        return False
    return True


def _bytes_of(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of each row, of shape `(rows, bytes)`."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat.reshape(len(array), flat.size // max(len(array), 1))


def _checksum(place: int, row: Sequence[npt.NDArray[np.uint8]]) -> int:
    """Of a row and its place; never 0, which marks a row that is not there."""
    found = place & 0xFFFFFFFF
    for leaf in row:
        found = zlib.crc32(leaf.data, found)
    return found or 1
