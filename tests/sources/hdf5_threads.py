"""Four threads read chunks of an HDF5 file, beside one with h5py; for a child process.

python -m tests.sources.hdf5_threads FILE
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from keras_npbatch.sources.hdf5 import RawChunks

CHUNKS, ROWS, WIDTH = 2500, 8, 100


def values() -> np.ndarray:
    """What the file has."""
    return np.arange(CHUNKS * ROWS * WIDTH, dtype="float32").reshape(-1, WIDTH)


def main(path: str) -> None:
    expected = values()
    with h5py.File(path) as file:
        raw = RawChunks(file["x"], False)

        def read(seed: int) -> None:
            rows = np.empty((ROWS, WIDTH), np.float32)
            for chunk in np.random.default_rng(seed).permutation(CHUNKS):
                first = int(chunk) * ROWS
                if seed:
                    assert raw.read(first, first + ROWS, rows)
                else:
                    rows[...] = file["x"][first : first + ROWS]
                assert (rows == expected[first : first + ROWS]).all()

        with ThreadPoolExecutor(5) as threads:
            list(threads.map(read, range(5)))


if __name__ == "__main__":
    main(sys.argv[1])
