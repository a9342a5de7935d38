"""What a test looks at inside a dataset."""

from __future__ import annotations

from typing import Any

import psutil

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.work import Work
from keras_npbatch.plan.plan import Plan
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.processes.pool import Pool
from keras_npbatch.workers.stream import Stream

__all__ = ["children", "core_of", "maker_of", "pool_of", "slots_of", "stream_of"]


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


def children(recursive: bool = False) -> list[psutil.Process]:
    """The child processes, but for the one that the standard library starts for its shared memory.

    Another test's library may have started that one (Hugging Face's datasets does), and it stays.
    Whether a test starts one is seen by the fixture that looks for what is left behind.
    """
    found = psutil.Process().children(recursive=recursive)
    return [child for child in found if not _tracks_memory(child)]


def _tracks_memory(process: psutil.Process) -> bool:
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False
