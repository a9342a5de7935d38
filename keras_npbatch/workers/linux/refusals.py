"""Turns the system's refusal of something that worker processes need into an error with advice.

with refusals.translated():
    descriptor = os.pidfd_open(pid)     # OSError -> WorkerStartError
"""

from __future__ import annotations

import errno
import resource
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
            f"{said}. Each worker takes several descriptors, and this process may have "
            f"{_limit('RLIMIT_NOFILE')}. Use fewer workers, raise the limit (ulimit -n), or "
            f"{USE_THREADS}"
        )
    if error.filename is not None:
        return refusals.no_interpreter(error, f"Use start_method='fork', or {USE_THREADS}")
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return (
            f"{said}. This user may have {_limit('RLIMIT_NPROC')} processes and threads; a "
            "container or a lack of memory may allow fewer. Use fewer workers, raise the limit "
            f"(ulimit -u), or {USE_THREADS}"
        )
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL):
        return (
            f"{said}. They need memfd_create, eventfd, pidfd_open and pidfd_send_signal, which a "
            "sandbox may forbid and an old kernel lacks. Without them, set "
            f"KERAS_NPBATCH_EXECUTOR=portable, or {USE_THREADS}"
        )
    return f"{said}. Use fewer workers, or {USE_THREADS}"


def _limit(name: str) -> str:
    limit, _ = resource.getrlimit(getattr(resource, name))
    return "any number of" if limit == resource.RLIM_INFINITY else f"{limit:,}"
