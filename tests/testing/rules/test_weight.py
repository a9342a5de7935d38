"""`check_dataset` looks at the axes of sample weights."""

from __future__ import annotations

import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.batches import parts as assemble
from keras_npbatch.testing.rules.weight import weights_have_the_axes_of_their_targets as rule
from keras_npbatch.testing.subject.subject import NotChecked, Subject

X = np.arange(10.0, dtype="float32")[:, None]
SEQUENCES = np.repeat(X[:, :, None], 4, axis=1)
TOKENS = np.arange(40).reshape(10, 4)


def seen(*data, **settings):
    return list(rule.look(Subject(ArrayDataset(*data, batch_size=4, seed=0, **settings))))


@pytest.mark.parametrize("y", [SEQUENCES, TOKENS], ids=["sequences", "tokens"])
def test_padding_that_weighs_positions_is_found(monkeypatch, y):
    assert seen(X, y, remainder="pad") == []
    monkeypatch.setattr(assemble, "_axes_of_values", lambda target: 0)
    (told,) = seen(X, y, remainder="pad")
    assert told == (
        f"sample_weight has the shape (4,) for targets of shape {(4, *y.shape[1:])}; expected at "
        "least 2 axes"
    )


def test_weights_of_positions_and_of_samples_with_one_target_are_right():
    assert seen(X, SEQUENCES, np.ones((10, 4))) == []
    assert seen(X, X, np.ones(10)) == []
    assert seen(X, TOKENS, np.ones(10)) == []  # may be four numbers of a sample


def test_without_weights_nothing_is_said():
    with pytest.raises(NotChecked, match="the batches have no sample_weight"):
        seen(X, X)
