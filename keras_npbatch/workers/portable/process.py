"""A worker process as its parent holds it, and the start of an interpreter that becomes one.

    process = start([dataset, board])
    process.greet(hello)
    process.kill()
    process.exit_code()      # -9, or 1 on Windows

Three things connect the two: a pair of sockets for the messages, the worker's standard input as its
lifeline (nothing more is written to it, so its end is that of the parent), and the descriptors of
the segments. The sockets are never waited for on this side: what does not fit into their buffers
waits here, so neither process can block while the other waits for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from keras_npbatch.workers.portable import refusals, worker
from keras_npbatch.workers.portable.frames import Inbox, framed, prepare
from keras_npbatch.workers.portable.memory import (
    InheritedSegment,
    above_standard,
    new_prefix,
    open_named,
    unlink,
)
from keras_npbatch.workers.processes import interpreter, interrupts
from keras_npbatch.workers.processes.messages import Extent, Hello, Said

__all__ = ["PortableProcess", "Selector", "start"]

Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""`select` takes no descriptor above 1023 on Unix; Windows has no `poll`."""

_ENDS_WITHIN_S = 1.0
"""How long a process may take to end once it has closed its socket."""

_BOOT = """
import socket, sys
end = eval(sys.stdin.buffer.readline() or sys.exit())
def read(size):
    data = b""
    while len(data) < size:
        data += end.recv(size - len(data)) or sys.exit()
    return data
try:
    program = read(int.from_bytes(read(4), "little"))
except ConnectionError:
    sys.exit()
exec(program)
"""
"""What the interpreter does first: the program may be longer than a command line, so it comes
through the socket. If the parent ends meanwhile, it says nothing."""


class PortableProcess:
    """A worker process; see `system.Process`.

    Args:
        started: the process.
        end: the parent's end of the pair of sockets.
        segments: what it has inherited.
    """

    def __init__(
        self,
        started: subprocess.Popen[bytes],
        end: socket.socket,
        segments: Sequence[InheritedSegment],
    ) -> None:
        self.pid = started.pid
        self.end = end
        """The parent's end; it does not wait."""
        self.is_cut = False
        """Whether nothing more will come from it: it ends, or has ended."""
        self._cut_at = math.inf
        self._started = started
        self._inherited = [segment.where for segment in segments]
        self._inbox = Inbox(end)
        self._unsent = bytearray()
        self._prefix, self._mapped = new_prefix(), 0
        self._is_over = False
        self._selector = Selector()
        self._events = selectors.EVENT_READ
        self._selector.register(end, self._events)

    def greet(self, hello: Hello) -> None:
        """Send the first message, with what it needs to map the segments."""
        self.send(pickle.dumps((hello, self._inherited, self._prefix)))

    def send(self, message: bytes) -> None:
        """Send as much of a message as the socket takes now; `flush` sends the rest."""
        self._unsent += framed(message)
        self.flush()

    def flush(self) -> None:
        """Send as much of what is left as the socket takes."""
        if self.is_cut or self._is_over:
            self._unsent.clear()
        with contextlib.suppress(OSError):  # it is full, or the process has died: noticed later
            while self._unsent:
                del self._unsent[: self.end.send(self._unsent)]

    @property
    def has_message(self) -> bool:
        """Whether `hear` has something to tell without looking further."""
        return self._inbox.has_next

    def hear(self) -> Said | None:
        """Take one message; None if there is none now, or never will be."""
        while (message := self._inbox.next()) is None:
            if self.is_cut:
                return None
            try:
                if self._inbox.fill():
                    continue
            except BlockingIOError:
                return None
            except OSError:  # it has died, on Windows in more than one way
                pass
            self._cut()
        said: Said = pickle.loads(message)
        if isinstance(said, Extent):
            name = f"{self._prefix}{self._mapped}"
            try:
                said.memory = open_named(name, said.num_bytes)
            except FileNotFoundError:  # gone with the process: what it made there is made again
                self._inbox.clear()
                self._cut()
                self.kill()
                return None
            unlink(name)
            self._mapped += 1
        return said

    def is_ready(self, seconds: float) -> bool:
        """Wait until something can be received or sent, and send it."""
        self._watch(self._selector)
        ready = bool(self._selector.select(seconds))
        self.flush()
        return ready

    def watch_with(self, selector: selectors.BaseSelector, place: int) -> None:
        """Let a selector wait for it, among others, under the number `place`."""
        selector.register(self.end, self._wanted, place)

    def hang_up(self) -> None:
        """Ask the process to end."""
        self._close_lifeline()
        with contextlib.suppress(OSError):
            self.end.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End it, whatever it is doing; does nothing if it has ended."""
        with contextlib.suppress(OSError):
            self._started.kill()

    def has_ended(self) -> bool:
        """Whether the system has reported its end; never waits."""
        return self._started.poll() is not None

    def wait_for_its_end(self, seconds: float) -> None:
        """Wait for the end of a process that is cut, with the exit code that it has chosen."""
        if not self.ends_within(seconds) and time.monotonic() > self._cut_at + _ENDS_WITHIN_S:
            self.kill()

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end; return whether it has."""
        try:
            self._started.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def exit_code(self) -> int:
        """The exit code of a process that has ended; -N if signal N ended it.

        The first call closes all that connects it, and lets its memory go.
        """
        if not self._is_over:
            self._is_over = True
            self._close_lifeline()
            self._selector.close()
            self.end.close()
            while unlink(f"{self._prefix}{self._mapped}"):  # what was not heard of any more
                self._mapped += 1
        return self._started.wait()

    def _cut(self) -> None:
        self.is_cut = True
        self._cut_at = time.monotonic()

    def _close_lifeline(self) -> None:
        assert self._started.stdin is not None
        with contextlib.suppress(OSError):
            self._started.stdin.close()

    @property
    def _wanted(self) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def _watch(self, selector: selectors.BaseSelector) -> None:
        if self._wanted != self._events:
            self._events = self._wanted
            selector.modify(self.end, self._events)


def start(segments: Sequence[InheritedSegment]) -> PortableProcess:
    """Start a worker.

    Args:
        segments: the memory that it inherits.

    Raises:
        WorkerStartError: if the system refuses; then nothing of the worker is left behind.
    """
    with contextlib.ExitStack() as failed, refusals.translated():
        ours, theirs = map(_above_standard, socket.socketpair())
        failed.callback(ours.close)
        with theirs:
            prepare(ours)
            prepare(theirs)
            ours.setblocking(False)
            started = _interpreter([*(each for s in segments for each in s.descriptors)], theirs)
            failed.callback(_end, started)
            assert started.stdin is not None
            with contextlib.suppress(OSError):  # it has died: that is noticed later
                started.stdin.write(f"{_inherited(theirs, started.pid)}\n".encode())
        process = PortableProcess(started, ours, segments)
        process.send(interpreter.program(worker.__name__, "main", f"end, {os.getpid()}").encode())
        failed.pop_all()
    return process


def _above_standard(end: socket.socket) -> socket.socket:
    if hasattr(end, "share"):  # Windows: its number is not a descriptor
        return end
    return socket.socket(fileno=above_standard(end.detach()))


def _interpreter(descriptors: list[int], theirs: socket.socket) -> subprocess.Popen[bytes]:
    executable, environment = sys.executable, interpreter.environment()
    apart = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    if apart:  # Windows: Ctrl-C does not reach other groups
        descriptors = []
        # Of a virtual environment, it would only start this one, with another process number.
        executable = getattr(sys, "_base_executable", executable) or executable
        if executable != sys.executable:
            environment["__PYVENV_LAUNCHER__"] = sys.executable
    else:
        descriptors = [*descriptors, theirs.fileno()]
    with interrupts.blocked():
        return subprocess.Popen(
            [executable, *interpreter.options(), "-c", f"exec({_BOOT!r})"],
            bufsize=0,
            stdin=subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            creationflags=apart,
        )


def _inherited(theirs: socket.socket, pid: int) -> str:
    """How the process gets its end of the pair, as code."""
    share = getattr(theirs, "share", None)
    if share is not None:  # Windows: it is made for this one process
        return f"socket.fromshare({share(pid)!r})"
    return f"socket.socket(fileno={theirs.fileno()})"


def _end(started: subprocess.Popen[bytes]) -> None:
    assert started.stdin is not None
    with contextlib.suppress(OSError):
        started.stdin.close()
    with contextlib.suppress(OSError):
        started.kill()
    started.wait()
