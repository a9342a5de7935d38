"""`ImageFolder`: the images of a folder, and their classes.

    folder = ImageFolder("photos", size=(128, 128))
    train = keras_npbatch.ArrayDataset(folder.images, folder.labels, batch_size=32, workers=4)

It finds what `keras.utils.image_dataset_from_directory` finds, and gives them as two leaves of an
`ArrayDataset`, with all that one has: any backend, an exact order, splits by class, samplers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import refuses_unknown_arguments, whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.sources.decoding import CHANNELS, INTERPOLATIONS, Decoding, chosen_decoder
from keras_npbatch.sources.files import Files
from keras_npbatch.sources.image_index import index_images
from keras_npbatch.sources.paths import Paths
from keras_npbatch.sources.words import IMAGE_FOLDER

__all__ = ["ImageFolder", "Images"]

LabelMode: TypeAlias = Literal["int", "categorical", "binary"] | None
"""What labels look like, as Keras names it."""


class Images(Files):
    """Image files, decoded and resized; see `ImageFolder`."""

    def __init__(self, paths: Sequence[str], decoding: Decoding) -> None:
        self.decoding = decoding
        """How files are decoded."""
        shape = None
        if decoding.size is not None:
            shape = (*decoding.size, CHANNELS[decoding.color_mode])
        super().__init__(paths, decoding.array, shape=shape, dtype=np.uint8)

    def __repr__(self) -> str:
        return f"Images({len(self)} files, shape={self.shape[1:]}, {self.decoding})"

    def _read_file(self, path: str, out: npt.NDArray[Any] | None) -> Any:
        return self.decoding.array(path, out)

    def _called(self, row: int) -> str:
        return f"{self.paths[row]!r} (row {row})"

    def _how_to_agree(self, found: np.dtype[Any]) -> str:
        return "Say `size=(height, width)`, which resizes them all."


class ImageFolder:
    """The images of a folder, with classes from the names of the folders within.

    For the same arguments, the files, their order, the classes and the labels are those of
    `keras.utils.image_dataset_from_directory(..., shuffle=False)`. The order is shuffled by the
    dataset, and the data are split by `dataset.split`.

    Images stay bytes: `uint8` from 0 to 255. Put a `keras.layers.Rescaling(1 / 255)` into the
    model. Resizing smooths (as Pillow does, and Keras's does not), so that a large image made small
    has no jagged edges. The orientation that a camera notes (EXIF) is ignored, as in Keras, and of
    an animation only the first image is read.

    Example:

    ```python
    folder = keras_npbatch.sources.ImageFolder("photos", size=(128, 128))
    train, test = keras_npbatch.ArrayDataset(
        folder.images, folder.labels, batch_size=32, workers=4
    ).split(0.8, stratify=folder.labels)
    ```

    Args:
        path: of the folder. With inferred labels, each folder in it is a class, whose images may
            lie at any depth. Files that end with .bmp, .gif, .jpeg, .jpg or .png are images.
        size: height and width to resize to; None if all files have the size of the first.
        labels: `"inferred"`; None for images without classes; or a class number for each image,
            in the order of `paths`.
        label_mode: `"int"`: `labels` are int32 of shape `(num_images,)`; `"categorical"`: float32
            of shape `(num_images, num_classes)`, 1 for the class and 0 for others; `"binary"`:
            float32 of shape `(num_images, 1)`, 0 or 1; None: there are none.
        class_names: the folders that are classes, in their order. By default all, in alphabetical
            order, except hidden ones.
        color_mode: `"rgb"`, `"rgba"` or `"grayscale"`: 3, 4 or 1 channels.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"area"` or `"lanczos3"`.
        follow_links: whether links to folders are followed within a class.
        crop_to_aspect_ratio: cut out the middle of an image that has other proportions than
            `size`, instead of distorting it.
        decoder: `"pillow"`, or `"simplejpeg"` for JPEGs. By default the faster one that is
            installed; both give the same bytes.

    Raises:
        InvalidDataError: if there is no such folder, no folder of a class, or no image.
        InvalidArgumentError: for an invalid argument.
        MissingExtraError: if Pillow is not installed.
    """

    @refuses_unknown_arguments(IMAGE_FOLDER)
    def __init__(
        self,
        path: str | PathLike[str],
        size: tuple[int, int] | None,
        *,
        labels: Literal["inferred"] | Sequence[int] | npt.NDArray[Any] | None = "inferred",
        label_mode: LabelMode = "int",
        class_names: Sequence[str] | None = None,
        color_mode: Literal["grayscale", "rgb", "rgba"] = "rgb",
        interpolation: str = "bilinear",
        follow_links: bool = False,
        crop_to_aspect_ratio: bool = False,
        decoder: Literal["pillow", "simplejpeg"] | None = None,
    ) -> None:
        if not isinstance(path, str | PathLike):
            raise InvalidArgumentError(
                f"path is {describe(path)}; expected that of a folder: a str or a pathlib.Path."
            )
        _one_of("label_mode", label_mode, ("int", "categorical", "binary", None))
        _one_of("color_mode", color_mode, CHANNELS)
        _one_of("interpolation", interpolation, INTERPOLATIONS)
        decoding = Decoding(
            None if size is None else _checked_size(size),
            color_mode,
            interpolation,
            bool(crop_to_aspect_ratio),
            chosen_decoder(decoder),
        )
        self.path = os.path.abspath(os.fspath(path))
        """Of the folder."""
        if label_mode is None:
            labels = None
        index = index_images(self.path, labels, class_names, follow_links)
        self.class_names = index.class_names
        """The name of each class, or None."""
        self.images = Images(index.paths, decoding)
        """The images, uint8 of shape `(num_images, height, width, channels)`: a source."""
        self.labels: npt.NDArray[Any] | None = None
        """The label of each image, or None."""
        if index.labels is not None:
            assert index.class_names is not None
            self.labels = _labels(index.labels, index.class_names, label_mode)

    @property
    def paths(self) -> Paths:
        """The path of each image, as a sequence of `str`."""
        return self.images.paths

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        classes = "no classes" if self.class_names is None else f"{len(self.class_names)} classes"
        decoding = self.images.decoding
        return (
            f"ImageFolder({self.path!r}, {len(self)} images, {classes}, size={decoding.size}, "
            f"color_mode={decoding.color_mode!r}, decoder={decoding.decoder!r})"
        )


def _checked_size(size: Any) -> tuple[int, int]:
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise InvalidArgumentError(
            f"size is {describe(size)}; expected (height, width), or None if all images have one "
            "size."
        )
    height, width = (whole_number("size", length, least=1) for length in size)
    return height, width


def _one_of(name: str, value: Any, known: Any) -> None:
    if not (value is None or isinstance(value, str)) or value not in known:
        names = ", ".join(map(repr, known))
        raise InvalidArgumentError(f"{name} is {describe(value)}; expected one of {names}.")


def _labels(
    numbers: npt.NDArray[np.int32], names: Sequence[str], mode: LabelMode
) -> npt.NDArray[Any]:
    """The labels of images, as `mode` says."""
    if mode == "int":
        return numbers
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise InvalidArgumentError(
            f"label_mode is {mode!r} and labels go from {numbers.min()} to {numbers.max()}, but "
            f"there are {len(names)} different ones; expected numbers from 0 to {len(names) - 1}."
        )
    if mode == "categorical":
        return np.eye(len(names), dtype=np.float32)[numbers]
    if len(names) != 2:
        raise InvalidArgumentError(
            f"label_mode is 'binary' and there are {len(names)} classes; expected 2."
        )
    return numbers[:, np.newaxis].astype(np.float32)
