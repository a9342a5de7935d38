"""Defers Ctrl-C while processes and file descriptors change hands.

    with interrupts.deferred():
        process = start()          # no KeyboardInterrupt between starting it
        processes.append(process)  # and recording it
    # a Ctrl-C that came meanwhile is raised here

A signal handler written in Python runs between any two instructions of the main thread. If it
raises there, whatever was just started or opened is lost. Blocking the signal is not enough:
another thread of the process receives it, and the main thread still runs the handler. So the
handlers themselves are replaced for the duration of the block.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["blocked", "deferred", "deliver", "restore", "survive"]


class _Deferral:
    """Replaces the signal handlers, and records the signals that arrive."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self.came: list[int] = []
        self.is_over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.is_over:  # a handler raised while others were restored, so this one is still set
            self.handlers[number](number, frame)
        elif number not in self.came:
            self.came.append(number)

    def begin(self) -> None:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                self.handlers[number] = handler
                signal.signal(number, self)

    def end(self) -> None:
        self.is_over = True
        for number, handler in self.handlers.items():
            if signal.getsignal(number) is self:
                signal.signal(number, handler)


_current: _Deferral | None = None


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Run a block in which no Python signal handler runs; they run after it.

    Keep the block short; code in it that waits for long calls `deliver`. In threads other than the
    main one, where Python signal handlers never run, this does nothing.
    """
    global _current
    if _current is not None or not _is_main_thread():
        yield
        return
    deferral = _Deferral()
    try:
        deferral.begin()
        _current = deferral
        yield
    finally:
        _current = None
        try:
            deferral.end()
        finally:
            _raise_all(deferral.came)


def _raise_all(numbers: list[int]) -> None:
    if numbers:
        try:
            signal.raise_signal(numbers.pop(0))
        finally:
            _raise_all(numbers)


def deliver() -> None:
    """Run the handlers of the signals that have arrived; call it where they may raise."""
    deferral = _current
    if deferral is None or not _is_main_thread():
        return
    while deferral.came:
        number = deferral.came.pop(0)
        deferral.handlers[number](number, None)


def restore() -> None:
    """Restore the handlers in a process that was forked within a block."""
    global _current
    if _current is not None:
        _current.end()
        _current = None


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Keep Ctrl-C from a process started in the block until it ignores the signal itself.

    A new process inherits this thread's mask; `survive` unblocks the signal. Windows has no masks.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def survive() -> None:
    """In a worker: ignore Ctrl-C, which reaches all processes of a terminal: the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, waiting for a child fails
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `blocked`


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident
