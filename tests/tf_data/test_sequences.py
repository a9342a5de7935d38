"""`Ragged` and `Windows` beside what TensorFlow and Keras make of the same data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_npbatch import ArrayDataset, SampleDataset, pad
from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources import Ragged, Windows, aligned

ROWS = [list(range(1, n + 1)) for n in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3)]


@pytest.mark.parametrize(
    ("length", "stride", "rate"), [(1, 1, 1), (5, 1, 1), (7, 3, 1), (4, 2, 5), (70, 1, 1)]
)
def test_windows_are_those_of_keras(length, stride, rate):
    data = np.random.default_rng(0).normal(size=(70, 2))
    (theirs,) = keras.utils.timeseries_dataset_from_array(
        data, None, length, sequence_stride=stride, sampling_rate=rate, batch_size=1000
    )
    ours = Windows(data, length, stride=stride, sampling_rate=rate)
    np.testing.assert_array_equal(theirs, ours.read(np.arange(len(ours))))


def test_windows_with_targets_are_those_of_keras():
    """Which takes the targets from a series that the user has shifted, and loses the last ones."""
    data = np.random.default_rng(0).normal(size=(70, 2))
    ((x, y),) = keras.utils.timeseries_dataset_from_array(
        data[:-10], data[10:, 0], 10, batch_size=1000
    )
    inputs, targets = aligned(Windows(data, 10), Windows(data[:, 0], 1, offset=10))
    assert (len(x), len(inputs)) == (51, 60)
    rows = np.arange(len(x))
    np.testing.assert_array_equal(x, inputs.read(rows))
    np.testing.assert_array_equal(y, targets.read(rows)[:, 0])


def test_a_ragged_tensor_is_padded_as_tensorflow_pads_it():
    ragged = tf.ragged.constant(ROWS)
    found = Ragged(ragged)
    rows = np.array([5, 0, 2, 0])
    np.testing.assert_array_equal(tf.gather(ragged, rows).to_tensor(), found.read(rows))
    of_vectors = tf.RaggedTensor.from_row_splits(tf.reshape(tf.range(12.0), (6, 2)), [0, 1, 4, 6])
    np.testing.assert_array_equal(of_vectors.to_tensor(), Ragged(of_vectors).read(np.arange(3)))
    with pytest.raises(InvalidDataError) as told:
        Ragged(tf.ragged.constant([[[1], [2, 3]], [[4]]]))
    assert str(told.value) == (
        "data of Ragged is a RaggedTensor of shape (2, None, None); expected one ragged axis, the "
        "second: time steps of one shape. Make the others dense: "
        "`data.with_values(data.values.to_tensor())`."
    )


@pytest.mark.parametrize(
    ("pad_to", "width"), [(None, None), ((4, 9), None), (9, 9), ((9,), 9)], ids=str
)
@pytest.mark.parametrize("transform", [None, lambda batch: (batch[0]["values"] * 2, batch[1])])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_the_spec_has_none_for_the_axis_that_varies(pad_to, width, transform, is_loaded):
    lengths = np.array(list(map(len, ROWS)))
    chosen = {"batch_size": 3, "seed": 0, "transform": transform}
    if is_loaded:
        chosen["collate"] = (pad(pad_to, lengths="mask"), None)
        dataset = SampleDataset(lambda row: (ROWS[row], lengths[row]), num_samples=10, **chosen)
    else:
        dataset = ArrayDataset(Ragged(ROWS, pad_to=pad_to, lengths="mask"), lengths, **chosen)
    batches = dataset.to_tf_dataset()
    x, _ = batches.element_spec
    shapes = {name: spec.shape.as_list() for name, spec in x.items()} if transform is None else x
    if transform is None:
        assert shapes == {"values": [None, width], "mask": [None, width]}
    else:
        assert shapes.shape.as_list() == [None, width]
    expected = [dataset[step] for step in range(len(dataset))]
    for ours, theirs in zip(expected, batches, strict=True):
        for one, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
            np.testing.assert_array_equal(one, other)
