"""`BackupFolder`: the backups of one training, the latest and optionally the one before it.

folder = BackupFolder(Path("backup"))
folder.lock(is_calling=lambda: False)           # another run is refused
found = folder.read(check)                      # (facts, arrays), or None
folder.write(facts, arrays, keep_previous=True)
folder.release()
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from keras_npbatch.callbacks.backup import snapshot
from keras_npbatch.callbacks.backup.folder_lock import FolderLock
from keras_npbatch.callbacks.files import remove, remove_unfinished, replace_file
from keras_npbatch.errors import InvalidStateError

__all__ = ["BackupFolder", "Found"]

Found: TypeAlias = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
"""The facts of a backup, and its arrays by name."""

_LATEST, _PREVIOUS = "latest.snapshot", "previous.snapshot"


class BackupFolder:
    """The folder in which one process writes backups that others may read.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FolderLock | None = None
        self._latest_is_good = True

    def lock(self, is_calling: Callable[[], bool]) -> None:
        """Lock the folder for this run, and remove the unfinished files of killed runs.

        Raises:
            InvalidStateError: if another run has the lock, or the folder can't be written to.
        """
        self._lock = FolderLock(self.path, is_calling)
        remove_unfinished(self.path / _LATEST)

    def release(self) -> None:
        """Unlock the folder for other runs."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def read(self, check: Callable[..., None]) -> Found | None:
        """The newest readable backup, or None if there is no backup.

        Args:
            check: called with facts and arrays; raises an exception if they are invalid.

        Raises:
            InvalidStateError: if there are backups, but none of them is good.
        """
        self._latest_is_good = True
        damage: InvalidStateError | None = None
        for name in (_LATEST, _PREVIOUS):
            try:
                found = _read(self.path / name, check)
            except FileNotFoundError:
                continue
            except InvalidStateError as error:
                damage = damage or error
                continue
            if damage is not None:
                self._latest_is_good = False
                warnings.warn(f"{damage} Training goes on from the backup before it.", stacklevel=2)
            return found
        if damage is not None:
            raise damage
        return None

    def write(
        self,
        facts: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        keep_previous: bool,
    ) -> None:
        """Write a backup, completely or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        latest = self.path / _LATEST
        if keep_previous and self._latest_is_good and latest.is_file():
            # If the process is killed after this line, the previous backup is there and is good.
            replace_file(latest, self.path / _PREVIOUS)
        snapshot.write(latest, facts, arrays)
        self._latest_is_good = True

    def delete(self) -> None:
        """Remove the backups, and the folder if nothing else is in it."""
        for name in (_LATEST, _PREVIOUS):
            remove(self.path / name)
        self.release()
        with contextlib.suppress(OSError):  # it holds other files
            self.path.rmdir()


def _read(path: Path, check: Callable[..., None]) -> Found:
    facts, arrays = snapshot.read(path)
    try:
        check(facts, arrays)
    except Exception as error:  # whatever a lookup of missing facts may raise
        raise snapshot.damaged(path, f"{type(error).__name__}: {error}") from error
    return facts, arrays
