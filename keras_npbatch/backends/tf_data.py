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

import itertools
import weakref
from collections.abc import Generator
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_npbatch.backends.tensorflow import to_tensors
from keras_npbatch.execution.slots import Leases, aligned_copy
from keras_npbatch.tree import leaves, map_with_none

__all__ = ["Passes", "epochs"]

_Pass: TypeAlias = Generator[list[npt.NDArray[Any]], None, None]
"""A pass: each batch as its flat arrays, in the order of the spec; closed when it is let go."""

_Ticket: TypeAlias = npt.NDArray[np.int64]


class Passes(Protocol):
    """What is walked over, in TensorFlow's threads; a pass is advanced by one of them at a time.

    The last batch leaves the dataset as it is asked for: nothing here reads ahead.
    """

    def __iter__(self) -> _Pass:
        """A new pass."""

    def __len__(self) -> int:
        """How many lists of arrays there are in a pass."""


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
        return held.following(ticket, step)

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
        self._tickets: weakref.WeakValueDictionary[int, _Ticket] = weakref.WeakValueDictionary()
        self._leases = Leases()

    def first_ticket(self) -> _Ticket:
        """What each iterator begins with: the ticket of no pass, which holds this object."""
        return self._ticket(0)

    def following(self, ticket: _Ticket, step: np.int64) -> list[npt.NDArray[Any]]:
        """The ticket of the pass, begun with the first step, and its next batch."""
        if step == 0:
            ticket = self._begin()
        number = int(ticket[0])
        arrays = next(self._running.get(number, iter(())), None)
        if arrays is None:
            raise RuntimeError(
                f"keras_npbatch: asked for batch {step} of an iteration in which an earlier one "
                "failed; expected no more of it. Begin a new iteration."
            )
        if step == self._last_step:
            self._running.pop(number).close()
        return [self._tickets[number], *arrays]

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
