"""Batches made ahead of the consumer by threads, delivered in order.

    for batch in ThreadedStream(make, tasks=range(100), workers=2, ahead=10):
        ...

The consumer hands out the work: each time it takes a result it submits the next task, so that
`ahead` tasks are under way. A thread runs submitted tasks and nothing else; with none left for
`_IDLE_S` it ends, and the next submission starts another. So no thread ever waits for room in a
queue, and whatever becomes of the consumer (an exception, Ctrl-C, an iterator forgotten in a
traceback), its threads finish what was submitted and are gone. The interpreter waits for them,
for a while, before it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from threading import Lock
from typing import Any, Generic, TypeVar

__all__ = ["Job", "ThreadedStream", "begin", "leading"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_IDLE_S = 0.2
"""How long a thread without work stays; far longer than it takes to start another."""
_ENDED_WITHIN_S = 2.0
"""How long the interpreter waits for threads that are at a task before it ends."""


class ThreadedStream(Generic[Task, Result]):
    """The results of `make(task)` for each task, in the order of the tasks.

    The iterator belongs to one consumer; `make` is called from several threads at once. An
    exception of `make` is raised to the consumer in its turn, and ends the stream.

    Args:
        make: what computes a result.
        tasks: what to compute; advanced by the consumer alone.
        workers: threads at most, from 1 up.
        ahead: results under way or ready at most, from 1 up.
        errand: what a thread does besides, once the first tasks are under way; nobody is told what
            becomes of it.
    """

    def __init__(
        self,
        make: Callable[[Task], Result],
        tasks: Iterable[Task],
        *,
        workers: int,
        ahead: int,
        errand: Job[Any, Any] | None = None,
    ) -> None:
        self._tasks = iter(tasks)
        self._errand = errand
        self._ahead = ahead
        self._make = make
        self._crew = _Crew(workers)
        self._pending: deque[Job[Task, Result]] = deque()
        self._closed = False

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        self._submit_ahead()
        self._submit_errand()
        # Ctrl-C may come at any point: a job is taken off when it is done and can't be lost.
        # Another thread may close the stream at any point: it says so, wakes us, and clears.
        try:
            job = self._pending[0]
        except IndexError:
            raise StopIteration from None
        if not self._closed:
            job.done.acquire()
            job.finish()  # not by `with`: another thread's close may have released it since
        if self._closed:
            raise StopIteration
        with contextlib.suppress(IndexError):
            self._pending.popleft()
        if job.error is not None:
            error, job.error = job.error, None  # breaks the cycle through its traceback
            self.close()
            try:
                raise error
            finally:
                del error
        return job.result

    @property
    def ready(self) -> int:
        """Results that need not be waited for."""
        return leading(not job.done.locked() for job in list(self._pending))

    def close(self) -> None:
        """Forget what is not begun; threads end with the task they are at.

        Safe to call twice, and from another thread: a consumer that waits comes to its end.
        """
        self._closed = True
        self._crew.dismiss()
        for job in list(self._pending):
            job.finish()
        self._pending.clear()

    def _submit_ahead(self) -> None:
        while not self._closed and len(self._pending) < self._ahead:
            try:
                task = next(self._tasks)
            except StopIteration:
                self._crew.finish()
                return
            job = Job(self._make, task)
            self._pending.append(job)
            try:
                self._crew.submit(job)
            except BaseException:  # no thread can be started: the job would wait for ever
                self.close()
                raise

    def _submit_errand(self) -> None:
        errand, self._errand = self._errand, None
        if errand is not None:
            with contextlib.suppress(RuntimeError):  # no thread can be started
                self._crew.submit(errand)


def begin(errand: Job[Any, Any]) -> None:
    """Have a thread of its own do it; nobody is told what becomes of it."""
    crew = _Crew(workers=1)
    with contextlib.suppress(RuntimeError):  # no thread can be started
        crew.submit(errand)
    crew.finish()


def leading(finished: Iterable[bool]) -> int:
    """How many come before the first that is not."""
    return sum(1 for _ in takewhile(bool, finished))


class Job(Generic[Task, Result]):
    """`make(task)`, computed by a thread."""

    __slots__ = ("done", "error", "make", "result", "task")

    result: Result

    def __init__(self, make: Callable[[Task], Result], task: Task) -> None:
        self.make, self.task = make, task
        self.error: BaseException | None = None
        self.done = Lock()
        self.done.acquire()

    def finish(self) -> None:
        """Wakes who waits for the job; it was done, or the stream was closed, or both."""
        # The other one may come first: then the lock is free already, and stays so. No contextlib:
        # a generator may end with the interpreter, after the modules.
        try:  # noqa: SIM105
            self.done.release()
        except RuntimeError:
            pass


class _Crew:
    """The threads of one stream. They refer to the crew, never to the stream or its consumer.

    `_lock` guards `_threads` alone; the rest is done by operations of `deque`, which are atomic. A
    job is in the inbox before anyone looks for a thread that waits, or at how many there are; a
    thread looks into the inbox once it has said that it waits, and under the lock before it leaves.
    So one of both sees the other.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._inbox: deque[Job[Any, Any]] = deque()
        self._waiting: deque[Lock] = deque()
        self._lock = Lock()
        self._threads = 0
        self._started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._finished = False
        self._dismissed = False
        _crews.add(self)

    def submit(self, job: Job[Any, Any]) -> None:
        self._inbox.append(job)
        if self._wake_one():
            return
        with self._lock:
            if self._threads >= self._workers:
                return
            self._threads += 1
        thread = threading.Thread(target=self._work, name="keras_npbatch-worker", daemon=True)
        try:
            thread.start()
            self._started.add(thread)
        except RuntimeError:  # the system has no more threads: those there are will do
            with self._lock:
                self._threads -= 1
                if self._threads == 0:
                    raise

    def finish(self) -> None:
        """Nothing more will be submitted: threads end after what was."""
        self._finished = True
        while self._wake_one():
            pass

    def dismiss(self) -> None:
        """Threads end after the task they are at."""
        self._dismissed = True
        self.finish()

    def wait(self, until: float) -> None:
        """Until they have ended, or it is that late."""
        for thread in list(self._started):
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while True:
            try:
                job = self._inbox.popleft()
            except IndexError:
                if self._wait_for_work():
                    continue
                with self._lock:
                    if self._inbox:
                        continue
                    self._threads -= 1
                    return
            if self._dismissed:
                continue  # nobody asks for what has not begun
            try:
                job.result = job.make(job.task)
            except BaseException as error:  # noqa: BLE001  # handed to the consumer, whatever
                job.error = error
            job.finish()
            del job  # a result must not live on in a waiting thread

    def _wait_for_work(self) -> bool:
        """Whether this thread was chosen for work before its time was over."""
        bell = Lock()  # a new one: whoever chose the last may yet come to ring it
        bell.acquire()
        self._waiting.append(bell)
        if not (self._inbox or self._finished) and bell.acquire(timeout=_IDLE_S):
            return True
        try:
            self._waiting.remove(bell)
        except ValueError:  # it has just been chosen
            return True
        return False

    def _wake_one(self) -> bool:
        try:
            bell = self._waiting.popleft()
        except IndexError:
            return False
        bell.release()
        return True


_crews: weakref.WeakSet[_Crew] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_crews.clear)  # a fork has none of the threads


@atexit.register
def _end_all() -> None:
    # The interpreter ends threads wherever they are; in C++ code that aborts the whole process.
    crews = list(_crews)
    for crew in crews:
        crew.dismiss()
    until = time.monotonic() + _ENDED_WITHIN_S
    for crew in crews:
        crew.wait(until)
