"""`Worked`: batches made by workers: none, threads, or processes that live from call to call.

stream = dataset._stream(plan, epoch=0)     # the batches of an epoch, in order
dataset.close()                             # end the workers, let their memory go
"""

from __future__ import annotations

import math
import warnings
import weakref
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.parts import ClassWeight, Training
from keras_npbatch.batches.summary import Summarise
from keras_npbatch.errors import InvalidArgumentError, told
from keras_npbatch.plan.plan import Plan
from keras_npbatch.workers.inline import InlineStream
from keras_npbatch.workers.processes.code import Code
from keras_npbatch.workers.processes.launch import StartMethod, check_start_method
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.stream import ProcessStream
from keras_npbatch.workers.service import Stream
from keras_npbatch.workers.threads import Job, ThreadedStream, begin

__all__ = ["MAX_WORKERS", "Worked"]

MAX_WORKERS = 1024

_SLOTS_BESIDE_QUEUE = 4
"""Batches in the hands of the model and of the workers, beside those that wait in the queue."""

_NEVER_SENT = frozenset(
    (
        "_asked_for_rows",
        "_clock",
        "_is_agreed",
        "_iterations",
        "_pool",
        "_sent",
        "_sessions",
        "_slots",
        "_streams",
        "_times_entered",
    )
)
"""Attributes that change as a dataset is used: a worker has its own, or needs none."""


class Worked(Batches):
    """What makes the batches of a `BatchDataset`; `workers` and the like are Keras's."""

    workers: int
    use_multiprocessing: bool
    max_queue_size: int
    _streams: weakref.WeakSet[Stream]
    _iterations: weakref.WeakSet[Stream]
    """The passes that are no call of Keras's."""
    _pool: Pool | None
    _sent: Code | None
    """What was sent to the workers, but for large data."""

    def close(self) -> None:
        """End all passes under way and the workers, let their memory go. Safe to call twice.

        The dataset stays usable: the next iteration or `fit` starts what it needs.
        """
        self._let_pool_go()
        for stream in list(self._streams):
            stream.close()
        self._slots.clear()

    def __enter__(self) -> Self:
        """`with dataset:` keeps worker processes from call to call, and closes it at the end."""
        self._times_entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Close, at the end of the outermost `with`."""
        self._times_entered -= 1
        if self._times_entered == 0:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Settings, data and the epoch that comes next; passes under way stay behind."""
        state = super().__getstate__()
        for name in ("_streams", "_pool", "_sent", "_iterations", "_times_entered"):
            del state[name]
        return state

    # ---------------------------------------------------------------- inside

    def _set_start(
        self, use_multiprocessing: bool, start_method: StartMethod | None, timeout: Any
    ) -> None:
        if use_multiprocessing or start_method is not None:
            start_method = check_start_method(start_method)
        self._start_method, self._timeout_s = start_method, _check_timeout(timeout)

    def _start(self, epoch: int) -> None:
        super()._start(epoch)
        self._streams = weakref.WeakSet()
        self._pool = None
        self._sent = None
        self._iterations = weakref.WeakSet()
        self._times_entered = 0

    def _stream(
        self,
        plan: Plan,
        epoch: int,
        training: Training = True,
        follows: bool = True,
        first: int = 0,
        summarise: Summarise | None = None,
        for_keras: bool = True,
    ) -> Stream:
        """An epoch of batches, from step `first` on, made by the workers there are.

        Batches are augmented and classes weighed in training alone. `follows` tells whether the
        next epoch is expected to be asked for. With `summarise` they are `Summed`.
        """
        self._check_unchanged()
        follows = follows and not plan.skip  # the next epoch has another plan
        workers = whole_number("workers", self.workers, least=0, most=MAX_WORKERS)
        ahead = whole_number("max_queue_size", self.max_queue_size, least=1)
        stream: Stream
        if self.use_multiprocessing and workers > 0:
            if isinstance(training, ClassWeight):
                if self._sent_class_weight != training:
                    self._sent_class_weight = training
                training = "sent"
            pool = self._current_pool(workers)
            stream = ProcessStream(
                pool,
                plan,
                epoch,
                training=training,
                summarise=summarise,
                ahead=ahead,
                follows=follows,
                first=first,
            )
        else:
            make = partial(self._maker(plan, training, summarise), epoch)
            steps = range(first, plan.num_batches)
            # The order of the next epoch is drawn meanwhile, so that it need not be waited for.
            draws = workers > 0 and follows and plan.draws_long
            errand = Job(plan.order, epoch + 1) if draws else None
            is_cheap = self._is_cheap or (for_keras and workers == 1 and self._is_made_meanwhile)
            if workers == 0 or (is_cheap and summarise is None):
                stream = InlineStream(make, steps)
                if errand is not None:
                    begin(errand)
            else:
                ahead = self._most_ahead(workers)
                stream = ThreadedStream(make, steps, workers=workers, ahead=ahead, errand=errand)
        self._streams.add(stream)
        return stream

    def _iteration(self, plan: Plan, epoch: int, first: int = 0, training: bool = True) -> Stream:
        """An epoch for a caller other than Keras; the end of a `fit` does not end its workers."""
        stream = self._stream(
            plan, epoch, training=training, follows=training, first=first, for_keras=False
        )
        self._iterations.add(stream)
        return stream

    def _current_pool(self, workers: int) -> Pool:
        """The worker processes; others, if what they were sent has changed since."""
        parts = {name: value for name, value in self.__dict__.items() if name not in _NEVER_SENT}
        before, now = self._sent, Code.of({"": type(self), **parts})
        method = check_start_method(self._start_method)
        changed = [] if before is None else now.changed_globals(before)
        if changed and method != "fork":
            warnings.warn(
                f"{', '.join(changed)} changed after worker processes of this "
                f"{type(self).__name__} were started, and they don't see the change: they import "
                "the module anew. Make it an attribute of the dataset or an argument of the "
                "function, or use threads: use_multiprocessing=False.",
                stacklevel=2,
            )
        self._sent = now
        if self._pool is not None:
            is_current = now == before and not (changed and method == "fork")
            if self._pool.is_open and is_current:
                return self._pool
            self._pool.close()
        self._pool = Pool(self, workers=workers, start_method=method, timeout_s=self._timeout_s)
        return self._pool

    def _all_sessions_have_ended(self) -> None:
        """The workers of a `fit` end with it, unless a `with` keeps them."""
        # An iteration that is no call of Keras may be under way; its end is not told of.
        if self._times_entered == 0 and not self._iterations:
            self._let_pool_go()

    def _let_pool_go(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._pool = None
        if self._sent is not None:  # the data may go
            self._sent = replace(self._sent, digests={}, kept=[])

    @property
    def _slots_kept(self) -> int:
        return int(self.max_queue_size + self.workers + _SLOTS_BESIDE_QUEUE)

    def _most_ahead(self, workers: int) -> int:
        """Batches that it pays to make ahead in threads, whatever `max_queue_size` allows."""
        return int(self.max_queue_size)

    @property
    def _is_cheap(self) -> bool:
        """Whether making a batch costs less than handing it over from another thread."""
        return False

    @property
    def _is_made_meanwhile(self) -> bool:
        """Whether Keras's own loop has time to make batches while the model computes."""
        return False

    def _check_unchanged(self) -> None:
        """Refuses what was changed behind our back and would not take effect."""
        if not self._endless and len(self) != self.plan.num_batches:
            raise InvalidArgumentError(
                f"len({type(self).__name__}) is {len(self)}, but {self.plan.num_samples} samples "
                f"in batches of {self.plan.batch_size} are {self.plan.num_batches} batches. Don't "
                "override __len__; a dataset of another size is a new dataset."
            )


def _check_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    is_number = isinstance(timeout, int | float | np.integer | np.floating)
    # To NumPy a timedelta64 is an integer, in units that a float does not keep.
    is_number = is_number and not isinstance(timeout, bool | np.timedelta64)
    if not is_number or not 0 < timeout < math.inf:
        raise InvalidArgumentError(
            f"timeout is {told(timeout)}; expected seconds, a number above 0, or None for no limit."
        )
    return float(timeout)
