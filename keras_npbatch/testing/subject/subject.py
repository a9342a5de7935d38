"""The dataset under examination: reads copies of it, with set global generators and a time limit.

    subject = Subject(dataset)
    subject.epoch(0)                # what was seen of each batch of its first epoch
    twin = subject.at_epoch(1)      # a copy, at its second epoch
    subject.read(twin, 3)

For a plain `keras.utils.PyDataset`, an epoch is what Keras does: the hook `on_epoch_begin`, the
batches, `on_epoch_end`. The global generators are set before each call of the dataset, so that
only the rule about them reports a dataset that draws from them.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np

from keras_npbatch.arguments import number_of_batches, whole_number
from keras_npbatch.batches.core import core_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.errors import InvalidArgumentError, describe, describe_error
from keras_npbatch.plan.plan import Plan
from keras_npbatch.testing.subject import digests
from keras_npbatch.testing.subject.copies import copied
from keras_npbatch.testing.subject.randomness import seed_all
from keras_npbatch.testing.subject.seen import Seen, see
from keras_npbatch.tree import Tree

__all__ = ["NotChecked", "SampleId", "Subject", "Unreadable"]

SampleId = Callable[[Tree], Any]
"""`sample_id(batch)`: an array of shape `(n,)` with the id of the sample in each row; or `(n, k)`,
with ids read from `k` parts of the batch, which must agree."""

_MOST_TOLD = 300
_FIRST_SEED = 0


_STEPS = 8
_DIFFER = (
    "the contents of the samples differ from epoch to epoch, so none is known again; tell which "
    "sample is which: sample_id=..."
)


class NotChecked(Exception):  # noqa: N818  # not an error: the text says why a rule has no result
    """A rule can't be checked for this dataset."""


class Unreadable(Exception):  # noqa: N818  # the error is what the dataset raised
    """A call of the dataset raised an exception."""

    def __init__(self, call: str, error: BaseException) -> None:
        text = describe_error(error, _MOST_TOLD)
        *_, last = traceback.extract_tb(error.__traceback__)
        super().__init__(f"{call} raised {text} (at {last.filename}:{last.lineno})")


class Subject:
    """A dataset and the arguments of `check_dataset` that describe it.

    Raises:
        InvalidArgumentError: for anything but a finite `PyDataset`.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        sample_id: SampleId | None = None,
        num_samples: int | None = None,
        shuffles: bool | None = None,
        with_seed: Callable[[int], Any] | None = None,
    ) -> None:
        if not isinstance(dataset, keras.utils.PyDataset):
            raise InvalidArgumentError(
                f"dataset is {describe(dataset)}; expected a keras.utils.PyDataset, such as a "
                "BatchDataset. Pass the object, not its class."
            )
        if number_of_batches(dataset) is None:
            raise InvalidArgumentError(
                f"dataset is an endless {type(dataset).__name__}; expected a finite one. Check "
                "one epoch of it: the dataset before repeat()."
            )
        if isinstance(dataset, BatchDataset) and not core_of(dataset).has_rows:
            raise InvalidArgumentError(
                "dataset is several zipped ones, whose batches have no samples in common; expected "
                "one of them: check each."
            )
        for name, value in (("sample_id", sample_id), ("with_seed", with_seed)):
            if value is not None and not callable(value):
                raise InvalidArgumentError(f"{name} is {describe(value)}; expected a function.")
        self.dataset = dataset
        self.is_ours = isinstance(dataset, BatchDataset)
        self.sample_id, self.with_seed = sample_id, with_seed
        if num_samples is not None:
            num_samples = whole_number("num_samples", num_samples, least=1)
        self.num_samples = self._samples_in_an_epoch(num_samples)
        self.shuffles = shuffles
        if shuffles is None and isinstance(getattr(dataset, "shuffle", None), bool | np.bool_):
            self.shuffles = bool(dataset.shuffle)
        self.deadline = float("inf")
        self.noise: tuple[str, ...] = ()
        self._steady: dict[bool, bool] = {}
        self._epochs: dict[tuple[int, bool], tuple[Seen, ...] | NotChecked] = {}

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, according to the dataset."""
        return int(self.dataset.num_batches)

    @property
    def left_out(self) -> int:
        """Samples that an epoch drops (others in each epoch) or leaves to other processes."""
        if not self.is_ours:
            return 0
        if self.repeats_rows:  # other rows more often in each epoch
            here, there = (Counter(self.rows_of(number)) for number in (0, 1))
            return max((here - there).total(), (there - here).total())
        return int(self.dataset.plan.epoch_size) - self._in_an_epoch()

    @property
    def repeats_rows(self) -> bool:
        """Whether its sampler may have a row more than once in an epoch, or not at all."""
        return self.is_ours and bool(self.dataset.plan.sampler.repeats)

    def rows_of(self, number: int) -> list[int]:
        """The rows of the `number`th epoch from now, of a `BatchDataset`."""
        plan: Plan = self.dataset.plan
        epoch = self.dataset.epoch + number
        rows = [plan.rows(epoch, step) for step in range(plan.num_batches)]
        return [int(row) for row in np.concatenate(rows)]

    def steps(self, most: int) -> list[int]:
        """Up to `most` steps: the first, the last, and some in between."""
        spread = np.linspace(0, self.num_batches - 1, most).astype(int)
        return [int(step) for step in np.unique(spread)]

    @property
    def changes_batches(self) -> bool:
        """Whether a `BatchDataset` has a transform or augmentation."""
        core = core_of(self.dataset)
        return (core.transform, core.augment) != (None, None)

    @property
    def reads_arrays(self) -> bool:
        """Whether it is an `ArrayDataset`, whose samples are the rows of its arrays."""
        return self.is_ours and core_of(self.dataset).reads_arrays_alone

    # ---------------------------------------------------------------- copies

    def copy(self, *, finished: bool = True, workers: int = 0) -> Any:
        """A copy of the dataset.

        Args:
            finished: whether to keep its transform and augmentation.
            workers: number of threads of a `BatchDataset`; a plain `PyDataset` always has 1.
        """
        twin = copied(self.dataset)
        twin.workers, twin.use_multiprocessing = (workers if self.is_ours else 1), False
        if not finished and self.is_ours:
            core = core_of(twin)
            core.transform = core.augment = None
        return twin

    def at_epoch(self, number: int, *, finished: bool = True, seed: int = _FIRST_SEED) -> Any:
        """A copy at the `number`th epoch from now, brought there as Keras would do it.

        Args:
            number: from 0 up.
            finished: whether to keep the transform and augmentation of the dataset.
            seed: seed of the global generators, from which the hooks may draw.
        """
        return self.to_epoch(self.copy(finished=finished), number, seed=seed)

    def to_epoch(self, dataset: Any, number: int, *, seed: int = _FIRST_SEED) -> Any:
        """Bring an unused dataset to an epoch."""
        if isinstance(dataset, BatchDataset):
            dataset.set_epoch(dataset.epoch + number)
            return dataset
        self.call_hook(dataset, "on_epoch_begin", seed)
        for later in range(1, number + 1):
            # Another seed each time: with the same one, a hook would draw the same order again.
            self.call_hook(dataset, "on_epoch_end", seed + 2 * later)
            self.call_hook(dataset, "on_epoch_begin", seed + 2 * later + 1)
        return dataset

    def resumed(self, step: int) -> Any:
        """A copy that resumes at a step of the next epoch."""
        twin = self.copy()
        state = twin.state_dict(epoch=twin.epoch, step=step)
        twin.load_state_dict(json.loads(json.dumps(state)))
        return twin

    def made_with(self, seed: int, global_seed: int) -> Any:
        """Another dataset, from the user's `with_seed`."""
        assert self.with_seed is not None
        seed_all(global_seed)
        made = self.with_seed(seed)
        if not isinstance(made, keras.utils.PyDataset):
            raise InvalidArgumentError(
                f"with_seed({seed}) returned {describe(made)}; expected a keras.utils.PyDataset."
            )
        return made

    def call_hook(self, dataset: Any, name: str, seed: int = _FIRST_SEED) -> None:
        """Call a hook of a dataset, with the global generators set."""
        seed_all(seed)
        try:
            getattr(dataset, name)()
        except Exception as error:
            raise Unreadable(f"{name}()", error) from error

    # ---------------------------------------------------------------- reading

    def read(
        self, dataset: Any, step: int, *, seed: int = _FIRST_SEED, only: str | None = None
    ) -> Tree:
        """Read a batch.

        Args:
            dataset: a copy.
            step: the step of the batch.
            seed: seed of the global generators.
            only: the only generator that gets this seed; None: all of them.

        Raises:
            Unreadable: if the dataset raises an exception.
            NotChecked: if the time is over.
        """
        self.check_time(step)
        seed_all(seed, only=only, others=_FIRST_SEED)
        try:
            return dataset[step]
        except Exception as error:
            raise Unreadable(f"dataset[{step}]", error) from error

    def check_time(self, step: int) -> None:
        """Raise `NotChecked` if the time of this check is over."""
        if time.monotonic() > self.deadline:
            raise NotChecked(
                f"its time was over before batch {step} of {self.num_batches}; give a longer "
                "timeout, or a dataset with a part of the data"
            )

    def look_at(self, batch: Tree, step: int) -> Seen:
        """Describe a batch that was read."""
        return see(batch, step, self._real_samples(step), self.sample_id)

    def epoch(self, number: int, *, finished: bool = True) -> tuple[Seen, ...]:
        """What was seen of each batch of the `number`th epoch from now, read in order."""
        finished = finished or not self.is_ours or not self.changes_batches
        key = number, finished
        known = self._epochs.get(key)
        if known is None:
            twin = self.at_epoch(number, finished=finished)
            try:
                known = tuple(
                    self.look_at(self.read(twin, step), step) for step in range(self.num_batches)
                )
            except NotChecked as too_long:
                known = too_long
            self._epochs[key] = known
        if isinstance(known, NotChecked):  # the next rule would wait as long, also in vain
            raise known
        return known

    def mark(self, seen: Seen) -> Hashable:
        """A key that identifies a batch: from its contents or, if these are noise, the user's ids.

        Raises:
            NotChecked: if neither is the same at each read.
        """
        if not self.noise:
            return seen.digest
        self._need_steady_ids()
        return tuple(seen.ids)

    def mark_of(self, batch: Tree, step: int) -> Hashable:
        """The mark of a batch that was read; see `mark`."""
        return self.mark(self.look_at(batch, step)) if self.noise else digests.whole(batch)

    def keys(self, batches: Sequence[Seen]) -> list[Hashable]:
        """A key for the sample in each row of the batches: the user's id, or a digest of inputs."""
        if self.sample_id is None:
            return [key for seen in batches for key in seen.inputs]
        ids = [key for seen in batches for key in seen.ids]
        return [key[0] if isinstance(key, tuple) else key for key in ids]

    def known_again(self, number: int) -> tuple[Seen, ...]:
        """An epoch whose samples can be recognised in another epoch; untransformed if necessary.

        Raises:
            NotChecked: if the contents differ between reads or epochs and there are no ids, or if
                the ids differ too.
        """
        if self.sample_id is None:
            return self.contents(number)
        self._need_steady_ids()
        return self.epoch(number)

    def contents(self, number: int) -> tuple[Seen, ...]:
        """An epoch with the inputs of the data, before a transform changes them.

        Raises:
            NotChecked: if they differ between reads or between epochs.
        """
        if self.is_ours and core_of(self.dataset).load_draws:
            raise NotChecked(
                "load(rows, rng) draws other numbers in each epoch, so no sample is known again; "
                "tell which sample is which: sample_id=..."
            )
        self.need_steady_contents()
        batches = [self.epoch(epoch, finished=False) for epoch in (0, 1)]
        here, there = ({key for batch in epoch for key in batch.inputs} for epoch in batches)
        if 2 * len(here & there) < min(len(here), len(there)):
            raise NotChecked(_DIFFER)
        return self.epoch(number, finished=False)

    def need_steady_contents(self) -> None:
        """Check that untransformed contents can be compared.

        Raises:
            NotChecked: if they differ between reads.
        """
        if self.noise and not self._is_steady(finished=False):
            raise NotChecked(self._first_mend)

    def need_equal_widths(self, *epochs: Sequence[Seen]) -> None:
        """Check that different contents are not due to padding to the longest sample of a batch.

        Raises:
            NotChecked: if samples are identified by contents and their shapes differ.
        """
        if self.sample_id is None and len({b.widths for batches in epochs for b in batches}) > 1:
            raise NotChecked(
                "the shape of a sample differs from batch to batch, as with padding to the "
                "longest, so none is known again; tell which sample is which: sample_id=..."
            )

    def _need_steady_ids(self) -> None:
        if self.noise and (self.sample_id is None or not self._is_steady(finished=True)):
            raise NotChecked(self._first_mend)

    @property
    def _first_mend(self) -> str:
        by_ids = "; or tell which sample is which: sample_id=..." if self.sample_id is None else ""
        return f"first mend: {', '.join(self.noise)}{by_ids}"

    def _is_steady(self, *, finished: bool) -> bool:
        """Whether the ids, or the untransformed contents, are the same at each read despite noise.

        Reads batches in order, each twice; backwards; and with another global seed.
        """
        if finished not in self._steady:
            expected, twin = self.epoch(0, finished=finished), self.at_epoch(0, finished=finished)
            steps = self.steps(_STEPS)
            reads = [(step, _FIRST_SEED) for step in steps for _ in range(2)]
            reads += [(step, _FIRST_SEED) for step in reversed(steps)]
            reads += [(step, _FIRST_SEED + 1) for step in steps]
            self._steady[finished] = all(
                _told_of(self.look_at(self.read(twin, step, seed=seed), step), finished)
                == _told_of(expected[step], finished)
                for step, seed in reads
            )
        return self._steady[finished]

    # ---------------------------------------------------------------- inside

    def _real_samples(self, step: int) -> int | None:
        """Samples in a batch without padding, if the dataset knows."""
        if not self.is_ours or not 0 <= step < self.num_batches:
            return None
        start, stop = self.dataset.plan.span(step)
        return int(stop - start)

    def _samples_in_an_epoch(self, told_by_user: int | None) -> int | None:
        if told_by_user is not None or not self.is_ours:
            return told_by_user
        return self._in_an_epoch()

    def _in_an_epoch(self) -> int:
        """Samples in an epoch of a `BatchDataset`."""
        plan: Plan = self.dataset.plan
        if plan.shard.count == 1:
            return plan.span(plan.num_batches - 1)[1]
        spans = (plan.span(step) for step in range(plan.num_batches))
        return sum(stop - start for start, stop in spans)


def _told_of(seen: Seen, finished: bool) -> list[Hashable]:
    return seen.ids if finished else [*seen.inputs, *seen.targets]
