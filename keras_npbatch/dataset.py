"""`BatchDataset`: the facade that users subclass and `model.fit` takes.

    class Slides(BatchDataset):
        def load(self, rows):
            return read(self.paths[rows]), self.labels[rows]

    model.fit(Slides(...), epochs=10)

A dataset is a `keras.utils.PyDataset`, and it is its own Keras `DataAdapter`: `get_data_adapter`
returns such an object as it is (Keras 3.7 and later, "Allow passing a custom data adapter"), so
`fit` takes its batches straight from here on every backend, in our order, from our executor.
"""

from __future__ import annotations

import contextlib
import copy
import operator
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import keras

from keras_npbatch import rng
from keras_npbatch.adapter import KerasAdapter
from keras_npbatch.assemble import ClassWeight
from keras_npbatch.errors import InvalidArgumentError, told
from keras_npbatch.execution.inline import InlineStream
from keras_npbatch.execution.threads import ThreadedStream
from keras_npbatch.making import Making, making, now_making
from keras_npbatch.order import Rows
from keras_npbatch.plan import Plan, Remainder, whole_number
from keras_npbatch.recipe import Recipe
from keras_npbatch.serving import Clock, Service, Stream, check_delivered
from keras_npbatch.transforms import Transform
from keras_npbatch.tree import Tree

__all__ = ["BatchDataset"]

_MAX_WORKERS = 1024

_NO_PROCESSES = (
    "use_multiprocessing is {}; worker processes are not available in this version. Use threads: "
    "workers=N alone."
)


class BatchDataset(KerasAdapter, keras.utils.PyDataset):  # type: ignore[misc]  # Keras is untyped
    """Batches of a user's data, each sample exactly once an epoch, reshuffled every epoch.

    Subclass it and write one method, `load(rows)`. A batch is a function of (seed, epoch, step)
    alone, so the model sees the same batches whatever `workers` is, on every backend.

    Example:

    ```python
    class Slides(keras_npbatch.BatchDataset):
        def __init__(self, paths, labels, **kwargs):
            super().__init__(num_samples=len(paths), **kwargs)
            self.paths, self.labels = np.asarray(paths), np.asarray(labels)

        def load(self, rows):
            return np.stack([np.load(path) for path in self.paths[rows]]), self.labels[rows]

    model.fit(Slides(paths, labels, batch_size=64, workers=4), epochs=10)
    ```

    Overriding `__getitem__(index)` instead, as for a `PyDataset`, works too: use
    `self.rows(index)` for the rows of that batch, or do without them.

    Args:
        num_samples: samples in the data, from 1 to 2**62.
        batch_size: samples in a full batch.
        shuffle: a new permutation of all samples each epoch, or the order of the data.
            `evaluate` and `predict` always read in the order of the data.
        seed: a whole number from 0 up. `None` draws one from NumPy's global state, so that
            `keras.utils.set_random_seed` makes it reproducible; `seed` then tells it.
        remainder: what happens to `num_samples % batch_size`. `"keep"`: a short last batch.
            `"drop"`: those samples are left out of the epoch (others in the next). `"pad"`: a
            full last batch whose added rows have a `sample_weight` of 0. `"spread"`: no batch
            is much shorter than another; sizes differ by at most one. `predict` always gets
            every sample once.
        transform: `transform(batch)` or `transform(batch, rng)`, which returns the batch for the
            model; `rng` depends on (seed, epoch, step) alone. It is applied in `evaluate` and
            `predict` too: leave augmentation out of the dataset you evaluate with.
        class_weight: dict from class number to weight, which becomes the `sample_weight` of the
            batches of training, as `fit(class_weight=...)` does for arrays; `evaluate` does not
            weigh. A class that is not in it weighs 1.
        workers: threads that make batches. 0: none, the caller makes each batch when it asks.
            1: one thread makes batches ahead. More: so many at once.
        use_multiprocessing: worker processes; not available in this version.
        max_queue_size: batches made ahead at most.

    Raises:
        InvalidArgumentError: for a value that makes no sense; the message tells what to do.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        remainder: Remainder = "keep",
        transform: Callable[..., Tree] | None = None,
        class_weight: Mapping[int, float] | None = None,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
    ) -> None:
        if use_multiprocessing:
            raise InvalidArgumentError(_NO_PROCESSES.format(told(use_multiprocessing)))
        super().__init__(
            workers=whole_number("workers", workers, least=0, most=_MAX_WORKERS),
            use_multiprocessing=False,
            max_queue_size=whole_number("max_queue_size", max_queue_size, least=1),
        )
        self._plan = Plan(
            num_samples=num_samples,
            batch_size=batch_size,
            seed=rng.draw_seed() if seed is None else seed,
            shuffle=shuffle,
            remainder=remainder,
        )
        self._transform = None if transform is None else Transform(transform)
        self._class_weight = None if class_weight is None else ClassWeight(class_weight)
        if self._makes_whole_batches:
            self._refuse_finishing()
        self._endless = False
        self._asked_for_rows = False
        self._start(epoch=0)

    # ---------------------------------------------------------------- what a user writes

    def load(self, rows: Rows) -> Tree:
        """Read a batch; the one method to write. It may be called from several threads at once.

        Args:
            rows: int64 array of shape `(n,)`: the samples of the batch, in their order.

        Returns:
            `x`, `(x, y)` or `(x, y, sample_weight)`: each an array of shape
            `(n, *feature_shape)`, or a dict, tuple or list of such.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no load(rows); expected a method that returns the batch "
            "of these rows: x, (x, y) or (x, y, sample_weight)."
        )

    # ---------------------------------------------------------------- batches

    def __len__(self) -> int:
        """Batches in an epoch."""
        num_batches = self.plan.num_batches
        if self._endless:
            raise TypeError(
                "an endless dataset (`repeat()`) has no length; one pass over the data is "
                f"{num_batches} batches"
            )
        return num_batches

    def __bool__(self) -> bool:
        """True, also for an endless dataset, which has no length to ask."""
        return True

    def __getitem__(self, index: int) -> Tree:
        """Batch `index` of the epoch that comes next. Asking changes nothing.

        For an endless dataset, `index` counts on through the epochs that follow.
        """
        try:
            step = operator.index(index)
        except TypeError:
            raise TypeError(f"index is {told(index)}; expected the number of a batch") from None
        epoch, num_batches = self.epoch, self.plan.num_batches
        if self._endless and step >= 0:
            later, step = divmod(step, num_batches)
            epoch += later
        elif step < 0:
            step += num_batches
        if not 0 <= step < num_batches:
            raise IndexError(f"there is no batch {index}: an epoch has {num_batches}, from 0 up")
        self._asked_for_rows = True
        return self._loading(self._current_plan)(epoch, step)

    def __iter__(self) -> Iterator[Tree]:
        """One epoch through the workers; the next iteration is the next epoch.

        The epoch moves on when its last batch is delivered: an iteration that is left earlier is
        begun anew by the next. An endless dataset goes on with the epochs that follow.
        """
        last_step = self.plan.num_batches - 1
        while True:
            epoch = self._clock.epoch
            step = -1
            with contextlib.closing(self._stream(self.plan, epoch)) as stream:
                for step, batch in enumerate(stream):
                    if step == last_step:
                        self._clock.epoch = epoch + 1
                    yield batch
            check_delivered(step, last_step)
            if not self._endless:
                return

    def rows(self, step: int, epoch: int | None = None) -> Rows:
        """The samples of a batch, without loading it.

        Args:
            step: from 0 to `num_batches - 1`.
            epoch: from 0 up; by default the one that comes next.

        Returns:
            int64 array of shape `(samples in the batch,)`, read-only; padding is not in it.
        """
        plan = self._current_plan
        self._asked_for_rows = True
        step = whole_number("step", step, least=0, most=plan.num_batches - 1)
        epoch = self.epoch if epoch is None else whole_number("epoch", epoch, least=0)
        return plan.rows(epoch, step)

    def locate(self, row: int, epoch: int | None = None) -> tuple[int, int] | None:
        """Where a sample is in an epoch, the inverse of `rows`.

        Args:
            row: from 0 to `num_samples - 1`.
            epoch: from 0 up; by default the one that comes next.

        Returns:
            `(step, position in the batch)`, or None if that epoch drops the sample.
        """
        epoch = self.epoch if epoch is None else whole_number("epoch", epoch, least=0)
        self._asked_for_rows = True
        return self._current_plan.locate(row, epoch)

    # ---------------------------------------------------------------- epochs

    @property
    def epoch(self) -> int:
        """The epoch that comes next, counted from 0; while a batch is made, the epoch it is in."""
        batch = now_making(self)
        return self._clock.epoch if batch is None else batch.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0 up."""
        self._clock.set(whole_number("epoch", epoch, least=0))

    def repeat(self) -> BatchDataset:
        """The same data without an end: one epoch follows the other, each in a new order.

        For `fit(steps_per_epoch=...)` with any number of steps: the short epochs of one `fit`
        walk one order without gap or repeat, and then the next. Another `fit` begins anew with
        the epoch that was not delivered whole.
        """
        endless = copy.copy(self)
        endless._endless = True
        return endless

    # ---------------------------------------------------------------- settings

    @property
    def plan(self) -> Plan:
        """Which rows are in which batch of any epoch."""
        plan: Plan | None = self.__dict__.get("_plan")
        if plan is None:
            raise InvalidArgumentError(
                f"{type(self).__name__} was not initialised; call "
                "super().__init__(num_samples=..., **kwargs) first in its __init__."
            )
        return plan

    @property
    def num_samples(self) -> int:
        """Samples in the data."""
        return self.plan.num_samples

    @property
    def batch_size(self) -> int:
        """Samples in a full batch."""
        return self.plan.batch_size

    @property
    def seed(self) -> int:
        """What, with the epoch, determines every order and random transform."""
        return self.plan.seed

    @property
    def shuffle(self) -> bool:
        """Whether epochs of training are shuffled."""
        return self.plan.shuffle

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch if it is shorter than `batch_size`, else None."""
        plan = self.plan
        rest = plan.num_samples % plan.batch_size
        return rest if rest and plan.remainder == "keep" else None

    @property
    def remainder(self) -> Remainder:
        """What happens to `num_samples % batch_size`."""
        return self.plan.remainder

    # ---------------------------------------------------------------- lifetime

    def close(self) -> None:
        """End all passes under way and let their memory go. Safe to call twice.

        The dataset stays usable: the next iteration or `fit` starts what it needs.
        """
        for stream in list(self._streams):
            stream.close()

    def __enter__(self) -> Self:
        """`with dataset:` closes it at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Settings, data and the epoch that comes next; passes under way stay behind."""
        state = self.__dict__.copy()
        for name in ("_clock", "_streams", "_sessions"):
            del state[name]
        state["_epoch"] = self._clock.epoch
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on a state, with passes and epochs of its own."""
        epoch = state.pop("_epoch")
        self.__dict__.update(state)
        self._start(epoch)

    def __repr__(self) -> str:
        """The settings."""
        plan = self.plan
        return (
            f"<{type(self).__name__}: {plan.num_samples} samples in {plan.num_batches} batches "
            f"of {plan.batch_size} (remainder={plan.remainder!r}), shuffle={plan.shuffle}, "
            f"seed={plan.seed}, workers={self.workers}, next epoch {self._clock.epoch}"
            f"{', endless' if self._endless else ''}>"
        )

    # ---------------------------------------------------------------- inside

    def _start(self, epoch: int) -> None:
        self._clock = Clock(epoch)
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._sessions = weakref.WeakKeyDictionary()

    def _service(self) -> Service:
        return Service(
            dataset=self,
            plan=self.plan,
            clock=self._clock,
            endless=self._endless,
            stream=self._stream,
        )

    def _own_num_batches(self) -> int | None:
        return None if self._endless else self.plan.num_batches

    def _stream(self, plan: Plan, epoch: int, training: bool = True) -> Stream:
        """An epoch of batches, made by the workers there are.

        As in `fit(x, y, class_weight=...)`, classes are weighed in training alone.
        """
        recipe = self._recipe(plan)
        if not training and recipe.class_weight is not None:
            recipe = replace(recipe, class_weight=None)

        def make(step: int) -> Tree:
            if recipe.finished:  # no code of the user's is called, which might ask
                return recipe(epoch, step)
            with making(Making(self, plan, epoch, step)):
                return recipe(epoch, step)

        self._check_unchanged()
        steps = range(plan.num_batches)
        workers = whole_number("workers", self.workers, least=0, most=_MAX_WORKERS)
        stream: Stream
        if workers == 0 or self._is_cheap:
            stream = InlineStream(make, steps)
        else:
            ahead = whole_number("max_queue_size", self.max_queue_size, least=1)
            stream = ThreadedStream(make, steps, workers=workers, ahead=ahead)
        self._streams.add(stream)
        return stream

    def _recipe(self, plan: Plan) -> Recipe:
        if self._makes_whole_batches:
            return Recipe(plan, self._make_by_index, name="__getitem__(index)")
        return self._loading(plan)

    def _loading(self, plan: Plan) -> Recipe:
        return Recipe(plan, self.load, self._transform, self._class_weight)

    @property
    def _is_cheap(self) -> bool:
        """Whether making a batch costs less than handing it over from another thread."""
        return False

    @property
    def _makes_whole_batches(self) -> bool:
        return type(self).__getitem__ is not BatchDataset.__getitem__

    def _refuse_finishing(self) -> None:
        for name, value in (
            ("transform", self._transform),
            ("class_weight", self._class_weight),
            ("remainder='pad'", self.remainder == "pad" or None),
        ):
            if value is not None:
                raise InvalidArgumentError(
                    f"{name} was given to {type(self).__name__}, which overrides __getitem__ and "
                    "so returns finished batches; expected neither transform, class_weight nor "
                    "remainder='pad'. Override load(rows) instead."
                )

    @property
    def _current_plan(self) -> Plan:
        batch = now_making(self)
        return self.plan if batch is None else batch.plan

    def _make_by_index(self, _: Rows) -> Tree:
        batch = now_making(self)
        assert batch is not None
        made = self[batch.step]
        if batch.plan.shuffle and not self._asked_for_rows:
            self._asked_for_rows = True
            warnings.warn(
                f"{type(self).__name__}.__getitem__(index) made a batch without asking "
                "self.rows(index) which rows are in it, so shuffle=True changes nothing. Read "
                "these rows, or say shuffle=False.",
                stacklevel=2,
            )
        return made

    def _check_unchanged(self) -> None:
        """Refuses what was changed behind our back and would not take effect."""
        if not self._endless and len(self) != self.plan.num_batches:
            raise InvalidArgumentError(
                f"len({type(self).__name__}) is {len(self)}, but {self.plan.num_samples} samples "
                f"in batches of {self.plan.batch_size} are {self.plan.num_batches} batches. Don't "
                "override __len__; a dataset of another size is a new dataset."
            )
        if self.use_multiprocessing:
            raise InvalidArgumentError(_NO_PROCESSES.format(told(self.use_multiprocessing)))
