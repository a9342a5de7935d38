"""A file becomes shorter while it is a memory map; for a child process, which that would end.

python -m tests.sources.cut_off FOLDER LAYOUT      # writes the error of the next batch
"""

from __future__ import annotations

import os
import sys
from typing import Any

import h5py
import numpy as np

from keras_npbatch.errors import InvalidDataError
from keras_npbatch.sources import Concatenated
from keras_npbatch.sources.sources import as_source

ROWS = np.array([3990, 4])


def opened(path: str, layout: str) -> Any:
    values = np.arange(400_000, dtype="int32").reshape(4000, 100)
    if layout == "npy":
        with open(path, "wb") as file:
            np.save(file, values)
        return Concatenated([path, values])
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(8, 100) if layout == "chunks" else None)
    return h5py.File(path)["x"]


def main(folder: str, layout: str) -> None:
    path = f"{folder}/x"
    source = as_source(opened(path, layout), "x")
    source.read(ROWS, np.empty)
    os.truncate(path, 4096)
    try:
        source.read(ROWS, np.empty)
    except InvalidDataError as error:
        sys.stdout.write(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
