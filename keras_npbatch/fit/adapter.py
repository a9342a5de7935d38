"""The side of a dataset that Keras sees: a `DataAdapter` for every backend.

Keras asks its adapter for an iterator in the terms of the backend, and never says on whose behalf.
Here each request is matched to the iterator over epochs that makes it, whose `Session` knows what
is being done. The hooks `on_epoch_begin` and `on_epoch_end` move nothing: Keras calls them before
the first epoch too, and twice, so that whatever counts on them miscounts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_npbatch.distributed.checks import is_strategy
from keras_npbatch.errors import InvalidBatchError
from keras_npbatch.fit.call import (
    Call,
    expect_steps,
    find_call,
    find_call_of,
    find_epoch_iterator,
    given_to,
    is_asked_by_keras,
    is_build,
    is_reset,
    running_frames,
)
from keras_npbatch.fit.requests import refuse_ignored, refuse_to_guess
from keras_npbatch.fit.session import Session
from keras_npbatch.tree import Tree
from keras_npbatch.workers.service import Service

__all__ = ["KerasAdapter"]


class KerasAdapter(DataAdapter):  # type: ignore[misc]  # Keras is untyped
    """What Keras calls on a dataset."""

    _sessions: weakref.WeakKeyDictionary[Any, Session]
    """The session of each iterator over epochs, for as long as Keras holds the iterator."""

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch, or None for an endless dataset."""
        epoch_iterator = find_epoch_iterator(self)
        if epoch_iterator is None:
            return self._own_num_batches()
        session = self._session(epoch_iterator)
        if is_reset(epoch_iterator):
            session.take_back()
        return session.num_batches

    def get_numpy_iterator(self) -> Iterator[Tree]:
        """Batches with NumPy arrays."""
        return self._batches()

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator[Any]:
        """Batches that JAX takes.

        Args:
            super_batch: how many of them Keras, from 3.16 on, takes as one, on a new first axis.
        """
        from keras_npbatch.tensors import jax

        batches = self._batches(jax.to_arrays)
        return batches if super_batch is None else jax.stacked(batches, super_batch)

    def get_torch_dataloader(self) -> Iterator[Tree]:
        """Batches with Torch tensors."""
        from keras_npbatch.tensors import torch

        return self._batches(partial(map, torch.to_tensors))

    def get_tf_dataset(self) -> Any:
        """An iterable of batches with TensorFlow tensors; each iteration is a pass.

        Keras feeds what is no `tf.data.Dataset` to the compiled step one batch at a time. That
        takes less time a step than a `tf.data` pipeline around Python does, an exception reaches
        the caller as itself, and nothing has to be known of the batches beforehand. Under a
        strategy each replica gets its part of the batch.
        """
        epoch_iterator = find_epoch_iterator(self)
        strategy = getattr(epoch_iterator, "_distribute_strategy", None)
        if not is_strategy(strategy):
            return _TensorFlowEpochs(self)
        self._session(epoch_iterator).join(strategy)
        from keras_npbatch.distributed import tensorflow as tf_strategy

        return tf_strategy.ReplicaEpochs(strategy, self._batches, is_build)

    @property
    def batch_size(self) -> int:
        """Samples in a full batch."""
        raise NotImplementedError

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch is shorter than the others."""
        return self.partial_batch_size is not None

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch if that is shorter, else None."""
        raise NotImplementedError

    def on_epoch_begin(self) -> None:
        """A hook for subclasses, called when and as often as Keras pleases; calls this one too.

        Under a distribution Keras asks for the batches of an epoch only when it has begun to count
        them, to the number that the one before had; after the rest of an epoch that is too few.
        """
        epoch_iterator = find_epoch_iterator(self)
        session = None if epoch_iterator is None else self._sessions.get(epoch_iterator)
        if session is not None and session.steps_per_epoch is None:
            expect_steps(epoch_iterator, session.steps_to_come(find_call()))

    def on_epoch_end(self) -> None:
        """Nothing; a hook for subclasses, called when and as often as Keras pleases."""

    def _batches(
        self, converted: Callable[[Iterator[Tree]], Iterator[Tree]] = iter
    ) -> Iterator[Tree]:
        epoch_iterator = find_epoch_iterator(self)
        if epoch_iterator is None:
            if is_asked_by_keras():  # by a later one, which hides its iterator
                refuse_to_guess(self._service())
            return converted(iter(self))
        call = find_call()
        session = self._session(epoch_iterator)
        self._watch(call, session)
        batches = session.batches(call)
        expect_steps(epoch_iterator, session.num_batches)
        return _telling(session, converted(batches))

    def _session(self, epoch_iterator: Any) -> Session:
        if "_sessions" not in self.__dict__:
            self._service()  # tells that __init__ was not called
        session = self._sessions.get(epoch_iterator)
        if session is None:
            running = running_frames()
            for other in self._sessions.values():
                if other.frame is not None and other.frame not in running:
                    other.end()  # by an exception, whose traceback somebody keeps
            steps = getattr(epoch_iterator, "steps_per_epoch", None)
            call = find_call_of(epoch_iterator)
            if call is None:
                refuse_ignored(self, "EpochIterator", given_to(epoch_iterator))
            session = Session(self._service(), call, steps)
            self._sessions[epoch_iterator] = session
            weakref.finalize(epoch_iterator, _end, weakref.ref(self), session).atexit = False
        return session

    def _watch(self, call: Call | None, session: Session) -> None:
        """Notice the end of a call of Keras, also by an exception.

        Its iterator over epochs may live on in a cycle, until a garbage collection; its list of
        callbacks does not.
        """
        callbacks = call.arguments.get("callbacks") if call is not None else None
        if isinstance(callbacks, keras.callbacks.CallbackList) and not session.is_watched:
            session.is_watched = True
            weakref.finalize(callbacks, _end, weakref.ref(self), session).atexit = False

    def _session_of(self, model: Any) -> tuple[Any, Session] | None:
        """The newest iterator over epochs that serves `model`, and its session."""
        found = None
        for epoch_iterator, session in list(self._sessions.items()):  # in the order they were made
            if session.model is model:
                found = epoch_iterator, session
        return found

    def _service(self) -> Service:
        raise NotImplementedError

    def _own_num_batches(self) -> int | None:
        raise NotImplementedError

    def _all_sessions_have_ended(self) -> None:
        raise NotImplementedError


def _telling(session: Session, batches: Iterator[Tree]) -> Iterator[Tree]:
    """The batches; an error about one of them tells which it is."""
    try:
        yield from batches
    except InvalidBatchError as error:
        if not getattr(error, "__notes__", None):  # one that was raised where it was made
            session.tell_place(error)
        raise


def _end(adapter: weakref.ref[KerasAdapter], session: Session) -> None:
    session.end()
    alive = adapter()
    if alive is not None and all(other.has_ended for other in alive._sessions.values()):
        alive._all_sessions_have_ended()


class _TensorFlowEpochs:
    """Looks like a dataset to Keras: it can be iterated over, any number of times."""

    def __init__(self, adapter: KerasAdapter) -> None:
        self._adapter = adapter

    def __iter__(self) -> Iterator[Tree]:
        from keras_npbatch.tensors import tensorflow

        return self._adapter._batches(tensorflow.tensor_batches)
