"""The start methods of worker processes: forkserver, spawn, fork.

    launcher = launcher_for("forkserver", modules=[], patience_s=None)
    process = launcher.launch()
    process.kill()
    process.exit_code()      # -9
    launcher.close()

This module doesn't use `multiprocessing`: its spawn and forkserver import the user's main script
again in each worker, which runs a script that has no `if __name__ == "__main__"`, and only the fork
server learns how a worker exited. Here a worker imports the layers of this package below Keras and
what the user's own classes need, and nothing else.

- `"forkserver"`: a small process forks the workers; see `fork_server`.
- `"spawn"`: a new interpreter for each worker.
- `"fork"`: a copy of this process. On request only: every framework starts threads, and a fork of a
  process with threads may find locks held that nothing will ever release.

Linux only.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol, TypeAlias, get_args

from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.workers.processes import interrupts, refusals, worker
from keras_npbatch.workers.processes.fork_server import ForkServer
from keras_npbatch.workers.processes.process import (
    ENVIRONMENT,
    Ends,
    Process,
    ended,
    flush,
    interrupts_blocked,
    start_interpreter,
)

__all__ = ["Launcher", "StartMethod", "can_launch", "check_start_method", "launcher_for"]

StartMethod: TypeAlias = Literal["forkserver", "spawn", "fork"]


class Launcher(Protocol):
    """Starts the worker processes of one pool.

    All methods are called with interrupts deferred; one that waits for long lets them in.
    """

    def launch(self) -> Process:
        """Start a new worker.

        Raises:
            WorkerStartError: if the system refuses; then nothing of the worker is left behind.
        """

    def close(self) -> None:
        """End whatever was started in addition to the workers."""


def can_launch() -> bool:
    """Whether this system supports worker processes: Linux does, macOS and Windows don't."""
    return hasattr(os, "memfd_create") and hasattr(os, "pidfd_open")


def check_start_method(value: object) -> StartMethod:
    """Check `value` and return it, or the default for None.

    Raises:
        InvalidArgumentError: for any other value, and on systems that lack what processes need.
    """
    if not can_launch():
        raise InvalidArgumentError(
            f"worker processes were asked for (use_multiprocessing=True or start_method=...) on "
            f"{sys.platform}; they need Linux. Use threads: workers=N, use_multiprocessing=False."
        )
    if value is None:
        return "forkserver"
    for known in get_args(StartMethod):
        if value == known:
            method: StartMethod = known
            return method
    raise InvalidArgumentError(
        f"start_method is {describe(value)}; expected one of "
        f"{', '.join(map(repr, get_args(StartMethod)))}, or None for 'forkserver'."
    )


def launcher_for(
    method: StartMethod, modules: Sequence[str], patience_s: float | None = None
) -> Launcher:
    """Make a launcher for a start method.

    Args:
        method: how workers are started.
        modules: the modules that the workers are going to import.
        patience_s: how long a process that starts them may take to answer, in seconds; None for a
            minute.
    """
    kinds: dict[StartMethod, Callable[[], Launcher]] = {
        "forkserver": partial(ForkServer, modules, patience_s),
        "spawn": _Spawn,
        "fork": _Fork,
    }
    return kinds[method]()


class _Spawn:
    def launch(self) -> Process:
        with Ends() as ends, refusals.translated():
            started = start_interpreter(worker.__name__, "main", ends)
            try:
                pidfd = os.pidfd_open(started.pid)
            except OSError:
                started.kill()
                started.wait()
                raise
            return ends.process(started.pid, pidfd, started.wait)

    def close(self) -> None:
        pass


class _Fork:
    def launch(self) -> Process:
        parent = os.getpid()
        flush()
        with Ends() as ends, refusals.translated():
            with interrupts_blocked():
                pid = os.fork()
                if pid == 0:
                    try:
                        interrupts.restore()
                        os.environ.update(ENVIRONMENT)
                        worker.main_of_fork(ends.theirs, ends.line.reader, os.pidfd_open(parent))
                    finally:
                        os._exit(1)
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            return ends.process(pid, pidfd, partial(ended, pidfd))

    def close(self) -> None:
        pass
