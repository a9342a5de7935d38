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
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.work import Work
from keras_npbatch.dataset.hints import METHODS, refuses_unknown_settings
from keras_npbatch.dataset.members import refuse_fixed_member, refuse_hidden_members
from keras_npbatch.dataset.settings import begin_dataset, described, settings_of
from keras_npbatch.distributed.agreement import agree, agreed_seed
from keras_npbatch.distributed.rank import has_others
from keras_npbatch.fit.adapter import Unserved, num_batches
from keras_npbatch.fit.call import find_call
from keras_npbatch.fit.call_batches import CallBatches
from keras_npbatch.fit.requests import refuse_validation_split
from keras_npbatch.plan.plan import Kind, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.tree import Tree
from keras_npbatch.workers.epoch import walk
from keras_npbatch.workers.executor import Executor, check_max_queue_size, check_workers
from keras_npbatch.workers.processes import stand_ins
from keras_npbatch.workers.processes.launch import StartMethod
from keras_npbatch.workers.processes.stand_ins import stands_for

__all__ = ["BatchDataset"]


class BatchDataset(Batches, DataAdapter, keras.utils.PyDataset):  # type: ignore[misc]  # untyped
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
            images = [np.fromfile(path, "float32") for path in self.paths[rows]]
            return np.stack(images), self.labels[rows]

    model.fit(Slides(paths, labels, batch_size=64, workers=4), epochs=10)
    ```

    Overriding `__getitem__(index)` instead, as for a `PyDataset`, works too: use
    `self.rows(index)` for the rows of that batch, or do without them. What it returns is taken as
    it is: parts may have other numbers of samples, such as 16 labelled and 48 unlabelled ones.

    Args:
        num_samples: samples in the data, from 1 to 2**62.
        batch_size: samples in a full batch.
        shuffle: a new permutation of all samples each epoch, or the order of the data.
            `evaluate` and `predict` always read in the order of the data, and so does
            `fit(shuffle=False)`, for that call.
        seed: a whole number from 0 up. `None` draws one from NumPy's global state, so that
            `keras.utils.set_random_seed` makes it reproducible; `seed` then tells it.
        remainder: what happens to `num_samples % batch_size`. `"keep"`: a short last batch.
            `"drop"`: those samples are left out of the epoch (others in the next; `evaluate`
            always leaves out the last ones). `"pad"`: a full last batch whose added rows have a
            `sample_weight` of 0; `evaluate` pads only with a `shard`. `"spread"`: no batch
            is much shorter than another; sizes differ by at most one. `predict` always gets
            every sample once. None: `"keep"`, and `"pad"` for a dataset with a `shard`, since
            processes that train together need batches of one size.
        transform: `transform(batch)` or `transform(batch, rng)`, which returns the batch for the
            model; `rng` depends on (seed, epoch, step) alone. It is applied in `evaluate` and
            `predict` too: decode, normalise, select here.
        augment: `augment(batch)` or `augment(batch, rng)`, applied after `transform`, in training
            alone: never in `evaluate`, `predict` or validation, also where these read a part of a
            `split` or the dataset that is trained on. `for batch in ds` and `ds[i]` are batches of
            training; `batches_for("evaluate")` are the others. Not a Keras layer: its random
            numbers are its own.
        class_weight: dict from class number to weight, which becomes the `sample_weight` of the
            batches of training, as `fit(class_weight=...)` does for arrays; `evaluate` does not
            weigh. A class that is not in it weighs 1. `fit(class_weight=...)` does the same for one
            call.
        shard: the part of each global batch that this process reads, where several train
            together: `Shard(index, count)`, or `"auto"` to ask the framework. `batch_size` is
            that of one process; the samples of a step are the same ones for every number of
            processes with the same global batch. All have the same number of steps. Give every
            process the whole of the data, the same list of files: what `load` reads can't be
            compared, and of `paths[rank::count]` each would read a part of its part.
        workers: threads that make batches. 0: none, the caller makes each batch when it asks.
            1: one thread makes batches ahead. More: so many at once. What costs less to make than
            to hand over is always made by the caller: see `ArrayDataset`.
        use_multiprocessing: whether the workers are processes, for a `load` or transform that is
            mostly Python. They are started once for a `fit`, get a copy of the dataset (arrays are
            shared), and import neither Keras nor a framework unless your class does. Linux only.
        max_queue_size: batches made ahead at most.
        start_method: how worker processes are started: `"forkserver"` (None), `"spawn"`, or
            `"fork"`.
        timeout: seconds; a worker process that owes a batch for longer, whatever it is doing, is
            ended and its batch made again. Its start, with the import of your modules, may take
            three times as long, and at least 3 seconds. None: no limit.

    Raises:
        InvalidArgumentError: for a value that makes no sense; the message tells what to do.
    """

    @refuses_unknown_settings
    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        remainder: Remainder | None = None,
        transform: Callable[..., Tree] | None = None,
        augment: Callable[..., Tree] | None = None,
        class_weight: Mapping[int, float] | None = None,
        shard: Shard | tuple[int, int] | Literal["auto"] | None = None,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        start_method: StartMethod | None = None,
        timeout: float | None = None,
    ) -> None:
        begin_dataset(
            self,
            Core,
            num_samples,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            remainder=remainder,
            transform=transform,
            augment=augment,
            class_weight=class_weight,
            shard=shard,
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
            start_method=start_method,
            timeout=timeout,
        )

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse a class that would hide what Keras or this library asks a dataset for."""
        super().__init_subclass__(**arguments)
        if cls.__module__.partition(".")[0] != "keras_npbatch":
            refuse_hidden_members(cls, BatchDataset)

    def __iter__(self) -> Iterator[Tree]:
        """One epoch through the workers; the next iteration is the next epoch.

        The epoch moves on when its last batch is delivered: an iteration that is left earlier is
        begun anew by the next. After `load_state_dict` it is the rest of an epoch. An endless
        dataset goes on with the epochs that follow.
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
                for step, batch in steps:
                    if step == last_step:
                        clock.deliver(epoch, times_set)
                    else:
                        clock.reach(place._replace(step=step + 1), times_set)
                    yield batch
                    del batch  # the caller's alone, while the next is made
            if not core.endless:
                return

    def repeat(self) -> BatchDataset:
        """The same data without an end: one epoch follows the other, each in a new order.

        For `fit(steps_per_epoch=...)` with any number of steps: the short epochs of one `fit`
        walk one order without gap or repeat, and then the next. Another `fit` begins anew with
        the epoch that was not delivered whole. Both count the same epochs: `fit(ds.repeat(), ...)`
        once more goes on where `ds.epoch` tells.
        """
        endless = copy.copy(self)
        core = core_of(endless)
        core.endless, core.clock = True, core_of(self).clock
        return endless

    def shard(self, index: int, count: int) -> BatchDataset:
        """The part of each global batch that one of several processes reads; see `Shard`.

        The same data with the same settings, in batches of `batch_size` for each process: what
        `shard=(index, count)` gives. So a `remainder` that was not given is `"pad"`, and on a seed
        that was not given all processes agree.

        Args:
            index: which process, from 0 to `count - 1`.
            count: how many processes train together.

        Raises:
            InvalidArgumentError: if `remainder` leaves a process without a sample at some step,
                or no seed was given and the processes can't talk.
        """
        shard = Shard(index, count)
        part = copy.copy(self)
        core = core_of(part)
        seed = core.plan.seed
        if not core.has_own_seed and core.draws and has_others(shard):
            seed, core.has_own_seed = agreed_seed(seed, shard), True
        core.be_shard(shard, seed)
        return part

    def split(self, *fractions: float, seed: int = 0) -> tuple[BatchDataset, ...]:
        """Disjoint parts of the data that together are all of it: for training, for validation.

        Which part a row is in depends on the fractions, `seed` and the number of the row alone. So
        it is the same in every run, whatever `self.seed` and the other settings are, and rows that
        are appended to the data later move none of the rows before them: what was validated with
        is never trained on. Each part is spread evenly over the data: of its first n rows, for
        every n, each part has its fraction, give or take two rows for each cut. Nothing is copied.

        A part is a dataset with the same data and settings, at epoch 0. Its `num_samples` is its
        own, but rows are numbers of rows of the whole data, as they are given to `load` and told by
        `rows` and `locate`. `evaluate` and `predict` read them in the order of the data:
        `rows_in_order()`.

        Example:

        ```python
        train, validation = keras_npbatch.ArrayDataset(x, y, batch_size=256).split(0.8)
        model.fit(train, validation_data=validation, epochs=10)

        # With augmentation, which training alone applies:
        def fade(batch, rng):
            x, y = batch
            return x * rng.uniform(0.8, 1.2), y

        train, validation = keras_npbatch.ArrayDataset(x, y, augment=fade).split(0.8)
        ```

        It goes by row numbers alone. Rows that belong together (pictures of one patient, windows
        that overlap) fall into different parts: split such data by hand. Of a rare class a small
        part may have no sample. A file that is inserted into a sorted list moves all that follow
        it to other rows, and so to other parts: append it.

        Args:
            *fractions: of the samples in each part, above 0 and below 1, to six digits, of at most
                100 parts. If they sum to less than 1 the rest is a last part: `split(0.8)` gives
                two. Keep them as they are: a fraction that is computed from a number of samples
                which grows gives other parts.
            seed: a whole number from 0 up; another one gives other parts.

        Returns:
            A dataset for each part.

        Raises:
            InvalidArgumentError: for fractions that can't be had, or where a part has too few
                samples for a batch.
        """
        core = core_of(self)
        if core.transform is not None and core.transform.draws:
            warnings.warn(
                f"the transform of the {core.name} draws random numbers, and every part "
                "of a split applies it, validation too. If it is augmentation, give it as "
                "augment=, which training alone applies.",
                stacklevel=2,
            )
        parts = []
        for plan in core.plan.split(fractions, seed):
            part = copy.copy(self)
            core_of(part).be_split(plan)
            parts.append(part)
        return tuple(parts)

    def batches_for(self, call: Literal["evaluate", "predict"]) -> CallBatches:
        """The batches that `evaluate` or `predict` reads, to look at or to loop over.

        They are in the order of the data, without augmentation and class weights. Those of
        `"predict"` hold every row once, whatever `remainder` is. `for batch in ds` and `ds[i]` are
        batches of training. Reading them moves no epoch on. `model.evaluate` and `model.predict`
        take the dataset itself.

        Example:

        ```python
        for x, y in test.batches_for("evaluate"):
            print(model.test_on_batch(x, y))
        ```

        Args:
            call: `"evaluate"` or `"predict"`.

        Returns:
            A sequence: `len(batches)`, `batches[step]`, `batches.rows(step)`, and as often as you
            like `for batch in batches`, through the dataset's workers.

        Raises:
            InvalidArgumentError: for another `call`.
        """
        return CallBatches(self, call)

    def to_tf_dataset(self, element_spec: Any = None, *, call: Kind | None = None) -> Any:
        """The batches as a `tf.data.Dataset`, each of whose iterations is an epoch.

        See `keras_npbatch.to_tf_dataset`.

        Args:
            element_spec: a nesting of `tf.TensorSpec` like a batch; None: that of one batch.
            call: what they are for: `"fit"` (None), `"evaluate"` or `"predict"`.
        """
        from keras_npbatch.tf_data.dataset import to_tf_dataset

        return to_tf_dataset(self, element_spec, call=call)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of your own, or one of Keras's: `workers`, `max_queue_size`.

        Raises:
            AttributeError: for what every dataset has and is made with; a batch would no longer be
                a function of (seed, epoch, step).
        """
        refuse_fixed_member(self, name, BatchDataset)
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # which know no missing attribute then

        def __getattr__(self, name: str) -> Any:
            """Only a name that is not there comes here: if it is another library's, tell ours."""
            if name == "__array__":  # fit(validation_split=...) asks whether it can be split
                refuse_validation_split(find_call(), self)
            of_a_mixin = getattr(super(), "__getattr__", None)
            if of_a_mixin is not None:
                return of_a_mixin(name)
            if name not in METHODS or hasattr(type(self), name):
                return super().__getattribute__(name)  # raises, as a property has maybe before
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}. {METHODS[name]}",
                name=name,
                obj=self,
            )

    def __repr__(self) -> str:
        """The data and the settings; a seed that was drawn is not told here, but by `seed`."""
        return described(core_of(self))

    # ---------------------------------------------------------------- workers

    @property
    def workers(self) -> int:
        """Threads, or processes, that make batches."""
        return settings_of(self).workers

    @workers.setter
    def workers(self, value: int) -> None:
        settings_of(self).workers = check_workers(value)

    @property
    def use_multiprocessing(self) -> bool:
        """Whether the workers are processes."""
        return settings_of(self).use_multiprocessing

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        settings_of(self).use_multiprocessing = bool(value)

    @property
    def max_queue_size(self) -> int:
        """Batches made ahead at most."""
        return settings_of(self).max_queue_size

    @max_queue_size.setter
    def max_queue_size(self, value: int) -> None:
        settings_of(self).max_queue_size = check_max_queue_size(value)

    def close(self) -> None:
        """End all passes under way and the workers, let their memory go. Safe to call twice.

        The dataset stays usable: the next iteration or `fit` starts what it needs.
        """
        core_of(self).part(Executor).close()

    def __enter__(self) -> Self:
        """`with dataset:` keeps worker processes from call to call, and closes it at the end."""
        core_of(self).part(Executor).enter()
        return self

    def __exit__(self, *_: object) -> None:
        """Close, at the end of the outermost `with`."""
        core_of(self).part(Executor).leave()

    # ---------------------------------------------------------------- what Keras asks for

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch, or None for an endless dataset."""
        return num_batches(self)

    def get_numpy_iterator(self) -> Iterator[Tree]:
        """Batches with NumPy arrays."""
        return Unserved(self).get_numpy_iterator()

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator[Any]:
        """Batches that JAX takes.

        Args:
            super_batch: how many of them are stacked into one, on a new first axis.
        """
        return Unserved(self).get_jax_iterator(super_batch)

    def get_torch_dataloader(self) -> Iterator[Tree]:
        """Batches with Torch tensors."""
        return Unserved(self).get_torch_dataloader()

    def get_tf_dataset(self) -> Any:
        """Batches with TensorFlow tensors, as an iterable; each iteration is an epoch."""
        return Unserved(self).get_tf_dataset()

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch is shorter than the others."""
        return self.partial_batch_size is not None

    def on_epoch_begin(self) -> None:
        """A hook for subclasses, called when and as often as Keras pleases."""

    def on_epoch_end(self) -> None:
        """A hook for subclasses, called when and as often as Keras pleases."""


stands_for(BatchDataset, stand_ins.BatchDataset)
