"""Times on a machine that others use too: everything once a round, and ratios within a round.

    times = interleave({"limit": limit, "mine": mine}, Rounds(enough=9, budget_s=60))
    times.ratio("mine", "limit")

What else the machine does lasts longer than a run. So two runs are compared only within a round,
where they were neighbours; a round begins when other processes are quiet; and of rounds that were
disturbed all the same, only the quieter half counts. Which rounds those are is told by what others
did, never by the times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.change import interval
from benchmarks.neighbours import QUIET_CORES, Watch, wait_for_quiet

__all__ = ["Rounds", "Times", "interleave", "seconds_of", "spread"]

_LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often everything is run."""

    enough: int
    """Quiet rounds after which it is."""
    budget_s: float
    """After this time no round begins, quiet or not, once there are three (or `enough`)."""


@dataclass(frozen=True, slots=True)
class Round:
    """Everything once."""

    seconds: Mapping[str, float]
    """Of each run."""
    others: float
    """Cores that other processes kept busy meanwhile."""


class Times:
    """The rounds that count."""

    def __init__(self, rounds: list[Round]) -> None:
        quiet = [one for one in rounds if one.others <= QUIET_CORES]
        if len(quiet) < _LEAST_ROUNDS:
            quiet = sorted(rounds, key=lambda one: one.others)[
                : max(_LEAST_ROUNDS, len(rounds) // 2)
            ]
        self._rounds = quiet

    def __len__(self) -> int:
        return len(self._rounds)

    def seconds(self, *names: str) -> float:
        """The median time of a run, or of several that are the same."""
        return statistics.median(one.seconds[name] for one in self._rounds for name in names)

    def ratios(self, name: str, other: str) -> list[float]:
        """A run's time to that of another, for each round."""
        return [round(one.seconds[name] / one.seconds[other], 4) for one in self._rounds]

    def ratio(self, name: str, other: str) -> float:
        """The median of a run's time to that of another in the same round."""
        return statistics.median(self.ratios(name, other))

    def told(self, column: str, name: str, other: str) -> dict[str, Any]:
        """The columns of a row that tell a ratio, how it scatters, and how far to trust it."""
        ratios = self.ratios(name, other)
        return {
            column: statistics.median(ratios),
            "spread": spread(ratios),
            "ratios": ratios,
            "rounds": len(self),
            "others": self.others,
        }

    @property
    def others(self) -> float:
        """Cores that other processes took, in the median: how far the times can be trusted."""
        return statistics.median(one.others for one in self._rounds)


def spread(ratios: list[float]) -> str:
    """Between which ratios the median lies, as text."""
    low, high = interval(ratios)
    return f"{low:.2f}-{high:.2f}"


def seconds_of(run: Callable[[], object]) -> float:
    """The time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleave(runs: Mapping[str, Callable[[], float]], rounds: Rounds) -> Times:
    """Calls each of `runs`, which return their seconds, once a round.

    Each round begins with another one: who comes first after a wait finds the processor rested, and
    who comes after a heavy one finds its caches full.
    """
    names = list(runs)
    until = time.perf_counter() + rounds.budget_s
    done: list[Round] = []
    while sum(one.others <= QUIET_CORES for one in done) < rounds.enough:
        if len(done) >= min(_LEAST_ROUNDS, rounds.enough) and time.perf_counter() > until:
            break
        wait_for_quiet(until)
        watch = Watch()
        first = len(done) % len(names)
        seconds = {name: runs[name]() for name in names[first:] + names[:first]}
        done.append(Round(seconds, watch.cores()))
    return Times(done)
