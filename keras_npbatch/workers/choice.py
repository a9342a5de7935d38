"""Chooses who makes the batches: the one place that decides what `workers=1` means.

choose(settings, facts, caller_has_time=False, summarises=False)    # Setting("threads", 1, 10)
limits_of(settings, facts)    # what `workers="auto"` may choose
"""

from __future__ import annotations

from keras_npbatch.batches.facts import Facts
from keras_npbatch.batches.machine import available_bytes, cores
from keras_npbatch.batches.worker_settings import AHEAD_IN_BLOCKS, WorkerSettings
from keras_npbatch.workers.tuning import INLINE, MOST_AHEAD, Kind, Limits, Setting

__all__ = ["batches_at_once", "choose", "is_cheap", "limits_of", "most_ahead"]

_CHEAP_BATCH_BYTES = 256 * 1024
"""Gathering fewer bytes than this costs less than handing the result over from another thread."""
_SHARE_OF_FREE_MEMORY = 4


def choose(
    settings: WorkerSettings, facts: Facts, *, caller_has_time: bool, summarises: bool
) -> Setting:
    """Choose who makes the batches, for a number of workers that the user has given.

    Args:
        settings: what the user asked for.
        facts: how the batches are made.
        caller_has_time: whether the consumer can make batches while the model computes.
        summarises: whether figures are computed from each batch, which is never cheap.
    """
    workers = settings.workers
    assert workers != "auto"
    if workers == 0:
        return INLINE
    if settings.use_multiprocessing:
        return Setting("processes", workers, settings.max_queue_size)
    has_time = workers == 1 and caller_has_time
    if (is_cheap(facts) or has_time) and not summarises:
        return INLINE
    return Setting("threads", workers, most_ahead(settings, facts))


def limits_of(settings: WorkerSettings, facts: Facts, *, in_blocks: bool = False) -> Limits:
    """What may be chosen for `workers="auto"`.

    Args:
        settings: what the user asked for.
        facts: how the batches are made.
        in_blocks: whether the rows are read from blocks, which are kept meanwhile.
    """
    without: dict[Kind, str] = {}
    if settings.use_multiprocessing:
        without["threads"] = "use_multiprocessing=True"
    elif settings.use_multiprocessing is not None:
        without["processes"] = "use_multiprocessing=False"
    elif facts.are_gathered and facts.are_arrays:
        without["processes"] = "batches are rows of arrays, which threads copy at the same time"
    most = settings.max_queue_size if settings.has_own_queue else MOST_AHEAD
    return Limits(
        cores=cores(),
        memory_bytes=settings.memory_bytes or available_bytes() // _SHARE_OF_FREE_MEMORY,
        most_ahead=min(most, AHEAD_IN_BLOCKS) if in_blocks else most,
        are_gathered=facts.are_gathered and facts.is_in_memory,
        without=without,
    )


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
    if settings.workers == "auto" or not takes_equally_long:
        return most
    return min(most, settings.workers + 1)


def batches_at_once(facts: Facts) -> int:
    """How many batches to hand to `tf.data` at once; more than one where each costs little.

    Always one for storage that can fail to read: the note on the error would name several batches.
    """
    is_small = facts.are_gathered and facts.batch_bytes <= _CHEAP_BATCH_BYTES
    if not (is_small and facts.are_arrays):
        return 1
    return max(1, _CHEAP_BATCH_BYTES // max(1, facts.batch_bytes))
