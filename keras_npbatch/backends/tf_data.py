"""Passes over Python's batches as a `tf.data.Dataset`: the graph, and what it calls.

    dataset = epochs(passes, layout, num_batches=10)
    for x, y in dataset.repeat(3): ...      # three passes, begun one after the other

TensorFlow begins a pass when an iterator over the dataset asks for its first batch, asks for one
batch after the other, and says when it lets the pass go: at its end, or when the iterator is
dropped early. That is what the op `GeneratorDataset` does, which knows of its own end;
`Dataset.from_generator` is built on it too, but checks and converts every batch in Python, takes
neither a length nor several batches at once, and calls Python once more for each pass.

What runs in TensorFlow's threads is one Python call a batch, which hands over arrays that it has
ready. It takes their memory as it is (where it is aligned), and holds them until it has done.
Nothing reads ahead here: so Python knows, as it hands over the last batch, that it leaves.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_npbatch.backends.tensorflow import to_tensors
from keras_npbatch.execution.slots import aligned_copy
from keras_npbatch.tree import leaves, map_with_none

__all__ = ["Passes", "epochs"]

Ticket: TypeAlias = npt.NDArray[np.int64]
"""What TensorFlow keeps of a pass: its number, and what `Passes.begin` told of it."""


class Passes(Protocol):
    """What is walked over. Its methods are called in TensorFlow's threads, one pass at a time."""

    def begin(self) -> tuple[int, ...]:
        """A new pass: whole numbers that tell all about it, always as many."""

    def batches(self, begun: tuple[int, ...]) -> Generator[list[npt.NDArray[Any]], None, None]:
        """Its batches, each as its flat arrays, in the order of the spec; closed when let go.

        The last batch leaves the dataset as it is asked for: nothing here reads ahead.
        """


def epochs(
    passes: Passes,
    element_spec: Any,
    *,
    num_batches: int,
    endless: bool = False,
    cut_into: int | None = None,
) -> Any:
    """The `tf.data.Dataset` each of whose iterations is a pass.

    Args:
        passes: where batches come from.
        element_spec: what a batch is: a nesting of `tf.TensorSpec` and None, without lists.
        num_batches: batches in a pass.
        endless: whether one pass follows the other without an end.
        cut_into: samples in a batch, if `passes` gives several batches in one, since a call of
            Python costs more than they do; None: it gives batches. The last one comes alone.
    """
    iterations = _Iterations(passes)
    # TensorFlow never forgets a function that it may call: what it is given must not hold the data.
    # The token holds them, for as long as TensorFlow holds it.
    call = _WeakCalls(iterations)
    none_spec = tf.type_spec_from_value(None)
    spec = map_with_none(lambda leaf: none_spec if leaf is None else leaf, element_spec)

    def one_pass(token: Any) -> Any:
        batches = _generator(call, token, leaves(element_spec), in_chunks=cut_into is not None)
        if cut_into is not None:
            batches = batches.rebatch(cut_into)
        return tf.data.experimental.from_variant(tf.data.experimental.to_variant(batches), spec)

    # Without the flat_map TensorFlow would refuse to write batches to a file.
    dataset = tf.data.Dataset.from_tensors(_token(iterations)).flat_map(one_pass)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    dataset = dataset.with_options(_options())
    return dataset.repeat() if endless else dataset


def _options() -> Any:
    options = tf.data.Options()
    # Sharding among the workers of a strategy would cut away samples: each worker gets a dataset.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # A prefetch that nobody wrote would read ahead of whoever counts epochs.
    options.experimental_optimization.inject_prefetch = False
    return options


def _generator(call: _WeakCalls, token: Any, specs: list[Any], in_chunks: bool) -> Any:
    """A dataset of the arrays of a pass.

    TensorFlow optimises the functions of a dataset each time an iterator begins, which takes it
    milliseconds for each: so there are these three, and no more around them.
    """
    shapes = [[None, *spec.shape[1:]] if in_chunks else spec.shape for spec in specs]
    dtypes = [spec.dtype for spec in specs]

    def concrete(function: Callable[[Any], Any], argument: Any) -> Any:
        return tf.function(function, [argument], autograph=False).get_concrete_function()

    def following(ticket: Any) -> Any:
        tensors = call("following", [ticket], dtypes)
        for tensor, shape in zip(tensors, shapes, strict=True):
            tensor.set_shape(shape)
        return tensors

    a_token, a_ticket = tf.TensorSpec(None, token.dtype), tf.TensorSpec(None, tf.int64)
    variant = tf.raw_ops.GeneratorDataset(
        init_func_other_args=[token],
        next_func_other_args=[],
        finalize_func_other_args=[],
        init_func=concrete(lambda token: call("start", [token], tf.int64), a_token),
        next_func=concrete(following, a_ticket),
        finalize_func=concrete(lambda ticket: call("let_go", [ticket], tf.int64), a_ticket),
        output_types=dtypes,
        output_shapes=shapes,
    )
    structure = tuple(map(tf.TensorSpec, shapes, dtypes))
    return tf.data.experimental.from_variant(variant, structure)


class _Iterations:
    """The passes under way over one dataset, known to TensorFlow by their tickets.

    Each is advanced by one thread at a time; passes meet only in operations of a dict and a
    counter, which are atomic.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._numbers = itertools.count()
        self._running: dict[int, Generator[list[npt.NDArray[Any]], None, None]] = {}

    def start(self, _: Any) -> Ticket:
        """A ticket for a new pass."""
        return np.array([next(self._numbers), *self._passes.begin()], np.int64)

    def following(self, ticket: Ticket) -> list[npt.NDArray[Any]]:
        """The next batch; `StopIteration` tells TensorFlow that there is none."""
        number, begun = _read(ticket)
        running = self._running.get(number)
        if running is None:
            running = self._running[number] = self._passes.batches(begun)
        return next(running)

    def let_go(self, ticket: Ticket) -> np.int64:
        """The pass is over, at its end or before it."""
        running = self._running.pop(_read(ticket)[0], None)
        if running is not None:
            running.close()
        return np.int64(0)


def _read(ticket: Ticket) -> tuple[int, tuple[int, ...]]:
    number, *begun = ticket.tolist()
    return number, tuple(begun)


class _WeakCalls:
    """Calls methods of an object from a graph, without holding the object."""

    def __init__(self, target: Any) -> None:
        self._target = weakref.ref(target)

    def __call__(self, name: str, arguments: list[Any], dtypes: Any) -> Any:
        """The op that does so."""
        target = self._target

        def function(*values: Any) -> Any:
            return getattr(target(), name)(*values)

        return tf.numpy_function(function, arguments, dtypes)


class _Held:
    """An owner for the memory of an array, which holds another object too."""

    __slots__ = ("__array_interface__", "_array", "_other")

    def __init__(self, array: npt.NDArray[Any], other: object) -> None:
        self.__array_interface__ = array.__array_interface__
        self._array, self._other = array, other


def _token(held: object) -> Any:
    """A tensor whose memory holds an object.

    The object lives as long as any dataset or iterator of TensorFlow's that goes back to the
    tensor, whatever becomes of the Python objects around them.
    """
    return to_tensors(np.asarray(_Held(aligned_copy(np.zeros(1, np.uint8)), held)))
