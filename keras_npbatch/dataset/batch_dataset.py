"""`BatchDataset`: the class that users subclass and pass to `model.fit`.

    class Slides(BatchDataset):
        def load(self, rows):
            return read(self.paths[rows]), self.labels[rows]

    model.fit(Slides(...), epochs=10)

A dataset is a `keras.utils.PyDataset` and its own Keras `DataAdapter`. `get_data_adapter` returns
a `DataAdapter` unchanged (Keras 3.7 and later, "Allow passing a custom data adapter"), so on every
backend `fit` takes its batches directly from here, in our order, from our executor.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_npbatch.arguments import refuses_unknown_arguments
from keras_npbatch.batches.cache_setting import Cache
from keras_npbatch.batches.chain import Functions
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.pad import Collate
from keras_npbatch.batches.work import Work
from keras_npbatch.dataset.hints import FOLDS, METHODS, SPLIT, refuses_unknown_settings
from keras_npbatch.dataset.html import html_of
from keras_npbatch.dataset.members import refuse_fixed_member, refuse_hidden_members
from keras_npbatch.dataset.settings import begin_dataset, described, settings_of
from keras_npbatch.distributed.agreement import agree, agreed_seed
from keras_npbatch.distributed.rank import has_others
from keras_npbatch.fit.adapter import Unserved, num_batches
from keras_npbatch.fit.call import find_call
from keras_npbatch.fit.call_batches import CallBatches
from keras_npbatch.fit.requests import refuse_validation_split
from keras_npbatch.plan.division import divided, folded, subset
from keras_npbatch.plan.plan import Kind, Plan, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.sources.progress import waiting
from keras_npbatch.tree import Tree
from keras_npbatch.workers.chosen import WorkersChosen, workers_chosen
from keras_npbatch.workers.epoch import walk
from keras_npbatch.workers.executor import Executor, check_max_queue_size, check_workers
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.stand_ins import stands_for
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["BatchDataset"]


class BatchDataset(Batches, DataAdapter, keras.utils.PyDataset):  # type: ignore[misc]  # untyped
    """Batches from your own loader: every sample exactly once per epoch, in a new order each time.

    Subclass it and write one method, `load(rows)`. A batch depends only on (seed, epoch, step), so
    the model sees the same batches on every backend and with any number of workers.

    Example:

    ```python
    class Slides(keras_npbatch.BatchDataset):
        def __init__(self, paths, labels, **kwargs):
            super().__init__(num_samples=len(paths), **kwargs)
            self.paths, self.labels = np.asarray(paths), np.asarray(labels)

        def load(self, rows):
            images = [np.fromfile(path, "float32") for path in self.paths[rows]]
            return np.stack(images), self.labels[rows]

    model.fit(Slides(paths, labels, batch_size=64, workers=4), epochs=10)
    ```

    You can override `__getitem__(index)` instead, as in a `PyDataset`; `self.rows(index)` gives
    the rows of that batch, if you need them. Its batches are used unchanged: `transform`,
    `augment`, `class_weight` and `remainder="pad"` are refused, and the parts of a batch may have
    different numbers of samples, such as 16 labelled and 48 unlabelled ones.

    Args:
        num_samples: samples in the data, from 1 to 2**62.
        batch_size: samples in a full batch.
        shuffle: whether each epoch is a new permutation of all samples, as by default, or keeps
            the order of the data. `evaluate` and `predict` always read in the order of the data,
            and so does a `fit(shuffle=False)`, for that call.
        sampler: which rows an epoch of training has, and in which order, instead of `shuffle`: one
            of `keras_npbatch.samplers`; an object with
            `order(rows, global_batch_size, seed, epoch)`; or a function `f(rng, epoch)` that
            returns the rows of an epoch, the same number in each.
        seed: an integer, at least 0. `None` draws one from NumPy's global state, so that
            `keras.utils.set_random_seed` makes it reproducible; read it from `dataset.seed`.
        remainder: what happens to `num_samples % batch_size`. `"keep"`: a short last batch.
            `"drop"`: the epoch leaves these samples out (the next one leaves out others, and
            `evaluate` always the last ones). `"pad"`: a full last batch whose added rows have a
            `sample_weight` of 0; `evaluate` pads only with a `shard`. `"spread"`: batch sizes
            differ by at most one. `predict` always gets every sample once. None: `"keep"`, or
            `"pad"` with a `shard`, since processes that train together need batches of the same
            size.
        collate: `keras_npbatch.pad(...)`: pads sequences of any length. A list in what `load`
            returns is then n arrays, not a nesting. For some leaves alone, a nesting like that of
            the batch: `(pad(), None)`.
        transform: `transform(batch)` or `transform(batch, rng)`, returns the batch for the model;
            `rng` depends only on (seed, epoch, step). It is applied in `evaluate` and `predict`
            too, so decode, normalise and select here. Also `keras_npbatch.each(function)`, with a
            function of one sample, or a list of functions, which are called one after the other.
        augment: `augment(batch)` or `augment(batch, rng)`, applied after `transform` in training
            only: never in `evaluate`, `predict` or validation, even if these read a part of a
            `split` or the training dataset itself. `for batch in ds` and `ds[i]` give training
            batches; `batches_for("evaluate")` gives the others. Also `each(function)`, or a list of
            functions. Don't use a Keras layer here: it draws its own random numbers, not those of
            `rng`.
        class_weight: dict from class number to weight. The weights become the `sample_weight` of
            training batches, as with `fit(class_weight=...)` for arrays; `evaluate` does not use
            them. A class that is not in the dict has weight 1. For several outputs: such dicts,
            nested as the targets are, `{"a": {0: 1.0, 1: 5.0}, "b": None}`, with None for an
            output that is not weighed. `fit(class_weight=...)` does the same for one call.
        shard: the part of each global batch that this process reads when several processes train
            together: `Shard(index, count)`, or `"auto"` to ask the framework. `batch_size` is
            per process. Each step has the same samples for any number of processes with the same
            global batch, and all processes have the same number of steps. Give every process the
            whole data, such as the same list of files. What `load` reads can't be compared, and
            given `paths[rank::count]`, each process would read a part of its part.
        cache: memory for what `load` returns, by row and before any transform, so that later epochs
            read nothing: a size such as `"8 GB"` or a number of bytes, or a share of the memory
            such as 0.5. Or a folder, which later runs use too: a `pathlib.Path`, or
            `("decoded", "50 GB")` with a bound. It changes no batch. All workers share it, and all
            parts of a `split`.
            If there is not room for all rows, those that are kept are spread evenly over the data.
            Samples must have one shape and dtype, and depend on their row alone. See
            `cache_info()`.
        on_error: what happens if `load` raises. `"raise"`: the exception reaches the caller.
            `"set_aside"`: the rows of the batch are tried one by one, and those that can't be read
            are replaced by copies of others that weigh nothing, so that batches and steps stay as
            they are. The loss is that of the other rows. `evaluate` leaves such rows out, `predict`
            refuses them. The first one gives a warning. All are in `dataset.set_aside`, also those
            of other processes that train together. Training batches then have a `sample_weight`, as
            with `remainder="pad"`.
        max_set_aside: share of the rows that may be set aside; with more, a `SetAsideError` ends
            the run. None: 0.01.
        workers: threads that make batches. 0: none; the caller makes each batch when it needs
            it. 1: one thread makes batches ahead. N: N threads make batches at once. The caller
            always makes batches that cost less to make than to hand over; see `ArrayDataset`.
            `"auto"`: measures batches and steps while it trains, and chooses between the caller,
            threads and processes, how many, and how far ahead. Batches stay the same.
            `workers_chosen` has the choice.
        use_multiprocessing: whether the workers are processes, for a `load` or transform that is
            mostly Python. None: threads; with `workers="auto"` either, and False allows no
            processes. They are started once for a `fit` and end within 2 seconds after it; they
            get a copy of the dataset (arrays are shared), and import neither Keras nor a framework
            unless your class does.
        max_queue_size: maximum number of batches made ahead. None: 10; with `workers="auto"` as
            many as are useful and fit in memory.
        start_method: how worker processes are started: on Linux `"forkserver"` (the default),
            `"spawn"` or `"fork"`; elsewhere `"spawn"`.
        timeout: seconds after which a worker process that owes a batch, whatever it is doing, is
            ended and its batch made again. Its start, which imports your modules, may take three
            times as long, and at least 3 seconds (5 with `"spawn"`). None: no limit.
        memory_limit: the most memory that `workers="auto"` may take for batches ahead and worker
            processes: a size such as `"2 GB"`, a number of bytes, or a share of the memory such as
            0.1. None: a quarter of what is free when training begins.

    Raises:
        InvalidArgumentError: for an invalid value; the message says what to do.
    """

    @refuses_unknown_settings
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
        shard: Shard | tuple[int, int] | Literal["auto"] | None = None,
        cache: Cache | None = None,
        on_error: Literal["raise", "set_aside"] = "raise",
        max_set_aside: float | None = None,
        workers: int | Literal["auto"] = 1,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        start_method: StartMethod | None = None,
        timeout: float | None = None,
        memory_limit: str | float | None = None,
    ) -> None:
        begin_dataset(
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
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
            start_method=start_method,
            timeout=timeout,
            memory_limit=memory_limit,
        )

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse a class that would hide a member that Keras or this library uses."""
        super().__init_subclass__(**arguments)
        refuse_hidden_members(cls, BatchDataset)

    def __iter__(self) -> Iterator[Tree]:
        """One epoch through the workers; the next iteration is the next epoch.

        The epoch moves on when its last batch is delivered. If you break out of an iteration, the
        next one starts the same epoch again. After `load_state_dict` it is the rest of an epoch. An
        endless dataset continues with the epochs that follow.
        """
        core = core_of(self)
        agree(core)
        clock, executor = core.clock, core.part(Executor)
        while True:
            place = clock.place
            epoch, first, times_set = place.epoch, place.step, clock.times_set
            work = Work(place.plan(core.plan))
            last_step = work.plan.num_batches - 1
            clock.begin_pass(epoch, place.in_order)
            stream = executor.stream(work, epoch, first=first)
            with contextlib.closing(walk(stream, first, last_step)) as steps:
                for step, made in steps:
                    batch, *_ = core.taken(made)
                    del made
                    if step == last_step:
                        clock.deliver(epoch, times_set)
                    else:
                        clock.reach(place._replace(step=step + 1), times_set)
                    yield batch
                    del batch  # the caller's alone, while the next is made
            if not core.endless:
                return

    def repeat(self) -> BatchDataset:
        """The same data endlessly: epoch after epoch, each in a new order.

        For `fit(steps_per_epoch=...)` with any number of steps: the short epochs of one `fit`
        read one order after another, without gaps or repeats. The next `fit` restarts the epoch
        that was not delivered whole. The endless dataset and this one share their epoch counter,
        so another `fit(ds.repeat(), ...)` starts at `ds.epoch`.
        """
        endless = copy.copy(self)
        core = core_of(endless)
        core.endless, core.clock, core.aside = True, core_of(self).clock, core_of(self).aside
        return endless

    def shard(self, index: int, count: int) -> BatchDataset:
        """The part of each global batch that one of several processes reads; see `Shard`.

        The same data and settings, with `batch_size` samples per process, as `shard=(index, count)`
        gives. So `remainder` defaults to `"pad"`, and if no seed was given, all processes agree on
        one.

        Args:
            index: which process, from 0 to `count - 1`.
            count: how many processes train together.

        Raises:
            InvalidArgumentError: if `remainder` leaves a process without a sample at some step,
                or if no seed was given and the processes can't communicate.
        """
        shard = Shard(index, count)
        part = copy.copy(self)
        core = core_of(part)
        seed = core.plan.seed
        if not core.has_own_seed and core.draws and has_others(shard):
            seed, core.has_own_seed = agreed_seed(seed, shard), True
        core.be_shard(shard, seed)
        return part

    @refuses_unknown_arguments(SPLIT)
    def split(
        self,
        *fractions: float,
        seed: int = 0,
        stratify: Any = None,
        groups: Any = None,
        by: Any = None,
    ) -> tuple[BatchDataset, ...]:
        """Split the data into disjoint parts, such as training and validation data.

        Which part a row is in depends only on the fractions, `seed` and the row number. So it is
        the same in every run, whatever `self.seed` and the other settings are, and appending rows
        to the data moves none of the earlier rows: a row used for validation is never trained on.
        Each part is spread evenly over the data: of the first n rows, for any n, each part has its
        fraction, give or take two rows for each cut. Nothing is copied.

        A part is a dataset with the same data and settings, at epoch 0. It has its own
        `num_samples`, but `load`, `rows` and `locate` use the row numbers of the whole data.
        `evaluate` and `predict` read its rows in the order of the data: `rows_in_order()`.

        Example:

        ```python
        train, validation = keras_npbatch.ArrayDataset(x, y, batch_size=256).split(0.8)
        model.fit(train, validation_data=validation, epochs=10)

        # With augmentation, which is applied in training only:
        def fade(batch, rng):
            x, y = batch
            return x * rng.uniform(0.8, 1.2), y

        train, validation = keras_npbatch.ArrayDataset(x, y, augment=fade).split(0.8)
        ```

        Without `groups` only row numbers count, so rows that belong together (pictures of one
        patient) end up in different parts. Without `stratify` a small part may have no sample of a
        rare class. Inserting a file into a sorted list moves all files after it to other rows, and
        so to other parts: append it instead.

        Args:
            *fractions: fraction of the samples in each part, between 0 and 1 (exclusive), to six
                digits, for at most 100 parts. If they sum to less than 1, the rest is a last part:
                `split(0.8)` gives two. Keep them constant: a fraction computed from a growing
                number of samples gives other parts.
            seed: an integer, at least 0; another seed gives other parts.
            stratify: a label for each row of the whole data: each class is cut in these fractions,
                give or take one row. Appended rows then move others.
            groups: a group for each row of the whole data, an integer or a string: no group is in
                two parts. Which part a group is in depends on its name alone, so parts have these
                fractions of the groups, on average. With `stratify` too, groups are dealt out so
                that classes come close to these fractions; a warning says where they do not.
            by: a splitter of scikit-learn, instead of fractions: its first training and validation
                part. It gets `stratify` as y, and `groups`.

        Returns:
            One dataset for each part.

        Raises:
            InvalidArgumentError: for invalid fractions, labels or groups, or if a part has too few
                samples for a batch.
        """
        core = core_of(self)
        _warn_of_drawing(core)
        with waiting(f"splitting {self.num_samples:,} rows"):
            plans = divided(core.plan, fractions, seed, stratify=stratify, groups=groups, by=by)
        return tuple(_part_of(self, plan) for plan in plans)

    @refuses_unknown_arguments(FOLDS)
    def folds(
        self,
        k: int | None = None,
        *,
        seed: int = 0,
        stratify: Any = None,
        groups: Any = None,
        by: Any = None,
    ) -> list[tuple[BatchDataset, BatchDataset]]:
        """Training and validation data for each fold of a cross-validation.

        Each row is in the validation data of one fold, and in the training data of all others.
        Nothing is copied but row numbers: 8 bytes a row for each fold. The parts are datasets like
        those of `split`.

        Example:

        ```python
        for train, validation in keras_npbatch.ArrayDataset(x, y).folds(3, stratify=y):
            model = make_model()
            model.fit(train, validation_data=validation, epochs=10)
        ```

        Args:
            k: how many folds, at least 2; 5 by default.
            seed: an integer, at least 0; another seed gives other folds.
            stratify: a label for each row of the whole data: each fold has its share of each
                class, give or take one row.
            groups: a group for each row of the whole data: no group is in two folds. The folds are
                made as equal in size as groups allow, and with `stratify` too in their classes; a
                warning says where they are not.
            by: a splitter of scikit-learn, such as `StratifiedGroupKFold(5)` or
                `TimeSeriesSplit()`, instead of `k` and `seed`. It gets `stratify` as y, and
                `groups`.

        Returns:
            A pair `(training, validation)` for each fold.

        Raises:
            InvalidArgumentError: for labels or groups of another length, a class with fewer rows
                than folds, or fewer groups than folds.
        """
        core = core_of(self)
        _warn_of_drawing(core)
        with waiting(f"cutting {self.num_samples:,} rows into folds"):
            plans = folded(core.plan, k, seed, stratify=stratify, groups=groups, by=by)
        return [(_part_of(self, one), _part_of(self, other)) for one, other in plans]

    def subset(self, rows: Any) -> BatchDataset:
        """A part of the data: the rows you choose.

        The part is a dataset like those of `split`, with its rows in the order of the data.

        Example:

        ```python
        clean = keras_npbatch.ArrayDataset(x, y).subset(~np.isnan(y))
        ```

        Args:
            rows: row numbers of the whole data, integers of shape `(n,)`, each once; or a boolean
                for each row of the whole data; only those in this part of the data count.

        Returns:
            The dataset of these rows.

        Raises:
            InvalidArgumentError: for a row that does not exist, comes twice, or is not in this
                part of the data.
        """
        return _part_of(self, subset(core_of(self).plan, rows))

    def batches_for(self, call: Literal["evaluate", "predict"]) -> CallBatches:
        """The batches that `evaluate` or `predict` reads, to inspect or to loop over.

        They are in the order of the data, without augmentation and class weights. Those for
        `"predict"` have every row once, whatever `remainder` is. Reading them does not advance the
        epoch. `for batch in ds` and `ds[i]` give training batches instead. `model.evaluate` and
        `model.predict` take the dataset itself.

        Example:

        ```python
        for x, y in test.batches_for("evaluate"):
            print(model.test_on_batch(x, y))
        ```

        Args:
            call: `"evaluate"` or `"predict"`.

        Returns:
            A sequence with `len(batches)`, `batches[step]` and `batches.rows(step)`. You can loop
            over it any number of times; the dataset's workers make the batches.

        Raises:
            InvalidArgumentError: for any other `call`.
        """
        return CallBatches(self, call)

    def to_tf_dataset(self, element_spec: Any = None, *, call: Kind | None = None) -> Any:
        """The batches as a `tf.data.Dataset`; each iteration over it is an epoch.

        See `keras_npbatch.to_tf_dataset`.

        Args:
            element_spec: a nesting of `tf.TensorSpec` with the structure of a batch. None takes
                the specs from one batch.
            call: what the batches are for: `"fit"` (the default), `"evaluate"` or `"predict"`.
        """
        from keras_npbatch.tf_data.dataset import to_tf_dataset

        return to_tf_dataset(self, element_spec, call=call)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of your own, or one of Keras's, such as `workers` or `max_queue_size`.

        Raises:
            AttributeError: for a setting or method of every dataset; if it changed, a batch would
                no longer be a function of (seed, epoch, step).
        """
        refuse_fixed_member(self, name, BatchDataset)
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # with it, type checkers would accept every attribute

        def __getattr__(self, name: str) -> Any:
            """Called for missing attributes only: for a name of another library, suggest ours."""
            if name == "__array__":  # fit(validation_split=...) asks whether it can be split
                refuse_validation_split(find_call(), self)
            of_a_mixin = getattr(super(), "__getattr__", None)
            if of_a_mixin is not None:
                return of_a_mixin(name)
            if name not in METHODS or hasattr(type(self), name):
                return super().__getattribute__(name)  # raises, as a property may have done
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}. {METHODS[name]}",
                name=name,
                obj=self,
            )

    def __repr__(self) -> str:
        """The data and the settings; a seed that was drawn is only in `seed`."""
        return described(core_of(self))

    def _repr_html_(self) -> str:
        """What a notebook shows; reading the first batch for it changes nothing."""
        return html_of(self)

    # ---------------------------------------------------------------- workers

    @property
    def workers(self) -> int | Literal["auto"]:
        """Number of threads, or processes, that make batches; or `"auto"`."""
        return settings_of(self).workers

    @workers.setter
    def workers(self, value: int | Literal["auto"]) -> None:
        settings_of(self).workers = check_workers(value)

    @property
    def workers_chosen(self) -> WorkersChosen | None:
        """What `workers="auto"` has chosen for training; None with a number of workers.

        Example:

        ```python
        dataset = keras_npbatch.ArrayDataset(x, y, workers="auto")
        model.fit(dataset)
        print(dataset.workers_chosen)     # such as: 2 threads, 3 batches ahead
        ```
        """
        return workers_chosen(core_of(self))

    @property
    def use_multiprocessing(self) -> bool:
        """Whether the workers are processes."""
        return bool(settings_of(self).use_multiprocessing)

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        settings_of(self).use_multiprocessing = bool(value)

    @property
    def max_queue_size(self) -> int:
        """Maximum number of batches made ahead."""
        return settings_of(self).max_queue_size

    @max_queue_size.setter
    def max_queue_size(self, value: int) -> None:
        most = check_max_queue_size(value)
        settings = settings_of(self)
        settings.max_queue_size, settings.has_own_queue = most, True

    def close(self) -> None:
        """End the workers and all running iterations, and free their memory. Safe to call twice.

        The dataset stays usable: the next iteration or `fit` starts what it needs.
        """
        core_of(self).part(Executor).close()

    def __enter__(self) -> Self:
        """`with dataset:` keeps worker processes between calls, then closes the dataset."""
        core_of(self).part(Executor).enter()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the dataset at the end of the outermost `with`."""
        core_of(self).part(Executor).leave()

    # ---------------------------------------------------------------- what Keras asks for

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch, or None for an endless dataset."""
        return num_batches(self)

    def get_numpy_iterator(self) -> Iterator[Tree]:
        """Batches of NumPy arrays."""
        return Unserved(self).get_numpy_iterator()

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator[Any]:
        """Batches that JAX takes.

        Args:
            super_batch: how many batches to stack into one, along a new first axis.
        """
        return Unserved(self).get_jax_iterator(super_batch)

    def get_torch_dataloader(self) -> Iterator[Tree]:
        """Batches of Torch tensors."""
        return Unserved(self).get_torch_dataloader()

    def get_tf_dataset(self) -> Any:
        """An iterable of batches of TensorFlow tensors; each iteration over it is an epoch."""
        return Unserved(self).get_tf_dataset()

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch is shorter than the others."""
        return self.partial_batch_size is not None

    def on_epoch_begin(self) -> None:
        """A hook for subclasses; Keras alone decides when and how often to call it."""

    def on_epoch_end(self) -> None:
        """A hook for subclasses; Keras alone decides when and how often to call it."""


def _part_of(dataset: BatchDataset, plan: Plan) -> BatchDataset:
    """A dataset of the same data and settings, for a part of the rows."""
    part = copy.copy(dataset)
    core_of(part).be_split(plan)
    return part


def _warn_of_drawing(core: Core) -> None:
    if core.transform is not None and core.transform.draws:
        warnings.warn(
            f"the transform of the {core.name} draws random numbers, and every part "
            "of a split applies it, validation too. If it is augmentation, give it as "
            "augment=, which training alone applies.",
            stacklevel=4,  # where the user calls `split` or `folds`
        )


stands_for(BatchDataset, stand_ins.BatchDataset)
