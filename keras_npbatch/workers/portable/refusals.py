"""Turns the system's refusal of something that worker processes need into an error with advice."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager

from keras_npbatch.workers.processes import refusals
from keras_npbatch.workers.processes.refusals import USE_THREADS

__all__ = ["advice", "translated"]


def translated() -> AbstractContextManager[None]:
    """Turn an OSError in the block into a WorkerStartError that says what to do."""
    return refusals.translated(advice)


def advice(error: OSError) -> str:
    """What the system said, and what to do about it."""
    said = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            f"{said}. Each worker takes several descriptors. Use fewer workers, raise the limit "
            f"(ulimit -n), or {USE_THREADS}"
        )
    if error.filename is not None:
        return refusals.no_interpreter(error, f"Or {USE_THREADS}")
    return f"{said}. Use fewer workers, or {USE_THREADS}"
