"""Sends a dataset to worker processes: once, with its arrays shared and its files reopened.

    package = Package.of(dataset, opened, system.new_segment)  # in the parent: one segment
    dataset = unpack(memory)                                   # in a worker: the segment, mapped

cloudpickle takes what pickle refuses: lambdas, closures, classes of `__main__` and of notebooks.
Beyond that,

- the memory of large arrays is put into the segment, and each worker maps it copy-on-write: all
  read the same memory, and only the worker that writes to it sees the change, as if it had a copy;
- a memory map, or a view of one, becomes a memory map of the same file;
- datasets and files of h5py are opened by path in each worker, since HDF5 handles must not be
  shared;
- decoded chunks are kept in memory that all workers share, on Linux;
- a random generator is rebuilt and registered, so that it can be reseeded for each batch;
- a public class is replaced by its stand-in, so a `BatchDataset` becomes one without Keras.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.batches.row_cache import IS_SHARED
from keras_npbatch.batches.slots import ALIGNMENT_BYTES, Slot
from keras_npbatch.errors import UnsendableError, describe, describe_error
from keras_npbatch.sources.chunk_cache import ChunkCache
from keras_npbatch.workers.processes import interrupts
from keras_npbatch.workers.processes import seeding as randomness
from keras_npbatch.workers.processes.packing import reduce_array
from keras_npbatch.workers.processes.stand_ins import stand_in_for
from keras_npbatch.workers.processes.system import Segment

if IS_SHARED:
    from keras_npbatch.batches.linux_chunks import new_shared, open_shared

__all__ = ["Package", "unpack"]

_SMALLEST_SHARED_BYTES = 4096
_MOST_COPIED_BYTES = 8_000_000
"""How much of a dataset may be copied into each worker before a warning is issued."""
_MAX_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Package:
    """A pickled object and the memory of its arrays, in one segment."""

    segment: Segment
    """What holds both."""
    modules: tuple[str, ...]
    """The modules that a worker imports to unpack it."""

    @classmethod
    def of(cls, sent: Any, opened: ExitStack, new_segment: Callable[..., Segment]) -> Package:
        """Pack an object.

        Args:
            sent: the object.
            opened: closes the segment at its end; workers that have the segment keep it.
            new_segment: makes it; see `System.new_segment`.

        Raises:
            UnsendableError: if a part of the object can't be sent; the message gives its path.
            SharedMemoryError: if there is no memory for its arrays.
        """
        buffers: list[pickle.PickleBuffer] = []
        modules: set[str] = set()
        try:
            head = _dumps(sent, buffers, modules, opened)
        except Exception as error:
            raise _refusal(sent, error) from error
        if len(head) > _MOST_COPIED_BYTES:
            _warn_of_copies(sent, len(head))
        memories = [buffer.raw() for buffer in buffers]
        writable = [not memory.readonly for memory in memories]
        spans = []
        end = 0
        for memory in memories:
            start = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            end = start + memory.nbytes
            spans.append((start, end))
        names = tuple(sorted(modules))
        table = pickle.dumps((head, spans, writable, names))
        num_bytes = end + len(table) + _LENGTH_BYTES
        with interrupts.deferred():
            segment = new_segment(num_bytes, copied_on_write=True)
            opened.callback(segment.close)
        length = memoryview(len(table).to_bytes(_LENGTH_BYTES, "little"))
        for (start, _), memory in zip(spans, memories, strict=True):
            segment.write(memory, start)
        segment.write(memoryview(table), end)
        segment.write(length, end + len(table))
        return cls(segment, names)


_LENGTH_BYTES = 8


def unpack(memory: Slot) -> Any:
    """Rebuild the object in a segment; its arrays are views of the segment.

    Args:
        memory: the segment, mapped so that what this process writes no other sees.
    """
    segment = memory.data
    end = len(segment) - _LENGTH_BYTES
    length = int.from_bytes(segment[end:], "little")
    head, spans, writable, modules = pickle.loads(segment[end - length : end])
    buffers = []
    for (start, stop), is_writable in zip(spans, writable, strict=True):
        part = segment[start:stop]
        buffers.append(part if is_writable else part.toreadonly())
    sent = pickle.loads(head, buffers=buffers)
    randomness.owned_by_modules(modules)
    return sent


def _dumps(
    sent: Any,
    buffers: list[pickle.PickleBuffer],
    modules: set[str],
    opened: ExitStack | None = None,
) -> bytes:
    def is_kept_inside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < _SMALLEST_SHARED_BYTES:
            return True
        buffers.append(buffer)
        return False

    file = io.BytesIO()
    pickler = _Pickler(file, protocol=5, buffer_callback=is_kept_inside)
    pickler.modules, pickler.opened = modules, opened
    pickler.dump(sent)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    modules: set[str]
    """The modules of the classes and functions that are sent by name only."""
    opened: ExitStack | None
    """Closes what is opened for the workers; None if nothing is to be."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and (stand_in := stand_in_for(obj)) is not None:
            return _itself, (stand_in,)
        if isinstance(obj, type | FunctionType):
            if obj.__module__ not in (None, "__main__", "builtins"):
                self.modules.add(obj.__module__)
        elif isinstance(obj, randomness.KINDS):
            reduced = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
            assert isinstance(reduced, tuple)
            make, arguments, *state = reduced
            return randomness.owned, (make, *arguments), *state
        elif isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr):
            # cloudpickle would send its content, as a StringIO.
            raise TypeError(f"the open file {obj.name!r} belongs to its process")
        elif isinstance(obj, ChunkCache):
            if IS_SHARED and self.opened is not None and obj.can_be_shared:
                return open_shared, new_shared(obj, self.opened)
        elif isinstance(obj, np.ndarray):
            reduced = _reduce_array(obj)
            if reduced is not None:
                return reduced
        elif type(obj).__module__.partition(".")[0] == "h5py":
            return _reduce_h5(obj)
        return super().reducer_override(obj)


def _itself(value: Any) -> Any:
    return value


# -------------------------------------------------------------------- arrays


def _reduce_array(array: npt.NDArray[Any]) -> Any:
    """How an array is rebuilt; None to leave it to pickle, which copies it."""
    if type(array) not in (np.ndarray, np.memmap) or array.dtype.hasobject:
        return None
    place = _place_in_file(array)
    if place is not None:
        return _map_file, (*place, array.shape, array.dtype, array.strides)
    if 0 in array.strides and array.size:  # broadcast: its memory is smaller than its size
        small = array[tuple(slice(0, 1 if step == 0 else None) for step in array.strides)]
        if small.nbytes < array.nbytes:
            return np.broadcast_to, (small, array.shape)
    return reduce_array(array.view(np.ndarray))


def _place_in_file(array: npt.NDArray[Any]) -> tuple[str, int, int] | None:
    """The file whose memory map the array views: its path, its inode, and the array's offset.

    None for other arrays, and for a map in mode "c", to which the program may have written without
    changing the file.
    """
    base: Any = array
    while not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
        if base is None:
            return None
    mapped = base._mmap  # type: ignore[attr-defined]  # the memory map itself
    if base.filename is None or base.mode == "c" or not isinstance(mapped, mmap.mmap):
        return None
    try:
        path = Path(base.filename).resolve(strict=True)
        inode = path.stat().st_ino
    except OSError:  # deleted: only the memory is left
        return None
    map_start = base.offset - base.offset % mmap.ALLOCATIONGRANULARITY
    address = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    return str(path), inode, map_start + array.__array_interface__["data"][0] - address


def _map_file(
    path: str,
    inode: int,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...],
) -> npt.NDArray[Any]:
    return np.ndarray(shape, dtype, _map_of(path, inode), offset, strides)


@cache
def _map_of(path: str, inode: int) -> npt.NDArray[np.uint8]:
    if Path(path).stat().st_ino != inode:
        raise FileNotFoundError(f"{path} is another file than the one that was mapped")
    return np.memmap(path, np.uint8, mode="r")


# -------------------------------------------------------------------- HDF5


def _reduce_h5(handle: Any) -> Any:
    import h5py

    if not isinstance(handle, h5py.Dataset | h5py.Group):
        raise TypeError(f"a {type(handle).__name__} of h5py belongs to its process")
    if not handle:
        raise TypeError("its HDF5 file has been closed; expected an open one")
    file = handle.file
    if file.mode != "r" or file.driver in ("core", "fileobj"):
        raise TypeError(
            f"its file is open with mode {file.mode!r} and driver {file.driver!r}; expected mode "
            "'r' and a file on disk, since each worker opens it by path"
        )
    path, inode = Path(file.filename).resolve(), None
    if file.driver == "sec2" and os.name == "posix":
        inode = os.fstat(file.id.get_vfd_handle()).st_ino
        if not path.exists() or path.stat().st_ino != inode:
            raise TypeError(
                f"its file was opened as {file.filename!r}, which leads to another file now, or to "
                "none; expected an absolute path, and the file where it was"
            )
    return _open_h5, (str(path), inode, handle.name)


def _open_h5(path: str, inode: int | None, name: str) -> Any:
    return _h5_file(path, inode)[name]


@cache
def _h5_file(path: str, inode: int | None) -> Any:
    import h5py

    if inode is not None and os.stat(path).st_ino != inode:
        raise FileNotFoundError(f"{path} is another file than the one that was open")
    return h5py.File(path, "r")


# -------------------------------------------------------------------- what can't be sent


def _warn_of_copies(sent: Any, num_bytes: int) -> None:
    """Warn, naming the largest attribute, which is not in arrays that the workers could share."""
    sizes = {name: len(_dumps(part, [], set())) for name, part in _state(sent).items()}
    largest = max(sizes, key=sizes.__getitem__, default="")
    name = f"{type(sent).__name__}.{largest}" if largest else type(sent).__name__
    warnings.warn(
        f"{num_bytes / 1e6:.0f} MB of the dataset are copied into each worker process, most of "
        f"them of {name}: lists, strings, objects and arrays below {_SMALLEST_SHARED_BYTES} bytes "
        "are not shared. Make one array of them (np.stack), or use threads: "
        "use_multiprocessing=False.",
        stacklevel=2,
    )


def _refusal(sent: Any, error: Exception) -> UnsendableError:
    path, culprit = _find_culprit(sent, type(sent).__name__)
    return UnsendableError(
        f"{path} is {describe(culprit)}, which can't be sent to worker processes "
        f"({describe_error(error)}). Make it in load(rows) when it is first used, in each "
        "process its own, and leave it out in __getstate__; or use threads: "
        "use_multiprocessing=False."
    )


def _find_culprit(value: Any, path: str, depth: int = 0) -> tuple[str, Any]:
    """The path of the innermost part of `value` that can't be pickled, and the part itself."""
    if depth < _MAX_DEPTH:
        for step, part in _parts(value):
            try:
                _dumps(part, [], set())
            except Exception:  # noqa: BLE001  # whatever the error is, this part is the culprit
                return _find_culprit(part, path + step, depth + 1)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts that `value` holds, each with the suffix that its path adds to that of `value`."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    if getattr(value, "__closure__", None):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__, strict=True):
            yield f".{name}", cell.cell_contents
    if not isinstance(value, type):
        for name in ("__self__", "func", "args", "keywords"):  # bound methods and partials
            if callable(value) and hasattr(value, name):
                yield f".{name}", getattr(value, name)
        for name, part in _state(value).items():
            yield f".{name}", part


def _state(value: Any) -> dict[str, Any]:
    """The attributes that are pickled, by their names."""
    try:
        state = value.__getstate__()
    except Exception:  # noqa: BLE001  # it has no state: `value` itself is the culprit
        return {}
    parts = state if isinstance(state, tuple) else (state,)  # with slots: (dict, slots)
    named = {
        str(name): part
        for entries in parts
        if isinstance(entries, dict)
        for name, part in entries.items()
    }
    core = named.pop(ATTRIBUTE, None)  # of a dataset: users know its settings as its attributes
    return named if core is None else named | _state(core)
