"""`LastInList`: lets a `BackupAndRestore` act when all other callbacks have acted.

    last = LastInList(backup, callbacks)        # in on_train_begin of the backup
    last.to_restore = facts, arrays             # given to the others when all have begun

Keras calls callbacks one after the other. One that comes after the backup in the list begins after
it, forgetting what it was given, and counts an epoch after it. So the backup puts this one at the
end of the list.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import keras

from keras_npbatch.callbacks.backup import companions

__all__ = ["LastInList"]


class LastInList(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """The last callback of a `fit`: what the others do at a step or an epoch's end is done.

    Args:
        backup: the `BackupAndRestore` that it works for.
        callbacks: Keras's list, which it appends itself to.
    """

    def __init__(self, backup: Any, callbacks: Any) -> None:
        super().__init__()
        self.companions = companions.found_in(callbacks.callbacks)
        """Those whose state is kept."""
        self.to_restore: tuple[Any, Any] | None = None
        """Their state in the backup that training goes on from."""
        self.saves: bool
        """Whether it is told to save, since some of them come after the backup in the list."""
        self._backup = weakref.ref(backup)
        given = list(callbacks.callbacks)
        place = given.index(backup) if backup in given else 0
        self.saves = any(each in self.companions for each in given[place:])
        for stale in [each for each in given[place:] if isinstance(each, LastInList)]:
            if stale._backup() in (backup, None):  # of a fit that has ended with an exception
                callbacks.callbacks.remove(stale)
        # Keras is calling on_train_begin of one after the other: of this one, when all have begun.
        callbacks.callbacks.append(self)

    def on_train_begin(self, logs: Any = None) -> None:
        """Give the other callbacks their state; they have forgotten that of an earlier `fit`."""
        if self.to_restore is None:
            return
        to_restore, self.to_restore = self.to_restore, None
        not_restored = companions.restore(self.companions, *to_restore)
        backup = self._backup()
        if not_restored and backup is not None and backup._writes:
            warnings.warn(
                f"BackupAndRestore has not restored the state of {'; '.join(not_restored)}. "
                "Expected the callbacks that fit was given when the backup was made; these begin "
                "anew.",
                stacklevel=2,
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save, if the other callbacks had to count first."""
        backup = self._backup()
        if self.saves and backup is not None:
            backup._save_within_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, if the other callbacks had to count first."""
        backup = self._backup()
        if self.saves and backup is not None:
            backup._save_after_epoch()
