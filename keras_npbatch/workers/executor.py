"""`Executor`: who makes the batches of one dataset: nobody else, threads, or processes that stay.

executor = core.part(Executor)
stream = executor.stream(Work(core.plan), epoch=0)     # the batches of an epoch, in order
executor.close()                                       # end the workers
"""

from __future__ import annotations

import math
import warnings
import weakref
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import ATTRIBUTE, Core, WorkerSettings
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.workers.choice import choose, most_ahead
from keras_npbatch.workers.inline import InlineStream
from keras_npbatch.workers.processes.code import Code
from keras_npbatch.workers.processes.idle import watch
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.stream import ProcessStream
from keras_npbatch.workers.stream import Stream
from keras_npbatch.workers.systems import check_start_method
from keras_npbatch.workers.threads import Job, ThreadedStream, begin

__all__ = ["Executor", "check_max_queue_size", "check_timeout", "check_workers"]

_MAX_WORKERS = 1024


class Executor:
    """What makes batches ahead.

    Args:
        core: of the dataset. It holds the executor, not the other way round.
    """

    def __init__(self, core: Core) -> None:
        self._core_of = weakref.ref(core)
        self.pool: Pool | None = None
        """The worker processes, if there are any."""
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._sent: Code | None = None
        """What was sent to the workers, but for large data."""
        self._times_entered = 0

    @property
    def _core(self) -> Core:
        core = self._core_of()
        assert core is not None
        return core

    @property
    def _settings(self) -> WorkerSettings:
        settings = self._core.settings
        assert settings is not None
        return settings

    def stream(
        self,
        work: Work,
        epoch: int,
        *,
        first: int = 0,
        follows: bool = True,
        caller_has_time: bool = False,
    ) -> Stream:
        """An epoch of batches, made by the workers there are.

        Args:
            work: how they are made.
            epoch: which epoch.
            first: the first step.
            follows: whether the next epoch is expected to be asked for.
            caller_has_time: whether the consumer can make batches while the model computes.
        """
        core, settings = self._core, self._settings
        _refuse_another_length(core)
        core.begin_pass()
        plan = work.plan
        follows = follows and not plan.skip  # the next epoch has another plan
        facts = core.facts(plan)
        kind = choose(
            settings,
            facts,
            caller_has_time=caller_has_time,
            summarises=work.summarise is not None,
        )
        stream: Stream
        if kind == "processes":
            if isinstance(work.training, ClassWeight):
                if core.sent_class_weight != work.training:
                    core.sent_class_weight = work.training
                work = work._replace(training="sent")
            stream = ProcessStream(
                self._current_pool(),
                work,
                epoch,
                ahead=settings.max_queue_size,
                follows=follows,
                first=first,
            )
        else:
            make = partial(core.maker(work), epoch)
            steps = range(first, plan.num_batches)
            # The order of the next epoch is drawn meanwhile, so that it need not be waited for.
            draws = settings.workers > 0 and follows and plan.draws_long
            errand = Job(plan.order, epoch + 1) if draws else None
            if kind == "inline":
                stream = InlineStream(make, steps)
                if errand is not None:
                    begin(errand)
            else:
                stream = ThreadedStream(
                    make,
                    steps,
                    workers=settings.workers,
                    ahead=most_ahead(settings, facts),
                    errand=errand,
                )
        self._streams.add(stream)
        return stream

    def enter(self) -> None:
        """Keep worker processes from call to call, until `leave`."""
        self._times_entered += 1
        if self.pool is not None:
            self.pool.stays = True

    def leave(self) -> None:
        """Close, at the end of the outermost `with`."""
        self._times_entered -= 1
        if self._times_entered == 0:
            self.close()

    def close(self) -> None:
        """End all passes under way and the workers, let their memory go. Safe to call twice."""
        self._let_pool_go()
        for stream in list(self._streams):
            stream.close()
        self._core.slots.clear()

    def expect_nothing(self) -> None:
        """A call has ended: batches that were made ahead for it are not waited for."""
        if self.pool is not None:
            self.pool.expect(False)

    # ---------------------------------------------------------------- processes

    def _current_pool(self) -> Pool:
        """The worker processes; others, if what they were sent has changed since."""
        core, settings = self._core, self._settings
        owner = core.owner
        parts = {name: value for name, value in vars(owner).items() if name != ATTRIBUTE}
        sent = {f"{ATTRIBUTE}.{name}": value for name, value in core.sent_settings().items()}
        now = Code.of({"": type(owner), **parts, **sent})
        before, method = self._sent, check_start_method(settings.start_method)
        changed = [] if before is None else now.changed_globals(before)
        if changed and method != "fork":
            warnings.warn(
                f"{', '.join(changed)} changed after worker processes of this "
                f"{core.name} were started, and they don't see the change: they import "
                "the module again. Make it an attribute of the dataset or an argument of the "
                "function, or use threads: use_multiprocessing=False.",
                stacklevel=2,
            )
        self._sent = now
        if self.pool is not None:
            is_current = now == before and not (changed and method == "fork")
            if is_current and self.pool.claim():
                return self.pool
            self.pool.close()
        self.pool = Pool(
            owner, workers=settings.workers, start_method=method, timeout_s=settings.timeout_s
        )
        self.pool.stays = self._times_entered > 0
        self.pool.claim()  # to start the workers may have taken long
        watch(self.pool)
        return self.pool

    def _let_pool_go(self) -> None:
        if self.pool is not None:
            self.pool.close()
        self.pool = None
        if self._sent is not None:  # the data may go
            self._sent = replace(self._sent, digests={}, kept=[])


def check_workers(value: Any) -> int:
    """`value` as a number of workers."""
    return whole_number("workers", value, least=0, most=_MAX_WORKERS)


def check_max_queue_size(value: Any) -> int:
    """`value` as a number of batches."""
    return whole_number("max_queue_size", value, least=1)


def check_timeout(timeout: Any) -> float | None:
    """`timeout` in seconds, or None.

    Raises:
        InvalidArgumentError: for anything else.
    """
    if timeout is None:
        return None
    is_number = isinstance(timeout, int | float | np.integer | np.floating)
    # To NumPy a timedelta64 is an integer, in units that a float does not keep.
    is_number = is_number and not isinstance(timeout, bool | np.timedelta64)
    if not is_number or not 0 < timeout < math.inf:
        raise InvalidArgumentError(
            f"timeout is {describe(timeout)}; expected seconds, a number above 0, or None for no "
            "limit."
        )
    return float(timeout)


def _refuse_another_length(core: Core) -> None:
    """Refuses a `__len__` of the user's that would not take effect."""
    plan, owner = core.plan, core.owner
    if not core.endless and len(owner) != plan.num_batches:
        raise InvalidArgumentError(
            f"len({core.name}) is {len(owner)}, but {plan.epoch_size} samples "
            f"in batches of {plan.batch_size} are {plan.num_batches} batches. Don't "
            "override __len__; a dataset of another size is a new dataset."
        )
