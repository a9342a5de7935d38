"""`ImageFolder`: files, classes, labels and pixels are those of `image_dataset_from_directory`."""

from __future__ import annotations

import os
from importlib.metadata import version

import keras
import numpy as np
import pytest

from keras_npbatch import sources
from tests.pictures import folder_of_photos

pytestmark = [
    pytest.mark.skipif(
        os.environ["KERAS_NPBATCH_BACKEND"] != "tensorflow", reason="Keras needs it for this"
    ),
    pytest.mark.skipif(version("keras").startswith("3.7."), reason="Keras 3.7 follows every link"),
]

CASES = {
    "as it is": {},
    "categorical": {"label_mode": "categorical"},
    "some classes": {"class_names": ["china", "Flower"], "label_mode": "binary"},
    "links": {"follow_links": True},
    "no labels": {"labels": None},
    "no label mode": {"label_mode": None},
    "own labels": {"labels": [3, 1, 1, 7] * 4},
    "own binary labels": {"labels": [1, 0, 0, 1] * 4, "label_mode": "binary"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_photos(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize("name", CASES)
def test_files_classes_labels_and_pixels_are_those_of_keras(folder, name):
    found = keras.utils.image_dataset_from_directory(
        folder, image_size=(30, 40), batch_size=None, shuffle=False, verbose=False, **CASES[name]
    )
    samples = [sample if isinstance(sample, tuple) else (sample,) for sample in found]
    of_keras, *labels = (
        np.stack([part.numpy() for part in parts]) for parts in zip(*samples, strict=True)
    )
    ours = sources.ImageFolder(folder, (30, 40), **CASES[name])
    assert list(ours.paths) == [os.path.abspath(path) for path in found.file_paths]
    assert ours.class_names == found.class_names
    if ours.labels is None:
        assert not labels
    else:
        np.testing.assert_array_equal(ours.labels, labels[0])
        assert ours.labels.dtype == labels[0].dtype
    images = ours.images.read(np.arange(len(ours)), np.empty)
    for path, image, other in zip(ours.paths, images, of_keras, strict=True):
        difference = np.abs(image - other)
        if path.lower().endswith(("jpg", "jpeg")):  # TensorFlow decodes them in a faster way
            assert difference.mean() <= 2
        else:
            assert difference.max() == 0
