"""`to_tf_dataset`: a dataset of batches as a `tf.data.Dataset`.

    for x, y in to_tf_dataset(dataset).repeat(3): ...     # three epochs, three orders

This module defines what a pass is: an epoch of a dataset of this library, or of any other
`keras.utils.PyDataset`. TensorFlow's graphs are the business of `graph.py`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import warnings
import weakref
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, get_args

import keras
import numpy.typing as npt

from keras_npbatch.arguments import number_of_batches, whole_number
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.slots import aligned_copy
from keras_npbatch.batches.work import Work
from keras_npbatch.distributed.agreement import agree
from keras_npbatch.distributed.checks import refuse_part, refuse_second_shard, warn_of_others
from keras_npbatch.distributed.rank import find_in_strategy
from keras_npbatch.errors import (
    InvalidArgumentError,
    MissingExtraError,
    UnsupportedArgumentError,
    describe,
    describe_rows,
)
from keras_npbatch.fit.weighing import weighed_for_evaluate, weighed_for_fit
from keras_npbatch.plan.plan import Kind, Plan
from keras_npbatch.tree import Tree
from keras_npbatch.workers.choice import batches_at_once
from keras_npbatch.workers.epoch import walk
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.inline import InlineStream
from keras_npbatch.workers.stream import Stream
from keras_npbatch.workers.threads import ThreadedStream

__all__ = ["to_tf_dataset"]

_Pass: TypeAlias = Generator[list[npt.NDArray[Any]], None, None]


def to_tf_dataset(
    dataset: keras.utils.PyDataset, element_spec: Any = None, *, call: Kind | None = None
) -> Any:
    """The batches of a dataset as a `tf.data.Dataset`; each iteration over it is an epoch.

    An iteration gives what `for batch in dataset` gives, made by the same workers, in the same
    order; with `call="evaluate"` or `"predict"`, it gives what these calls read. Nothing is copied
    into the graph, and TensorFlow takes the batches as they are. Shapes (`element_spec`, including
    the batch size if all batches have the same) and `cardinality()` are exact.

    Example:

    ```python
    batches = keras_npbatch.to_tf_dataset(train)

    @tf.function
    def epoch():
        for x, y in batches:
            train_step(x, y)
    ```

    **Epochs.** When its first batch is requested, an iteration reads the next epoch
    (`dataset.epoch`). The epoch counts when its last batch is delivered: `repeat(k)` reads k
    epochs. If you break out of an iteration, or end it with `take(k)`, the next one starts the same
    epoch again. Simultaneous iterations (`zip`, two iterators) don't disturb each other: those that
    begin before an epoch has been delivered read the same one. `cache()` keeps the first epoch it
    sees. Anything that reads ahead of its consumer (your own `prefetch` or `shuffle`, the
    `prefetch` of Keras for `fit(class_weight=...)`, a strategy) may take the last batch before the
    consumer does, and then the epoch counts even if the consumer stops before that batch. So if an
    epoch has few batches, `fit` under a strategy, which looks at a batch before it trains, may
    start with the next order.

    **Keras.** `model.fit(batches)` trains as `model.fit(dataset)` does, on every backend. A
    `tf.data.Dataset` can't know which call reads it, so name the call:

    ```python
    validation = test.to_tf_dataset(call="evaluate")
    model.fit(train.to_tf_dataset(), shuffle=False, validation_data=validation)
    model.predict(test.to_tf_dataset(call="predict"))
    ```

    `"evaluate"` and `"predict"` read in the order of the data, without class weights, and don't
    advance the epoch; `"predict"` reads every row once, whatever `remainder` is. Before
    `fit(initial_epoch=n)`, call `dataset.set_epoch(n)`. If an epoch has a single batch, build the
    model first: JAX and Torch would build it on that batch and so use up epoch 0.
    `sample_weight` with `remainder="pad"` is scaled as in `fit(dataset)`: the loss of a padded
    batch is the mean over its real rows. Lists of inputs become tuples, since `tf.data` treats a
    list as a tensor; a part that is None stays None.

    **Errors.** A Python exception becomes one of TensorFlow's (`InvalidArgumentError`,
    `UnknownError`), whose text has the original type, message and note, with epoch, step and rows.
    It ends the iteration: if you continue it anyway, each remaining batch raises an error.

    **Strategies.** `strategy.experimental_distribute_dataset(batches)` gives each replica of one
    process its part of each batch. With several processes, give the dataset a shard and give each
    replica whole batches:

    ```python
    with strategy.scope():              # in which the processes compare their datasets
        train = keras_npbatch.ArrayDataset(x, y, batch_size=64, seed=0, shard="auto")
        batches = strategy.distribute_datasets_from_function(lambda _: train.to_tf_dataset())
    ```

    There `batch_size` is per replica. Autosharding is off, so that each sample comes once. If the
    parts differ in size (`"keep"`, `"spread"`), divide the loss by the samples of all replicas:
    Keras's own `fit(batches)` takes the mean of their means.

    With several processes, a `keras.distribution` shards the batches itself unless it is made with
    `auto_shard_dataset=False`, and a dataset with a shard is refused. Set the distribution before
    you call this function.

    **Worker processes** stay alive for the next iteration for half a minute, also after
    `fit(batches)`. `with dataset:` keeps them until its end, and `dataset.close()` ends them.

    **Options.** TensorFlow's automatic `prefetch` is off; add one where you want it.

    **Python makes the batches,** in this process. So code that runs elsewhere can't take them: not
    the `tf.data` service, a SavedModel, or an iterator saved in a `tf.train.Checkpoint` (resume
    with `dataset.set_epoch`). `batches.save(path)`, `cache(path)` and `snapshot(path)` write the
    batches of one epoch, and read that same epoch every time.

    Args:
        dataset: a `BatchDataset`, or any other finite `keras.utils.PyDataset`. For the latter, each
            iteration calls `on_epoch_begin`, then `__getitem__` for each index in order (in
            `workers` threads, if more than one), and `on_epoch_end` when the last batch is
            delivered. Only the dataset itself decides what is in its batches. Each is copied when
            it is made, since it may be a view of data that a hook changes.
        element_spec: a nesting of `tf.TensorSpec` with the structure of a batch. None makes one
            batch and takes the specs from it, with a variable number of samples if batch sizes
            differ. Give it if other axes vary between batches, or to avoid making that batch.
        call: what the batches are for: `"fit"`, `"evaluate"` or `"predict"`. None: `"fit"`, with a
            warning for a dataset with `shuffle=False`, which is probably for evaluation, if `"fit"`
            would pad, drop, augment or weight its samples. Any other `PyDataset` has the same
            batches for all three.

    Returns:
        A `tf.data.Dataset`; infinite if the dataset is endless (`repeat()`).

    Raises:
        MissingExtraError: if TensorFlow is not installed.
        InvalidArgumentError: for anything but a finite `PyDataset`, an invalid `element_spec`, or
            an unknown `call`.
        InvalidDataError: if TensorFlow has no dtype for a leaf; the message gives its path.
        UnsupportedArgumentError: if the dataset has a shard and Keras would shard it again, or
            `call` is `"predict"`.
    """
    if call is not None and call not in get_args(Kind):
        raise InvalidArgumentError(
            f"call is {describe(call)}; expected 'fit', 'evaluate' or 'predict'. Validation reads "
            "what 'evaluate' reads."
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            "to_tf_dataset needs TensorFlow, which is not installed; "
            "pip install 'keras_npbatch[tensorflow]'"
        )
    if isinstance(dataset, Batches):
        return _of_batches(dataset, element_spec, call)
    return _of_any(dataset, element_spec)


def _of_batches(dataset: Batches, element_spec: Any, call: Kind | None) -> Any:
    from keras_npbatch.tf_data import graph as tf_data
    from keras_npbatch.tf_data import spec as tf_spec

    core = core_of(dataset)
    plan, name = core.plan, core.name
    if core.aside is not None:
        raise UnsupportedArgumentError(
            f"the {name} has on_error='set_aside', and a tf.data.Dataset has no place for what was "
            "set aside; expected a dataset without. Give the dataset itself to fit, or find the "
            "rows that can't be read with it (dataset.set_aside), and leave them out: "
            "dataset.subset(rows)."
        )
    if call is None:
        _warn_of_training(core)
    elif call != "fit":
        if call == "predict":
            refuse_part(plan, name)
        plan = plan.for_call(call)
    training = call in (None, "fit")
    if core.is_part:
        refuse_second_shard(plan, name)
        agree(core)
    else:
        warn_of_others(name, find_in_strategy())
    size = _same_size(plan)
    work = Work(plan, training)
    varied = partial(_first_batch, _wider(dataset), work) if core.varies else None
    example = partial(_first_batch, dataset, work)
    layout = tf_spec.Layout(element_spec, example, size, name, varied)
    # What the user says of batches is checked batch by batch.
    # Nor do the batches of a shard stand one after the other in the order.
    alone = element_spec is not None or plan.shard.count > 1
    together = 1 if alone else min(batches_at_once(core.facts(plan)), plan.num_batches)
    if together == 1 or (size is None and plan.remainder == "spread"):
        passes, cut_into = _Epochs(dataset, work, layout), None
    else:
        size = size or plan.batch_size
        passes = _Epochs(dataset, work, layout.of_chunks(), rows_at_once=size * together)
        cut_into = size, plan.num_batches
    return tf_data.epochs(passes, layout.element_spec, endless=core.endless, cut_into=cut_into)


def _of_any(dataset: keras.utils.PyDataset, element_spec: Any) -> Any:
    num_batches = _check_foreign(dataset)
    from keras_npbatch.tf_data import graph as tf_data
    from keras_npbatch.tf_data import spec as tf_spec

    layout = tf_spec.Layout(
        element_spec, partial(dataset.__getitem__, 0), None, type(dataset).__name__
    )
    return tf_data.epochs(_Passes(dataset, num_batches, layout), layout.element_spec)


class _Epochs:
    """The epochs of a dataset of this library; `graph.Passes` tells what is asked."""

    def __init__(
        self,
        dataset: Batches,
        work: Work,
        layout: Any,
        rows_at_once: int | None = None,
    ) -> None:
        self._dataset, self._layout, self._work = dataset, layout, work
        plan = work.plan
        self._last_step, self._last_parts = plan.num_batches - 1, [slice(None)]
        if rows_at_once is not None:
            size = plan.order_size or plan.global_batch_size  # whatever is read at once
            chunks = replace(plan, batch_size=rows_at_once, remainder="keep", order_size=size)
            self._work = work._replace(plan=chunks)
            self._last_step, self._last_parts = _last_parts(plan, rows_at_once)

    def __len__(self) -> int:
        return self._last_step + len(self._last_parts)

    def close(self) -> None:
        core_of(self._dataset).part(Executor).close()

    def __iter__(self) -> _Pass:
        clock = core_of(self._dataset).clock
        if not self._work.training:
            yield from self._epoch(0, None)
            return
        if clock.place.is_rest:
            raise InvalidArgumentError(
                f"the dataset goes on at step {clock.step} of epoch {clock.epoch}, as it was told "
                "by load_state_dict, but each iteration of a tf.data.Dataset is a whole epoch. "
                f"Iterate over the dataset itself, or call set_epoch({clock.epoch}) and begin with "
                f"batches.skip({clock.step})."
            )
        clock.begin_pass(clock.epoch, in_order=False)
        yield from self._epoch(clock.epoch, clock.times_set)

    def _epoch(self, epoch: int, times_set: int | None) -> _Pass:
        """An epoch, which counts if it is known how often the user had set the clock before."""
        core, work = core_of(self._dataset), self._work
        stream = core.part(Executor).stream(work, epoch, follows=bool(work.training))
        with contextlib.closing(walk(stream, 0, self._last_step)) as steps:
            for step, batch in steps:
                try:
                    arrays = self._layout.arrays(_weighed(work, batch, step))
                except ValueError as error:
                    error.add_note(
                        f"keras_npbatch: at epoch {epoch}, step {step}, rows "
                        f"{describe_rows(work.plan.rows(epoch, step))}"
                    )
                    raise
                del batch
                if step == self._last_step:
                    *before, last = self._last_parts
                    for part in before:
                        yield [array[part] for array in arrays]
                    arrays = [array[last] for array in arrays]
                    if times_set is not None:
                        # Before the last batch leaves: TensorFlow may not come back after it.
                        core.clock.deliver(epoch, times_set)
                yield arrays
                del arrays
                if step == self._last_step:
                    break  # rows of a last batch that is dropped may follow


class _Passes:
    """Passes over any other finite `PyDataset`, with its hooks."""

    def __init__(self, dataset: keras.utils.PyDataset, num_batches: int, layout: Any) -> None:
        self._dataset, self._num_batches, self._layout = dataset, num_batches, layout
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> _Pass:
        self._dataset.on_epoch_begin()
        name = type(self._dataset).__name__
        if self._dataset.num_batches != self._num_batches:
            raise InvalidArgumentError(
                f"{name} has {self._dataset.num_batches} batches, and had {self._num_batches} when "
                "it became a tf.data.Dataset; expected the same number in every epoch. Call "
                "to_tf_dataset again."
            )
        stream: Stream
        workers, steps = self._dataset.workers, range(self._num_batches)
        if workers > 1:
            ahead = max(1, self._dataset.max_queue_size)
            stream = ThreadedStream(self._make, steps, workers=workers, ahead=ahead)
        else:
            stream = InlineStream(self._make, steps)
        self._streams.add(stream)
        with contextlib.closing(stream):
            left = self._num_batches
            for arrays in stream:
                left -= 1
                if left == 0:
                    self._dataset.on_epoch_end()
                yield arrays
                del arrays

    def close(self) -> None:
        for stream in list(self._streams):
            stream.close()

    def _make(self, index: int) -> list[npt.NDArray[Any]]:
        try:
            # Copied, since they may be views of data that the end of an epoch shuffles in place,
            # while the last batch is being handed over, or others are held ahead. TensorFlow would
            # copy what is not aligned; it takes these as they are.
            arrays = [
                array if array.dtype.hasobject else aligned_copy(array)  # texts are a copy already
                for array in self._layout.arrays(self._dataset[index])
            ]
        except Exception as error:
            note = f"keras_npbatch: raised by {type(self._dataset).__name__}[{index}]"
            if isinstance(error, StopIteration):
                raise RuntimeError(f"{note}: StopIteration") from error
            error.add_note(note)
            raise
        return arrays


def _last_parts(plan: Plan, rows_at_once: int) -> tuple[int, list[slice]]:
    """Where the last batch is if `rows_at_once` are read: the step, and how that is handed over.

    In two parts, one after the other; the second is the last batch: of 22 rows in batches of 4, 8
    at once, step 2 has the rows 16 to 21, and its parts are `[:4]` and `[4:6]`.
    """
    start, stop = plan.span(plan.num_batches - 1)
    step = (stop - 1) // rows_at_once
    first = step * rows_at_once
    parts = slice(0, start - first), slice(start - first, stop - first)
    return step, [part for part in parts if part.stop > part.start]


def _first_batch(dataset: Batches, work: Work) -> Tree:
    """A batch of the epoch that comes next; asking changes nothing."""
    core = core_of(dataset)
    return _weighed(work, core.maker(work)(core.clock.epoch if work.training else 0, 0), 0)


def _wider(dataset: Batches) -> Batches:
    """The same dataset, but for the width of what it pads."""
    twin = copy.copy(dataset)
    core_of(twin).be_wider()
    return twin


def _weighed(work: Work, batch: Tree, step: int) -> Tree:
    plan = work.plan
    if work.training:
        return weighed_for_fit(plan, batch, step)
    return weighed_for_evaluate(plan, batch, plan.num_batches)


def _warn_of_training(core: Core) -> None:
    """Warn where what looks like a dataset for evaluation would be read as in training."""
    found = [] if core.plan.shuffle else core.for_training_alone
    if found:
        warnings.warn(
            f"to_tf_dataset() makes batches of training, and the {core.name} with "
            f"shuffle=False has others for evaluate and predict, because of {', '.join(found)}. "
            "Say what they are for: call='fit', 'evaluate' or 'predict'.",
            stacklevel=4,
        )


def _same_size(plan: Plan) -> int | None:
    """Samples in a batch, if all batches have as many."""
    if plan.remainder in ("drop", "pad"):
        return plan.batch_size
    (start, stop), (last_start, last_stop) = plan.span(0), plan.span(plan.num_batches - 1)
    return stop - start if stop - start == last_stop - last_start else None


def _check_foreign(dataset: Any) -> int:
    """The number of batches of a `PyDataset` of somebody else's."""
    if not isinstance(dataset, keras.utils.PyDataset):
        raise InvalidArgumentError(
            f"dataset is {describe(dataset)}; expected a keras.utils.PyDataset. Make one of "
            "arrays: keras_npbatch.ArrayDataset(x, y)."
        )
    name, num_batches = type(dataset).__name__, number_of_batches(dataset)
    if num_batches is None:
        raise InvalidArgumentError(
            f"{name} is endless (num_batches is None); expected a PyDataset with a length. Give it "
            "a __len__, and repeat the tf.data.Dataset: to_tf_dataset(dataset).repeat()."
        )
    if dataset.use_multiprocessing:
        raise InvalidArgumentError(
            f"{name} has use_multiprocessing=True; expected False, since only a BatchDataset has "
            "worker processes here. Derive it from keras_npbatch.BatchDataset, or use threads."
        )
    return whole_number(f"len({name})", num_batches, least=1)
