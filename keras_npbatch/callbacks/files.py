"""Files that are written completely or not at all, in folders that others may write to.

    with replacing(path) as file:
        file.write(data)            # at the end of the block `path` holds it
    with opened(path) as file:      # a regular file, or an error: never waits
        file.read()

An unfinished file has a name that can't be guessed and is opened exclusively, so two processes
never write to the same file, and a planted link is never followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["folder_path", "opened", "remove", "remove_unfinished", "replace_file", "replacing"]

# Windows lacks O_CLOEXEC, O_NOFOLLOW and O_NONBLOCK, and opens in text mode without O_BINARY.
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _ALWAYS
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _ALWAYS


def folder_path(name: str, value: Any) -> Path:
    """The folder that an argument names, as a `Path`.

    Raises:
        InvalidArgumentError: if the value can't be a path.
    """
    if value and isinstance(value, str | os.PathLike):
        with contextlib.suppress(TypeError):  # a path of bytes
            return Path(value)
    raise InvalidArgumentError(f"{name} is {describe(value)}; expected the path of a folder.")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends, and is then on disk.

    If the process is killed at any point, or the block raises, whatever was at `path` is unchanged.
    A link at `path` is replaced, not followed; a folder is moved aside.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
    descriptor = os.open(unfinished, _NEW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if _is_folder(path):
            os.rename(path, path.with_name(f"{path.name}.{secrets.token_hex(8)}.aside"))
        replace_file(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def replace_file(source: Path, target: Path) -> None:
    """Rename a file to the name of another, atomically, and sync the names to disk."""
    os.replace(source, target)
    # Windows can't open folders, and some file systems can't sync them: nothing more can be done.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading.

    Raises:
        OSError: if it does not exist, or is a folder, a pipe or a device.
    """
    descriptor = os.open(path, _READ)  # without waiting for the other end of a pipe
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        file = os.fdopen(descriptor, "rb") if is_regular else None
    except BaseException:
        os.close(descriptor)
        raise
    if file is None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with file:
        yield file


def remove(path: Path) -> None:
    """Remove a file if it exists; a folder of that name is not ours and stays."""
    if not _is_folder(path):
        path.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove files that killed processes left in `replacing(path)`; no process may be writing."""
    pattern = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{16}}\.unfinished")
    for found in list(path.parent.iterdir()):
        if pattern.fullmatch(found.name):
            remove(found)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
