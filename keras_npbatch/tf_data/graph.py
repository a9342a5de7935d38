"""Passes over Python's batches as a `tf.data.Dataset`: the graph, and what it calls.

    dataset = epochs(passes, element_spec)
    for x, y in dataset.repeat(3): ...      # three passes, begun one after the other

An iterator of TensorFlow's asks for one batch after the other with one call of Python each, and
hands along a state from call to call (`Dataset.scan`). The state is a ticket: the number of the
pass, in memory that Python has lent. TensorFlow holds a ticket for as long as the iterator may go
on, so Python knows when a pass is let go: at its end, or when the iterator is dropped early.

What runs in TensorFlow's threads hands over arrays that it has ready. It takes their memory as it
is (where it is aligned), and holds them until it has done. Nothing reads ahead here: so Python
knows, as it hands over the last batch, that it leaves.
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
"""A pass: each batch as its flat arrays, in the order of the spec; closed when it is let go."""

_Ticket: TypeAlias = npt.NDArray[np.int64]

_SETTLED_S = 0.05
"""Without a call for so long, TensorFlow's threads have taken note that no more batches come."""
_SETTLED_WITHIN_S = 2.0
"""How long the interpreter waits for that before it ends."""


class Passes(Protocol):
    """What is walked over, in TensorFlow's threads; a pass is advanced by one of them at a time.

    The last batch leaves the dataset as it is asked for: nothing here reads ahead.
    """

    def __iter__(self) -> _Pass:
        """A new pass."""

    def __len__(self) -> int:
        """How many lists of arrays there are in a pass."""

    def close(self) -> None:
        """End the passes under way, from another thread: who waits in one is woken."""


def epochs(
    passes: Passes,
    element_spec: Any,
    *,
    endless: bool = False,
    cut_into: tuple[int, int] | None = None,
) -> Any:
    """The `tf.data.Dataset` each of whose iterations is a pass.

    Args:
        passes: where batches come from.
        element_spec: what a batch is: a nesting of `tf.TensorSpec` and None, without lists.
        endless: whether one pass follows the other without an end.
        cut_into: samples in a batch and batches in a pass, if `passes` gives several batches in
            one, since a call of Python costs more than they do; None: it gives batches. The last
            one comes alone.
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
    # Sharding among the workers of a strategy would cut away samples: each worker gets a dataset.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # A prefetch that nobody wrote would read ahead of whoever counts epochs.
    options.experimental_optimization.inject_prefetch = False
    return options


def _scanned(passes: Passes, specs: list[Any], in_chunks: bool) -> Any:
    """A dataset of the arrays of a pass.

    TensorFlow optimises the functions of a dataset each time an iterator begins, which takes it
    milliseconds for each: so there is this one, and no more around it.
    """
    iterations = _Iterations(passes)
    shapes = [[None, *spec.shape[1:]] if in_chunks else spec.shape for spec in specs]
    dtypes = [tf.int64, *(spec.dtype for spec in specs)]
    # TensorFlow never forgets a function that it may call: what it is given must not hold the data.
    # The first ticket holds them, for as long as a dataset or iterator of TensorFlow's holds it.
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
    """The passes under way over one dataset, known to TensorFlow by their tickets.

    Each is advanced by one thread at a time; passes meet only in operations of dicts and a
    counter, which are atomic.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._last_step = len(passes) - 1
        self._numbers = itertools.count(1)
        self._running: dict[int, _Pass] = {}
        # What TensorFlow calls with is not what was lent, but a view that it has made.
        self._tickets: weakref.WeakValueDictionary[int, _Ticket] = weakref.WeakValueDictionary()
        self._leases = Leases()
        _calls.users.add(self)

    def first_ticket(self) -> _Ticket:
        """What each iterator begins with: the ticket of no pass, which holds this object."""
        return self._ticket(0)

    def following(self, ticket: _Ticket, step: np.int64) -> list[npt.NDArray[Any]]:
        """The ticket of the pass, begun with the first step, and its next batch."""
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
        """End the passes under way, from another thread."""
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
        """The pass is over, at its end or before it."""
        running = self._running.pop(number, None)
        if running is not None:
            running.close()


class _Calls:
    """The calls of Python by TensorFlow's threads.

    A thread that calls as the interpreter ends would wait for it for ever, and TensorFlow, as it
    ends an iterator that reads ahead, for that thread. So they are over before.
    """

    def __init__(self) -> None:
        self.users: weakref.WeakSet[_Iterations] = weakref.WeakSet()
        self._callers: set[int] = set()
        self._has_ended = False
        self._last_s = 0.0

    def call(
        self, following: Callable[..., list[npt.NDArray[Any]]], ticket: _Ticket, step: np.int64
    ) -> list[npt.NDArray[Any]]:
        """What `following` returns.

        Raises:
            StopIteration: once the interpreter is about to end: no error, which TensorFlow would
                write to the log, behind the one that the program may have ended with.
        """
        caller = threading.get_ident()
        self._callers.add(caller)
        try:
            if self._has_ended:
                raise StopIteration
            return following(ticket, step)
        except Exception:  # of a batch that the end has cut off, which nobody waits for
            if self._has_ended:
                raise StopIteration from None
            raise
        finally:
            self._callers.discard(caller)
            self._last_s = time.monotonic()

    def end(self) -> None:
        """No more of them."""
        self._has_ended = True
        users = list(self.users)
        if not users:
            return
        for iterations in users:
            iterations.close()
        began_s = self._last_s = time.monotonic()
        # Nothing tells that no other call will come: only that none has come for a while.
        while time.monotonic() < began_s + _SETTLED_WITHIN_S:
            time.sleep(_SETTLED_S / 5)
            if not self._callers and time.monotonic() > self._last_s + _SETTLED_S:
                break


_calls = _Calls()
atexit.register(_calls.end)
