"""`AutoStream`: the batches of an epoch, made by whoever makes them best; `workers="auto"`.

    stream = AutoStream(tuner, workers, range(first, num_batches))

It is one stream after the other: the tuner says which, and between two steps the old one is closed
and another opened at the next step. What the old one has made ahead is made again. A batch is a
function of (seed, epoch, step), so no change can be seen in the batches.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from itertools import chain, compress, islice, repeat
from operator import length_hint
from time import perf_counter, thread_time
from typing import Protocol

from keras_npbatch.batches.machine import delayed_s
from keras_npbatch.batches.set_aside import Lacking
from keras_npbatch.batches.summary import Summed
from keras_npbatch.errors import (
    SharedMemoryError,
    UnsendableError,
    WorkerDiedError,
    WorkerStartError,
)
from keras_npbatch.tree import Tree, leaves
from keras_npbatch.workers.stream import Stream
from keras_npbatch.workers.tuning import INLINE, Kind, Setting, Tuner

__all__ = ["AutoStream", "Workers"]

_LONG_S = 0.05
"""A window of fewer steps, at the end of an epoch, counts if it took this long."""
_PROVEN = 64
"""Workers that have made this many batches in a row are not at fault if one fails."""

_log = logging.getLogger("keras_npbatch")


class Workers(Protocol):
    """Who can make the batches of an epoch."""

    def prepare(self, setting: Setting) -> bool:
        """Begin to start what a setting needs; return whether it is ready.

        Raises:
            UnsendableError, SharedMemoryError, WorkerStartError: if it can't be had.
        """

    def open(self, setting: Setting, step: int) -> Stream:
        """The batches from a step on."""

    def leave(self, setting: Setting) -> None:
        """Let go of what a setting needed: no stream of the epoch uses it any more."""


class AutoStream:
    """The batches of one epoch, in order; the contract is that of `Stream`.

    Args:
        tuner: says who makes the next batch, and is told what it took.
        workers: those who can make them.
        steps: of the epoch.
    """

    def __init__(self, tuner: Tuner, workers: Workers, steps: range) -> None:
        self._tuner = tuner
        self._workers = workers
        self._counted, self._stop = steps.start, steps.stop
        # The iterator that counts a quiet window knows what is left of it.
        self._left, self._uncounted = repeat(True, 0), 0
        self._began_at = self._step
        # Worker processes may have to start first.
        self._setting = INLINE if tuner.setting.kind == "processes" else tuner.setting
        self._closed = False
        self._left_at: float | None = None
        self._took = 0.0, 0.0
        # Up to this step nothing is measured but the time of the whole window.
        self._quiet_until, self._window, self._window_began = self._step, 0, 0.0
        self._stream: Stream = workers.open(self._setting, self._step)
        self._follow()

    def __iter__(self) -> Iterator[Tree]:
        return chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[Iterator[Tree]]:
        """The batches in parts: no Python of ours stands between those of a quiet window inline."""
        while not self._closed:
            quiet = self._quiet_until - self._step
            if quiet > 0 and self._setting == INLINE:  # where an error is that of the batch
                self._counted, self._uncounted = self._step, quiet
                self._left = repeat(True, quiet)
                yield islice(compress(self._stream, self._left), quiet)
            yield self._one()

    def _one(self) -> Iterator[Tree]:
        with contextlib.suppress(StopIteration):
            yield next(self)  # the consumer's alone, while the next is made

    def __next__(self) -> Tree:
        return self._next() if self._step < self._quiet_until else self._measured()

    @property
    def _step(self) -> int:
        """The step of the batch that comes next."""
        return self._counted + self._uncounted - length_hint(self._left)

    @property
    def ready(self) -> int:
        """The number of batches that are available without waiting."""
        return self._stream.ready

    def close(self) -> None:
        """Drop the remaining batches. Safe to call twice, and from another thread."""
        self._closed = True  # before: whoever changes the stream looks at it after that
        self._stream.close()

    # ---------------------------------------------------------------- steps

    def _next(self) -> Tree:
        try:
            batch = next(self._stream)
        except Exception as error:
            if self._ends(error):
                raise
            failed: Exception = error
        else:
            self._counted += 1
            return batch
        return self._without_workers(failed)

    def _ends(self, error: Exception) -> bool:
        """Whether an error ends the stream: no one else could make the batch."""
        ends = self._setting == INLINE or isinstance(error, StopIteration) or _is_death(error)
        self._closed = self._closed or ends
        return ends

    def _measured(self) -> Tree:
        """Take the next batch, and tell the tuner how long it took."""
        asked, tuner = perf_counter(), self._tuner
        if self._window:
            took_s = asked - self._window_began
            if self._window == tuner.window or took_s > _LONG_S:
                tuner.watch(took_s / self._window)
            self._window = 0
        elif self._left_at is not None and self._setting == tuner.setting:
            self._note(asked - self._left_at)
        self._follow()
        # More workers would not shorten the wait for a core that others are using.
        works_here = self._setting == INLINE and not tuner.settled
        began_working = thread_time() + delayed_s() if works_here else 0.0
        asked = perf_counter()
        batch = self._next()
        self._left_at = perf_counter()
        worked_s = thread_time() + delayed_s() - began_working if works_here else 0.0
        self._took = self._left_at - asked, worked_s
        if not tuner.batch_bytes:
            tuner.batch_bytes = _num_bytes(batch)
        if tuner.settled and self._setting == tuner.setting:
            self._window = min(tuner.window, max(0, self._stop - self._step - 1))
            self._quiet_until, self._window_began = self._step + self._window, self._left_at
        elif self._step == self._stop:  # nobody comes back to tell how long the consumer was away
            self._note(0.0)
        return batch

    def _note(self, away_s: float) -> None:
        """Tell the tuner what the last step took, and the log what the tuner has chosen."""
        tuner = self._tuner
        was_settled = tuner.settled
        waited_s, worked_s = self._took
        tuner.note(waited_s, away_s, worked_s)
        if tuner.settled and not was_settled:
            _log.info("workers='auto': batches are made by %s from now on", tuner.setting)

    # ---------------------------------------------------------------- changes

    def _follow(self) -> None:
        """Switch to the workers that the tuner has chosen, if they are ready."""
        while not self._closed and self._setting != self._tuner.setting:
            chosen = self._tuner.setting
            if self._setting.kind == chosen.kind == "processes":
                self._change_to(INLINE)  # a pool has as many workers as it was made with
            try:
                if not self._workers.prepare(chosen) and self._tuner.note_starting():
                    return
            except (UnsendableError, SharedMemoryError, WorkerStartError) as error:
                self._refuse(chosen.kind, error)
                continue
            self._change_to(chosen)

    def _change_to(self, setting: Setting) -> None:
        old, before = self._stream, self._setting
        old.close()
        self._workers.leave(before)
        self._stream = self._workers.open(setting, self._step)
        self._setting, self._left_at, self._began_at = setting, None, self._step
        if self._closed:  # meanwhile, by another thread, which may have closed the old one
            self._stream.close()

    def _without_workers(self, error: Exception) -> Tree:
        """Make here the batch that workers failed to make: is the batch at fault, or are they?"""
        kind, are_proven = self._setting.kind, self._step - self._began_at >= _PROVEN
        self._change_to(INLINE)
        batch = self._next()
        failed = f"{kind} could not make a batch ({type(error).__name__}: {error}), and this thread"
        if are_proven:
            warnings.warn(
                f"{failed} could, at the second try: training goes on. With a number of workers, "
                "this would have ended it. What makes batches must not fail now and then.",
                stacklevel=2,
            )
            return batch
        self._refuse(kind, error)
        warnings.warn(
            f"{failed} could: workers='auto' has no {kind} make batches any more. What makes "
            "batches must work in any thread or process.",
            stacklevel=2,
        )
        return batch

    def _refuse(self, kind: Kind, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        _log.info("workers='auto': no %s, %s", kind, why)
        self._tuner.refuse(kind, why)


def _is_death(error: Exception) -> bool:
    """Whether making the batch has ended processes, as it might end this one."""
    return isinstance(error, WorkerDiedError) and not isinstance(error, WorkerStartError)


def _num_bytes(made: Tree) -> int:
    batch = made.batch if isinstance(made, Summed) else made
    batch = batch.batch if isinstance(batch, Lacking) else batch
    return max(1, sum(getattr(leaf, "nbytes", 0) for leaf in leaves(batch)))
