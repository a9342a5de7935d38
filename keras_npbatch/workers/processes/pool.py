"""A pool of worker processes that make batches.

    with Pool(dataset, workers=2) as pool:
        for epoch in range(10):
            for batch in ProcessStream(pool, Work(dataset.plan), epoch, ahead=10):
                ...

A pool lives as long as training does: the same processes, the dataset sent once. A batch is a
function of (plan, epoch, step), so a worker is told no more than that, and a batch whose worker
died is simply asked of another.

No thread of the parent's is needed: the consumer hands out the work and reads the answers when it
asks for a batch. Only a few tasks wait at one worker, so neither side can block on a full socket
while the other waits for it.

Batches that are made but not asked for are kept: a stream that is left early and begun again, or
the next epoch, whose first batches a stream asks for when its own are all under way, finds them.

Workers that nobody asks for a while are ended (`rest`), and started again when somebody does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.slots import Leases
from keras_npbatch.batches.work import Work
from keras_npbatch.workers.processes import failures, interrupts, packing
from keras_npbatch.workers.processes.member import Job, Key, Member, end_members
from keras_npbatch.workers.processes.messages import BOARD_BYTES, STARTING, Extent, Failed, Hello
from keras_npbatch.workers.processes.patience import Patience
from keras_npbatch.workers.processes.refusals import too_much_memory
from keras_npbatch.workers.processes.sending import Package
from keras_npbatch.workers.processes.system import Segment, StartMethod
from keras_npbatch.workers.processes.work_sent import WorkSent
from keras_npbatch.workers.systems import check_start_method, this_system

__all__ = ["Pool"]

_IDLE_S = 1.5
"""How long workers stay when no stream is open and none is expected."""
_UNUSED_S = 30.0
"""How long they stay otherwise: a step or a validation may take long, and a stream may be held by
the traceback of a call that has failed."""


class Pool:
    """Worker processes of one dataset.

    Any thread may call any method: `_lock` guards all tables, and one thread at a time reads
    answers, for all. Whatever goes wrong in between (Ctrl-C may come at any point) closes the pool.

    Args:
        dataset: is sent to the workers, once.
        workers: how many.
        start_method: how they are started; None: as the system does it by default.
        timeout_s: a worker that owes an answer for longer is ended, as if it had died. The start of
            a worker may take three times as long, at least 3 seconds (5 with "spawn"), another try
            twice that.
        most_bytes: the most memory that its arrays may take, which all workers share; None: any.

    Raises:
        UnsendableError: if something in the dataset can't be sent, naming it by its path.
        SharedMemoryError: if its arrays take more memory than there is, or than allowed.
        WorkerStartError: if the system refuses what the workers need.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        workers: int,
        start_method: StartMethod | None = None,
        timeout_s: float | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self.readers: set[int] = set()
        """The streams that are open, each by its `id`."""
        self.stays = False
        """Whether its workers stay, however long nobody asks for a batch."""
        self.changed = threading.Event()
        """Set whenever `rests_in_s` may have become less."""
        self.num_workers = workers
        self._expects = False
        self._used_s = time.monotonic()
        method = check_start_method(start_method)
        self._patience = Patience(timeout_s, method)
        self._lock = threading.RLock()
        self._leases = Leases()
        self._members: list[Member] = []
        self._backlog: deque[Job] = deque()
        self._kept: dict[Key, Job] = {}
        self._jobs_made = 0
        self._passes: dict[tuple[Work, int], int] = {}
        self._passes_begun = 0
        self._closing = False
        self._owner = os.getpid()
        opened = contextlib.ExitStack()
        # At exit and in garbage collections too: it takes no lock.
        self._end = weakref.finalize(self, _end_all, opened, self._owner)
        try:
            self._open(opened, dataset, workers, method, most_bytes)
        except BaseException:
            with interrupts.deferred():
                self._end()
            raise

    def _open(
        self,
        opened: contextlib.ExitStack,
        dataset: Any,
        workers: int,
        method: StartMethod,
        most_bytes: int | None,
    ) -> None:
        opened.callback(self.changed.set)
        system = this_system()
        self._sent = WorkSent(core_of(dataset).plan)

        def new_segment(num_bytes: int, **how: bool) -> Segment:
            if most_bytes is not None and num_bytes > most_bytes:
                raise too_much_memory(num_bytes, f"{most_bytes / 1e6:,.0f} MB are allowed")
            return system.new_segment(num_bytes, **how)

        self._package = Package.of(dataset, opened, new_segment)
        with interrupts.deferred():
            board = system.new_segment(workers * BOARD_BYTES)
            opened.callback(board.close)
            self._board = board.map().view(np.int64).reshape(workers, 2)
            self._board[:] = STARTING, 0
            self._segments = (self._package.segment, board)
            modules = self._package.modules
            self._launcher = system.launcher(method, modules, self._patience.start_s)
            self._strike = self._launcher.strike
            opened.callback(end_members, self._members, self._launcher)
        self._launch_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._end.alive and not self._closing and os.getpid() == self._owner

    @property
    def has_started(self) -> bool:
        """Whether all of its workers have unpacked the dataset."""
        return self.is_open and bool(self._members) and bool((self._board[:, 0] != STARTING).all())

    @property
    def pids(self) -> list[int]:
        """The process numbers of the workers."""
        return [member.process.pid for member in self._members]

    def close(self) -> None:
        """End the workers. Safe to call twice, and from another thread."""
        if os.getpid() != self._owner:
            return
        if not self._end.alive:
            with self._lock:  # another thread may be at it
                return
        self._closing = True
        self.ring()
        with self._lock, interrupts.deferred():  # an end that is interrupted is not begun again
            self._end()
            self._kept.clear()
            self._backlog.clear()

    # ---------------------------------------------------------------- rest

    def claim(self) -> bool:
        """Whether it is open, and stays so for long enough to open a stream."""
        with self._lock:
            self._used_s = time.monotonic()
            return self.is_open

    def end_reading(self, reader: int, now: Callable[[], float] = time.monotonic) -> None:
        """A stream has been closed."""
        self.readers.discard(reader)
        self._used_s = now()  # by an argument: a generator may end after modules have
        self.changed.set()

    def expect(self, more: bool) -> None:
        """Whether somebody will ask for the next epoch."""
        self._expects = more
        self.changed.set()

    @property
    def rests_in_s(self) -> float:
        """How many seconds its workers stay without a request before they rest."""
        if self.stays:
            return _UNUSED_S
        limit_s = _UNUSED_S if self.readers or self._expects else _IDLE_S
        return self._used_s + limit_s - time.monotonic()

    def rest(self) -> None:
        """End the workers if all are idle; a request starts others. With no stream open, close."""
        if not self._lock.acquire(blocking=False):  # somebody waits for a batch
            self._used_s = time.monotonic()
            return
        try:
            if self.rests_in_s > 0:  # somebody has asked just now
                return
            if not self.readers or not self.is_open:
                self.close()
                return
            self.take_answers()
            if not any(member.jobs for member in self._members):  # none is at work
                self._end_workers()
        finally:
            self._used_s = time.monotonic()
            self._lock.release()

    def _end_workers(self) -> None:
        with interrupts.deferred():
            end_members(self._members, self._launcher)
            self._members.clear()
        self._board[:] = STARTING, 0

    # ---------------------------------------------------------------- jobs

    def ask(self, key: Key) -> Job:
        """Have a batch made, or find it made."""
        self._used_s = time.monotonic()
        with self._lock:
            job = self._kept.pop(key, None)
            if job is None:
                job = Job(self._jobs_made, key, self._pass_of(key))
                self._jobs_made += 1
                self._backlog.append(job)
                if self.is_open:
                    self._feed_or_close()
            return job

    def keep(self, job: Job) -> None:
        """Keep a job that nobody waits for: somebody may ask for the same batch."""
        # Without waiting for the lock: a thread that reads may hold it for long.
        if self._lock.acquire(blocking=False):
            try:
                if self.is_open:
                    self._kept[job.key] = job
                    return
            finally:
                self._lock.release()
        job.wanted = False

    def forget_all_but(self, work: Work, epochs: range) -> None:
        """Drop the kept batches, of training or of the others, that nobody will ask for.

        They are of other epochs or plans, or come with other figures.
        """
        with self._lock:
            for key in list(self._kept):
                is_asked_for = key.work == work and key.epoch in epochs
                if bool(key.work.training) == bool(work.training) and not is_asked_for:
                    self._kept.pop(key).wanted = False
            begun = {(key.work, key.epoch) for key in self._kept}
            self._passes = {key: number for key, number in self._passes.items() if key in begun}

    def _pass_of(self, key: Key) -> int:
        """The number of the pass over the data in which a batch is read; a new one, if it is new.

        If batches of an epoch are kept when its stream opens, its pass has begun with them.
        """
        found = self._passes.get(key[:2])
        if found is None:
            self._passes_begun += 1
            found = self._passes[key[:2]] = self._passes_begun
        return found

    def wait_for(self, job: Job, is_over: Callable[[], bool]) -> bool:
        """Wait until a job is finished; False if the pool was closed, or all is over, first.

        Args:
            job: what is waited for.
            is_over: asked whenever anything happens; `ring` makes something happen.
        """
        while not job.finished:
            with self._lock:
                if job.finished:
                    break
                if not self.is_open or is_over():
                    return False
                try:
                    self._read(job)
                except BaseException:
                    self.close()
                    raise
        return True

    def ring(self) -> None:
        """Wake a thread that waits. Uses no module: at exit, generators may end after modules."""
        try:  # noqa: SIM105
            self._strike()
        except BlockingIOError:  # it rings already, 2**64 times
            pass

    def take_answers(self) -> None:
        """Read what workers have sent so far, without waiting."""
        if not self._lock.acquire(blocking=False):  # another thread is reading
            return
        try:
            if self.is_open:
                for member in self._members:
                    while self._receive(member):
                        pass
        except BaseException:
            self.close()
            raise
        finally:
            self._lock.release()

    # ---------------------------------------------------------------- inside, under the lock

    def _launch_all(self) -> None:
        for index in range(self.num_workers):
            self._launch(index)

    def _launch(self, index: int) -> None:
        with interrupts.deferred():
            process = self._launcher.launch(self._segments)
            self._members[index : index + 1] = [Member(index, process, self._sent)]
        dataset, board = self._segments
        process.greet(Hello(index, dataset.num_bytes, board.num_bytes))

    def _feed_or_close(self) -> None:
        try:
            self._feed()
        except BaseException:
            self.close()
            raise

    def _feed(self) -> None:
        """Hand out waiting jobs, each to the worker with the fewest that has started."""
        if self._backlog and not self._members:
            self._launch_all()
        while self._backlog:
            member = self._least_busy()
            if not member.has_room:
                return
            member.give(self._backlog.popleft())

    def _least_busy(self) -> Member:
        # The first job in line is waited for, and to start a worker may take a second.
        for member in self._members:
            if not member.has_started:
                member.has_started = self._board[member.index, 0] != STARTING
        started = [each for each in self._members if each.has_started and each.has_room]
        return min(started or self._members, key=_jobs)

    def _read(self, job: Job) -> None:
        """Wait until something is heard of a job, and take what is there.

        Only its own worker is listened to: each answer of another would wake this thread, and on
        few cores take the place of the worker that is waited for.
        """
        if not self._members:  # they rest
            self._feed()
        members = list(self._members) if job.member is None else [job.member]
        processes = [member.process for member in members]
        news = self._launcher.wait(processes, self._patience.look_s)
        if self._closing:
            return
        for place, has_ended in news:
            member = members[place]
            # Of a worker that has ended, all that it had still sent.
            while self._receive(member) and has_ended:
                pass
            if has_ended:
                self._bury(member)
        if self._patience.batch_s is not None:
            for member in self._members:
                if self._end_if_it_hangs(member):
                    break  # those that start at the same time now have more of it
        self._feed()

    def _receive(self, member: Member) -> bool:
        """Take one message; False if there is none, or never will be."""
        answer = member.hear()
        if answer is None or isinstance(answer, Extent):
            return answer is not None
        self._patience.note_start()
        member.heard_ns = time.monotonic_ns()
        memories = [member.borrow(place, self._leases) for place in answer.places]
        inside = answer.message
        if inside is None:
            inside = memories.pop().tobytes()
        if isinstance(answer, Failed) and answer.number == STARTING:
            self._fail_everything(failures.restore(inside))
            return True
        job = member.jobs.popleft()
        assert job.number == answer.number
        if isinstance(answer, Failed):
            job.error = failures.restore(inside)
        elif job.wanted:
            job.batch = packing.unpack(inside, memories)
        job.finished = True
        return True

    def _bury(self, member: Member) -> None:
        """Replace a worker that has ended, and put its jobs first in line."""
        with interrupts.deferred():
            how = member.how_it_ended()
        at_work = self._board[member.index, 0]
        self._board[member.index] = STARTING, 0
        for job in reversed(member.jobs):
            if job.number == at_work:
                job.a_worker_died(how, member.hung is not None)
            if not job.finished:
                job.member = None
                self._backlog.appendleft(job)
        member.jobs.clear()
        if at_work == STARTING:
            self._patience.note_failed_start(
                how, killed=member.was_killed, hung=member.hung is not None
            )
        else:
            self._patience.note_start()
        self._launch(member.index)

    def _end_if_it_hangs(self, member: Member) -> bool:
        at_work, since_ns = self._board[member.index].tolist()
        waits_since_ns: int | None
        timeout_s = self._patience.batch_s
        if at_work == STARTING:
            limit_s, waits_since_ns = self._patience.start_s, member.launched_ns
            told = f"after {limit_s} seconds in which it was not ready (timeout={timeout_s})"
        else:
            limit_s, waits_since_ns = timeout_s, member.waits_since_ns(since_ns)
            told = f"after no progress for timeout={timeout_s} seconds"
        if limit_s is None or waits_since_ns is None:
            return False
        if time.monotonic_ns() - waits_since_ns <= limit_s * 1e9:
            return False
        heard_ns = member.heard_ns
        while self._receive(member):  # an answer may be there that nobody has waited for
            pass
        if member.heard_ns != heard_ns:
            return False
        member.end_as_hung(told)
        return True

    def _fail_everything(self, error: BaseException) -> None:
        self.close()
        raise error


def _jobs(member: Member) -> int:
    return len(member.jobs)


def _end_all(opened: contextlib.ExitStack, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of the owner: its workers are not ours to end
        with interrupts.deferred():  # in a garbage collection too
            opened.close()
