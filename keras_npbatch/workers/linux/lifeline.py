"""A pipe that ends a process: once no write end is open, the kernel kills the read end's holder.

    line = Lifeline()                 # in the parent
    pid = os.fork()
    if pid == 0:
        lifeline.hold(line.reader)    # in the child, which now ends when the parent does
    line.handed_on()                  # in the parent: the child has the read end
    line.cut()                        # kills the child, as the end of the parent does

It works where no code of the child's could: in C code that holds the GIL, or in a stopped process.
(So does `PR_SET_PDEATHSIG`, but that acts when the *thread* that started the child ends, and any
thread may start workers.)

Nothing is ever written to the pipe, so the only event on it is its end. A process forked from the
parent closes its copies of the write ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal

__all__ = ["Lifeline", "hold"]

_held: set[int] = set()
"""The write ends in this process."""


class Lifeline:
    """The parent's side of the pipe."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        _held.add(self._writer)
        self._is_handed_on = False

    def handed_on(self) -> None:
        """Close the read end: the child has its own."""
        if not self._is_handed_on:
            self._is_handed_on = True
            os.close(self.reader)

    def cut(self) -> None:
        """Kill the child. Safe to call twice."""
        self.handed_on()
        if self._writer in _held:
            _held.discard(self._writer)
            os.close(self._writer)


def hold(reader: int, pid: int | None = None) -> None:
    """Make a process end with the pipe: the calling process, or the one with number `pid`."""
    with contextlib.suppress(OSError):  # where a sandbox refuses, the worker's thread watches alone
        fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid() if pid is None else pid)
        fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
    if pid is None and _is_cut(reader):  # it was cut before it was held
        os._exit(1)


def _is_cut(reader: int) -> bool:
    poll = select.poll()
    poll.register(reader, 0)
    return bool(poll.poll(0))


def _close_all() -> None:
    for writer in _held:
        with contextlib.suppress(OSError):
            os.close(writer)
    _held.clear()


os.register_at_fork(after_in_child=_close_all)
