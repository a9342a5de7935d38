"""A worker process as its parent holds it, and the start of an interpreter that becomes one.

    with Ends() as ends:
        started = start_interpreter(worker.__name__, "main", ends)
        process = ends.process(started.pid, os.pidfd_open(started.pid), started.wait)
    process.kill()
    process.exit_code()      # -9

A process is held by a pidfd, so a signal never reaches another process of the same number.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from keras_npbatch.workers.linux import lifeline, refusals
from keras_npbatch.workers.linux.lifeline import Lifeline
from keras_npbatch.workers.linux.memory import MemorySegment, map_descriptor, new_descriptor
from keras_npbatch.workers.processes import interpreter, interrupts
from keras_npbatch.workers.processes.messages import MESSAGE_BYTES, Extent, Hello, Said

__all__ = [
    "Ends",
    "LinuxProcess",
    "check_system",
    "ended",
    "flush",
    "start_interpreter",
    "watching",
]


@dataclass(slots=True, eq=False)
class LinuxProcess:
    """A worker process; see `system.Process`."""

    pid: int
    """The process number, for messages."""
    pidfd: int
    """Becomes readable when the process has ended."""
    end: socket.socket
    """The parent's end of the socket between them."""
    _lifeline: Lifeline
    _reap: Callable[[], int]
    _code: int | None = None
    _segments: Sequence[MemorySegment] = ()
    descriptors: tuple[int, ...] = ()
    """The descriptors to watch for news of it."""
    poll: select.poll | None = None
    """Watches them."""

    def connect(self, bell: int, segments: Sequence[MemorySegment]) -> None:
        """Prepare to hear of it.

        Args:
            bell: a further descriptor to watch.
            segments: what it gets with the first message.
        """
        self._segments = segments
        self.descriptors = (self.end.fileno(), self.pidfd, bell)
        self.poll = watching(self.descriptors)

    def greet(self, hello: Hello) -> None:
        """Send the first message, with the segments."""
        descriptors = [segment.descriptor for segment in self._segments]
        with contextlib.suppress(ConnectionError):  # it is dead already: that is noticed later
            socket.send_fds(self.end, [pickle.dumps(hello)], descriptors)

    def send(self, message: bytes) -> None:
        """Send a message; the pool sends so few that they fit into the socket's buffer."""
        with contextlib.suppress(ConnectionError):  # it has died; that is noticed later
            self.end.send(message)

    def hear(self) -> Said | None:
        """Take one message; None if there is none now, or never will be."""
        try:
            message, descriptors = _receive_now(self.end)
        except BlockingIOError:
            return None
        except ConnectionError:
            message = b""
        if not message:
            self.kill()
            return None
        said: Said = pickle.loads(message)
        if isinstance(said, Extent):
            with refusals.translated():
                if not descriptors:  # the system drops those beyond this process's limit
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            (descriptor,) = descriptors
            try:
                said.memory = map_descriptor(descriptor, said.num_bytes)
            finally:
                os.close(descriptor)
        return said

    def hang_up(self) -> None:
        """Ask the process to end."""
        with contextlib.suppress(OSError):
            self.end.shutdown(socket.SHUT_RDWR)

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

    def process(self, pid: int, pidfd: int, reap: Callable[[], int]) -> LinuxProcess:
        """Hand the parent's ends to the process that was started with the other ends."""
        self._are_taken = True
        return LinuxProcess(pid, pidfd, self._ours, self.line, reap)

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
    end, reader = ends.theirs.fileno(), ends.line.reader
    program = interpreter.program(module, function, f"{end}, {reader}, {os.getpid()}").encode()
    # In a file: the length of an argument is limited.
    file = new_descriptor(len(program))
    try:
        os.pwrite(file, program, 0)
        read = f"import os; p = os.read({file}, {len(program)}); os.close({file}); exec(p)"
        with interrupts.blocked():
            started = subprocess.Popen(
                [sys.executable, *interpreter.options(), "-c", read],
                stdin=subprocess.DEVNULL,
                env=interpreter.environment(),
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


def flush() -> None:
    """Flush stdout and stderr before a fork, else the child would write their buffers again."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def watching(descriptors: Iterable[int]) -> select.poll:
    """A poll object that watches the descriptors for something to read."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return poll


def _receive_now(end: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a message without waiting, with the descriptors that came with it.

    `socket.recv_fds` would wait: up to Python 3.12 it ignores its flags.
    """
    numbers = array.array("i")
    message, extras, _, _ = end.recvmsg(
        MESSAGE_BYTES,
        socket.CMSG_SPACE(numbers.itemsize),
        socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
    )
    for level, kind, data in extras:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data)
    return message, numbers.tolist()
