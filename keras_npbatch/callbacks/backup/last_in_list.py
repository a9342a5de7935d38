"""`LastInList`: lets a `BackupAndRestore` act after all other callbacks have acted.

    last = LastInList(backup, saver, callbacks)     # in on_train_begin of the backup
    last.to_restore = facts, arrays                 # given to the others when all have begun

Keras calls callbacks one after the other. A callback after the backup in the list begins after it,
so it would forget a restored state, and it counts an epoch after the backup has saved. So the
backup puts this callback at the end of the list.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any, Protocol

import keras

from keras_npbatch.callbacks.backup import companions

__all__ = ["LastInList", "Saver"]


class Saver(Protocol):
    """What saves the backup."""

    @property
    def writes(self) -> bool:
        """Whether the file is written by this process."""

    def save_within_epoch(self) -> None:
        """Save if it is time, unless the epoch is over."""

    def save_after_epoch(self) -> None:
        """Save if it is time, now that Keras has finished the epoch."""


class LastInList(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """The last callback of a `fit`; when it is called, the others have finished theirs.

    Args:
        backup: the `BackupAndRestore` that it works for.
        saver: what saves for it.
        callbacks: Keras's list, to which it appends itself.
    """

    def __init__(self, backup: Any, saver: Saver, callbacks: Any) -> None:
        super().__init__()
        self.companions = companions.found_in(callbacks.callbacks)
        """The callbacks whose state is kept."""
        self.to_restore: tuple[Any, Any] | None = None
        """Their state in the backup from which training resumes."""
        self.saves: bool
        """Whether it saves for the backup, since a companion comes after the backup in the list."""
        self._backup, self._saver = weakref.ref(backup), weakref.ref(saver)
        given = list(callbacks.callbacks)
        place = given.index(backup) if backup in given else 0
        self.saves = any(each in self.companions for each in given[place:])
        for stale in [each for each in given[place:] if isinstance(each, LastInList)]:
            if stale._backup() in (backup, None):  # from a fit that ended with an exception
                callbacks.callbacks.remove(stale)
        # Keras is calling on_train_begin along this list, and calls that of this callback last.
        callbacks.callbacks.append(self)

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the state of the other callbacks, which have just reset themselves."""
        if self.to_restore is None:
            return
        to_restore, self.to_restore = self.to_restore, None
        not_restored = companions.restore(self.companions, *to_restore)
        saver = self._saver()
        if not_restored and saver is not None and saver.writes:
            warnings.warn(
                f"BackupAndRestore has not restored the state of {'; '.join(not_restored)}. "
                "Expected the callbacks that fit was given when the backup was made; these start "
                "again.",
                stacklevel=2,
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save a backup, if it had to wait for the other callbacks."""
        saver = self._saver()
        if self.saves and saver is not None:
            saver.save_within_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save a backup, if it had to wait for the other callbacks."""
        saver = self._saver()
        if self.saves and saver is not None:
            saver.save_after_epoch()
