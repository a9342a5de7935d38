"""Batches that threads make ahead of the consumer, delivered in order.

    for batch in ThreadedStream(make, tasks=range(100), workers=2, ahead=10):
        ...

The consumer hands out the work: each time it takes a result, it submits the next task, so that
`ahead` tasks are under way. A thread runs submitted tasks and nothing else. After `_IDLE_S` without
a task it ends, and the next submission starts another. So no thread ever waits for room in a queue,
and whatever happens to the consumer (an exception, Ctrl-C, an iterator kept alive by a traceback),
its threads finish what was submitted and end. On exit, the interpreter waits for them for up to
`_ENDED_WITHIN_S`.
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
"""How long a thread waits for work before it ends; far longer than starting another takes."""
_ENDED_WITHIN_S = 2.0
"""How long the interpreter waits on exit for threads that are running a task."""


class ThreadedStream(Generic[Task, Result]):
    """The results of `make(task)` for each task, in the order of the tasks.

    The iterator belongs to one consumer; `make` is called from several threads at once. An
    exception from `make` reaches the consumer when its turn comes, and ends the stream.

    Args:
        make: computes a result.
        tasks: what to compute; only the consumer advances it.
        workers: the maximum number of threads, at least 1.
        ahead: the maximum number of results under way or ready, at least 1.
        errand: an extra job for a thread, submitted after the first tasks; its outcome is ignored.
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
        # Ctrl-C may come at any point: a job leaves the queue only when it is done, so none is
        # lost. Another thread may close the stream at any point: it sets `_closed`, wakes this
        # thread, then clears the queue.
        try:
            job = self._pending[0]
        except IndexError:
            raise StopIteration from None
        if not self._closed:
            job.done.acquire()
            job.finish()  # not `with`: a close by another thread may have released it meanwhile
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
        """The number of results that are available without waiting."""
        return leading(not job.done.locked() for job in list(self._pending))

    def close(self) -> None:
        """Drop the tasks that have not started; each thread ends after its current task.

        Safe to call twice, and from another thread: it ends the iteration of a waiting consumer.
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
            except BaseException:  # no thread can be started: the job would wait forever
                self.close()
                raise

    def _submit_errand(self) -> None:
        errand, self._errand = self._errand, None
        if errand is not None:
            with contextlib.suppress(RuntimeError):  # no thread can be started
                self._crew.submit(errand)


def begin(errand: Job[Any, Any]) -> None:
    """Run `errand` in a thread of its own; its outcome is ignored."""
    crew = _Crew(workers=1)
    with contextlib.suppress(RuntimeError):  # no thread can be started
        crew.submit(errand)
    crew.finish()


def leading(finished: Iterable[bool]) -> int:
    """The number of true values before the first false one."""
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
        """Wake the thread that waits for this job: it is done, the stream is closed, or both."""
        # On the second call the lock is already free and stays free. No contextlib: a generator
        # may be finalised at interpreter exit, when modules are already gone.
        try:  # noqa: SIM105
            self.done.release()
        except RuntimeError:
            pass


class _Crew:
    """The threads of one stream. They refer to the crew, never to the stream or its consumer.

    `_lock` guards `_threads` only; everything else uses operations of `deque`, which are atomic.
    `submit` puts the job into the inbox before it looks for a waiting thread or reads the number of
    threads. A thread checks the inbox after it has registered as waiting, and again under the lock
    before it ends. So at least one of the two sees the other.
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
        except RuntimeError:  # the system allows no more threads: the existing ones are enough
            with self._lock:
                self._threads -= 1
                if self._threads == 0:
                    raise

    def finish(self) -> None:
        """Let the threads end once all submitted jobs are done; no more will be submitted."""
        self._finished = True
        while self._wake_one():
            pass

    def dismiss(self) -> None:
        """Let each thread end after its current task."""
        self._dismissed = True
        self.finish()

    def wait(self, until: float) -> None:
        """Wait until the threads have ended, or until the time `until` (monotonic, in seconds)."""
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
                continue  # nobody wants the jobs that have not started
            try:
                job.result = job.make(job.task)
            except BaseException as error:  # noqa: BLE001  # the consumer gets it, whatever it is
                job.error = error
            job.finish()
            del job  # a waiting thread must not keep a result alive

    def _wait_for_work(self) -> bool:
        """Wait up to `_IDLE_S`; return whether this thread was chosen for work."""
        bell = Lock()  # a new one: the thread that took the previous bell may still ring it
        bell.acquire()
        self._waiting.append(bell)
        if not (self._inbox or self._finished) and bell.acquire(timeout=_IDLE_S):
            return True
        try:
            self._waiting.remove(bell)
        except ValueError:  # this thread has just been chosen
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
    os.register_at_fork(after_in_child=_crews.clear)  # the threads don't exist in a fork


@atexit.register
def _end_all() -> None:
    # On exit, the interpreter kills threads wherever they are; within C++ code that aborts the
    # whole process.
    crews = list(_crews)
    for crew in crews:
        crew.dismiss()
    until = time.monotonic() + _ENDED_WITHIN_S
    for crew in crews:
        crew.wait(until)
