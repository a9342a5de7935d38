"""Worker processes as their parent sees them, and the jobs it has given them.

    member = Member(0, process, sent)
    member.give(job)     # "make this batch"
    member.hear()        # what it says: Extent, Made, Failed; None if there is none

The pool decides which worker does what, and when. This module handles the messages of one worker,
and its end.
"""

from __future__ import annotations

import pickle
import signal
import time
from collections import deque
from functools import partial
from typing import NamedTuple

from keras_npbatch.batches.slots import Leases, Slot
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import WorkerDiedError, describe_rows
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes.messages import Extent, Place, Said, Task
from keras_npbatch.workers.processes.patience import MOST_DEATHS
from keras_npbatch.workers.processes.system import Launcher, Process
from keras_npbatch.workers.processes.work_sent import WorkSent

__all__ = ["Job", "Key", "Member", "end_members"]

_MOST_UNDER_WAY = 16
"""The most tasks at one worker: they fit into a socket's buffer, so sending one never waits."""
_MOST_RETURNED = 500
"""The most slot numbers in one message."""
_GRACE_S = 0.2
"""How long a worker may take to end by itself."""
_KILLED_WITHIN_S = 5.0
"""How long the system may take to end a killed worker."""


class Key(NamedTuple):
    """Identifies a batch."""

    work: Work
    epoch: int
    step: int


class Job:
    """A batch that was requested."""

    __slots__ = (
        "batch",
        "deaths",
        "error",
        "finished",
        "key",
        "member",
        "number",
        "pass_number",
        "wanted",
    )

    def __init__(self, number: int, key: Key, pass_number: int = 0) -> None:
        self.number, self.key, self.pass_number = number, key, pass_number
        self.member: Member | None = None
        """The worker that makes it; None while it is queued."""
        self.batch: Tree = None
        self.error: BaseException | None = None
        self.finished = False
        self.wanted = True
        self.deaths = 0

    def a_worker_died(self, how: str, timed_out: bool) -> None:
        """Count the death; at `MOST_DEATHS` the job is finished, with an error."""
        self.deaths += 1
        if self.deaths == MOST_DEATHS:
            self.error = _died_over(self.key, how, timed_out)
            self.finished = True


class Member:
    """A worker process, as the parent sees it.

    Args:
        index: its row of the board.
        process: the process.
        sent: turns work into bytes.
    """

    def __init__(self, index: int, process: Process, sent: WorkSent) -> None:
        self._sent = sent
        self.index, self.process = index, process
        self.jobs: deque[Job] = deque()
        """The jobs sent to it and not yet answered, in order."""
        self.has_started = False
        """Whether it is known to be ready."""
        self.launched_ns = time.monotonic_ns()
        self.heard_ns = self.launched_ns
        """When it last answered, or received a job while it had none."""
        self.hung: str | None = None
        """How it was found to hang; None if it was not."""
        self.extents: list[Slot] = []
        """Its memory, in the order in which it announced it."""
        self._returned: deque[int] = deque()
        """Slots to give back to it; leases add to it as they end, in any thread."""

    @property
    def has_room(self) -> bool:
        """Whether it can take another job."""
        return len(self.jobs) < _MOST_UNDER_WAY

    def give(self, job: Job) -> None:
        """Send it a job, and give slots back to it."""
        if not self.jobs:
            self.heard_ns = time.monotonic_ns()
        self.jobs.append(job)
        job.member = self
        returned: list[int] = []
        while self._returned and len(returned) < _MOST_RETURNED:
            returned.append(self._returned.popleft())
        work, epoch, step = job.key
        sent = self._sent.dump(work)
        task = Task(job.number, sent, epoch, step, job.pass_number, returned)
        self.process.send(pickle.dumps(task))

    def hear(self) -> Said | None:
        """Take one message; None if there is none now, or never will be."""
        said = self.process.hear()
        if isinstance(said, Extent):
            assert said.memory is not None
            self.extents.append(said.memory)
        return said

    def borrow(self, place: Place, leases: Leases) -> Slot:
        """Memory that the worker lends, and gets back when nothing refers to it any more."""
        memory = self.extents[place.extent][place.start : place.stop]
        # The callback must not refer to the pool, or a kept batch would keep the workers alive.
        return leases.lease(memory, partial(_give_back, self._returned, place.lent))

    def waits_since_ns(self, ready_ns: int) -> int | None:
        """Since when it has owed an answer; None if it owes none.

        Args:
            ready_ns: when it became ready for a job, as recorded by the worker itself.
        """
        return max(self.heard_ns, ready_ns) if self.jobs else None

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it, other than the one that ends a hung worker."""
        return self.hung is None and self.process.exit_code() < 0

    def end_as_hung(self, told: str) -> None:
        """Kill it; `told` says how it ended."""
        self.hung = told
        self.process.kill()

    def how_it_ended(self) -> str:
        """How it ended, for a message; call it once it has."""
        code = self.process.exit_code()
        if self.hung is not None:
            return self.hung
        if code < 0:
            return f"by signal {-code} ({signal.strsignal(-code)})"
        return f"with exit code {code}"


def end_members(members: list[Member], launcher: Launcher) -> None:
    """Ask the workers to exit, then kill those that have not, and close the launcher."""
    for member in members:
        member.process.hang_up()
    until = time.monotonic() + _GRACE_S
    for member in members:
        member.process.ends_within(max(0.0, until - time.monotonic()))
    for member in members:
        member.process.kill()
    for member in members:
        member.process.ends_within(_KILLED_WITHIN_S)
    for member in members:
        member.process.exit_code()
        member.jobs.clear()  # breaks the cycle, else its memory would wait for the collector
    launcher.close()  # after it has told how each ended, or they would stay as zombies


def _give_back(returned: deque[int], number: int, _: Slot) -> None:
    returned.append(number)


def _died_over(key: Key, how: str, timed_out: bool) -> WorkerDiedError:
    rows = key.work.plan.rows(key.epoch, key.step)
    advice = (
        "See what load does with these rows, or give it more time."
        if timed_out
        else "SIGKILL often means that the machine had no memory left: use a smaller batch_size or "
        "fewer workers. Make the batch in this process to see more: "
        f"dataset.set_epoch({key.epoch}); dataset[{key.step}]."
    )
    return WorkerDiedError(
        f"{MOST_DEATHS} worker processes ended while they made the batch of epoch {key.epoch}, "
        f"step {key.step}, rows {describe_rows(rows)}, the last one {how}. {advice}"
    )
