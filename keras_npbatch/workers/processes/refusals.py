"""Turns the system's refusal of something that worker processes need into an error with advice.

with refusals.translated():
    descriptor = os.pidfd_open(pid)     # OSError -> WorkerStartError
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from keras_npbatch.errors import WorkerStartError

__all__ = ["advice", "translated"]

_THREADS = "use threads: use_multiprocessing=False."


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn an OSError in the block into an error that says what to do.

    Raises:
        WorkerStartError: in its place.
    """
    try:
        yield
    except OSError as error:
        raise WorkerStartError(f"worker processes can't be started: {advice(error)}") from error


def advice(error: OSError) -> str:
    """What the system said, and what to do about it."""
    said = error.strerror or str(error)
    if error.filename is not None:
        name = os.fsdecode(error.filename)
        return (
            f"{said}: {name!r}. Workers run in the interpreter that sys.executable names. "
            f"Use start_method='fork', or {_THREADS}"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            f"{said}. Each worker takes several descriptors, and this process may have "
            f"{_limit('RLIMIT_NOFILE')}. Use fewer workers, raise the limit (ulimit -n), or "
            f"{_THREADS}"
        )
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return (
            f"{said}. This user may have {_limit('RLIMIT_NPROC')} processes and threads; a "
            "container or a lack of memory may allow fewer. Use fewer workers, raise the limit "
            f"(ulimit -u), or {_THREADS}"
        )
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL):
        return (
            f"{said}. They need memfd_create, eventfd, pidfd_open and pidfd_send_signal, which a "
            f"sandbox may forbid and an old kernel lacks. Without them, {_THREADS}"
        )
    return f"{said}. Use fewer workers, or {_THREADS}"


def _limit(name: str) -> str:
    import resource  # systems without it have no worker processes

    limit, _ = resource.getrlimit(getattr(resource, name))
    return "any number of" if limit == resource.RLIM_INFINITY else f"{limit:,}"
