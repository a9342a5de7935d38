"""`BackupAndRestore`: resumes training where it was interrupted, at exactly the right batch.

    backup = BackupAndRestore(train, "backup", save_freq=100)
    model.fit(train, epochs=10, callbacks=[backup])

Keras's callback of this name saves weights and the epoch. This one adds the dataset's position and
all other state that decides the next step: the optimizer, the seeds of random layers, and within an
epoch the metrics, so that the logs cover the whole epoch. All of it is in one file.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.core import core_of
from keras_npbatch.callbacks.backup import companions, training_state
from keras_npbatch.callbacks.backup.facts import refuse_nonsense
from keras_npbatch.callbacks.backup.folder import BackupFolder, Found
from keras_npbatch.callbacks.backup.last_in_list import LastInList
from keras_npbatch.callbacks.backup.process_states import (
    keeps_own_states,
    own_state,
    states_of_others,
)
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.files import folder_path
from keras_npbatch.distributed.agreement import refuse_different_backups
from keras_npbatch.distributed.rank import has_others, is_first
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError, describe
from keras_npbatch.fit.call import find_call, is_calling, show_steps
from keras_npbatch.fit.deliveries import Delivery
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.shard import Shard

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

    _of_one_fit = DatasetCallback._of_one_fit | {"_folder", "_last"}

    def __init__(
        self,
        dataset: Any,
        backup_dir: Any = None,
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        self._refuse_others(dataset)  # first: Keras's callback takes the folder first
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
        self._since_saved = 0
        self._epoch = 0
        self._begun_at = 0
        self._trained: Place | None = None
        self._trained_all = False
        self._metrics: list[npt.NDArray[Any]] | None = None

    def _forget_fit(self) -> None:
        super()._forget_fit()
        self._folder = BackupFolder(self.backup_dir)
        self._last: LastInList | None = None

    # ---------------------------------------------------------------- when

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the backup, if there is one."""
        super().on_train_begin(logs)
        self._since_saved, self._begun_at, self._trained, self._metrics = 0, 0, None, None
        call = find_call()
        callbacks = call.arguments.get("callbacks") if call is not None else None
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList([self])
        self._last = LastInList(self, callbacks)
        try:
            self._restore(callbacks)
        except BaseException:
            self._folder.release()
            raise

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """In a resumed epoch, go on with its metrics; after it, count its steps again."""
        super().on_epoch_begin(epoch, logs)
        self._epoch = epoch
        if self._metrics is None:
            self._begun_at = 0
        else:
            if self._metrics:  # Keras has just reset them
                training_state.assign(self.model.metrics_variables, self._metrics)
            self._metrics = None
        epoch_iterator: Any = self._epoch_iterator()
        left = self._session.steps - self._begun_at
        if epoch_iterator.steps_per_epoch not in (None, left):
            # Without steps_per_epoch the dataset tells Keras how long the epoch is.
            epoch_iterator.steps_per_epoch = left
            show_steps(find_call(), left)

    def trained(self, delivery: Delivery) -> None:
        """Remember where the data are."""
        self._trained = delivery.place
        self._trained_all = delivery.is_last
        self._since_saved += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if it is time; at the end of an epoch only when Keras has finished it."""
        super().on_train_batch_end(batch, logs)
        if not self._saves_last:
            self._save_within_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save if it is time."""
        if not self._saves_last:
            self._save_after_epoch()

    def on_train_end(self, logs: Any = None) -> None:
        """Remove the backup: training is over."""
        self.model._initial_epoch = None
        if self.delete_checkpoint and self._writes:
            self._folder.delete()
        self._folder.release()

    @property
    def _saves_last(self) -> bool:
        """Whether callbacks whose state is saved come later, and so have not counted yet."""
        return self._last is not None and self._last.saves

    def _save_within_epoch(self) -> None:
        """Called by `LastInList`, as the next one is."""
        if self._is_due and not self._epoch_is_over:
            self._save()

    def _save_after_epoch(self) -> None:
        if self.save_freq == "epoch" or self._is_due:
            self._save()

    @property
    def _is_due(self) -> bool:
        return self.save_freq != "epoch" and self._since_saved >= int(self.save_freq)

    @property
    def _steps_done(self) -> int:
        """Steps of Keras's epoch that are trained, those before an interruption too."""
        if self._session.steps_per_epoch is None and self._trained is not None:
            return self._trained.step + 1  # an epoch of Keras is one of the data
        return self._begun_at + self._last_step + 1

    @property
    def _epoch_is_over(self) -> bool:
        if self._session.steps_per_epoch is None and self._trained is not None:
            return self._trained_all  # fewer steps, if it was resumed with larger batches
        return self._steps_done >= self._session.steps

    # ---------------------------------------------------------------- what

    def _save(self) -> None:
        if self._trained is None:
            return
        self._since_saved = 0
        fit = {"epoch": self._epoch, "step": self._steps_done}
        if self._epoch_is_over:
            fit = {"epoch": self._epoch + 1, "step": 0}
        trained = self._trained
        position = core_of(self.dataset).state_at(trained._replace(step=trained.step + 1))
        groups = training_state.variables(self.model, with_metrics=fit["step"] > 0)
        arrays = {
            f"{group}/{number}": keras.ops.convert_to_numpy(variable)
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }
        for number, generator in enumerate(training_state.generator_states()):
            arrays[f"generators/{number}"] = generator
        of_others, kept = companions.described(self._companions)
        shard = self.dataset.plan.shard
        facts = {
            "fit": fit,
            "stopped": bool(self.model.stop_training),
            "callbacks": of_others,
            "dataset": position,
            "processes": shard.count if keeps_own_states(shard) else 1,
            **training_state.described(self.model, groups),
        }
        arrays |= self._arrays_of_others(arrays)
        if self._writes:
            self._folder.write(facts, arrays | kept, keep_previous=self.double_checkpoint)

    def _restore(self, callbacks: Any) -> None:
        found = self._read_together(callbacks)
        if found is None:
            return
        facts, arrays = found
        training_state.build(self.model, self.dataset)
        groups = training_state.variables(
            self.model,
            with_metrics=facts["fit"]["step"] > 0,
            with_seeds=bool(facts["variables"]["seeds"]),
        )
        training_state.refuse_another_model(self.model, groups, facts)
        self.dataset.load_state_dict(facts["dataset"])
        for group, variables in groups.items():
            rules = [getattr(variable, "aggregation", "") for variable in variables]
            values = [
                self._own(found, f"{group}/{number}", rule) for number, rule in enumerate(rules)
            ]
            if group == "metrics":
                self._metrics = values
            else:
                training_state.assign(variables, values)
        states = [name for name in arrays if name.startswith("generators/")]
        training_state.set_generator_states([self._own(found, name) for name in states])
        self._begun_at = facts["fit"]["step"]
        # What Keras's own callback sets: fit reads it when on_train_begin has been called.
        self.model._initial_epoch = facts["fit"]["epoch"]
        if facts["stopped"]:
            self.model._initial_epoch = (self.params or {}).get("epochs")
        if self._last is not None:
            self._last.to_restore = facts["callbacks"], arrays

    @property
    def _companions(self) -> list[Any]:
        return [] if self._last is None else self._last.companions

    @property
    def _writes(self) -> bool:
        """Whether the file is written by this process."""
        return is_first(self.dataset.plan.shard)

    def _arrays_of_others(
        self, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        """What other processes have that this one has not; see `states_of_others`."""
        shard = self.dataset.plan.shard
        if not keeps_own_states(shard):
            return {}
        trained = {id(variable) for variable in self.model.trainable_variables}
        of_all = {
            f"model/{number}"
            for number, variable in enumerate(self.model.variables)
            if id(variable) in trained
        }
        own = {
            name: array
            for name, array in arrays.items()
            if name not in of_all and not name.startswith("optimizer/")
        }
        return states_of_others(shard, own)

    def _own(self, found: Found, name: str, rule: str = "") -> npt.NDArray[Any]:
        """An array of the backup, as this process goes on with it."""
        facts, arrays = found
        shard = self.dataset.plan.shard
        return own_state(
            arrays,
            name,
            facts["processes"],
            shard if keeps_own_states(shard) else Shard(),
            name.partition("/")[0],
            rule,
        )

    def _read_together(self, callbacks: Any) -> Found | None:
        """What `_read` returns or raises, when that is the same on all processes."""
        found, damage, told_of = None, None, "none"
        try:
            if self._writes:
                told_of = "a folder that it can't use"
                # A traceback may keep the callbacks of a fit that has ended.
                self._folder.lock(partial(is_calling, weakref.ref(callbacks)))
                weakref.finalize(callbacks, self._folder.release)
            told_of = "none"
            found = self._read()
        except InvalidStateError as error:
            damage = error
            if told_of == "none":
                told_of = "one that can't be read"
        if found is not None:
            told_of = "that of epoch {epoch}, step {step}".format(**found[0]["fit"])
        if has_others(self.dataset.plan.shard):
            refuse_different_backups(self.dataset.plan.shard, self.backup_dir, told_of)
        if damage is not None:
            raise damage
        return found

    def _read(self) -> Found | None:
        """The newest backup that can be read and makes sense, or None if there is none."""
        session = getattr(self, "_session", None)  # none, if it only looks for a backup

        def check(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
            steps = None if session is None else session.steps_per_epoch
            epochs = (self.params or {}).get("epochs")
            refuse_nonsense(facts, arrays, self.dataset, epochs, steps)

        return self._folder.read(check)
