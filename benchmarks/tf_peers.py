"""Ways from arrays to a shuffled `tf.data.Dataset` of batches. To add one, put it into `TF_PEERS`.

Two are by hand: what TensorFlow takes for batches that come from Python at all, and what a second
thread can do about it. They promise nothing: a batch may be written over as the next is asked for.

This module imports TensorFlow: only the process that measures imports it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import tensorflow as tf

from benchmarks.peers import Epoch, Peer, two_threads
from benchmarks.workloads import Arrays, Workload

__all__ = ["TF_PEERS", "TfPeer"]

TfPeer = Callable[[Workload, Arrays], tf.data.Dataset]

_WINDOW = 10_000
"""Samples in the buffer of `shuffle`: all of them would be a second copy of the data."""


def from_tensor_slices(workload: Workload, data: Arrays) -> tf.data.Dataset:
    """What most tutorials write; the arrays become tensors once, before anything is timed."""
    samples = tf.data.Dataset.from_tensor_slices(data)
    window = min(_WINDOW, workload.num_samples)
    return samples.shuffle(window).batch(workload.batch_size).prefetch(tf.data.AUTOTUNE)


def from_generator(workload: Workload, data: Arrays) -> tf.data.Dataset:
    """A generator of whole batches, which is as fast as that can be."""
    x, y = data
    rng = np.random.default_rng(0)

    def batches() -> Iterator[Arrays]:
        order = rng.permutation(workload.num_samples)
        for start in range(0, workload.num_samples, workload.batch_size):
            rows = order[start : start + workload.batch_size]
            yield x[rows], y[rows]

    signature = (
        tf.TensorSpec((None, *workload.feature_shape), x.dtype),
        tf.TensorSpec((None,), y.dtype),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    # Keras asks for the length.
    known = tf.data.experimental.assert_cardinality(workload.num_batches)
    return dataset.apply(known).prefetch(tf.data.AUTOTUNE)


def keras_arrays(workload: Workload, data: Arrays) -> tf.data.Dataset:
    """What `fit(x, y)` makes of the arrays on TensorFlow."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    x, y = data
    adapter = ArrayDataAdapter(x, y, batch_size=workload.batch_size, shuffle=True)
    return adapter.get_tf_dataset()


def by_hand(peer: Peer) -> TfPeer:
    """The least code for batches from Python: TensorFlow asks for each with one call."""

    def dataset(workload: Workload, data: Arrays) -> tf.data.Dataset:
        begin, x, y = peer(workload, data), *data
        epochs: list[Iterator[Arrays]] = []

        def next_batch(step: int) -> Arrays:
            if step == 0:
                epochs[:] = [begin()]
            return next(epochs[0])

        def ask(step: tf.Tensor) -> list[tf.Tensor]:
            return tf.numpy_function(next_batch, [step], [x.dtype, y.dtype])

        options = tf.data.Options()  # no batch is read ahead, or it would be written over
        options.experimental_optimization.inject_prefetch = False
        return tf.data.Dataset.range(workload.num_batches).map(ask).with_options(options)

    return dataset


def one_ready_batch(workload: Workload, data: Arrays) -> Epoch:
    """The same batch again and again: what is left is the handing over."""
    ready = next(two_threads(workload, data)())  # aligned, so TensorFlow copies nothing
    return partial(itertools.repeat, ready)


def keras_npbatch(**settings: int) -> TfPeer:
    """`ArrayDataset.to_tf_dataset()`."""

    def peer(workload: Workload, data: Arrays) -> tf.data.Dataset:
        import keras_npbatch as npb

        dataset = npb.ArrayDataset(*data, batch_size=workload.batch_size, seed=0, **settings)
        return dataset.to_tf_dataset()

    return peer


TF_PEERS: dict[str, TfPeer] = {
    "keras_npbatch workers=0": keras_npbatch(workers=0),
    "keras_npbatch workers=1": keras_npbatch(workers=1),
    "keras_npbatch workers=2": keras_npbatch(workers=2),
    "by hand, one ready batch": by_hand(one_ready_batch),
    "by hand, two threads": by_hand(two_threads),
    "from_generator": from_generator,
    "from_tensor_slices.shuffle.batch": from_tensor_slices,
    "Keras's array adapter": keras_arrays,
}
