"""Who makes the batches: one place that decides what `workers=1` means.

kind = choose(settings, facts, caller_has_time=False, summarises=False)     # "threads"
"""

from __future__ import annotations

from typing import Literal

from keras_npbatch.batches.core import Facts, WorkerSettings

__all__ = ["batches_at_once", "choose", "is_cheap", "most_ahead"]

_CHEAP_BATCH_BYTES = 256 * 1024
"""A gather of less than this costs less than handing its result over from another thread."""


def choose(
    settings: WorkerSettings, facts: Facts, *, caller_has_time: bool, summarises: bool
) -> Literal["inline", "threads", "processes"]:
    """Who makes batches.

    Args:
        settings: what the user has asked for.
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
    """Whether making a batch costs less than handing it over from another thread."""
    return facts.are_gathered and facts.is_in_memory and facts.batch_bytes <= _CHEAP_BATCH_BYTES


def most_ahead(settings: WorkerSettings, facts: Facts) -> int:
    """Batches that it pays to make ahead in threads, whatever `max_queue_size` allows.

    Gathers from memory take equally long. More than one that is ready, beside those that are being
    made, would only drive other data from the processor's caches.
    """
    takes_equally_long = facts.is_in_memory and facts.are_gathered
    most = settings.max_queue_size
    return min(most, settings.workers + 1) if takes_equally_long else most


def batches_at_once(facts: Facts) -> int:
    """How many batches `tf.data` should be given at once, since each alone costs so little.

    Not from storage whose reading may fail: the note would name several batches.
    """
    is_small = facts.are_gathered and facts.batch_bytes <= _CHEAP_BATCH_BYTES
    if not (is_small and facts.are_arrays):
        return 1
    return max(1, _CHEAP_BATCH_BYTES // max(1, facts.batch_bytes))
