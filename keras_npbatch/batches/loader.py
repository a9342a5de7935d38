"""`Batches`: what a dataset is without Keras.

    class Slides(Batches):
        def load(self, rows):
            return read(self.paths[rows]), self.labels[rows]

    Slides(num_samples=1000, batch_size=64, seed=0)[7]     # the same bytes wherever it is read

`BatchDataset` adds what Keras and the executor need. A worker process has only this part: a user's
class that derives from `BatchDataset` here derives from `Batches` there, so a worker can read files
without loading Keras or a framework.

All that this library keeps is in the core: every other attribute belongs to the user.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from keras_npbatch.arguments import is_called, whole_number
from keras_npbatch.batches.cache_setting import Cache
from keras_npbatch.batches.chain import Functions
from keras_npbatch.batches.core import ATTRIBUTE, Core, core_of, refuse_empty_batches
from keras_npbatch.batches.making import Making, making
from keras_npbatch.batches.pad import Collate
from keras_npbatch.batches.row_cache import CacheInfo
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.explanation import Explanation
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.sampler import Sampler
from keras_npbatch.tree import Tree

__all__ = ["Batches", "begin"]


class Batches:
    """Which batches there are and how each is made; see `BatchDataset` for the settings."""

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int = 32,
        shuffle: bool | None = None,
        sampler: Any = None,
        seed: int | None = None,
        remainder: Remainder | None = None,
        collate: Collate | None = None,
        transform: Functions | None = None,
        augment: Functions | None = None,
        class_weight: Mapping[Any, Any] | Sequence[Any] | None = None,
        shard: Shard | tuple[int, int] | None = None,
        cache: Cache | None = None,
        on_error: Literal["raise", "set_aside"] = "raise",
        max_set_aside: float | None = None,
    ) -> None:
        begin(
            self,
            Core,
            num_samples,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            seed=seed,
            remainder=remainder,
            collate=collate,
            transform=transform,
            augment=augment,
            class_weight=class_weight,
            shard=shard,
            cache=cache,
            on_error=on_error,
            max_set_aside=max_set_aside,
        )

    # ---------------------------------------------------------------- what a user writes

    def load(self, rows: Rows) -> Tree:
        """Read a batch; the one method to write. It may be called from several threads at once.

        Write `load(self, rows, rng)` to draw random numbers: `rng` is a `np.random.Generator` that
        depends on (seed, epoch, step) alone. `evaluate` and `predict` draw the numbers of epoch 0.

        Args:
            rows: int64 array of shape `(n,)`: the samples of the batch, in their order.

        Returns:
            `x`, `(x, y)` or `(x, y, sample_weight)`: each an array of shape
            `(n, *feature_shape)`, or a dict, tuple or list of such (with `collate=pad(...)` a list
            is n arrays of any length, which are padded). Views of your data, cached
            batches and a buffer that you refill are fine: what you keep is copied. (With several
            threads, each needs a buffer of its own: `threading.local()`.)
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no load(rows); expected a method that returns the batch "
            "of these rows: x, (x, y) or (x, y, sample_weight)."
        )

    # ---------------------------------------------------------------- batches

    def __len__(self) -> int:
        """Batches in an epoch."""
        core = core_of(self)
        num_batches = core.plan.num_batches
        if core.endless:
            raise TypeError(
                "an endless dataset (`repeat()`) has no length; one pass over the data is "
                f"{num_batches} batches"
            )
        return num_batches

    def __bool__(self) -> bool:
        """True, also for an endless dataset, which has no length."""
        return True

    def __getitem__(self, index: int) -> Tree:
        """Batch `index` of the epoch that comes next. Reading it changes nothing.

        For an endless dataset, `index` continues into the epochs that follow.
        """
        try:
            step = operator.index(index)
        except TypeError:
            several = ""
            if isinstance(index, slice):
                several = (
                    ". Several batches: [dataset[i] for i in range(0, 2)]; samples of your choice: "
                    "dataset.load(np.arange(0, 2))"
                )
            raise TypeError(
                f"index is {describe(index)}; expected the number of a batch{several}"
            ) from None
        core = core_of(self)
        num_batches, epoch = core.plan.num_batches, core.epoch
        if core.endless and step >= 0:
            later, step = divmod(step, num_batches)
            epoch += later
        elif step < 0:
            step += num_batches
        if not 0 <= step < num_batches:
            raise IndexError(f"there is no batch {index}: an epoch has {num_batches}, from 0 up")
        core.asked_for_rows = True
        plan = core.plan_of(epoch)
        with making(Making(core, plan, epoch, step)):
            batch, *_ = core.taken(core.loading(plan)(epoch, step))
        return batch

    def rows(self, step: int, epoch: int | None = None, shard: int | Shard | None = None) -> Rows:
        """The samples of a batch, without loading it.

        For an epoch that `fit(shuffle=False)` has read, or is reading, they are those it was given.
        Steps count the whole epoch in batches of the current size. They do not count the rest of an
        epoch that began with batches of another size: it has steps of its own.

        Args:
            step: from 0 to `num_batches - 1`.
            epoch: from 0 up; by default the one that comes next.
            shard: whose batch: the index of another process, or a `Shard` of any count that
                divides the global batch; by default this dataset's.

        Returns:
            int64 array of shape `(samples in the batch,)`, read-only, without padding.
        """
        core = core_of(self)
        epoch = _epoch_or_next(core, epoch)
        plan = core.plan_of(epoch)
        if shard is not None:
            plan = plan.of_shard(shard)
        core.note_asking()
        step = whole_number("step", step, least=0, most=plan.num_batches - 1)
        return plan.rows(epoch, step)

    def rows_in_order(self) -> Rows:
        """All rows of the data that the dataset has, in the order in which `predict` reads them.

        These are the row numbers of the predictions for a part of a split; for the whole data they
        would be `np.arange(num_samples)`:

        ```python
        _, validation = keras_npbatch.ArrayDataset(x, y).split(0.8)
        predicted = model.predict(validation)       # predicted[i] is of x[rows[i]]
        rows = validation.rows_in_order()
        ```

        Returns:
            int64 array of shape `(num_samples,)`, increasing.
        """
        plan = core_of(self).plan
        return plan.in_data_order().order(0).rows(0, plan.num_samples)

    def locate(
        self, row: int, epoch: int | None = None
    ) -> tuple[int, int] | list[tuple[int, int]] | None:
        """Where a sample is in an epoch, the inverse of `rows`.

        Args:
            row: a row of the data, from 0 up.
            epoch: from 0 up; by default the one that comes next.

        Returns:
            `(step, position in the batch)`, or None if that epoch drops the sample, or another
            shard (`explain` says which) or another part of a split has it. With a sampler that
            repeats rows, such as `Balanced`: a list of all its places.
        """
        core = core_of(self)
        epoch = _epoch_or_next(core, epoch)
        core.note_asking()
        plan = core.plan_of(epoch)
        places = plan.locate(row, epoch)
        if plan.sampler.repeats:
            return places
        return places[0] if places else None

    def explain(self, *, epoch: int, step: int) -> Explanation:
        """Which samples every process reads at a step, without loading them; `print` it.

        Steps count the whole epoch, as in `rows`, not the rest of an epoch that began with
        batches of another size.

        Example:

        ```python
        print(train.explain(epoch=0, step=2))
        # step 2 of 3 in epoch 0: 2 of 10 samples, remainder='pad'
        #   shard 0 of 2: rows [7], 1 padded
        #   shard 1 of 2: rows [9], 1 padded
        ```

        Args:
            epoch: from 0 up.
            step: from 0 to `num_batches - 1`.

        Returns:
            The rows of each shard, and of the global batch.
        """
        epoch = whole_number("epoch", epoch, least=0)
        return Explanation.of(core_of(self).plan_of(epoch), epoch, step)

    # ---------------------------------------------------------------- epochs

    @property
    def epoch(self) -> int:
        """The epoch that comes next, counted from 0; while a batch is made, the epoch it is in."""
        return core_of(self).epoch

    def set_epoch(self, epoch: int) -> None:
        """Set which epoch comes next, from 0 up; it begins with its first batch."""
        core_of(self).clock.set(Place(whole_number("epoch", epoch, least=0)))

    def cache_info(self) -> CacheInfo:
        """What the `cache` holds, and how many rows were found in it or read, in all workers.

        Raises:
            InvalidArgumentError: if the dataset was made without `cache`.
        """
        cache = core_of(self).cache
        if cache is None:
            raise InvalidArgumentError(
                f"{type(self).__name__} was made without a cache; expected one. Give it "
                "cache='8 GB' as it is made."
            )
        return cache.info()

    @property
    def set_aside(self) -> dict[int, str]:
        """The rows that could not be read so far, and why, with `on_error="set_aside"`.

        In the order of the data. Without that setting it is empty: such a row is an error.
        """
        aside = core_of(self).aside
        return {} if aside is None else aside.told

    # ---------------------------------------------------------------- resuming

    def state_dict(self, *, epoch: int | None = None, step: int | None = None) -> dict[str, Any]:
        """Where to resume, as a small dict that `json.dump` takes.

        In `for batch in dataset` it is the position after the batches delivered so far. `fit`
        reads ahead of training, so there it is where `fit` began the unfinished epoch; a callback,
        which knows what has been trained on, passes the position: `state_dict(epoch=3, step=17)`.

        Example:

        ```python
        for batch in dataset:
            ...
            Path("state.json").write_text(json.dumps(dataset.state_dict()))
        # another process, the same data and settings
        dataset.load_state_dict(json.loads(Path("state.json").read_text()))
        for batch in dataset:       # the rest of that epoch, then whole ones
            ...
        ```

        Args:
            epoch: the epoch of the batch that comes next; by default the dataset's position.
            step: its step, from 0 to `num_batches`; by default 0 if `epoch` is given.

        Returns:
            The position, and a description of the dataset, so that another one is refused: its
            class, its settings, and the shapes and dtypes of arrays, but not their contents.
        """
        core = core_of(self)
        here = core.clock.reached or core.clock.place
        if epoch is not None or step is not None:
            is_here = epoch is None or epoch == here.epoch
            here = Place(
                here.epoch if epoch is None else epoch,
                0 if step is None else step,
                here.skip if is_here else 0,
                order_size=here.order_size if is_here else 0,
            )
            here = here._replace(in_order=core.clock.is_in_order(here.epoch))
        return core.state_at(here)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state: the next iteration or `fit` begins there, later ones at step 0.

        `batch_size` and the number of processes may have changed: the rest of the epoch is then
        read in the new batches, each of its samples once, in the order that the epoch has.

        Args:
            state: what `state_dict()` returned for a dataset with the same data and settings, on
                any of the processes that trained together.

        Raises:
            InvalidStateError: for a state that is damaged or of another dataset; the message
                says what differs.
        """
        core = core_of(self)
        place = core.place_of(state)
        refuse_empty_batches(place.plan(core.plan))
        core.restore_set_aside(state)
        core.clock.set(place)

    def __getstate__(self) -> dict[str, Any]:
        """Attributes, settings, data and the epoch that comes next."""
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes, and give this object a core of its own."""
        self.__dict__.update(state)
        core = state.get(ATTRIBUTE)
        if isinstance(core, Core):
            self.__dict__[ATTRIBUTE] = core.copy_for(self)

    # ---------------------------------------------------------------- settings

    @property
    def plan(self) -> Plan:
        """Which rows are in which batch of any epoch."""
        return core_of(self).plan

    @property
    def num_samples(self) -> int:
        """Samples in the data, or in the part of a split."""
        return core_of(self).plan.num_samples

    @property
    def batch_size(self) -> int:
        """Samples in a full batch."""
        return core_of(self).plan.batch_size

    @property
    def seed(self) -> int:
        """The seed of every order and every random function."""
        return core_of(self).plan.seed

    @property
    def sampler(self) -> Sampler:
        """Which rows an epoch of training has, and in which order."""
        return core_of(self).plan.sampler

    @property
    def shuffle(self) -> bool:
        """Whether epochs of training are in another order than that of the data."""
        shuffle = core_of(self).plan.shuffle
        if is_called():
            raise TypeError(
                f"{type(self).__name__}.shuffle is {shuffle}, no method; expected "
                "shuffle=True or False where the dataset is made. There is no buffer: each epoch "
                "is a permutation of all samples."
            )
        return shuffle

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch if it is shorter than `batch_size`, else None."""
        plan = core_of(self).plan
        if plan.remainder != "keep":
            return None
        start, stop = plan.span(plan.num_batches - 1)
        return stop - start if stop - start < plan.batch_size else None

    @property
    def global_batch_size(self) -> int:
        """Samples in a full batch of all processes that train together."""
        return core_of(self).plan.global_batch_size

    @property
    def remainder(self) -> Remainder:
        """What happens to `num_samples % batch_size`."""
        return core_of(self).plan.remainder


def begin(dataset: Batches, kind: Callable[..., Core], *arguments: Any, **settings: Any) -> None:
    """Give a dataset its core, made by `kind(dataset, *arguments, **settings)`."""
    whole = type(dataset).__getitem__ is not Batches.__getitem__
    vars(dataset)[ATTRIBUTE] = kind(dataset, *arguments, makes_whole_batches=whole, **settings)


def _epoch_or_next(core: Core, epoch: int | None) -> int:
    return core.epoch if epoch is None else whole_number("epoch", epoch, least=0)
