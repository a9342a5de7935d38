"""The batches of one epoch, made ahead of the consumer by worker processes and delivered in order.

    with Pool(dataset, workers=2) as pool:
        for batch in ProcessStream(pool, Work(dataset.plan), epoch=0, ahead=10):
            ...

The contract is that of `ThreadedStream`. The stream requests `ahead` batches from the pool and
waits for the first of them. Once all of its own are under way, it requests those of the next epoch.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

from keras_npbatch.batches.work import Work
from keras_npbatch.tree import Tree
from keras_npbatch.workers.processes.member import Job, Key
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.threads import leading

__all__ = ["ProcessStream"]


class ProcessStream:
    """The batches of one epoch, in order; the same contract as `ThreadedStream`.

    Args:
        pool: makes them.
        work: how the batches are made.
        epoch: which epoch.
        ahead: the maximum number of batches under way or ready, at least 1.
        follows: whether the next epoch will be requested too.
        first: the first step.
    """

    def __init__(
        self,
        pool: Pool,
        work: Work,
        epoch: int,
        *,
        ahead: int,
        follows: bool = False,
        first: int = 0,
    ) -> None:
        self._pool = pool
        self._ahead = ahead
        epochs = (epoch, epoch + 1) if follows else (epoch,)
        self._keys = (
            Key(work, number, step)
            for number in epochs
            for step in range(first if number == epoch else 0, work.plan.num_batches)
        )
        self._left = work.plan.num_batches - first
        self._pending: deque[Job] = deque()
        self._closed = False
        pool.forget_all_but(work, range(epoch, epoch + 2))
        self._follows = follows if work.training else None
        pool.readers.add(id(self))

    def __iter__(self) -> Iterator[Tree]:
        return self

    def __next__(self) -> Tree:
        self._ask_ahead()
        if self._left == 0 or self._closed:
            self.close()
            raise StopIteration
        try:
            job = self._pending[0]
        except IndexError:  # another thread has just closed the stream
            raise StopIteration from None
        if not self._pool.wait_for(job, lambda: self._closed) or self._closed:
            self.close()
            raise StopIteration
        with contextlib.suppress(IndexError):
            self._pending.popleft()
        self._left -= 1
        if job.error is not None:
            error, job.error = job.error, None  # breaks the cycle through its traceback
            self.close()
            if not self._pool.readers:  # else other streams continue: a batch failed, no worker did
                self._pool.close()
            try:
                raise error
            finally:
                del error
        batch, job.batch = job.batch, None
        return batch

    @property
    def ready(self) -> int:
        """The number of batches that are available without waiting."""
        self._pool.take_answers()
        return leading(job.finished for job in list(self._pending))

    def close(self) -> None:
        """Stop requesting batches; those under way are kept for the next stream.

        Safe to call twice, and from another thread: it ends the iteration of a waiting consumer.
        """
        if not self._closed:
            self._closed = True
            self._pool.end_reading(id(self))
            if self._follows is not None:  # evaluation says nothing of the next epoch of training
                self._pool.expect(self._follows and self._left == 0)
        self._pool.ring()
        while self._pending:
            try:  # noqa: SIM105  # see `Pool.ring`
                self._pool.keep(self._pending.popleft())
            except IndexError:
                pass

    def _ask_ahead(self) -> None:
        while not self._closed and len(self._pending) < self._ahead:
            key = next(self._keys, None)
            if key is None:
                return
            if not self._pool.is_open:
                self._closed = True
                return
            self._pending.append(self._pool.ask(key))
