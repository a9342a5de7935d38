"""`Tuner`: decides from what steps have taken who makes the next batches, for `workers="auto"`.

    tuner = Tuner(Limits(cores=4, memory_bytes=2**30))
    tuner.setting                               # who makes the next batch: Setting("inline")
    tuner.note(waited_s=0.08, away_s=0.01, worked_s=0.002)      # what that step took
    tuner.setting                               # some steps later: Setting("threads", 8, 12)

It looks at no clock and opens nothing: figures go in, settings come out. It climbs a hill whose
height is the time of a step, the consumer's share included, since workers take cores from a model
that computes on them.

- First the consumer makes some batches itself. What one costs, how much of that is processor time,
  and how long the consumer is away tell how many workers would be enough, if nothing hindered them.
- Threads are tried with that number, then twice as many while it helps, or half as many where it
  does not. If they stay far from what the cores could do, the interpreter is in their way, and
  processes are tried. Then a longer queue.
- What is not 5 % better is not worth it. After `BUDGET` steps the best so far stays.
- From then on it only watches. If a step takes twice as long as before, or half as long, in several
  windows in a row, it begins again. "Before" is at first what it measured in the trial, so a few
  quick steps there do not mislead it if batches vary a lot.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, NamedTuple, TypeAlias

from keras_npbatch.batches.memory_size import in_words

__all__ = [
    "BUDGET",
    "INLINE",
    "MOST_AHEAD",
    "MOST_STARTING",
    "MOST_THREADS",
    "Kind",
    "Limits",
    "Setting",
    "Tuner",
]

Kind: TypeAlias = Literal["inline", "threads", "processes"]
"""Who makes batches: the consumer, threads, or worker processes."""

BUDGET = 200
"""Steps after which it has settled, those included in which a change takes effect."""
MOST_AHEAD = 128
"""The most batches ahead that it chooses."""

MOST_THREADS = 64
"""The most threads that it chooses."""
MOST_STARTING = 40
"""Steps for which others make the batches while worker processes start."""

_PROCESS_BYTES = 32 * 10**6
"""What a worker process takes for itself, roughly: Python, NumPy and the user's modules."""
_SPARE = 4
"""Batches ready at most, besides one in the hands of each worker."""
_BESIDE_QUEUE = 2
"""Batches in memory besides those ahead: the consumer's, and one on its way."""
_HANDING_OVER_S = 50e-6
"""A batch that costs less is not worth handing over from another thread."""
_LITTLE = 0.03
"""The share of a step below which the making of batches is not worth a change."""
_GAIN = 0.05
_NEAR = 1.05
"""This close to what is possible, nothing else is tried."""
_HINDERED = 1.3
"""If a step takes this many times what was expected, no more workers of the kind are tried."""
_BUSY = 0.8
"""With this share of processor time, more workers than cores are of no use."""
_COLD_STEPS, _INLINE_STEPS, _STEPS = 2, 6, 16
_UNLIKE_STEPS = 24
"""If the first steps vary a lot, this many tell what one takes on average."""
_LONG_S = 1.0
"""A trial of batches that take long is shorter."""
_FACTOR = 2.0
_STRIKES, _MOST_STRIKES = 2, 32
"""How many windows in a row must differ, at first and at most; doubled at each new search."""
_WINDOW_S, _WINDOW_STEPS, _MOST_WINDOW_STEPS = 0.05, 32, 4096


class Setting(NamedTuple):
    """Who makes batches, how many of them at once, and how far ahead."""

    kind: Kind = "inline"
    workers: int = 0
    ahead: int = 0

    def __str__(self) -> str:
        """As in a `repr`: `2 threads, 4 batches ahead`."""
        if self.kind == "inline":
            return "inline"
        kind = self.kind if self.workers > 1 else {"threads": "thread"}.get(self.kind, "process")
        batches = "batches" if self.ahead > 1 else "batch"
        return f"{self.workers} {kind}, {self.ahead} {batches} ahead"


INLINE = Setting()


@dataclass(frozen=True, slots=True)
class Limits:
    """What it may choose."""

    cores: int
    """How many cores there are for this process."""
    memory_bytes: int
    """For the batches made ahead, and for what worker processes take."""
    most_ahead: int = MOST_AHEAD
    """The most batches ahead."""
    are_gathered: bool = False
    """Whether batches are rows of arrays: all take about as long, and more of them ready would only
    evict other data from the processor's caches."""
    without: Mapping[Kind, str] = field(default_factory=dict)
    """The kinds that are out of the question, and why."""


class _Figures(NamedTuple):
    """What a step took, on average."""

    waited_s: float
    away_s: float
    worked_s: float

    @property
    def step_s(self) -> float:
        return self.waited_s + self.away_s


_Search: TypeAlias = Generator[Setting, _Figures | None, None]
"""It yields the setting to try and is sent what that took; None if it can't be had."""


class Tuner:
    """Who makes the batches of one dataset, for one purpose, training or evaluation.

    Args:
        limits: what it may choose.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        """What it may choose."""
        self.without: dict[Kind, str] = dict(limits.without)
        """The kinds that are out of the question, and why."""
        self.batch_bytes = 0
        """The size of a batch, once one was seen."""
        self._lock = threading.Lock()
        self._strikes = 0
        self._patience = _STRIKES
        self._begin()

    def _begin(self) -> None:
        self.settled = False
        """Whether it has found the best setting."""
        self._used = 0
        self._usual_s: float | None = None
        self._best, self._least_s = INLINE, math.inf
        self._search = self._climb()
        self._try(next(self._search))

    @property
    def window(self) -> int:
        """How many steps to watch together, once it has settled."""
        enough = math.ceil(_WINDOW_S / max(self._least_s, 1e-9))
        return min(max(enough, _WINDOW_STEPS), _MOST_WINDOW_STEPS)

    def note(self, waited_s: float, away_s: float, worked_s: float = 0.0) -> None:
        """Note what a step with `setting` took.

        Args:
            waited_s: seconds for which the consumer waited for the batch, or made it.
            away_s: seconds until it asked for the next.
            worked_s: of those waited, the seconds of processor time in the consumer's thread.
        """
        if self.settled or not self._lock.acquire(blocking=False):  # a step of another thread's
            return
        try:
            self._used += 1
            if self._skip:
                self._skip -= 1
                return
            self._noted.append(_Figures(waited_s, away_s, worked_s))
            self._took_s += waited_s + away_s
            is_long = self._took_s >= _LONG_S and len(self._noted) > self.setting.workers + 1
            if is_long or len(self._noted) >= self._enough:
                self._advance(_typical(self._noted, self.setting.ahead))
        finally:
            self._lock.release()

    @property
    def _enough(self) -> int:
        """How many steps tell what the setting is worth."""
        first = self._noted[:_INLINE_STEPS]
        is_doubtful = self._steps == _INLINE_STEPS and _are_unlike(first)
        return _UNLIKE_STEPS if is_doubtful else self._steps

    def note_starting(self) -> bool:
        """Count a step that others made while processes start; return whether to keep waiting."""
        self._used += 1
        self._started += 1
        return self._started <= MOST_STARTING

    def watch(self, step_s: float) -> None:
        """Note how long the steps of a window took on average; begin again if that has changed."""
        with self._lock:
            if not self.settled:
                return
            if self._usual_s is None:  # the few steps of the trial may have been lucky ones
                differs = step_s >= _FACTOR * self._least_s
                self._usual_s = None if differs else step_s
            else:
                differs = not 1 / _FACTOR < step_s / self._usual_s < _FACTOR
            self._strikes = self._strikes + 1 if differs else 0
            if self._strikes >= self._patience:
                self._patience = min(2 * self._patience, _MOST_STRIKES)
                self._strikes = 0
                self._begin()

    def refuse(self, kind: Kind, why: str) -> None:
        """Note that workers of this kind can't be had, or fail where the consumer does not."""
        with self._lock:
            if kind in self.without:
                return
            self.without[kind] = why
            if self.setting.kind != kind:
                return
            if self.settled:
                self._begin()
            else:
                self._advance(None)

    # ---------------------------------------------------------------- the search

    def _try(self, setting: Setting) -> None:
        self._noted: list[_Figures] = []
        self._took_s, self._started = 0.0, 0
        self._skip, self._steps = _length(setting)
        self.setting = setting
        """Who makes the next batch."""

    def _advance(self, figures: _Figures | None) -> None:
        try:
            self._try(self._search.send(figures))
        except StopIteration:
            self.setting, self.settled = self._best, True

    def _climb(self) -> _Search:
        limits = self.limits
        figures = yield INLINE
        assert figures is not None
        self._least_s, cost_s = figures.step_s, figures.waited_s
        if cost_s < max(_HANDING_OVER_S, _LITTLE * figures.step_s):
            return
        busy = min(figures.worked_s / cost_s, 1.0)
        # A step takes at least as long as the consumer is away, and as all cores together work.
        possible_s = max(figures.away_s, cost_s * busy / limits.cores, 1e-6)
        wanted = math.ceil(cost_s / possible_s)
        hindered: set[Kind] = set()
        most: dict[Kind, int] = {
            "threads": max(wanted, limits.cores) if busy > _BUSY else MOST_THREADS,
            "processes": 2 * limits.cores,
        }
        # Twice as many threads as the interpreter would let work, if all the work needed it.
        few = 2 * math.ceil(1 / max(busy, 2 / MOST_THREADS))
        few = min(wanted, few if few <= MOST_THREADS // 2 else MOST_THREADS)
        firsts: tuple[tuple[Kind, int], ...] = (
            ("threads", few),
            ("threads", min(wanted, most["threads"])),
            ("processes", min(wanted, most["processes"])),
        )
        for kind, number in firsts:
            expected_s = max(possible_s, cost_s / number)
            is_worth_it = expected_s <= self._least_s * (1 - _GAIN)
            if self._least_s > _NEAR * possible_s and is_worth_it and kind not in hindered:
                yield from self._try_one(self._fitting(kind, number))
                if self._least_s > _HINDERED * (expected_s + _HANDING_OVER_S):
                    hindered.add(kind)
        if self._best == INLINE:  # perhaps too many for a model that needs the cores
            yield from self._try_numbers("threads", min(wanted, most["threads"]), 0.5, possible_s)
        else:
            kind, number, _ = self._best
            # What is possible was estimated, and too high if something else took the cores.
            yield from self._try_numbers(kind, number, 2.0, figures.away_s, most[kind])
        kind, workers, ahead = self._best
        if kind != "inline" and not limits.are_gathered and self._least_s > _NEAR * possible_s:
            yield from self._try_one(self._fitting(kind, workers, 2 * ahead))

    def _try_numbers(
        self, kind: Kind, number: int, factor: float, possible_s: float, most: int = MOST_THREADS
    ) -> _Search:
        """Try more workers or fewer, as long as that is better."""
        is_better = True
        while is_better and self._least_s > _NEAR * possible_s:
            number = int(number * factor)
            if not 1 <= number <= most:
                return
            is_better = yield from self._try_one(self._fitting(kind, number))

    def _try_one(self, setting: Setting | None) -> Generator[Setting, _Figures | None, bool]:
        """Try a setting; whether it is better than the best so far."""
        if setting is None or setting == self._best or setting.kind in self.without:
            return False
        starting = MOST_STARTING if setting.kind == "processes" else 0
        if self._used + starting + sum(_length(setting)) > BUDGET:
            return False
        figures = yield setting
        if figures is None or figures.step_s > self._least_s * (1 - _GAIN):
            return False
        self._best, self._least_s = setting, figures.step_s
        return True

    def _fitting(self, kind: Kind, workers: int, ahead: int | None = None) -> Setting | None:
        """This many workers, or as many as there is memory for."""
        limits = self.limits
        if ahead is None:
            ahead = workers + (1 if limits.are_gathered else min(workers, _SPARE))
        room = limits.memory_bytes
        if kind == "processes":
            workers = min(workers, room // _PROCESS_BYTES)
            room -= workers * _PROCESS_BYTES
        batches = room // max(self.batch_bytes, 1) - _BESIDE_QUEUE
        ahead = min(ahead, batches, limits.most_ahead)
        workers = min(workers, ahead)
        if workers < 1:
            takes = f"a batch takes {in_words(self.batch_bytes)}"
            if kind == "processes":
                takes += f", a process {in_words(_PROCESS_BYTES)}"
            why = f"memory_limit leaves {in_words(limits.memory_bytes)}, and {takes}"
            self.without.setdefault(kind, why)
            return None
        return Setting(kind, workers, ahead)


def _length(setting: Setting) -> tuple[int, int]:
    """How many steps a trial skips, until it has taken effect, and how many it measures."""
    if setting.kind == "inline":
        return _COLD_STEPS, _INLINE_STEPS
    if setting.ahead <= _STEPS:
        return setting.ahead, 2 * _STEPS
    return setting.workers, setting.workers  # workers that all begin at once deliver in waves


def _typical(noted: list[_Figures], ahead: int) -> _Figures:
    """The average; of the better half if it is long enough, since something else may have run."""
    half = len(noted) // 2
    halves = [noted[:half], noted[half:]] if half > ahead + 1 else [noted]
    return min(map(_average, halves), key=lambda figures: figures.step_s)


def _are_unlike(noted: list[_Figures]) -> bool:
    """Whether some steps have taken far longer than others."""
    times_s = sorted(figures.step_s for figures in noted)
    return times_s[-1] > _FACTOR * times_s[0]


def _average(noted: list[_Figures]) -> _Figures:
    return _Figures(*map(fmean, zip(*noted, strict=True)))
