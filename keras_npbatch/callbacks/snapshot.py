"""A snapshot of training in one file, written so that it is there whole or not at all.

    arrays = {"model/0": kernel, "model/1": bias}
    write(path, {"epoch": 3}, arrays)
    facts, arrays = read(path)

The file is an uncompressed zip: `facts.json`, and the bytes of each array. Its directory stands at
its end and each member has a checksum, so that a file that was cut off or changed is noticed.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # makes bfloat16 and its like known to NumPy by name
import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidStateError

__all__ = ["read", "replace_file", "write"]

_FACTS = "facts.json"
_FORMAT = "keras_npbatch snapshot"
_VERSION = 1


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a snapshot to `path`, in the place of one that is there, and see that it is on disk.

    Killed at any point, it leaves the file that was there as it was.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    described = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "facts": facts, "arrays": described})
    with open(unfinished, "wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_FACTS, text)
            for name, array in arrays.items():
                with archive.open(name, "w", force_zip64=True) as member:
                    member.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
    replace_file(unfinished, path)


def replace_file(source: Path, target: Path) -> None:
    """Move a file to the name of another, at once, and see that the names are on disk."""
    os.replace(source, target)
    # Windows opens no directory, some file systems sync none: the names are as safe as they get.
    with contextlib.suppress(OSError):
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def read(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The facts and arrays of a snapshot.

    Raises:
        InvalidStateError: if the file is damaged, or no snapshot at all.
        FileNotFoundError: if there is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(_FACTS))
            if header["format"] != _FORMAT:
                raise KeyError("format")
            if header["version"] != _VERSION:
                raise InvalidStateError(
                    f"{path} has version {header['version']}; this keras_npbatch reads version "
                    f"{_VERSION}. Read it with the keras_npbatch that wrote it, or begin anew."
                )
            arrays = {
                name: np.frombuffer(archive.read(name), np.dtype(dtype)).reshape(shape)
                for name, (dtype, shape) in header["arrays"].items()
            }
            return header["facts"], arrays
    except FileNotFoundError:
        raise
    except InvalidStateError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise InvalidStateError(
            f"{path} is damaged, or not written by keras_npbatch ({type(error).__name__}: "
            f"{error}); expected a snapshot of training. Remove it to begin anew."
        ) from error
