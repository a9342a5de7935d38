"""`Paths`: the paths of many files in two arrays, which worker processes share.

    paths = absolute_paths(["a.npy", "b.npy"], "paths")
    paths[1]      # "/data/b.npy"

A list of a million strings would be copied into each worker process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from keras_npbatch.errors import InvalidDataError, describe
from keras_npbatch.sources.progress import counted

__all__ = ["Paths", "absolute_paths", "refuse_no_list"]


class Paths(Sequence[str]):
    """Paths as a sequence of strings that can't be changed."""

    def __init__(self, paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        ends = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(path) for path in encoded], out=ends[1:])
        self._ends = ends
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = range(len(self))[index]
        return self._path(found) if isinstance(found, int) else [self._path(i) for i in found]

    def __iter__(self) -> Iterator[str]:
        return map(self._path, range(len(self)))

    @property
    def stamp(self) -> str:
        """A digest of the names, sizes and times of the files; of addresses, the names alone."""
        digest = hashlib.blake2b(digest_size=8)
        with counted(self, "reading the sizes and times of files") as paths:
            for path in paths:
                found = None
                if "://" not in path:
                    with contextlib.suppress(OSError):
                        found = os.stat(path)
                told = (path, found and (found.st_size, found.st_mtime_ns))
                digest.update(repr(told).encode())
        return digest.hexdigest()

    def _path(self, number: int) -> str:
        start, stop = self._ends[number : number + 2]
        return os.fsdecode(self._bytes[start:stop].tobytes())

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:2]))
        return f"[{shown}, ...] ({len(self)} paths)" if len(self) > 2 else f"[{shown}]"


def absolute_paths(paths: Iterable[Any], name: str, which: str = "paths") -> Paths:
    """Paths that name the same files in each process; addresses (`s3://...`) stay as they are.

    Args:
        paths: of `str` or `os.PathLike`.
        name: what was given, for messages.
        which: what was expected, for messages.

    Raises:
        InvalidDataError: if they are not several paths, in an order.
    """
    refuse_no_list(paths, name, which)
    found = []
    for number, path in enumerate(paths):
        if not isinstance(path, str | os.PathLike):
            raise InvalidDataError(
                f"{name}[{number}] is {describe(path)}; expected a path: a str or a pathlib.Path."
            )
        text = os.fspath(path)
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        found.append(text if "://" in text else os.path.abspath(text))
    if not found:
        raise InvalidDataError(
            f"{name} has no items; expected at least one. Check how they were listed."
        )
    return Paths(found)


def refuse_no_list(items: Any, name: str, which: str) -> None:
    """Refuse what looks like several items and is one, or has no order.

    Raises:
        InvalidDataError: saying what to write.
    """
    if isinstance(items, str | bytes | os.PathLike):
        raise InvalidDataError(
            f"{name} is {describe(items)}, a single path; expected a list of {which}. Those of a "
            "folder: `sorted(pathlib.Path(folder).glob('*.npy'))`."
        )
    if isinstance(items, set | frozenset | dict) or not hasattr(items, "__iter__"):
        hint = " Sort them: `sorted(...)`." if isinstance(items, set | frozenset) else ""
        raise InvalidDataError(
            f"{name} is {describe(items)}; expected a list of {which}: row numbers follow its "
            f"order.{hint}"
        )
