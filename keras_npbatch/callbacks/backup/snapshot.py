"""A snapshot of training in one file, written completely or not at all.

    arrays = {"model/0": kernel, "model/1": bias}
    write(path, {"epoch": 3}, arrays)
    facts, arrays = read(path)

The file is an uncompressed zip: `facts.json`, and the bytes of each array. The directory is at the
end and each member has a checksum, so a truncated or changed file is detected.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # registers bfloat16 and the like with NumPy by name
import numpy as np
import numpy.typing as npt

from keras_npbatch.callbacks.files import opened, replacing
from keras_npbatch.errors import InvalidStateError, describe

__all__ = ["damaged", "read", "write"]

_FACTS = "facts.json"
_FORMAT = "keras_npbatch snapshot"
_VERSION = 2


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a snapshot to `path`, replacing an existing one, and sync it to disk.

    If the process is killed at any point, the existing file is unchanged.
    """
    described = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "facts": facts, "arrays": described})
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_FACTS, text)
        for name, array in arrays.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The facts and arrays of a snapshot.

    Raises:
        InvalidStateError: if the file is damaged or not a snapshot.
        FileNotFoundError: if the file does not exist.
    """
    try:
        with opened(path) as file, zipfile.ZipFile(file) as archive:
            header = json.loads(_member(archive, _FACTS))
            if header["format"] != _FORMAT:
                raise ValueError(f"format is {describe(header['format'])}")
            version, facts = header["version"], header["facts"]
            if version == _VERSION:
                if not isinstance(facts, dict):
                    raise TypeError(f"facts is {describe(facts)}")
                return facts, {
                    name: _array(archive, name, *described)
                    for name, described in header["arrays"].items()
                }
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # whatever zipfile, json and NumPy may raise for a damaged file
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    raise InvalidStateError(
        f"{path} has version {describe(version)}; this keras_npbatch reads version {_VERSION}. "
        "Read it with the keras_npbatch that wrote it, or start again."
    )


def damaged(path: Path, why: str) -> InvalidStateError:
    """The error for a file that is damaged or not a snapshot of training."""
    return InvalidStateError(
        f"{path} is damaged, or not written by keras_npbatch ({why}); expected a snapshot of "
        "training. Remove it to start again."
    )


def _array(archive: zipfile.ZipFile, name: str, dtype: Any, shape: Any) -> npt.NDArray[Any]:
    found = np.dtype(dtype)
    if not isinstance(dtype, str) or str(found) != dtype or found.hasobject or found.names:
        raise TypeError(f"the dtype of {name} is {describe(dtype)}")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise TypeError(f"the shape of {name} is {describe(shape)}")
    data = _member(archive, name)
    if len(data) != found.itemsize * math.prod(shape):
        raise ValueError(f"{name} has {len(data)} bytes, and shape {shape} and dtype {dtype}")
    return np.frombuffer(data, found).reshape(shape)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        # Decompressed, it could be a thousand times as large as the file.
        raise ValueError(f"{name} is compressed")
    return archive.read(name)
