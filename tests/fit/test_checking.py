"""The check that trains: on each backend, with batches of every form."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.testing import check_dataset
from tests.testing.gallery.broken import BROKEN_FOR_KERAS
from tests.testing.gallery.good import GOOD, Loader, Textbook

REST = ["processes_read_the_same_batches"]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.skipif(
    keras.version().startswith("3.7."), reason="Keras 3.7: inputs alone; see docs/limits.md"
)
def test_keras_trains_on_good_loaders(name):
    report = check_dataset(GOOD[name](), ignore=REST)
    assert report.ok, report
    assert "keras_trains_one_step" in report.passed


@pytest.mark.parametrize("case", BROKEN_FOR_KERAS, ids=lambda case: case.kind.__name__)
def test_what_keras_does_not_train_on_is_found(case, backend):
    report = check_dataset(case.kind(), ignore=REST)
    assert {finding.check for finding in report.findings} == case.found_by, report
    (finding,) = report.findings
    assert finding.seen.startswith(f"model.fit(dataset) on {backend} raised ")


class Texts(Textbook):
    def __getitem__(self, idx):
        _, y = super().__getitem__(idx)
        return np.array([f"text {label}" for label in y]), y


class OurTexts(Loader):
    def load(self, rows):
        return np.array([f"text {row}" for row in rows]), rows


class TextTargets(Textbook):
    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x, np.array([f"text {label}" for label in y])


@pytest.mark.parametrize("kind", [Texts, OurTexts])
def test_texts_are_for_ours_on_tensorflow_alone(kind, backend):
    report = check_dataset(kind(), ignore=REST)
    fault = [] if kind is OurTexts and backend == "tensorflow" else ["keras_trains_one_step"]
    assert [finding.check for finding in report.findings] == fault, report


def test_targets_of_text_are_not_judged():
    report = check_dataset(TextTargets(), ignore=REST)
    assert report.ok, report
    assert report.skipped["keras_trains_one_step"] == (
        "the targets are texts: no loss takes them, but a train_step may"
    )


@pytest.mark.skipif(
    keras.version().startswith("3.7."), reason="Keras 3.7: its seeds go on; see docs/limits.md"
)
def test_the_step_is_trained_on_a_copy(data):
    """Its epoch is not moved, and Keras's own random state is not used up."""
    keras.utils.set_random_seed(5)
    expected = keras.ops.convert_to_numpy(keras.random.uniform((2,)))
    keras.utils.set_random_seed(5)
    dataset = ArrayDataset(*data(), batch_size=8, seed=0)
    report = check_dataset(dataset)
    assert report.ok, report
    assert dataset.epoch == 0
    now = keras.ops.convert_to_numpy(keras.random.uniform((2,)))
    np.testing.assert_array_equal(now, expected)
