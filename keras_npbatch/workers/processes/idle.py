"""Worker processes that nobody uses end by themselves.

    watch(pool)

A `fit` that has failed may live on in a traceback, and nothing says when an iteration is given up.
So a thread looks at the pool: its workers rest soon after the last stream was closed, if none is
expected to follow, and after half a minute without a request in any case.
"""

from __future__ import annotations

import threading
import weakref

from keras_npbatch.workers.processes.pool import Pool

__all__ = ["watch"]

_SHORTEST_LOOK_S = 0.1


def watch(pool: Pool) -> None:
    """Let the workers of a pool rest when nobody asks for a batch, for as long as it is open."""
    thread = threading.Thread(
        target=_watch,
        args=(weakref.ref(pool), pool.changed),
        name="keras_npbatch-idle",
        daemon=True,
    )
    thread.start()


def _watch(alive: weakref.ref[Pool], changed: threading.Event) -> None:
    while True:
        changed.clear()
        pool = alive()
        if pool is None or not pool.is_open:
            return
        left_s = pool.rests_in_s
        if left_s <= 0:
            pool.rest()
            left_s = pool.rests_in_s
        del pool
        changed.wait(max(left_s, _SHORTEST_LOOK_S))
