"""`BackupAndRestore`: resumes training where it was interrupted, at exactly the right batch.

    backup = BackupAndRestore(train, "backup", save_freq=100)
    model.fit(train, epochs=10, callbacks=[backup])

Keras's callback of this name saves weights and the epoch. This one adds the dataset's position and
all other state that decides the next step: the optimizer, the seeds of random layers, and within an
epoch the metrics, so that the logs cover the whole epoch. All of it is in one file.

Here is when something happens; what happens is in `saving.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.callbacks.backup.saving import Saving
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.files import folder_path
from keras_npbatch.callbacks.watching import refuse_to_watch, watching_of
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.deliveries import Delivery

__all__ = ["BackupAndRestore"]


class BackupAndRestore(DatasetCallback):
    """Save the state of training and the position in the dataset; resume from it after a restart.

    If `fit` is interrupted after any step (an exception, a kill, a power cut) and started again,
    even several times in one epoch, it trains on exactly the batches that had not been trained on
    when the last backup was made. It ends with the same weights as without interruption, if the
    backend computes deterministically. The number of workers may change in between.

    Build everything as in the first run and call `fit` with the same arguments. Seeds of layers are
    restored; give the dataset a `seed`.

    The counts and best values of `EarlyStopping` (with its best weights), `ReduceLROnPlateau`,
    `ModelCheckpoint` and `TensorBoard` are also restored, in any order of the list; a warning names
    a callback without a counterpart in the backup. If training had been stopped when the backup was
    made, for example by `EarlyStopping`, `fit` ends immediately. The state of other callbacks (a
    `CSVLogger` needs `append=True`), `history`, and random numbers that do not come from Keras are
    not restored.

    Only one run at a time can use a folder; another is refused, even in another process. A killed
    run does not block the folder.

    If several processes train together (a dataset with a `shard`), give the callback to all of
    them, with one folder that all can read: the first writes the backup, and all resume from it.
    Their number may change in between; then metrics and moving statistics are combined, and random
    layers draw other numbers.

    Example:

    ```python
    train = keras_npbatch.ArrayDataset(x, y, batch_size=256, seed=0)
    backup = keras_npbatch.callbacks.BackupAndRestore(train, "backup", save_freq=100)
    model.fit(train, epochs=10, callbacks=[backup])
    ```

    Args:
        dataset: the dataset passed to `fit`.
        backup_dir: a folder for the backup of this training only.
        save_freq: `"epoch"` saves at the end of each epoch, after validation; an integer N saves
            after every N batches.
        double_checkpoint: whether to also keep the previous backup, and use it if the last one
            can't be read.
        delete_checkpoint: whether to remove the backup when `fit` has finished.

    Raises:
        InvalidArgumentError: for an invalid `save_freq` or `backup_dir`.
        InvalidStateError: when `fit` begins, if the backup can't be read or is of another model
            or dataset, if another run uses the folder, or if it can't be written to; the message
            says which.
        RanksDisagreeError: when `fit` begins, if the processes don't find the same backup.
    """

    def __init__(
        self,
        dataset: Any,
        backup_dir: Any = None,
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        refuse_to_watch(type(self).__name__, dataset)  # Keras's callback takes the folder first
        self.backup_dir = folder_path("backup_dir", backup_dir)
        super().__init__(dataset)
        is_count = isinstance(save_freq, int | np.integer) and not isinstance(save_freq, bool)
        if save_freq != "epoch" and not (is_count and save_freq > 0):
            raise InvalidArgumentError(
                f"save_freq is {describe(save_freq)}; expected 'epoch', or a number of batches "
                "from 1 up."
            )
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self.__dict__[ATTRIBUTE] = Saving(self, dataset, self.backup_dir)

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the backup, if there is one."""
        super().on_train_begin(logs)
        watching_of(self, Saving).begin_fit()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """In a resumed epoch, go on with its metrics; after it, count its steps again."""
        super().on_epoch_begin(epoch, logs)
        watching_of(self, Saving).begin_epoch(epoch)

    def trained(self, delivery: Delivery) -> None:
        """Remember where the data are."""
        watching_of(self, Saving).note(delivery)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if it is time; at the end of an epoch only when Keras has finished it."""
        super().on_train_batch_end(batch, logs)
        saving = watching_of(self, Saving)
        if not saving.waits_for_others:
            saving.save_within_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save if it is time."""
        saving = watching_of(self, Saving)
        if not saving.waits_for_others:
            saving.save_after_epoch()

    def on_train_end(self, logs: Any = None) -> None:
        """Remove the backup: training is over."""
        watching_of(self, Saving).end_fit()
