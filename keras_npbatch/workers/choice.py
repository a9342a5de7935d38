"""Chooses who makes the batches: the one place that decides what `workers=1` means.

kind = choose(settings, facts, caller_has_time=False, summarises=False)     # "threads"
"""

from __future__ import annotations

from typing import Literal

from keras_npbatch.batches.core import Facts, WorkerSettings

__all__ = ["batches_at_once", "choose", "is_cheap", "most_ahead"]

_CHEAP_BATCH_BYTES = 256 * 1024
"""Gathering fewer bytes than this costs less than handing the result over from another thread."""


def choose(
    settings: WorkerSettings, facts: Facts, *, caller_has_time: bool, summarises: bool
) -> Literal["inline", "threads", "processes"]:
    """Choose who makes the batches.

    Args:
        settings: what the user asked for.
        facts: how the batches are made.
        caller_has_time: whether the consumer can make batches while the model computes.
        summarises: whether figures are computed from each batch, which is never cheap.
    """
    if settings.workers == 0:
        return "inline"
    if settings.use_multiprocessing:
        return "processes"
    has_time = settings.workers == 1 and caller_has_time
    return "inline" if (is_cheap(facts) or has_time) and not summarises else "threads"


def is_cheap(facts: Facts) -> bool:
    """Whether making a batch costs less than handing it over from another thread does."""
    return facts.are_gathered and facts.is_in_memory and facts.batch_bytes <= _CHEAP_BATCH_BYTES


def most_ahead(settings: WorkerSettings, facts: Facts) -> int:
    """The most batches that are worth making ahead in threads, `max_queue_size` at most.

    Gathers from memory all take about the same time. More than one ready batch, in addition to
    those being made, would only evict other data from the processor's caches.
    """
    takes_equally_long = facts.is_in_memory and facts.are_gathered
    most = settings.max_queue_size
    return min(most, settings.workers + 1) if takes_equally_long else most


def batches_at_once(facts: Facts) -> int:
    """How many batches to hand to `tf.data` at once; more than one where each costs little.

    Always one for storage that can fail to read: the note on the error would name several batches.
    """
    is_small = facts.are_gathered and facts.batch_bytes <= _CHEAP_BATCH_BYTES
    if not (is_small and facts.are_arrays):
        return 1
    return max(1, _CHEAP_BATCH_BYTES // max(1, facts.batch_bytes))
