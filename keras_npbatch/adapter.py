"""The side of a dataset that Keras sees: a `DataAdapter` for every backend.

Keras asks its adapter for an iterator in the terms of the backend, and never says on whose behalf.
Here each request is matched to the iterator over epochs that makes it, whose `Session` knows what
is being done. The hooks `on_epoch_begin` and `on_epoch_end` do nothing: Keras calls them before
the first epoch too, and twice, so that whatever counts on them miscounts.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_npbatch.errors import UnsupportedArgumentError
from keras_npbatch.keras_calls import find_call, find_epoch_iterator, is_reset
from keras_npbatch.serving import Service, Session
from keras_npbatch.tree import Tree

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

    def get_jax_iterator(self) -> Iterator[Tree]:
        """Batches that JAX takes."""
        from keras_npbatch.backends import jax

        return jax.to_arrays(self._batches())

    def get_torch_dataloader(self) -> Iterator[Tree]:
        """Batches with Torch tensors."""
        from keras_npbatch.backends import torch

        return map(torch.to_tensors, self._batches())

    def get_tf_dataset(self) -> _TensorFlowEpochs:
        """An iterable of batches with TensorFlow tensors; each iteration is a pass.

        Keras feeds what is no `tf.data.Dataset` to the compiled step one batch at a time. That
        takes less time a step than a `tf.data` pipeline around Python does, an exception reaches
        the caller as itself, and nothing has to be known of the batches beforehand.
        """
        epoch_iterator = find_epoch_iterator(self)
        strategy = getattr(epoch_iterator, "_distribute_strategy", None)
        if strategy is not None and type(strategy).__name__ != "_DefaultDistributionStrategy":
            raise UnsupportedArgumentError(
                f"the model was made under a {type(strategy).__name__}; expected none. "
                "tf.distribute is not available in this version: make and compile the model "
                "outside of the strategy's scope."
            )
        return _TensorFlowEpochs(self)

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
        """Nothing; a hook for subclasses, called when and as often as Keras pleases."""

    def on_epoch_end(self) -> None:
        """Nothing; a hook for subclasses, called when and as often as Keras pleases."""

    def _batches(self) -> Iterator[Tree]:
        epoch_iterator = find_epoch_iterator(self)
        if epoch_iterator is None:  # not Keras's own loop: whoever it is iterates
            return iter(self)
        return self._session(epoch_iterator).batches(find_call())

    def _session(self, epoch_iterator: Any) -> Session:
        if "_sessions" not in self.__dict__:
            self._service()  # tells that __init__ was not called
        session = self._sessions.get(epoch_iterator)
        if session is None:
            steps = getattr(epoch_iterator, "steps_per_epoch", None)
            session = Session(self._service(), find_call(), steps)
            self._sessions[epoch_iterator] = session
        return session

    def _service(self) -> Service:
        raise NotImplementedError

    def _own_num_batches(self) -> int | None:
        raise NotImplementedError


class _TensorFlowEpochs:
    """Looks like a dataset to Keras: it can be iterated over, any number of times."""

    def __init__(self, adapter: KerasAdapter) -> None:
        self._adapter = adapter

    def __iter__(self) -> Iterator[Tree]:
        from keras_npbatch.backends import tensorflow

        return tensorflow.tensor_batches(self._adapter._batches())
