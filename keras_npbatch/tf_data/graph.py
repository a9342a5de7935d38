"""Passes over Python's batches as a `tf.data.Dataset`: the graph, and the Python it calls.

    dataset = epochs(passes, element_spec)
    for x, y in dataset.repeat(3): ...      # three passes, begun one after the other

A TensorFlow iterator gets each batch with one call of Python and passes a state from call to call
(`Dataset.scan`). The state is a ticket: the number of the pass, in memory that Python has lent.
TensorFlow holds a ticket as long as the iterator may continue, so Python knows when a pass is
released: at its end, or when the iterator is dropped early.

Python hands over finished arrays in TensorFlow's threads. TensorFlow uses their memory in place
(if it is aligned) and holds it until it is done. Nothing here reads ahead, so when Python hands
over the last batch, it knows that the batch is delivered.
"""

from __future__ import annotations

import atexit
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_npbatch.batches.slots import Leases, aligned_copy
from keras_npbatch.tensors.tensorflow import to_tensors
from keras_npbatch.tree import leaves, map_with_none

__all__ = ["Passes", "epochs"]

_Pass: TypeAlias = Generator[list[npt.NDArray[Any]], None, None]
"""A pass: each batch as flat arrays, in the order of the spec; closed when it is released."""

_Ticket: TypeAlias = npt.NDArray[np.int64]

_SETTLED_S = 0.05
"""After this long without a call, TensorFlow's threads have noticed that no more batches come."""
_SETTLED_WITHIN_S = 2.0
"""How long the interpreter waits for that before it exits."""


class Passes(Protocol):
    """Where batches come from; each pass is advanced by one TensorFlow thread at a time.

    Nothing here reads ahead: the last batch is delivered when it is requested.
    """

    def __iter__(self) -> _Pass:
        """A new pass."""

    def __len__(self) -> int:
        """Number of lists of arrays in a pass."""

    def close(self) -> None:
        """End the running passes, from another thread; a thread that waits in one is woken."""


def epochs(
    passes: Passes,
    element_spec: Any,
    *,
    endless: bool = False,
    cut_into: tuple[int, int] | None = None,
) -> Any:
    """A `tf.data.Dataset` of which each iteration is a pass.

    Args:
        passes: where batches come from.
        element_spec: a nesting of `tf.TensorSpec` and None, without lists, that describes a batch.
        endless: whether passes follow each other without an end.
        cut_into: samples in a batch and batches in a pass, if `passes` gives several batches at
            once because a call of Python costs more than they do; the last batch then comes alone.
            None: `passes` gives single batches.
    """
    none_spec = tf.type_spec_from_value(None)
    spec = map_with_none(lambda leaf: none_spec if leaf is None else leaf, element_spec)
    dataset = _scanned(passes, leaves(element_spec), in_chunks=cut_into is not None)
    if cut_into is not None:
        batch_size, num_batches = cut_into
        dataset = dataset.rebatch(batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    dataset = tf.data.experimental.from_variant(tf.data.experimental.to_variant(dataset), spec)
    dataset = dataset.with_options(_options())
    return dataset.repeat() if endless else dataset


def _options() -> Any:
    options = tf.data.Options()
    # Sharding among the workers of a strategy would lose samples: each worker gets its own dataset.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # A prefetch that TensorFlow injects would read ahead of the counting of epochs.
    options.experimental_optimization.inject_prefetch = False
    return options


def _scanned(passes: Passes, specs: list[Any], in_chunks: bool) -> Any:
    """A dataset of the arrays of a pass.

    TensorFlow optimises the functions of a dataset each time an iterator is created, which takes
    milliseconds for each function. So there is only this one.
    """
    iterations = _Iterations(passes)
    shapes = [[None, *spec.shape[1:]] if in_chunks else spec.shape for spec in specs]
    dtypes = [tf.int64, *(spec.dtype for spec in specs)]
    # TensorFlow keeps a function that it may call forever, so the function must not hold the data.
    # The first ticket holds them, as long as a TensorFlow dataset or iterator holds the ticket.
    weakly = weakref.ref(iterations)

    def following(ticket: _Ticket, step: np.int64) -> list[npt.NDArray[Any]]:
        held = weakly()
        assert held is not None
        return _calls.call(held.following, ticket, step)

    def ask(ticket: Any, step: Any) -> Any:
        ticket, *tensors = tf.numpy_function(following, [ticket, step], dtypes)
        for tensor, shape in zip([ticket, *tensors], [[1], *shapes], strict=True):
            tensor.set_shape(shape)
        return ticket, tuple(tensors)

    as_it_is = tf.autograph.experimental.do_not_convert(ask)
    first_ticket = to_tensors(iterations.first_ticket())
    return tf.data.Dataset.range(len(passes)).scan(first_ticket, as_it_is)


class _Iterations:
    """The running passes over one dataset; TensorFlow knows them by their tickets.

    Each is advanced by one thread at a time. Passes share only dicts and a counter, whose
    operations are atomic.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._last_step = len(passes) - 1
        self._numbers = itertools.count(1)
        self._running: dict[int, _Pass] = {}
        # TensorFlow does not call with the array that was lent, but with a view of it.
        self._tickets: weakref.WeakValueDictionary[int, _Ticket] = weakref.WeakValueDictionary()
        self._leases = Leases()
        _calls.users.add(self)

    def first_ticket(self) -> _Ticket:
        """The ticket with which each iterator begins: it is of no pass, and holds this object."""
        return self._ticket(0)

    def following(self, ticket: _Ticket, step: np.int64) -> list[npt.NDArray[Any]]:
        """The ticket of the pass, which begins at step 0, and its next batch."""
        if step == 0:
            ticket = self._begin()
        number = int(ticket[0])
        running = self._running.get(number)
        if running is None and number > 0:
            raise RuntimeError(
                f"keras_npbatch: asked for batch {step} of an iteration that TensorFlow has let "
                "go, or copied the state of; expected the state itself. The debug mode of tf.data "
                "copies it: do without tf.data.experimental.enable_debug_mode()."
            )
        arrays = None if running is None else next(running, None)
        if arrays is None:
            raise RuntimeError(
                f"keras_npbatch: asked for batch {step} of an iteration in which an earlier one "
                "failed; expected no more of it. Begin a new iteration."
            )
        if step == self._last_step:
            self._running.pop(number).close()
        return [self._tickets[number], *arrays]

    def close(self) -> None:
        """End the running passes, from another thread."""
        self._passes.close()

    def _begin(self) -> _Ticket:
        ticket = self._ticket(next(self._numbers))
        number = int(ticket[0])
        self._tickets[number], self._running[number] = ticket, iter(self._passes)
        return ticket

    def _ticket(self, number: int) -> _Ticket:
        ticket = self._leases.lease(
            aligned_copy(np.zeros(8, np.uint8)), partial(self._let_go, number), (1,), np.int64
        )
        ticket[0] = number
        return ticket

    def _let_go(self, number: int, _: npt.NDArray[np.uint8]) -> None:
        """End a pass that TensorFlow has released, at its end or before it."""
        running = self._running.pop(number, None)
        if running is not None:
            running.close()


class _Calls:
    """The calls of Python from TensorFlow's threads.

    A thread that calls while the interpreter exits would wait for it forever, and TensorFlow, while
    it ends an iterator that reads ahead, would wait for that thread. So the calls end first.
    """

    def __init__(self) -> None:
        self.users: weakref.WeakSet[_Iterations] = weakref.WeakSet()
        self._callers: set[int] = set()
        self._has_ended = False
        self._last_s = 0.0

    def call(
        self, following: Callable[..., list[npt.NDArray[Any]]], ticket: _Ticket, step: np.int64
    ) -> list[npt.NDArray[Any]]:
        """Call `following`.

        Raises:
            StopIteration: once the interpreter is about to exit. TensorFlow would log an error,
                after the one with which the program may have ended.
        """
        caller = threading.get_ident()
        self._callers.add(caller)
        try:
            if self._has_ended:
                raise StopIteration
            return following(ticket, step)
        except Exception:  # of a batch that the exit has cut off; nobody waits for it
            if self._has_ended:
                raise StopIteration from None
            raise
        finally:
            self._callers.discard(caller)
            self._last_s = time.monotonic()

    def end(self) -> None:
        """End all running passes, and wait until TensorFlow's threads stop calling."""
        self._has_ended = True
        users = list(self.users)
        if not users:
            return
        for iterations in users:
            iterations.close()
        began_s = self._last_s = time.monotonic()
        # There is no sign that no more calls will come, only that none has come for a while.
        while time.monotonic() < began_s + _SETTLED_WITHIN_S:
            time.sleep(_SETTLED_S / 5)
            if not self._callers and time.monotonic() > self._last_s + _SETTLED_S:
                break


_calls = _Calls()
atexit.register(_calls.end)
