"""What Keras holds during one call: made once, where its iterator over epochs is made.

Keras (3.7 and later) makes an `EpochIterator` for each `fit`, `evaluate` and `predict`, and one
more for the validation within a `fit`. Its constructor asks the adapter for `num_batches` right
after it has stored it, and asks again in `reset()` alone. A dataset is the adapter, so it answers
the first question by putting a `Serving` of this call in its own place; from then on Keras talks to
that.

The hooks `on_epoch_begin` and `on_epoch_end` move nothing: Keras calls them before the first epoch
too, and twice, so that whatever counts on them miscounts.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.distributed.checks import is_strategy
from keras_npbatch.errors import InvalidBatchError
from keras_npbatch.fit.call import (
    Maker,
    callbacks_of,
    expect_steps,
    find_asking,
    find_maker,
    given_to,
    is_asked_by_keras,
)
from keras_npbatch.fit.requests import is_for_both, refuse_ignored, refuse_to_guess
from keras_npbatch.fit.session import Session
from keras_npbatch.tree import Tree
from keras_npbatch.workers.executor import Executor

__all__ = ["Calls", "Unserved", "num_batches", "session_of"]

_numbers = itertools.count()


class _Adapter(DataAdapter):  # type: ignore[misc]  # Keras is untyped
    """The batches of a dataset in the terms of each backend."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def batches(
        self, converted: Callable[[Iterator[Tree]], Iterator[Tree]] = iter
    ) -> Iterator[Tree]:
        """A pass over the data, its batches converted."""
        raise NotImplementedError

    def get_numpy_iterator(self) -> Iterator[Tree]:
        """Batches with NumPy arrays."""
        return self.batches()

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator[Any]:
        """Batches that JAX takes.

        Args:
            super_batch: how many of them Keras, from 3.16 on, takes as one, on a new first axis.
        """
        from keras_npbatch.tensors import jax

        batches = self.batches(jax.to_arrays)
        return batches if super_batch is None else jax.stacked(batches, super_batch)

    def get_torch_dataloader(self) -> Iterator[Tree]:
        """Batches with Torch tensors."""
        from keras_npbatch.tensors import torch

        return self.batches(partial(map, torch.to_tensors))

    def get_tf_dataset(self) -> Any:
        """An iterable of batches with TensorFlow tensors; each iteration is a pass.

        Keras feeds anything but a `tf.data.Dataset` to the compiled step one batch at a time. That
        takes less time a step than a `tf.data` pipeline around Python does, an exception reaches
        the caller as itself, and nothing has to be known of the batches beforehand.
        """
        return _TensorFlowEpochs(self)


class Unserved(_Adapter):
    """Passes that no call of Keras is known to ask for: what `for batch in dataset` gives."""

    def batches(
        self, converted: Callable[[Iterator[Tree]], Iterator[Tree]] = iter
    ) -> Iterator[Tree]:
        """The epoch that comes next.

        Raises:
            AmbiguousCallError: if Keras asks, and what it asks for is unknown and matters.
        """
        if is_asked_by_keras():  # by a later one, which hides its iterator
            refuse_to_guess(core_of(self.dataset))
        return converted(iter(self.dataset))


class Serving(_Adapter):
    """One call of Keras: its session, in the terms of each backend.

    What asks for batches is looked for on the stack until that can't change any more: Keras has
    made its list of callbacks, so it has built the model and trains, validates or predicts. That is
    asked once in a `fit`, however many epochs it has.

    Args:
        dataset: what Keras was given.
        maker: what makes the iterator with which Keras walks over it.
    """

    def __init__(self, dataset: Any, maker: Maker) -> None:
        super().__init__(dataset)
        epoch_iterator, call = maker.epoch_iterator, maker.call
        self._epoch_iterator = weakref.ref(epoch_iterator)
        self._executor = core_of(dataset).part(Executor)
        self._is_asked = self._is_watched = self._has_built = False
        self._is_of_a_call = call is not None
        self._may_validate = call is None or is_for_both(call, dataset)
        self.number = next(_numbers)
        if call is None:
            refuse_ignored(dataset, "EpochIterator", given_to(epoch_iterator))
        self.session = Session(dataset, call, epoch_iterator.steps_per_epoch)

    def ends_with(self, held: Any) -> None:
        """End the session when `held` is gone, which Keras drops at the end of the call."""
        weakref.finalize(held, _end, self.session, self._executor).atexit = False

    @property
    def epoch_iterator(self) -> Any:
        """The iterator with which Keras walks over the dataset; None when it is gone."""
        return self._epoch_iterator()

    @property
    def num_batches(self) -> int | None:
        """Batches in the pass that comes next, or None for an endless dataset."""
        if self._is_asked:  # by `reset`: what was read to build the model is given back
            self.session.take_back()
        self._is_asked = True
        return self.session.num_batches

    @property
    def batch_size(self) -> int:
        """Samples in a full batch."""
        return int(self.dataset.batch_size)

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch is shorter than the others."""
        return self.partial_batch_size is not None

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch if that is shorter, else None."""
        size: int | None = self.dataset.partial_batch_size
        return size

    def get_tf_dataset(self) -> Any:
        """As for any; under a strategy each replica gets its part of the batch."""
        strategy = getattr(self.epoch_iterator, "_distribute_strategy", None)
        if not is_strategy(strategy):
            return super().get_tf_dataset()
        self.session.join(strategy)
        from keras_npbatch.distributed import tensorflow as tf_strategy

        return tf_strategy.ReplicaEpochs(strategy, self.batches, self._is_building)

    def on_epoch_begin(self) -> None:
        """Call the hook of the dataset, and tell Keras how many steps come.

        Under a distribution Keras asks for the batches of an epoch only when it has begun to count
        them, to the number that the one before had; after the rest of an epoch that is too few.
        """
        self.dataset.on_epoch_begin()
        if self.session.steps_per_epoch is None:
            if self._may_validate:  # with other batches, and so another number of them
                self._learn()
            expect_steps(self.epoch_iterator, self.session.num_batches)

    def on_epoch_end(self) -> None:
        """Call the hook of the dataset."""
        self.dataset.on_epoch_end()

    def batches(
        self, converted: Callable[[Iterator[Tree]], Iterator[Tree]] = iter
    ) -> Iterator[Tree]:
        """The pass that comes next."""
        batches = self.session.batches(building=self._learn())
        expect_steps(self.epoch_iterator, self.session.num_batches)
        return _telling(self.session, converted(batches))

    def _learn(self) -> bool:
        """Learn what asks for batches, unless it is known for good.

        Returns:
            Whether Keras asks only to build a model.
        """
        session = self.session
        if session.is_settled:
            return False
        call, builds = find_asking()
        session.learn(call)
        callbacks = callbacks_of(call)
        if callbacks is not None and not self._is_watched:
            # After an exception the iterator over epochs may stay in a cycle; this list does not.
            self._is_watched = True
            self.ends_with(callbacks)
        self._has_built = self._has_built or builds
        # A model with layers that are never built is built again by each validation of a `fit`.
        never_builds = not builds and (session.is_fit or not self._has_built)
        session.is_settled = self._is_of_a_call and callbacks is not None and never_builds
        return builds

    def _is_building(self) -> bool:
        return self.session.is_building


class Calls:
    """The calls of Keras that one dataset serves; a part of its core."""

    def __init__(self, _: Core) -> None:
        self._servings: weakref.WeakSet[Serving] = weakref.WeakSet()

    def serve(self, dataset: Any, maker: Maker) -> Serving:
        """Put what serves this call in the place of the dataset."""
        serving = Serving(dataset, maker)
        self._servings.add(serving)
        maker.epoch_iterator.data_adapter = serving
        serving.ends_with(maker.epoch_iterator)
        return serving

    def newest(self, model: Any) -> Serving | None:
        """The newest that serves a model."""
        found = [
            serving
            for serving in self._servings
            if serving.session.model is model and serving.epoch_iterator is not None
        ]
        return max(found, key=lambda serving: serving.number, default=None)


def num_batches(dataset: Any) -> int | None:
    """`dataset.num_batches` for whoever asks; Keras gets the answer of what will serve it."""
    core = core_of(dataset)
    maker = find_maker(dataset)
    if maker is not None:
        return core.part(Calls).serve(dataset, maker).num_batches
    return None if core.endless else core.plan.num_batches


def session_of(dataset: Any, model: Any) -> tuple[Any, Session] | None:
    """The newest iterator over epochs of Keras that walks over a dataset for a model."""
    serving = core_of(dataset).part(Calls).newest(model)
    return None if serving is None else (serving.epoch_iterator, serving.session)


def _telling(session: Session, batches: Iterator[Tree]) -> Iterator[Tree]:
    """The batches; an error about one of them says which one."""
    try:
        yield from batches
    except InvalidBatchError as error:
        if not getattr(error, "__notes__", None):  # one that was raised where it was made
            session.tell_place(error)
        raise


def _end(session: Session, executor: Executor) -> None:
    session.end()
    executor.expect_nothing()


class _TensorFlowEpochs:
    """Looks like a dataset to Keras: it can be iterated over, any number of times."""

    def __init__(self, adapter: _Adapter) -> None:
        self._adapter = adapter

    def __iter__(self) -> Iterator[Tree]:
        from keras_npbatch.tensors import tensorflow

        return self._adapter.batches(tensorflow.tensor_batches)
