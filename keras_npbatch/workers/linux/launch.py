"""The start methods of worker processes on Linux: forkserver, spawn, fork.

    launcher = LinuxLauncher("forkserver", modules=[], patience_s=None)
    process = launcher.launch([dataset, board])
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
"""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from keras_npbatch.workers.linux import refusals, worker
from keras_npbatch.workers.linux.fork_server import ForkServer
from keras_npbatch.workers.linux.memory import MemorySegment
from keras_npbatch.workers.linux.process import (
    Ends,
    LinuxProcess,
    check_system,
    ended,
    flush,
    start_interpreter,
    watching,
)
from keras_npbatch.workers.processes import interpreter, interrupts
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["LinuxLauncher"]


class LinuxLauncher:
    """Starts the workers of one pool, and waits for their messages; see `system.Launcher`.

    Args:
        method: how workers are started.
        modules: the modules that the workers are going to import.
        patience_s: how long a process that starts them may take to answer, in seconds; None for a
            minute.
    """

    def __init__(
        self, method: StartMethod, modules: Sequence[str], patience_s: float | None = None
    ) -> None:
        with refusals.translated():
            check_system()
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.strike = partial(os.eventfd_write, self._bell, 1)
        """Makes a `wait` return."""
        # It outlives the workers: its number is not reused while somebody can ring it. At exit
        # nothing closes it: generators that end then ring too.
        weakref.finalize(self, os.close, self._bell).atexit = False
        kinds: dict[StartMethod, Callable[[], _Starter]] = {
            "forkserver": partial(ForkServer, modules, patience_s),
            "spawn": _Spawn,
            "fork": _Fork,
        }
        self._starter = kinds[method]()

    def launch(self, segments: Sequence[MemorySegment]) -> LinuxProcess:
        """Start a new worker, which gets the segments with its first message."""
        process = self._starter.launch()
        process.connect(self._bell, segments)
        return process

    def wait(
        self, processes: Sequence[LinuxProcess], seconds: float | None
    ) -> list[tuple[int, bool]]:
        """Wait for news of the processes: the place of each, and whether it has ended."""
        poll = processes[0].poll
        if len(processes) > 1 or poll is None:
            poll = watching({each for process in processes for each in process.descriptors})
        heard = {number for number, _ in poll.poll(None if seconds is None else seconds * 1000)}
        if self._bell in heard:
            os.eventfd_read(self._bell)
        return [
            (place, process.pidfd in heard)
            for place, process in enumerate(processes)
            if not heard.isdisjoint(process.descriptors[:2])
        ]

    def close(self) -> None:
        """End the process that starts others, if there is one; `launch` starts another."""
        self._starter.close()


class _Starter(Protocol):
    def launch(self) -> LinuxProcess:
        """Start a new worker.

        Raises:
            WorkerStartError: if the system refuses; then nothing of the worker is left behind.
        """

    def close(self) -> None:
        """End whatever was started in addition to the workers."""


class _Spawn:
    def launch(self) -> LinuxProcess:
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
    def launch(self) -> LinuxProcess:
        parent = os.getpid()
        flush()
        with Ends() as ends, refusals.translated():
            with interrupts.blocked():
                pid = os.fork()
                if pid == 0:
                    try:
                        interrupts.restore()
                        os.environ.update(interpreter.ENVIRONMENT)
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
