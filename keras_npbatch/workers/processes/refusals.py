"""Turns the system's refusal of something that worker processes need into an error with advice.

with refusals.translated(advice):
    process = start()     # OSError -> WorkerStartError
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from keras_npbatch.errors import SharedMemoryError, WorkerStartError

__all__ = ["USE_THREADS", "no_interpreter", "refused_memory", "too_much_memory", "translated"]

USE_THREADS = "use threads: use_multiprocessing=False."


@contextlib.contextmanager
def translated(advice: Callable[[OSError], str]) -> Iterator[None]:
    """Turn an OSError in the block into an error that says what to do.

    Args:
        advice: what the system said, and what to do about it.

    Raises:
        WorkerStartError: in its place.
    """
    try:
        yield
    except OSError as error:
        raise WorkerStartError(f"worker processes can't be started: {advice(error)}") from error


def no_interpreter(error: OSError, instead: str) -> str:
    """The advice where the interpreter can't be started.

    Args:
        error: what the system said; it names the file.
        instead: what else to do.
    """
    said, name = error.strerror or str(error), os.fsdecode(error.filename)
    return f"{said}: {name!r}. Workers run in the interpreter that sys.executable names. {instead}"


def refused_memory(
    num_bytes: int, error: OSError, advice: Callable[[OSError], str]
) -> SharedMemoryError:
    """The error for shared memory that the system refuses."""
    if error.errno in (errno.ENOMEM, errno.ENOSPC, errno.EFBIG, errno.EOVERFLOW):
        return too_much_memory(num_bytes, f"the system said: {error.strerror}")
    return SharedMemoryError(
        f"worker processes asked for shared memory, and the system said: {advice(error)}"
    )


def too_much_memory(num_bytes: int, why: str) -> SharedMemoryError:
    """The error for more shared memory than there is."""
    return SharedMemoryError(
        f"worker processes asked for {num_bytes / 1e6:,.0f} MB of shared memory, and {why}. Use a "
        "smaller batch_size or max_queue_size, keep large data in a file (np.load(..., "
        "mmap_mode='r'), HDF5, Zarr), or use threads: use_multiprocessing=False."
    )
