"""batch = recipe(epoch, step): the whole library in one pure function.

    recipe = Recipe(plan, load=lambda rows: (x[rows], y[rows]))
    recipe(epoch=2, step=7)      # the same bytes whenever, wherever and however often it is called

Workers call it in the consumer, in threads, in processes, ahead of time, out of order, or again
after a failure; the result does not change. The same recipe with `plan.in_data_order()` serves
evaluation and prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_npbatch.batches import parts as assemble
from keras_npbatch.batches.chain import Change
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.owned import owned
from keras_npbatch.batches.set_aside import Failure, Lacking, SetAside
from keras_npbatch.errors import SetAsideError, describe_rows
from keras_npbatch.plan.plan import Plan
from keras_npbatch.rng import Purpose
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree

__all__ = ["Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How any batch is made."""

    plan: Plan
    """Which rows are in which batch."""
    load: Callable[..., Tree]
    """Reads the rows: `load(rows)` returns a batch with one sample for each row."""
    transform: Change | None = None
    """Applied to what `load` returned."""
    class_weight: ClassWeight | None = None
    """Weighs the samples, as the last step before padding."""
    finished: bool = False
    """Whether `load` returns batches that are known to be right and need nothing more."""
    name: str = "load(rows)"
    """What messages call `load`."""
    augment: Change | None = None
    """Applied after the transform, in training only."""
    load_draws: bool = False
    """Whether `load` takes a random generator as its second argument."""
    load_draws_by_sample: bool = False
    """Whether it takes a generator for each row there instead, in a list."""
    empty: Empty = np.empty
    """Allocates copies of what `load` or a function returned and something else can reach."""
    is_whole: bool = False
    """Whether `load` makes whole batches: its parts may have any number of samples."""
    aside: SetAside | None = None
    """The rows that can't be read, if batches are to do without them."""
    fills_up: bool = True
    """Whether such a batch is filled up with rows of weight 0, as in training, or is shorter."""

    def __call__(self, epoch: int, step: int) -> Tree:
        """The batch of a step.

        Raises:
            Exception: whatever `load` or the transform raises, with a note of epoch, step, rows.
            SetAsideError: if too many rows can't be read, or nothing can stand for them.
                A `StopIteration` becomes a RuntimeError, as in a generator (PEP 479): it would
                end the epoch silently.
        """
        plan = self.plan
        rows = plan.rows(epoch, step)
        num_real = len(rows)
        if not num_real and plan.remainder == "pad":  # a shard without a part of the last batch
            rows = plan.global_rows(epoch, step)[:1]
        if not self.finished:
            return self.made(Generators(plan, epoch, step, rows), num_real)
        try:
            return self.load(rows)
        except Exception as error:
            self._note(error, self.name, self.name, epoch, step, rows)
            raise

    def made(self, numbers: Generators, num_real: int | None = None) -> Tree:
        """The batch of some rows.

        Args:
            numbers: the rows, and the generators for their place.
            num_real: how many of them are real if the batch is to be padded.

        Returns:
            The batch; a `Lacking` if some of the rows can't be read.
        """
        rows, doing = numbers.rows, self.name
        failures: tuple[Failure, ...] = ()
        called = self.name.replace(")", ", rng)") if self.load_draws else self.name
        try:
            # In a list, and under no other name: `owned` counts references to it.
            if self.aside is None:
                held = [self.read(numbers)]
            else:
                held, numbers, failures = self.aside.read(self.read, numbers)
                if num_real == 0:  # the row stands in for others, and is another shard's
                    failures = ()
                if failures:
                    self._refuse_lacking(rows, failures)
            num_there = len(numbers.rows)
            parts = assemble.unpack(owned(held, self.empty), doing)
            assemble.check_lengths(parts, None if self.is_whole else num_there, doing)
            changes = [change for change in (self.transform, self.augment) if change is not None]
            for link in [link for change in changes for link in change.links]:
                doing, called = link.setting, link.called
                held = [parts]
                del parts
                held = [link(assemble.pack(held.pop()), numbers, self.empty)]
                parts = assemble.unpack(owned(held, self.empty), doing)
                assemble.check_lengths(parts, num_there, doing)
            if self.class_weight is not None:
                doing = called = "class_weight"
                parts = self.class_weight(parts)
            if num_real is not None and self.plan.remainder == "pad":
                doing = called = "padding"
                size = self.plan.batch_size
                parts = assemble.pad(parts, num_real - len(failures), size)
            elif self.aside is not None and self.fills_up:
                doing = called = "padding"
                parts = assemble.pad(parts, len(rows) - len(failures), len(rows))
        except Exception as error:
            self._note(error, doing, called, numbers.epoch, numbers.step, rows)
            raise
        batch = assemble.pack(parts)
        return Lacking(batch, failures) if failures else batch

    def _refuse_lacking(self, rows: Rows, failures: Sequence[Failure]) -> None:
        """Refuse a shorter batch where there can't be one: `evaluate` has no weights for its mean.

        Raises:
            SetAsideError: naming the rows.
        """
        needs_size = self.plan.remainder == "pad" or self.plan.shard.count > 1
        if self.fills_up or (len(failures) < len(rows) and not needs_size):
            return
        lacking = describe_rows(failure.row for failure in failures)
        if needs_size:
            why, remedy = "other devices need batches of one size", "evaluate on one device"
        else:
            why, remedy = "that is its whole batch", "take a larger batch_size"
        raise SetAsideError(
            f"rows {lacking} could not be read ({failures[0].reason}), and evaluate can't leave "
            f"them out: {why}. Expected rows to take the mean over. Mend the data, leave these "
            f"rows out (subset), or {remedy}."
        )

    def _note(
        self, error: Exception, doing: str, called: str, epoch: int, step: int, rows: Rows
    ) -> None:
        """Say where an error comes from, before it is raised again."""
        note = (
            f"keras_npbatch: raised by {called} at epoch {epoch}, step {step}, rows "
            f"{describe_rows(rows)}"
        )
        if isinstance(error, StopIteration):
            stopped = RuntimeError(f"{doing} raised StopIteration")
            stopped.add_note(note)
            raise stopped from error
        error.add_note(note)

    def read(self, numbers: Generators) -> Tree:
        """What `load` returns for the rows of a step, before anything else is done."""
        if self.load_draws_by_sample:
            return self.load(numbers.rows, numbers.of_samples(Purpose.LOAD_OF_SAMPLE))
        if self.load_draws:
            return self.load(numbers.rows, numbers.of_batch(Purpose.LOAD))
        return self.load(numbers.rows)
