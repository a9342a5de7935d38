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
from typing import Any, Literal

import numpy as np

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import ATTRIBUTE, Core
from keras_npbatch.batches.memory_size import in_bytes
from keras_npbatch.batches.work import Work
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.errors import InvalidArgumentError, UnsendableError, describe
from keras_npbatch.workers.auto import AutoStream
from keras_npbatch.workers.choice import choose, limits_of
from keras_npbatch.workers.inline import InlineStream
from keras_npbatch.workers.processes.code import Code
from keras_npbatch.workers.processes.idle import watch
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.processes.stream import ProcessStream
from keras_npbatch.workers.stream import Stream
from keras_npbatch.workers.systems import check_start_method
from keras_npbatch.workers.threads import Job, ThreadedStream, begin
from keras_npbatch.workers.tuning import Setting, Tuner

__all__ = [
    "Executor",
    "check_max_queue_size",
    "check_memory_limit",
    "check_timeout",
    "check_workers",
]

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
        self._tuners: dict[tuple[object, ...], Tuner] = {}
        """What was found out for training and for evaluation, each with the settings it is for."""

    @property
    def core(self) -> Core:
        """Of the dataset."""
        core = self._core_of()
        assert core is not None
        return core

    @property
    def has_workers(self) -> bool:
        """Whether anything but the consumer may make batches."""
        return self._settings.workers != 0

    @property
    def _settings(self) -> WorkerSettings:
        settings = self.core.settings
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
        core, settings = self.core, self._settings
        _refuse_another_length(core)
        core.begin_pass()
        follows = follows and not work.plan.skip  # the next epoch has another plan
        steps = range(first, work.plan.num_batches)
        asked = _Pass(self, work, epoch, steps, follows)
        stream: Stream
        if settings.workers == "auto":
            stream = AutoStream(self.tuner(work), asked, steps)
        else:
            setting = choose(
                settings,
                core.facts(work.plan),
                caller_has_time=caller_has_time,
                summarises=work.summarise is not None,
            )
            stream = asked.open(setting, first)
        self._streams.add(stream)
        return stream

    def tuner(self, work: Work) -> Tuner:
        """Who chooses the workers of training, or of evaluation, with `workers="auto"`."""
        settings = self._settings
        key = bool(work.training), settings.use_multiprocessing, settings.max_queue_size
        if key not in self._tuners:
            plan = work.plan
            limits = limits_of(
                settings,
                self.core.facts(plan),
                in_blocks=plan.sampler.blocks_held is not None,
            )
            self._tuners[key] = Tuner(limits)
        return self._tuners[key]

    def enter(self) -> None:
        """Keep worker processes from call to call, until `leave`."""
        self._times_entered += 1
        pool = self.pool
        if pool is not None:
            pool.stays = True

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
        self.core.slots.clear()

    def expect_nothing(self) -> None:
        """Note that a call has ended: nobody waits for batches that were made ahead for it."""
        pool = self.pool
        if pool is not None:
            pool.expect(False)

    # ---------------------------------------------------------------- processes

    # Another thread may close the dataset at any moment, after which there is no `self.pool`.

    def prepare_pool(self, workers: int) -> bool:
        """Begin to start worker processes, if there are none; return whether they have started.

        Raises:
            UnsendableError, SharedMemoryError, WorkerStartError: if that can't be done.
        """
        pool = self.pool
        if pool is not None and pool.num_workers != workers and not pool.readers:
            self._let_pool_go()
            pool = None
        if pool is None or not pool.claim():
            pool = self.current_pool(workers)
        return pool.has_started

    def leave_pool(self) -> None:
        """End the worker processes, unless another stream reads from them, or they are to stay."""
        pool = self.pool
        if pool is not None and not pool.readers and not pool.stays:
            self._let_pool_go()

    def current_pool(self, workers: int) -> Pool:
        """The worker processes; new ones, if what they were sent has changed since."""
        core, settings = self.core, self._settings
        owner = core.owner
        parts = {name: value for name, value in vars(owner).items() if name != ATTRIBUTE}
        sent = {f"{ATTRIBUTE}.{name}": value for name, value in core.sent_settings().items()}
        now = Code.of({"": type(owner), **parts, **sent})
        before, method = self._sent, check_start_method(settings.start_method)
        changed = [] if before is None else now.changed_globals(before)
        if changed and method != "fork" and settings.workers == "auto":
            raise UnsendableError(
                f"{', '.join(changed)} changed after worker processes of this {core.name} were "
                "started, and they import the module again"
            )
        if changed and method != "fork":
            warnings.warn(
                f"{', '.join(changed)} changed after worker processes of this "
                f"{core.name} were started, and they don't see the change: they import "
                "the module again. Make it an attribute of the dataset or an argument of the "
                "function, or use threads: use_multiprocessing=False.",
                stacklevel=2,
            )
        self._sent = now
        pool = self.pool
        if pool is not None:
            is_current = now == before and not (changed and method == "fork")
            if is_current and pool.claim():
                return pool
            pool.close()
        self.pool = pool = Pool(
            owner,
            workers=workers,
            start_method=method,
            timeout_s=settings.timeout_s,
            most_bytes=self._most_sent_bytes(),
        )
        pool.stays = self._times_entered > 0
        pool.claim()  # to start the workers may have taken long
        watch(pool)
        return pool

    def _most_sent_bytes(self) -> int | None:
        if self._settings.workers != "auto":
            return None
        return self.tuner(Work(self.core.plan)).limits.memory_bytes

    def _let_pool_go(self) -> None:
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()
        if self._sent is not None:  # the data may go
            self._sent = replace(self._sent, digests={}, kept=[])


class _Pass:
    """Who can make the batches of an epoch: what an `AutoStream` changes between.

    Args:
        executor: has the worker processes.
        work: how batches are made.
        epoch: which epoch.
        steps: those to make.
        follows: whether the next epoch is expected to be asked for.
    """

    def __init__(
        self, executor: Executor, work: Work, epoch: int, steps: range, follows: bool
    ) -> None:
        self._executor, self._core = executor, executor.core
        self._work, self._epoch, self._steps, self._follows = work, epoch, steps, follows
        plan = work.plan
        # The order of the next epoch is drawn meanwhile, so that it need not be waited for.
        draws = executor.has_workers and follows and plan.draws_long
        self._errand = Job(plan.order, epoch + 1) if draws else None

    def prepare(self, setting: Setting) -> bool:
        """Begin to start worker processes, if needed; return whether the setting is ready."""
        return setting.kind != "processes" or self._executor.prepare_pool(setting.workers)

    def open(self, setting: Setting, step: int) -> Stream:
        """The batches from a step on."""
        if setting.kind == "processes":
            return self._in_processes(setting, step)
        make = partial(self._core.maker(self._work), self._epoch)
        steps = range(step, self._steps.stop)
        errand, self._errand = self._errand, None
        if setting.kind == "threads":
            return ThreadedStream(
                make, steps, workers=setting.workers, ahead=setting.ahead, errand=errand
            )
        if errand is not None:
            begin(errand)
        return InlineStream(make, steps)

    def leave(self, setting: Setting) -> None:
        """Let go of what the setting needed: no stream of this epoch uses it any more."""
        if setting.kind == "processes":
            self._executor.leave_pool()
        self._core.slots.clear()  # others may need fewer

    def _in_processes(self, setting: Setting, step: int) -> Stream:
        core, work = self._core, self._work
        if isinstance(work.training, ClassWeight):
            if core.sent_class_weight != work.training:
                core.sent_class_weight = work.training
            work = work._replace(training="sent")
        while True:
            pool = self._executor.current_pool(setting.workers)
            stream = ProcessStream(
                pool, work, self._epoch, ahead=setting.ahead, follows=self._follows, first=step
            )
            if pool.claim():
                return stream
            stream.close()  # the workers ended as idle: this thread got no time to run


def check_workers(value: Any) -> int | Literal["auto"]:
    """`value` as a number of workers, or "auto"."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    if isinstance(value, str):
        raise InvalidArgumentError(
            f"workers is {describe(value)}; expected a whole number from 0 up, or 'auto'."
        )
    return whole_number("workers", value, least=0, most=_MAX_WORKERS)


def check_memory_limit(value: Any, workers: int | Literal["auto"]) -> int | None:
    """`value` in bytes, or None.

    Raises:
        InvalidArgumentError: for anything else, or if the user has said how many workers there are.
    """
    if value is None:
        return None
    if workers != "auto":
        raise InvalidArgumentError(
            f"memory_limit was given with workers={workers}; expected workers='auto', which "
            "chooses how many workers there are within that limit. Otherwise workers, "
            "max_queue_size and the size of a batch decide how much memory it takes."
        )
    return in_bytes(value, "memory_limit")


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
