"""`FolderLock`: one run at a time writes to a folder.

    lock = FolderLock(Path("backup"), is_calling=lambda: False)     # or InvalidStateError
    lock.release()

The lock is the operating system's, on an open file: a run that is killed lets go of it, whatever it
leaves in the folder. Who holds it stands in the file, for the message that the other run gets.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
import stat
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_npbatch.errors import InvalidStateError

__all__ = ["FolderLock"]

_NAME = "running.lock"
_OPEN = (
    os.O_RDWR
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_HELD_BY_OTHERS = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK)
_MOST_READ = 200
_FAR = 2**30
"""On Windows a locked byte can't be read: this one is behind the text."""


class FolderLock:
    """Held from when it is made until `release`, or the end of the process.

    Args:
        folder: which folder; it is created if it does not exist.
        is_calling: whether the run that holds the lock is among the callers of this thread. A run
            that failed in this thread, or in one that has ended, may not have released the lock:
            the next one in the process takes it over.

    Raises:
        InvalidStateError: if another run holds it, or the folder can't be written to.
    """

    def __init__(self, folder: Path, is_calling: Callable[[], bool]) -> None:
        self._thread, self._is_calling = threading.current_thread(), is_calling
        self._descriptor: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder.resolve() / _NAME
            for other in list(_held):
                if other.path == self.path and other._is_left_behind:
                    other.release()
            while self._descriptor is None:
                self._descriptor = self._acquired()
        except OSError as error:
            raise InvalidStateError(
                f"{folder} can't be written to ({type(error).__name__}: {error}); expected a "
                "folder for the backup of this one training."
            ) from error
        _held.add(self)
        with contextlib.suppress(OSError):  # a full disk: the file does not say who holds it
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Let others have it. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        _held.discard(self)
        with contextlib.suppress(OSError):
            if os.name == "nt":  # an open file can't be removed there
                os.close(descriptor)
                self.path.unlink()
            else:
                # While the lock is still held, so that the file can't be another run's.
                with contextlib.suppress(OSError):
                    self.path.unlink()
                os.close(descriptor)

    def forget(self) -> None:
        """In a child that was forked: it is the parent's."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)  # which does not unlock what the parent has open too

    @property
    def _is_left_behind(self) -> bool:
        """Whether the run that holds it can't be under way."""
        if self._thread is threading.current_thread():
            return not self._is_calling()
        return not self._thread.is_alive()

    def _acquired(self) -> int | None:
        """The locked file; None if the run that held it has removed it meanwhile."""
        descriptor = os.open(self.path, _OPEN, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self.path))
            try:
                _lock(descriptor)
            except OSError as error:
                if error.errno in _HELD_BY_OTHERS:
                    raise self._refusal(descriptor) from None
                warnings.warn(
                    f"{self.path} can't be locked ({error}): nothing would notice another run "
                    "that writes to this folder. Use a folder on a local disk to be safe.",
                    stacklevel=2,
                )
            if self._is_still_there(descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _is_still_there(self, descriptor: int) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def _refusal(self, descriptor: int) -> InvalidStateError:
        holder = ""
        with contextlib.suppress(OSError):
            holder = os.read(descriptor, _MOST_READ).decode("utf-8", "replace")
        holder = "".join(character for character in holder if character.isprintable())
        return InvalidStateError(
            f"{self.path.parent} is in use by another run of training, {holder or 'unknown'}; "
            "expected a folder of its own for each training. Give this one another, or end the "
            "other run."
        )


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _lock(descriptor: int) -> None:
    """Lock an open file, or fail at once.

    Raises:
        OSError: if another process has locked it, or it can't be locked.
    """
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        _lock_on_windows(descriptor)
    else:
        # Not lockf: its locks don't hold between two runs in one process, and end when any file
        # there is closed.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_on_windows(descriptor: int) -> None:
    try:
        msvcrt: Any = importlib.import_module("msvcrt")
    except ImportError as error:
        raise OSError(errno.ENOLCK, f"there is no way to lock a file: {error}") from error
    os.lseek(descriptor, _FAR, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    os.lseek(descriptor, 0, os.SEEK_SET)


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
