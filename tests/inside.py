"""What a test looks at inside a dataset."""

from __future__ import annotations

from typing import Any

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.work import Work
from keras_npbatch.plan.plan import Plan
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.stream import Stream

__all__ = ["core_of", "maker_of", "pool_of", "slots_of", "stream_of"]


def pool_of(dataset: Any) -> Pool | None:
    """Its worker processes, if there are any."""
    return core_of(dataset).part(Executor).pool


def slots_of(dataset: Any) -> Any:
    """The memory in which it makes batches."""
    return core_of(dataset).slots


def stream_of(dataset: Any, epoch: int = 0, **settings: Any) -> Stream:
    """An epoch of its batches, through its workers."""
    core = core_of(dataset)
    return core.part(Executor).stream(Work(core.plan), epoch, **settings)


def maker_of(dataset: Any, plan: Plan | None = None) -> Any:
    """What makes its batches of training."""
    core = core_of(dataset)
    return core.maker(Work(core.plan if plan is None else plan))
