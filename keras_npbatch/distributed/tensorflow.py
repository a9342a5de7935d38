"""Batches for the replicas of a `tf.distribute` strategy, and the messages of its processes.

    for batch in ReplicaEpochs(strategy, begin):        # each iteration is a pass
        strategy.run(train_step, args=(batch,))         # each replica gets its part of the batch

Keras distributes what an adapter gives it, unless it is a `tf.distribute.DistributedDataset`.
`ReplicaEpochs` is one, and divides each batch itself. So `fit` under a strategy is served like any
other, one batch at a time: exceptions, epochs and positions are the same, and no autosharder
interferes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from keras_npbatch.plan.shard import Shard, even_part
from keras_npbatch.tensors.tensorflow import tensor_batches, to_tensors
from keras_npbatch.tree import Tree, leaves, map_leaves

__all__ = [
    "STRATEGIES",
    "ReplicaEpochs",
    "name_of",
    "num_local_replicas",
    "process_of",
    "say_to_all",
]

STRATEGIES = ("MirroredStrategy", "MultiWorkerMirroredStrategy", "OneDeviceStrategy")
"""The strategies under which `fit` is known to be served correctly."""

_END = b"\0"
"""Separates the messages of processes; no message contains it."""


class ReplicaEpochs(tf.distribute.DistributedDataset):  # type: ignore[misc]  # untyped
    """Batches of tensors, each divided into one part for each replica in this process.

    Args:
        strategy: the strategy that has the replicas.
        begin: makes the iterator over the batches of a pass.
        is_build: returns whether Keras takes a batch only to build a model.
    """

    def __init__(
        self, strategy: Any, begin: Callable[[], Iterator[Tree]], is_build: Callable[[], bool]
    ) -> None:
        self._strategy, self._begin, self._is_build = strategy, begin, is_build
        self._count = num_local_replicas(strategy)

    def __iter__(self) -> Iterator[Tree]:
        """One pass over the batches."""
        return tensor_batches(self._begin(), self._in_parts)

    def _in_parts(self, batch: Tree) -> Tree:
        # Keras builds a model on the mean over the parts. Not all dtypes and sizes have one, and
        # not all processes reach it. It only needs shapes and dtypes there.
        if self._count == 1 or self._is_build():
            return to_tensors(batch)
        num_rows = leaves(batch)[0].shape[0]

        def part(context: Any) -> Tree:
            index = context.replica_id_in_sync_group % self._count
            rows = slice(*even_part(index, self._count, 0, num_rows))
            return to_tensors(map_leaves(lambda leaf: leaf[rows], batch))

        return self._strategy.experimental_distribute_values_from_function(part)


def name_of(strategy: Any) -> str:
    """The name of a strategy as users know it; that of its class may differ."""
    for name in STRATEGIES:
        if type(strategy) is getattr(tf.distribute, name):
            return name
    return type(strategy).__name__


def num_local_replicas(strategy: Any) -> int:
    """How many replicas of the model this process has."""
    return len(_local_replicas(strategy))


def process_of(strategy: Any) -> Shard:
    """Which process of the strategy this is, out of how many."""
    replicas = _local_replicas(strategy)
    count = strategy.num_replicas_in_sync // len(replicas)
    return Shard(replicas[0] // len(replicas), count)


def _local_replicas(strategy: Any) -> list[int]:
    """The numbers of this process's replicas among all replicas."""
    replicas: list[int] = []

    def note(context: Any) -> Any:
        replicas.append(context.replica_id_in_sync_group)
        return tf.zeros(())

    strategy.experimental_distribute_values_from_function(note)
    return replicas


def say_to_all(strategy: Any, message: str, within_s: float) -> list[str]:
    """Exchange messages with all processes of a strategy; all must call it.

    Returns:
        The message of each process, in process order.

    Raises:
        tf.errors.OpError: if a process does not call it within `within_s` seconds.
    """
    text = np.frombuffer(message.encode() + _END, np.uint8).astype(np.int32)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=within_s)

    def gather() -> Any:
        context = tf.distribute.get_replica_context()
        return context.all_gather(tf.constant(text), axis=0, options=options)

    gathered = strategy.experimental_local_results(tf.function(partial(strategy.run, gather))())[0]
    said = gathered.numpy().astype(np.uint8).tobytes().split(_END)[:-1]
    # Each replica of a process has sent its message.
    return [each.decode() for each in said[:: num_local_replicas(strategy)]]
