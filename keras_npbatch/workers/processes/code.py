"""Detects changes of the code that worker processes run, and of the values that this code reads.

    before = Code.of(parts)     # of a dataset: its class, its transform, its attributes
    scale = 2.0                 # a global that the transform reads
    Code.of(parts) == before    # False: the workers have the old value

A worker receives the code once, by cloudpickle, which sends functions of a script or notebook with
the globals, closures and defaults that they read. Pickling them again shows whether a worker would
now receive something else. Large data is not read for this: the same object counts as unchanged.

Functions of a module are sent by name: a worker imports the module, with the initial values of its
globals. A later change of such a global can't be sent, but `changed_globals` detects it.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import io
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
import numpy as np

from keras_npbatch.batches.loader import Batches
from keras_npbatch.sources.ragged import Ragged
from keras_npbatch.workers.processes.seeding import KINDS

__all__ = ["Code"]

_MOST_ITEMS = 1000
"""A container with more items is compared by identity."""
_MOST_BYTES = 1 << 20
"""An array or a string with more bytes is compared by identity."""
_MOST_OBJECTS = 100_000
"""A part made of more objects is compared by identity."""

_ATOMS = (bool, int, float, complex, type(None))
_SIZED = (str, bytes, bytearray, tuple, list, dict, set, frozenset)

_DATA = frozenset(
    (
        *("h5py", "jax", "jaxlib", "keras", "optree", "pandas", "PIL", "polars", "pyarrow"),
        *("scipy", "tensorflow", "tensorstore", "torch", "xarray", "zarr"),
    )
)
"""Packages whose objects are data, large, or immutable: these are compared by identity."""
_NOT_THE_USERS = frozenset(("keras", "keras_npbatch", "numpy", "builtins"))


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """Digests of the parts of a dataset, and of the globals that their functions read."""

    digests: dict[str, bytes]
    """The digest of each part that is sent, by its name."""
    imported: dict[str, bytes]
    """The digests of the globals that functions of modules read, by `module.name`."""
    kept: list[Any] = field(repr=False)
    """The objects compared by identity, kept alive so that no other object gets the same id."""

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Code:
        """The code of the parts of a dataset, given by their names."""
        digests: dict[str, bytes] = {}
        kept: list[Any] = []
        functions: dict[FunctionType, None] = {}
        for name, part in parts.items():
            digests[name] = _digest(part, kept, functions)
        imported = {}
        for module, name, value in _globals_of(functions):
            if _is_plain(value):
                imported[f"{module}.{name}"] = _digest(value, kept, {})
        return cls(digests, imported, kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and self.digests == other.digests

    __hash__ = None  # type: ignore[assignment]  # it is only compared, never a key

    def changed_globals(self, before: Code) -> list[str]:
        """The globals of modules whose values differ from those in `before`, by `module.name`."""
        both = self.imported.keys() & before.imported.keys()
        return sorted(name for name in both if self.imported[name] != before.imported[name])


def _digest(part: Any, kept: list[Any], functions: dict[FunctionType, None]) -> bytes:
    file = io.BytesIO()
    pickler = _CodePickler(file, protocol=5)
    pickler.kept, pickler.functions, pickler.objects = [], functions, 0
    try:
        pickler.dump(part)
    except Exception:  # noqa: BLE001  # it isn't sent, or sending it raises the error
        kept.append(part)
        return str(id(part)).encode()
    kept += pickler.kept
    return hashlib.blake2b(file.getbuffer(), digest_size=16).digest()


class _CodePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    kept: list[Any]
    functions: dict[FunctionType, None]
    objects: int

    def persistent_id(self, obj: Any) -> Any:
        """An id that replaces an object that is not read; None for one that is."""
        kind = type(obj)
        if kind in _ATOMS:
            return None
        self.objects += 1
        if self.objects > _MOST_OBJECTS:
            raise pickle.PicklingError("too much to compare")
        if kind in _SIZED:
            most = _MOST_BYTES if kind in (str, bytes, bytearray) else _MOST_ITEMS
            return None if len(obj) <= most else self._identity(obj)
        if issubclass(kind, Batches):  # a dataset (of a bound method): its parts are compared
            return f"{kind.__qualname__} {id(obj)}"
        if issubclass(kind, Ragged):  # its state is made again each time: many arrays as one
            return self._identity(obj)
        if isinstance(obj, KINDS):  # workers reseed them for each batch
            return kind.__qualname__
        if isinstance(obj, np.ndarray):
            if obj.nbytes > _MOST_BYTES or obj.dtype.hasobject or kind is not np.ndarray:
                return self._identity(obj)
            return None
        if isinstance(obj, FunctionType | type):
            self._note(obj)
            return None
        if kind.__module__.partition(".")[0] in _DATA:
            return self._identity(obj)
        return None

    def _identity(self, obj: Any) -> int:
        self.kept.append(obj)
        return id(obj)

    def _note(self, code: FunctionType | type) -> None:
        if _is_imported(code):
            members = [code] if isinstance(code, FunctionType) else _methods(code)
            self.functions.update(dict.fromkeys(members))


def _is_imported(code: FunctionType | type) -> bool:
    """Whether a worker imports it from a module; the same criterion as cloudpickle's."""
    module = code.__module__
    if module in (None, "__main__") or module in cloudpickle.list_registry_pickle_by_value():
        return False
    found: Any = sys.modules.get(module)
    for name in code.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is code


def _methods(kind: type) -> list[FunctionType]:
    return [
        member
        for base in kind.__mro__
        if base.__module__.partition(".")[0] not in _NOT_THE_USERS
        for member in vars(base).values()
        if isinstance(member, FunctionType)
    ]


def _globals_of(functions: Mapping[FunctionType, None]) -> Iterator[tuple[str, str, Any]]:
    """The globals that functions, and those they call in the same module, read of their modules."""
    waiting, seen = list(functions), set(functions)
    while waiting:
        function = waiting.pop()
        module = str(function.__module__)
        if module.partition(".")[0] in _NOT_THE_USERS:
            continue
        for name in _names_read(function.__code__):
            value = function.__globals__.get(name, builtins)
            if isinstance(value, FunctionType) and value.__module__ == module:
                if value not in seen:
                    seen.add(value)
                    waiting.append(value)
            elif value is not builtins:
                yield module, name, value


@lru_cache(maxsize=4096)
def _names_read(code: CodeType) -> frozenset[str]:
    """The globals that code reads and does not set: those it sets are state of its process."""
    read, written = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            written.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            read |= _names_read(constant)
    return frozenset(read - written)


def _is_plain(value: Any) -> bool:
    kinds = (*_ATOMS, str, bytes, tuple, list, dict, set, frozenset, np.ndarray, np.generic)
    return isinstance(value, kinds)
