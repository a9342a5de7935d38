"""The images of a folder and their classes, as `keras.utils.image_dataset_from_directory` has them.

    index = index_images("photos")
    index.paths, index.labels, index.class_names     # in alphabetical order, not shuffled

With `labels="inferred"` each folder within is a class. The images of a class may lie in folders of
its own at any depth.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, InvalidDataError, describe
from keras_npbatch.sources.progress import counted

__all__ = ["FORMATS", "Index", "index_images"]

FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
"""The endings of files that are read, in upper case too."""

_OTHER_IMAGES = frozenset(
    (".avif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".tif", ".tiff", ".webp")
)
"""Endings of images that are left out, with a warning."""


class Index(NamedTuple):
    """Which images a folder has."""

    paths: list[str]
    """In the order of their rows."""
    labels: npt.NDArray[np.int32] | None
    """The class of each image, from 0, of shape `(num_images,)`."""
    class_names: list[str] | None
    """The name of each class."""


def index_images(
    path: str,
    labels: Any = "inferred",
    class_names: Sequence[str] | None = None,
    follow_links: bool = False,
) -> Index:
    """List the images of a folder.

    Args:
        path: of the folder.
        labels: `"inferred"` from the names of folders; None; or a class number for each image, in
            the order of the paths.
        class_names: for inferred labels, the folders that are classes, in their order; None: all,
            in alphabetical order.
        follow_links: whether links to folders are followed within a class.

    Raises:
        InvalidDataError: if there is no such folder, no image, or no folder of a class.
        InvalidArgumentError: for invalid labels or class names.
    """
    if not os.path.isdir(path):
        raise InvalidDataError(
            f"the path is {path!r}, which is not a folder; expected one with images. Check it: "
            f"the current folder is {os.getcwd()!r}."
        )
    is_inferred = isinstance(labels, str) and labels == "inferred"
    if isinstance(labels, str) and not is_inferred:
        raise InvalidArgumentError(
            f"labels is {describe(labels)}; expected 'inferred', None, or a class number for each "
            "image."
        )
    if class_names is not None and not is_inferred:
        raise InvalidArgumentError(
            "class_names were given, but the labels are not inferred from the names of folders; "
            "expected one of both. Leave class_names out."
        )
    names = _class_names(path, class_names) if is_inferred else [""]
    left_out: Counter[str] = Counter()
    with counted(names, f"looking for images in {path}") as folders:
        found = [
            list(_images(os.path.join(path, name), follow_links, left_out)) for name in folders
        ]
    paths = [each for of_class in found for each in of_class]
    if not paths:
        raise InvalidDataError(
            f"{path!r} has no image; expected files that end with {_listed(FORMATS)}."
        )
    if left_out:
        endings = ", ".join(f"{number} {ending}" for ending, number in sorted(left_out.items()))
        warnings.warn(
            f"{path!r} has images that are left out ({endings}): only files that end with "
            f"{_listed(FORMATS)} are read. Convert them, or read them with "
            "keras_npbatch.sources.Files.",
            stacklevel=4,
        )
    if is_inferred:
        numbers = np.repeat(np.arange(len(names), dtype=np.int32), [len(each) for each in found])
        return Index(paths, numbers, names)
    if labels is None:
        return Index(paths, None, None)
    numbers = _checked_labels(labels, len(paths), path)
    return Index(paths, numbers, [str(number) for number in np.unique(numbers).tolist()])


def _class_names(path: str, chosen: Sequence[str] | None) -> list[str]:
    with os.scandir(path) as entries:
        names = sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )
    if not names:
        raise InvalidDataError(
            f"{path!r} has no folder within, whose name would be a class; expected one folder for "
            "each class. For images without classes, say labels=None."
        )
    if chosen is None:
        return names
    has_order = isinstance(chosen, list | tuple)
    if not has_order or len(set(chosen)) < len(chosen) or not set(chosen) <= set(names):
        raise InvalidArgumentError(
            f"class_names is {describe(chosen)}; expected some of the folders in {path!r}, each "
            f"once: {describe(names)}."
        )
    return list(chosen)


def _images(folder: str, follow_links: bool, left_out: Counter[str]) -> Iterator[str]:
    """The images at any depth, by folder, then by name."""
    walk = os.walk(folder, onerror=_raise, followlinks=follow_links)
    seen: list[tuple[str, list[str]]] = []
    for root, folders, files in walk:
        if follow_links:
            _refuse_circle(root, folders)
        seen.append((root, files))
    for root, files in sorted(seen, key=lambda each: each[0]):
        for name in sorted(files):
            ending = os.path.splitext(name)[1].lower()
            if name.lower().endswith(FORMATS):
                yield os.path.join(root, name)
            elif ending in _OTHER_IMAGES:
                left_out[ending] += 1


def _raise(error: OSError) -> None:
    raise error


def _refuse_circle(root: str, folders: list[str]) -> None:
    here = os.path.realpath(root)
    for name in folders:
        path = os.path.join(root, name)
        if os.path.islink(path):
            there = os.path.realpath(path)
            if (here + os.sep).startswith(there.rstrip(os.sep) + os.sep):
                raise InvalidDataError(
                    f"{path!r} is a link to {there!r}, which it lies in, so following it would "
                    "never end; expected links to other folders. Remove it, or say "
                    "follow_links=False."
                )


def _checked_labels(labels: Any, num_images: int, path: str) -> npt.NDArray[np.int32]:
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"labels is {describe(labels)}; expected 'inferred', None, or a class number for each "
            "image."
        )
    if len(numbers) != num_images:
        raise InvalidArgumentError(
            f"labels has {len(numbers)} numbers, but {path!r} has {num_images} images; expected "
            "one for each, in the order of the paths. ImageFolder(path, labels=None).paths lists "
            "them."
        )
    narrow = numbers.astype(np.int32)
    if (narrow != numbers).any():
        raise InvalidArgumentError(
            "labels has numbers beyond int32; expected class numbers from 0."
        )
    return narrow


def _listed(endings: Sequence[str]) -> str:
    return f"{', '.join(endings[:-1])} or {endings[-1]}"
