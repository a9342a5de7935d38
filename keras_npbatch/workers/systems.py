"""Which kind of worker processes this system has: those of Linux, or the portable ones.

this_system()                       # a `processes.system.System`
check_start_method(None)            # "forkserver" on Linux, "spawn" elsewhere

`KERAS_NPBATCH_EXECUTOR=portable` chooses the portable ones on Linux too.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.workers.processes.system import StartMethod, System

__all__ = ["VARIABLE", "check_start_method", "this_system"]

VARIABLE = "KERAS_NPBATCH_EXECUTOR"
"""The environment variable that chooses."""


def this_system() -> System:
    """The system that worker processes run on; only its own modules are imported.

    Raises:
        InvalidArgumentError: if the environment asks for one that there is not.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen not in ("", "portable"):
        raise InvalidArgumentError(
            f"the environment variable {VARIABLE} is {chosen!r}; expected 'portable', or none for "
            "what this system has by default."
        )
    return _portable() if chosen or not _is_linux() else _linux()


def check_start_method(value: object) -> StartMethod:
    """Check `value` and return it, or the default for None.

    Raises:
        InvalidArgumentError: for what this system does not have.
    """
    known = this_system().start_methods
    if value is None:
        return known[0]
    for method in known:
        if value == method:
            return method
    here = "" if len(known) > 1 else f", the only one of worker processes on {sys.platform}"
    raise InvalidArgumentError(
        f"start_method is {describe(value)}; expected {'one of ' if len(known) > 1 else ''}"
        f"{', '.join(map(repr, known))}{here}, or None for {known[0]!r}."
    )


def _is_linux() -> bool:
    return sys.platform == "linux" and hasattr(os, "memfd_create") and hasattr(os, "pidfd_open")


@cache
def _linux() -> System:
    from keras_npbatch.workers.linux.system import LinuxSystem

    return LinuxSystem()


@cache
def _portable() -> System:
    from keras_npbatch.workers.portable.system import PortableSystem

    return PortableSystem()
