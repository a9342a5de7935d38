"""The time a batch takes, and what to change when training waits for it.

    costs = measure(dataset, dataset.plan, epoch=0, step=7)     # makes that batch once more
    costs.dearest           # "reading"
    advice(dataset, costs, compute_s=0.005)     # ("workers", 7)

A batch is a function of (seed, epoch, step), so this process can make it again at any time to
measure where its time goes. Until training waits, nothing is measured in the workers.
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
"""If a batch spends more than this share of its time on a processor, it is work, not waiting."""
_MOST_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Costs:
    """The time, in seconds, that one batch takes."""

    reading_s: float
    """In `load` (or `__getitem__`); all the making if there is no transform and no augment."""
    transform_s: float
    """In the transform and the augmentation."""
    transport_s: float
    """From a worker process to this one; 0 with threads."""
    busy: float
    """Share of reading and transforming that was processor time, from 0 to 1."""

    @property
    def total_s(self) -> float:
        """The sum of the three times."""
        return self.reading_s + self.transform_s + self.transport_s

    @property
    def dearest(self) -> str:
        """Where most time goes: `"reading"`, `"transform"` or `"transport"`."""
        costs = {
            "reading": self.reading_s,
            "transform": self.transform_s,
            "transport": self.transport_s,
        }
        return max(costs, key=costs.__getitem__)


def measure(dataset: Any, plan: Plan, epoch: int, step: int) -> Costs:
    """Make a batch again, in this thread, and measure its parts."""
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
        # With the recipe itself, so that the transform gets a copy of what `load` keeps, as usual.
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


def advice(dataset: Any, costs: Costs, compute_s: float) -> tuple[str, Any] | None:
    """The one setting of the dataset to change, and its new value; None if all was tried.

    Args:
        dataset: the dataset that training waits for.
        costs: the costs of one of its batches.
        compute_s: seconds that a step takes without waiting.
    """
    if costs.dearest == "transport":
        return "use_multiprocessing", False
    if costs.dearest == "reading" and core_of(dataset).rereads_chunks:
        return "sampler", "keras_npbatch.samplers.BlockShuffle()"
    facts = core_of(dataset).facts(dataset.plan)
    if is_cheap(facts):  # the caller makes it in any case: it is the number of steps that is slow
        return "batch_size", 2 * dataset.batch_size
    if dataset.workers == "auto":  # it has tried all that follows
        return None
    workers = dataset.workers
    threads = 0 if dataset.use_multiprocessing else workers
    if threads == 1 and has_time_for(facts):  # then the caller made the batches, not a thread
        return "workers", 2
    # During the measurement, threads may have competed for the GIL, each with an equal share.
    is_work = costs.busy * (1 + threads) > _WORK
    if is_work and threads:
        return "use_multiprocessing", True
    # At most as many workers are busy at once as batches may be made ahead.
    if workers >= dataset.max_queue_size:
        return "max_queue_size", 2 * dataset.max_queue_size
    # Enough workers to make batches as fast as training takes them, and one more for variations.
    needed = math.ceil(costs.total_s / max(compute_s, 1e-6)) + 1
    most = (os.cpu_count() or 1) if is_work else _MOST_WORKERS
    return "workers", max(workers + 1, min(needed, most, dataset.max_queue_size))
