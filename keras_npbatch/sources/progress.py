"""What takes longer than two seconds shows a bar on a terminal.

    with counted(checks, "checking Slides") as each:     # how far a loop is
        for check in each:
            check()
    with waiting("splitting 10,000,000 rows"):           # that something goes on
        parts = np.argsort(keys)

Where standard error is not a terminal (a log, a notebook, a test) nothing is written.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["counted", "waiting"]

_Item = TypeVar("_Item")

_AFTER_S = 2.0
"""What is over sooner shows nothing."""


@contextmanager
def counted(items: Sequence[_Item], what: str) -> Iterator[Iterable[_Item]]:
    """Items to go through; a bar shows how many are done.

    The bar goes away at the end of the `with`, whatever ends it.

    Args:
        items: what to go through.
        what: what is done, such as "checking Slides".
    """
    if not _is_terminal():
        yield items
        return
    bar = _Bar(what, len(items))
    try:
        yield bar.each(items)
    finally:
        bar.close()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A bar without a count, for what can't be counted.

    Args:
        what: what is done, such as "splitting 10,000,000 rows".
    """
    if not _is_terminal():
        yield
        return
    bar = _Bar(what, None)
    try:
        yield
    finally:
        bar.close()


def _is_terminal() -> bool:
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):  # a program without a console, or that has closed it
        return False


class _Bar:
    """A bar that appears after a while, even if the first item takes forever; then it goes away.

    A timer's thread lets it appear, and the thread of the loop moves and ends it: under a lock.
    """

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total, self._done = what, total, 0
        self._lock = threading.Lock()
        self._shown: Any = None
        self._task: Any = None
        self._is_closed = False
        self._timer = threading.Timer(_AFTER_S, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        with self._lock:
            console = Console(stderr=True)
            if self._is_closed or console.is_dumb_terminal:
                return
            text = TextColumn("{task.description}", markup=False)
            count = () if self._total is None else (MofNCompleteColumn(),)
            self._shown = Progress(
                *(text, BarColumn(), *count, Elapsed()),
                console=console,
                transient=True,
                # What user code prints meanwhile goes where it would go without the bar.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._shown.add_task(self._what, total=self._total, completed=self._done)
            self._shown.start()

    def each(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items; one is done when the next is asked for."""
        for item in items:
            yield item
            with self._lock:
                self._done += 1
                if self._shown is not None:
                    self._shown.update(self._task, completed=self._done)

    def close(self) -> None:
        """Remove the bar; nothing stays on the terminal, and no thread goes on."""
        self._timer.cancel()
        with self._lock:
            self._is_closed = True
            if self._shown is not None:
                self._shown.stop()
        self._timer.join()
