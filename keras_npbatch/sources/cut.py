"""`refuse_cut`: files that have become shorter than their memory maps.

    refuse_cut(mapped, 81920, "data.zarr/c/0/0", "x")

Reading a map beyond the end of its file ends the process (SIGBUS), with no error that says why.
"""

from __future__ import annotations

import mmap

from keras_npbatch.errors import InvalidDataError

__all__ = ["refuse_cut"]


def refuse_cut(mapped: mmap.mmap, num_bytes: int, path: str, leaf: str) -> None:
    """Refuse to read a file that has been cut off since it was mapped.

    Args:
        mapped: its map.
        num_bytes: how long it was.
        path: of the file.
        leaf: what is read from it, for messages.

    Raises:
        InvalidDataError: naming the file.
    """
    if mapped.size() < num_bytes:
        raise InvalidDataError(
            f"{leaf} is in {path!r}, which has {mapped.size()} bytes; expected {num_bytes}, as "
            "when it was opened. Nothing may write to it while the dataset is used: write another "
            "file, then rename it."
        )
