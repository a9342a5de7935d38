"""Slower, faster, or noise? A rule for the rounds of two runs.

    old, new = [1.02, 1.01, 1.04, 1.02, 1.03, 1.01], [1.31, 1.28, 1.30, 1.29, 1.33, 1.30]
    verdict(old, new)      # "slower"

Each run gives the ratios of its rounds: a time to that of the limit in the same round. Between the
k-th smallest and the k-th largest of n lies the median of what they were drawn from, with a
probability that depends on n alone, not on how they scatter: n fair coins decide which of them are
below it. `interval` takes the narrowest that holds it with 95 %. A change is told where

1. the intervals of the two runs don't overlap, and
2. their medians differ by 10 % or more.

The first says that the rounds can't be noise; of two runs without a change, less than one in a
hundred would be told. The second is needed since a run is one process: where its memory lies, and
what else the machine did in those minutes, is the same in all of its rounds, and moves a ratio by
some percent from run to run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal, TypeAlias

__all__ = ["LEAST_CHANGE", "LEAST_ROUNDS", "Verdict", "change", "interval", "verdict"]

Verdict: TypeAlias = Literal["slower", "faster", "within noise", "too few rounds"]

LEAST_CHANGE = 0.10
"""A smaller one is not told: it is what a process does to a ratio."""

_MISSED = 0.05
"""How often an interval may miss the median."""

LEAST_ROUNDS = 6
"""Of fewer, even all together may miss it more often."""


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """What holds the median with 95 % or more; of fewer than six ratios, all of them."""
    n = len(ratios)
    outside, k = 0, 0  # the number of ways in which k coins or fewer of n show heads
    while 2 * (outside + math.comb(n, k)) <= _MISSED * 2**n:
        outside += math.comb(n, k)
        k += 1
    in_order = sorted(ratios)
    return in_order[max(k - 1, 0)], in_order[min(n - k, n - 1)]


def change(old: Sequence[float], new: Sequence[float]) -> float:
    """How many times as long as before, by the medians: 1.2 is a fifth more."""
    return statistics.median(new) / statistics.median(old)


def verdict(old: Sequence[float], new: Sequence[float]) -> Verdict:
    """What became of a ratio from one run to another."""
    if min(len(old), len(new)) < LEAST_ROUNDS:
        return "too few rounds"
    (old_low, old_high), (new_low, new_high) = interval(old), interval(new)
    times = change(old, new)
    if new_low > old_high and times >= 1 + LEAST_CHANGE:
        return "slower"
    if new_high < old_low and 1 / times >= 1 + LEAST_CHANGE:
        return "faster"
    return "within noise"
