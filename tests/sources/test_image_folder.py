"""`ImageFolder`: what it tells of its files, and what is told where they can't be read.

That files, classes and labels are those of Keras is tested in tests/tf_data/test_image_folder.py.
"""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from keras_npbatch import ArrayDataset, sources
from keras_npbatch.errors import InvalidArgumentError, InvalidDataError
from tests.pictures import CHINA, folder_of_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_photos(tmp_path_factory.mktemp("photos"))


def refused(make, kind=InvalidArgumentError):
    with pytest.raises(kind) as caught:
        make()
    return str(caught.value)


# --- in a dataset ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2, "processes"])
def test_a_dataset_of_images_has_the_same_batches_with_any_workers(folder, workers):
    images = sources.ImageFolder(folder, (24, 32))
    whole = images.images.read(np.arange(len(images)), np.empty)
    given = {"workers": workers}
    if workers == "processes":
        given = {"workers": 2, "use_multiprocessing": True}
    expected = ArrayDataset(whole, images.labels, batch_size=4, seed=0, workers=0)
    with ArrayDataset(images.images, images.labels, batch_size=4, seed=0, **given) as dataset:
        for (x, y), (other_x, other_y) in zip(dataset, expected, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)


def test_a_folder_tells_what_it_is_and_is_found_again_from_elsewhere(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    found = sources.ImageFolder(folder.name, (24, 32), decoder="pillow")
    monkeypatch.chdir("/")
    assert repr(found) == (
        f"ImageFolder({str(folder)!r}, 16 images, 4 classes, size=(24, 32), color_mode='rgb', "
        "decoder='pillow')"
    )
    assert repr(found.images) == (
        "Images(16 files, shape=(24, 32, 3), Decoding(size=(24, 32), color_mode='rgb', "
        "interpolation='bilinear', crops=False, decoder='pillow'))"
    )
    copy = pickle.loads(pickle.dumps(found))
    rows = np.array([13, 0])
    np.testing.assert_array_equal(
        copy.images.read(rows, np.empty), found.images.read(rows, np.empty)
    )


def test_every_setting_reaches_the_decoder(folder):
    decoding = sources.ImageFolder(
        folder,
        [24, 32],
        color_mode="rgba",
        interpolation="nearest",
        crop_to_aspect_ratio=True,
        decoder="simplejpeg",
    ).images.decoding
    assert (decoding.size, decoding.color_mode, decoding.interpolation) == (
        (24, 32),
        "rgba",
        "nearest",
    )
    assert (decoding.crops, decoding.decoder) == (True, "simplejpeg")


# --- refusals ----------------------------------------------------------------------------------


def test_a_folder_given_as_a_leaf_is_refused_with_what_to_write(folder):
    with pytest.raises(InvalidDataError) as caught:
        ArrayDataset(sources.ImageFolder(folder, (3, 3)))
    assert str(caught.value).endswith("Pass its parts: `ArrayDataset(x.images, x.labels)`.")


def test_an_image_of_another_size_is_refused_by_its_name(folder, tmp_path):
    picture = Image.open(CHINA).copy()
    for name, width in (("a", 40), ("b", 41)):
        picture.crop((0, 0, width, 30)).save(tmp_path / f"{name}.png")
    images = sources.ImageFolder(tmp_path, None, labels=None).images
    assert images.shape == (2, 30, 40, 3)
    message = refused(lambda: images.read(np.array([1]), np.empty), InvalidDataError)
    assert message == (
        f"{str(tmp_path / 'b.png')!r} (row 1) gave ndarray of shape (30, 41, 3) and dtype uint8; "
        "expected shape (30, 40, 3) and dtype uint8, as the first file has. Say "
        "`size=(height, width)`, which resizes them all."
    )


def test_an_image_that_can_t_be_decoded_is_named_with_its_row(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    images = sources.ImageFolder(tmp_path, (3, 3), labels=None).images
    with pytest.raises(OSError, match="cannot identify image file") as caught:
        images.read(np.array([0]), np.empty)
    assert caught.value.__notes__ == [
        f"keras_npbatch: raised by {str(tmp_path / 'a.png')!r} (row 0)"
    ]


def test_images_that_are_left_out_are_told(tmp_path):
    for name in ("a.png", "b.webp", "c.TIF", "d.webp", "Thumbs.db"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="left out") as told:
        found = sources.ImageFolder(tmp_path, (3, 3), labels=None)
    assert str(told[0].message) == (
        f"{str(tmp_path)!r} has images that are left out (1 .tif, 2 .webp): only files that end "
        "with .bmp, .gif, .jpeg, .jpg or .png are read. Convert them, or read them with "
        "keras_npbatch.sources.Files."
    )
    assert told[0].filename == __file__
    assert len(found) == 1


def test_a_link_to_a_folder_above_it_is_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").symlink_to(tmp_path / "a")
    message = refused(
        lambda: sources.ImageFolder(tmp_path, (3, 3), follow_links=True), InvalidDataError
    )
    assert message == (
        f"{str(tmp_path / 'a/b/c')!r} is a link to {str(tmp_path / 'a')!r}, which it lies in, so "
        "following it would never end; expected links to other folders. Remove it, or say "
        "follow_links=False."
    )


def test_a_folder_without_what_it_needs_is_refused(tmp_path):
    gone = tmp_path / "gone"
    assert refused(lambda: sources.ImageFolder(gone, (3, 3)), InvalidDataError) == (
        f"the path is {str(gone)!r}, which is not a folder; expected one with images. Check it: "
        f"the current folder is {os.getcwd()!r}."
    )
    assert refused(lambda: sources.ImageFolder(tmp_path, (3, 3)), InvalidDataError) == (
        f"{str(tmp_path)!r} has no folder within, whose name would be a class; expected one "
        "folder for each class. For images without classes, say labels=None."
    )
    (tmp_path / "a").mkdir()
    assert refused(lambda: sources.ImageFolder(tmp_path, (3, 3)), InvalidDataError) == (
        f"{str(tmp_path)!r} has no image; expected files that end with .bmp, .gif, .jpeg, .jpg or "
        ".png."
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"labels": "infered"},
            "labels is 'infered' (str); expected 'inferred', None, or a class number for each "
            "image.",
        ),
        (
            {"labels": ["a", "b"]},
            "labels is ['a', 'b'] (list); expected 'inferred', None, or a class number for each "
            "image.",
        ),
        (
            {"labels": [1, 2]},
            "labels has 2 numbers, but FOLDER has 16 images; expected one for each, in the order "
            "of the paths. ImageFolder(path, labels=None).paths lists them.",
        ),
        (
            {"labels": [2**40] * 16},
            "labels has numbers beyond int32; expected class numbers from 0.",
        ),
        (
            {"labels": None, "class_names": ["china"]},
            "class_names were given, but the labels are not inferred from the names of folders; "
            "expected one of both. Leave class_names out.",
        ),
        (
            {"class_names": ["china", "japan"]},
            "class_names is ['china', 'japan'] (list); expected some of the folders in FOLDER, "
            "each once: ['Flower', 'china', 'linked', 'nothing'] (list).",
        ),
        (
            {"class_names": {"china"}},
            "class_names is {'china'} (set); expected some of the folders in FOLDER, each once: "
            "['Flower', 'china', 'linked', 'nothing'] (list).",
        ),
        (
            {"class_names": "china"},
            "class_names is 'china' (str); expected some of the folders in FOLDER, each once: "
            "['Flower', 'china', 'linked', 'nothing'] (list).",
        ),
        (
            {"label_mode": "one-hot"},
            "label_mode is 'one-hot' (str); expected one of 'int', 'categorical', 'binary', None.",
        ),
        (
            {"label_mode": "binary"},
            "label_mode is 'binary' and there are 4 classes; expected 2.",
        ),
        (
            {"label_mode": "categorical", "labels": [1, 3] * 8},
            "label_mode is 'categorical' and labels go from 1 to 3, but there are 2 different "
            "ones; expected numbers from 0 to 1.",
        ),
        (
            {"color_mode": "bgr"},
            "color_mode is 'bgr' (str); expected one of 'grayscale', 'rgb', 'rgba'.",
        ),
        (
            {"interpolation": "gaussian"},
            "interpolation is 'gaussian' (str); expected one of 'area', 'bicubic', 'bilinear', "
            "'lanczos3', 'nearest'.",
        ),
        (
            {"size": 64},
            "size is 64 (int); expected (height, width), or None if all images have one size.",
        ),
        ({"size": (0, 3)}, "size is 0 (int); expected a whole number from 1 up."),
        (
            {"path": 3},
            "path is 3 (int); expected that of a folder: a str or a pathlib.Path.",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
def test_invalid_arguments_are_refused(folder, given, told):
    arguments = {"path": folder, "size": (3, 3)} | given
    message = refused(lambda: sources.ImageFolder(**arguments))
    assert message == told.replace("FOLDER", repr(str(folder)))
