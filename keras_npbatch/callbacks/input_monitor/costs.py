"""What a batch costs, and what to change when training waits for it.

    costs = measure(dataset, dataset.plan, epoch=0, step=7)     # makes that batch once more
    costs.dearest           # "reading"
    advice(dataset, costs, compute_s=0.005)     # ("workers", 7)

A batch is a function of (seed, epoch, step), so it can be made again at any time, here, to see
where its time goes: nothing has to be measured in the workers while all is well.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from time import perf_counter, thread_time
from typing import Any

from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.making import Making, making
from keras_npbatch.batches.work import Work
from keras_npbatch.fit.pace import has_time_for
from keras_npbatch.plan.plan import Plan
from keras_npbatch.tree import Tree
from keras_npbatch.workers.choice import is_cheap
from keras_npbatch.workers.processes import packing

__all__ = ["Costs", "advice", "measure"]

_WORK = 0.7
"""A batch that takes more than this share of its time on a processor is work, not waiting."""
_MOST_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that one batch takes."""

    reading_s: float
    """In `load` (or `__getitem__`); all of it where there is neither transform nor augment."""
    transform_s: float
    """In the transform and the augmentation."""
    transport_s: float
    """From a worker process to this one; 0 with threads."""
    busy: float
    """Which share of reading and transforming was work of a processor, from 0 to 1."""

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.reading_s + self.transform_s + self.transport_s

    @property
    def dearest(self) -> str:
        """The place that most time goes to: `"reading"`, `"transform"` or `"transport"`."""
        costs = {
            "reading": self.reading_s,
            "transform": self.transform_s,
            "transport": self.transport_s,
        }
        return max(costs, key=costs.__getitem__)


def measure(dataset: Any, plan: Plan, epoch: int, step: int) -> Costs:
    """Make a batch once more, in this thread, and see what takes how long."""
    core = core_of(dataset)
    recipe = core.recipe(Work(plan))
    reading_s = 0.0

    def load(*arguments: Any) -> Tree:
        nonlocal reading_s
        began = perf_counter()
        try:
            return recipe.load(*arguments)
        finally:
            reading_s = perf_counter() - began

    with making(Making(core, plan, epoch, step)):
        began, began_working = perf_counter(), thread_time()
        # By the recipe itself, so that a transform gets a copy of what `load` keeps here too.
        batch = replace(recipe, load=load)(epoch, step)
        took_s, worked_s = perf_counter() - began, thread_time() - began_working
    if (recipe.transform, recipe.augment) == (None, None):
        reading_s = took_s
    transport_s = 0.0
    if dataset.use_multiprocessing and dataset.workers:
        sent = perf_counter()
        packing.unpack(*packing.pack(batch, lend=lambda memory: memory.copy()))
        transport_s = perf_counter() - sent
    busy = min(worked_s / max(took_s, 1e-9), 1.0)
    return Costs(reading_s, took_s - reading_s, transport_s, busy)


def advice(dataset: Any, costs: Costs, compute_s: float) -> tuple[str, Any]:
    """The one setting of the dataset to change, and its value.

    Args:
        dataset: what training waits for.
        costs: of one of its batches.
        compute_s: how long a step takes without the waiting.
    """
    if costs.dearest == "transport":
        return "use_multiprocessing", False
    facts = core_of(dataset).facts(dataset.plan)
    if is_cheap(facts):  # made at once in any case: what is slow is the number of steps
        return "batch_size", 2 * dataset.batch_size
    workers = dataset.workers
    threads = 0 if dataset.use_multiprocessing else workers
    if threads == 1 and has_time_for(facts):  # there was no thread
        return "workers", 2
    # While it was measured, threads may have competed for Python's lock: each gets its share.
    is_work = costs.busy * (1 + threads) > _WORK
    if is_work and threads:
        return "use_multiprocessing", True
    # No more are at work at once than batches may be made ahead.
    if workers >= dataset.max_queue_size:
        return "max_queue_size", 2 * dataset.max_queue_size
    # So many at once make as many batches as training takes, and one more for the waves.
    needed = math.ceil(costs.total_s / max(compute_s, 1e-6)) + 1
    most = (os.cpu_count() or 1) if is_work else _MOST_WORKERS
    return "workers", max(workers + 1, min(needed, most, dataset.max_queue_size))
