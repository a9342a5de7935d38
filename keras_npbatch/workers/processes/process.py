"""A worker process as its parent holds it, and the start of an interpreter that becomes one.

    with Ends() as ends:
        started = start_interpreter(worker.__name__, "main", ends)
        process = ends.process(started.pid, os.pidfd_open(started.pid), started.wait)
    process.kill()
    process.exit_code()      # -9

A process is held by a pidfd, so a signal never reaches another process of the same number.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from keras_npbatch.workers.processes import lifeline, refusals
from keras_npbatch.workers.processes.lifeline import Lifeline
from keras_npbatch.workers.processes.memory import new_segment

__all__ = [
    "ENVIRONMENT",
    "Ends",
    "Process",
    "check_system",
    "ended",
    "flush",
    "interrupts_blocked",
    "start_interpreter",
]

ENVIRONMENT = {
    # A worker makes batches; the accelerators belong to the process that trains the model.
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}
_ENVIRONMENT_UNLESS_SET = {
    # The workers themselves are the parallelism; BLAS threads in each would compete with them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Makes the order of a set of strings the same in all of them.
    "PYTHONHASHSEED": "0",
}


@dataclass(slots=True)
class Process:
    """A worker process."""

    pid: int
    """The process number, for messages."""
    pidfd: int
    """Becomes readable when the process has ended."""
    end: socket.socket
    """The parent's end of the socket between them."""
    _lifeline: Lifeline
    _reap: Callable[[], int]
    _code: int | None = None

    def kill(self) -> None:
        """Send SIGKILL; does nothing if the process has ended."""
        if self._code is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end; return whether it has."""
        if self._code is not None:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def exit_code(self) -> int:
        """The exit code of a process that has ended; -N if signal N ended it.

        The first call fetches it and closes all descriptors of the process.
        """
        if self._code is None:
            self._code = self._reap()
            os.close(self.pidfd)
            self._lifeline.cut()
            self.end.close()
        return self._code


class Ends:
    """What connects a new process to its parent: a socket, and the lifeline that ends it.

    Leaving the `with` closes the new process's ends in this process. If neither `process` nor
    `take` was called, it also closes the parent's ends, which ends any process that was started.
    """

    def __enter__(self) -> Self:
        with refusals.translated():
            self.line = Lifeline()
            try:
                self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            except BaseException:
                self.line.cut()
                raise
        self._are_taken = False
        return self

    def process(self, pid: int, pidfd: int, reap: Callable[[], int]) -> Process:
        """Hand the parent's ends to the process that was started with the other ends."""
        self._are_taken = True
        return Process(pid, pidfd, self._ours, self.line, reap)

    def take(self) -> tuple[socket.socket, Lifeline]:
        """The parent's ends, for a caller that keeps them after the `with`."""
        self._are_taken = True
        return self._ours, self.line

    def __exit__(self, *_: object) -> None:
        self.theirs.close()
        self.line.handed_on()
        if not self._are_taken:
            self._ours.close()
            self.line.cut()


def check_system() -> None:
    """Try the system calls that each worker needs, before any worker is started.

    Raises:
        OSError: if the system refuses one.
    """
    own = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(own, 0)
    finally:
        os.close(own)


def start_interpreter(module: str, function: str, ends: Ends) -> subprocess.Popen[bytes]:
    """Start a new interpreter with this one's options and path.

    It calls `function(socket, lifeline, parent)`: two descriptors, and the number of this process.

    Raises:
        OSError: if the system refuses.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]  # Python ignores others
    end, reader = ends.theirs.fileno(), ends.line.reader
    program = (
        f"import sys; sys.path[:] = {path!a}; from {module} import {function}; "
        f"{function}({end}, {reader}, {os.getpid()})"
    ).encode()
    # In a file: the length of an argument is limited, and that of `sys.path` is not.
    file = new_segment(len(program))
    try:
        os.pwrite(file, program, 0)
        read = f"import os; p = os.read({file}, {len(program)}); os.close({file}); exec(p)"
        # The same options that multiprocessing passes on: -E, -s, -W, -X, ...
        options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        with interrupts_blocked():
            started = subprocess.Popen(
                [sys.executable, *options, "-c", read],
                stdin=subprocess.DEVNULL,
                env=_ENVIRONMENT_UNLESS_SET | os.environ | ENVIRONMENT,
                pass_fds=[end, reader, file],
            )
    finally:
        os.close(file)
    lifeline.hold(reader, started.pid)  # until the new process does so itself
    return started


def ended(pidfd: int) -> int:
    """The exit code of a child that has ended; -9 (SIGKILL) if this process can't learn it."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:  # not our child, or other code has already waited for it
        result = None
    if result is None:
        return -signal.SIGKILL
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Keep Ctrl-C from a process started in the block until it ignores the signal itself.

    A new process inherits this thread's mask; `worker.survive_interrupts` unblocks the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def flush() -> None:
    """Flush stdout and stderr before a fork, else the child would write their buffers again."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
