"""`Saving`: what `BackupAndRestore` keeps, saves and restores.

saving = watching_of(backup, Saving)
saving.read()           # the facts and arrays of the newest backup, or None
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
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
from keras_npbatch.callbacks.watching import Watching
from keras_npbatch.distributed.agreement import refuse_different_backups
from keras_npbatch.distributed.rank import has_others, is_first
from keras_npbatch.errors import InvalidStateError
from keras_npbatch.fit.call import callbacks_of, find_call, is_calling, show_steps
from keras_npbatch.fit.deliveries import Delivery
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.shard import Shard

__all__ = ["Saving"]


class Saving(Watching):
    """The place of training, and the folder that it is saved in.

    Args:
        owner: the `BackupAndRestore`, which has the settings.
        dataset: what it watches.
        folder: for the backup.
    """

    of_one_fit = Watching.of_one_fit | {"_folder", "_last"}

    def __init__(self, owner: Any, dataset: Any, folder: Path) -> None:
        self._path = folder
        super().__init__(owner, dataset)
        self._since_saved = 0
        self._epoch = 0
        self._begun_at = 0
        self._trained: Place | None = None
        self._trained_all = False
        self._metrics: list[npt.NDArray[Any]] | None = None

    def forget_fit(self) -> None:
        """Reset what belongs to a `fit`."""
        super().forget_fit()
        self._folder = BackupFolder(self._path)
        self._last: LastInList | None = None

    # ---------------------------------------------------------------- when

    def begin_fit(self) -> None:
        """Restore the backup, if there is one."""
        self._since_saved, self._begun_at, self._trained, self._metrics = 0, 0, None, None
        callbacks = callbacks_of(find_call())
        if callbacks is None:
            callbacks = keras.callbacks.CallbackList([self.owner])
        self._last = LastInList(self.owner, self, callbacks)
        try:
            self._restore(callbacks)
        except BaseException:
            self._folder.release()
            raise

    def begin_epoch(self, epoch: int) -> None:
        """Go on with the metrics of a resumed epoch."""
        self._epoch = epoch
        if self._metrics is None:
            self._begun_at = 0
        else:
            if self._metrics:  # Keras has just reset them
                training_state.assign(self.owner.model.metrics_variables, self._metrics)
            self._metrics = None
        left = self.session.steps - self._begun_at
        epoch_iterator = self.epoch_iterator
        if epoch_iterator.steps_per_epoch not in (None, left):
            # Without steps_per_epoch the dataset tells Keras how long the epoch is.
            epoch_iterator.steps_per_epoch = left
            show_steps(callbacks_of(find_call()), left)

    def note(self, delivery: Delivery) -> None:
        """Remember where the data are."""
        self._trained = delivery.place
        self._trained_all = delivery.is_last
        self._since_saved += 1

    def end_fit(self) -> None:
        """Remove the backup: training is over."""
        self.owner.model._initial_epoch = None
        if self.owner.delete_checkpoint and self.writes:
            self._folder.delete()
        self._folder.release()

    @property
    def waits_for_others(self) -> bool:
        """Whether callbacks whose state is saved come later, and so have not counted yet."""
        return self._last is not None and self._last.saves

    def save_within_epoch(self) -> None:
        """Save if it is time, unless the epoch is over."""
        if self._is_due and not self._epoch_is_over:
            self._save()

    def save_after_epoch(self) -> None:
        """Save if it is time, now that Keras has finished the epoch."""
        if self.owner.save_freq == "epoch" or self._is_due:
            self._save()

    @property
    def _is_due(self) -> bool:
        return self.owner.save_freq != "epoch" and self._since_saved >= int(self.owner.save_freq)

    @property
    def _steps_done(self) -> int:
        """Steps of Keras's epoch that are trained, those before an interruption too."""
        if self.session.steps_per_epoch is None and self._trained is not None:
            return self._trained.step + 1  # an epoch of Keras is one of the data
        return self._begun_at + self.last_step + 1

    @property
    def _epoch_is_over(self) -> bool:
        if self.session.steps_per_epoch is None and self._trained is not None:
            return self._trained_all  # fewer steps, if it was resumed with larger batches
        return self._steps_done >= self.session.steps

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
        groups = training_state.variables(self.owner.model, with_metrics=fit["step"] > 0)
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
            "stopped": bool(self.owner.model.stop_training),
            "callbacks": of_others,
            "dataset": position,
            "processes": shard.count if keeps_own_states(shard) else 1,
            **training_state.described(self.owner.model, groups),
        }
        arrays |= self._arrays_of_others(arrays)
        if self.writes:
            self._folder.write(facts, arrays | kept, keep_previous=self.owner.double_checkpoint)

    def _restore(self, callbacks: Any) -> None:
        found = self._read_together(callbacks)
        if found is None:
            return
        facts, arrays = found
        training_state.build(self.owner.model, self.dataset)
        groups = training_state.variables(
            self.owner.model,
            with_metrics=facts["fit"]["step"] > 0,
            with_seeds=bool(facts["variables"]["seeds"]),
        )
        training_state.refuse_another_model(self.owner.model, groups, facts)
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
        self.owner.model._initial_epoch = facts["fit"]["epoch"]
        if facts["stopped"]:
            self.owner.model._initial_epoch = (self.owner.params or {}).get("epochs")
        if self._last is not None:
            self._last.to_restore = facts["callbacks"], arrays

    @property
    def _companions(self) -> list[Any]:
        return [] if self._last is None else self._last.companions

    @property
    def writes(self) -> bool:
        """Whether the file is written by this process."""
        return is_first(self.dataset.plan.shard)

    def _arrays_of_others(
        self, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        """The arrays of other processes that this one lacks; see `states_of_others`."""
        shard = self.dataset.plan.shard
        if not keeps_own_states(shard):
            return {}
        trained = {id(variable) for variable in self.owner.model.trainable_variables}
        of_all = {
            f"model/{number}"
            for number, variable in enumerate(self.owner.model.variables)
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
        """What `read` returns or raises, when that is the same on all processes."""
        found, damage, told_of = None, None, "none"
        try:
            if self.writes:
                told_of = "a folder that it can't use"
                # A traceback may keep the callbacks of a fit that has ended.
                self._folder.lock(partial(is_calling, weakref.ref(callbacks)))
                weakref.finalize(callbacks, self._folder.release)
            told_of = "none"
            found = self.read()
        except InvalidStateError as error:
            damage = error
            if told_of == "none":
                told_of = "one that can't be read"
        if found is not None:
            told_of = "that of epoch {epoch}, step {step}".format(**found[0]["fit"])
        if has_others(self.dataset.plan.shard):
            refuse_different_backups(self.dataset.plan.shard, self._folder.path, told_of)
        if damage is not None:
            raise damage
        return found

    def read(self) -> Found | None:
        """The newest backup that can be read and makes sense, or None if there is none."""
        session = self.session if self.has_session else None  # if it only looks for a backup

        def check(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
            steps = None if session is None else session.steps_per_epoch
            epochs = (self.owner.params or {}).get("epochs")
            refuse_nonsense(facts, arrays, self.dataset, epochs, steps)

        return self._folder.read(check)
