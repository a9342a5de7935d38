"""What is seen of a batch: which of its samples count."""

from __future__ import annotations

import numpy as np
import pytest

from keras_npbatch.testing.subject.seen import see

X = np.array([[3.0, 1.0], [4.0, 1.0], [3.0, 1.0], [0.0, 0.0]])
Y = np.arange(4)


@pytest.mark.parametrize(
    ("weights", "count"),
    [
        (None, 4),
        ([1, 1, 1, 1], 4),
        ([1, 1, 1, 0], 3),  # blank
        ([1, 1, 0, 0], 2),  # one that repeats another
        ([1, 0, 0, 0], 2),  # the second is a sample, of weight 0
        ([0, 0, 0, 1], 4),  # padding is at the end
        ([0, 0, 0, 0], 2),
    ],
)
def test_samples_at_the_end_that_weigh_nothing_are_padding(weights, count):
    batch = (X, Y) if weights is None else (X, Y, np.array(weights))
    seen = see(batch, 0, None, lambda batch: batch[1])
    assert seen.size == 4
    assert len(seen.inputs) == len(seen.targets) == count
    assert seen.ids == list(range(count))
    assert see(batch, 0, 4, None).inputs == see((X, Y), 0, None, None).inputs


def test_one_sample_is_left():
    seen = see((np.zeros((2, 3)), np.zeros(2), np.zeros(2)), 0, None, None)
    assert len(seen.inputs) == 1
