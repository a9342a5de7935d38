"""Shares of an epoch as whole numbers of samples.

shares([0.7, 0.3], sizes=[100, 50], until="first")      # [98, 42]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor, lcm
from typing import Any, Literal, TypeAlias

from keras_npbatch.arguments import whole_number
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.samplers.order import MAX_ROWS

__all__ = ["Until", "shares"]

Until: TypeAlias = Literal["first", "longest"] | int
"""When an epoch of several datasets ends: with the first that has come to its end, with the
longest, or after a number."""

_MOST_DENOMINATOR = 10**6
"""Weights such as 0.7 are taken for the fraction that was meant."""


def shares(weights: Sequence[float], sizes: Sequence[int], until: Until) -> list[int]:
    """How many samples of each dataset an epoch has.

    Args:
        weights: the share of each dataset, of any scale.
        sizes: samples in an epoch of each dataset.
        until: when an epoch ends: `"first"`, `"longest"`, or how many samples it has.

    Raises:
        InvalidArgumentError: for weights that are not numbers above 0, or an epoch that has no
            sample of a dataset.
    """
    exact = _fractions(weights, len(sizes))
    most = [Fraction(size) / share for size, share in zip(sizes, exact, strict=True)]
    # Whole shares, where that costs little: then they are exact, not only within one.
    step = lcm(*(share.denominator for share in exact))
    if until == "first":
        total = floor(min(most))
        total = total - total % step if total >= 4 * step else total
    elif until == "longest":
        total = ceil(max(most))
        total = -(-total // step) * step if total >= 4 * step else total
    elif isinstance(until, str):
        raise InvalidArgumentError(
            f"until is {describe(until)}; expected 'first', 'longest', or how many samples an "
            "epoch has."
        )
    else:
        total = whole_number("until", until, least=1, most=MAX_ROWS)
    counts = [floor(share * total) for share in exact]
    rests = [share * total % 1 for share in exact]
    for index in sorted(range(len(sizes)), key=lambda index: -rests[index])[: total - sum(counts)]:
        counts[index] += 1
    if 0 in counts:
        index = counts.index(0)
        raise InvalidArgumentError(
            f"an epoch of {total} samples has none of datasets[{index}], whose share is "
            f"{float(exact[index]):.3g}; expected at least one of each. Give a larger weight, or "
            "more samples: until=..."
        )
    return counts


def _fractions(weights: Any, count: int) -> list[Fraction]:
    expected = f"expected a number above 0 for each of the {count} datasets"
    try:
        found = None if isinstance(weights, Mapping) else [float(weight) for weight in weights]
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise InvalidArgumentError(f"weights is {describe(weights)}; {expected}.") from None
    if len(found) != count or not all(0 < weight < float("inf") for weight in found):
        raise InvalidArgumentError(
            f"weights is {found}; {expected}. To leave a dataset out, don't give it."
        )
    exact = [Fraction(weight).limit_denominator(_MOST_DENOMINATOR) for weight in found]
    if 0 in exact:  # far below the others
        exact = [Fraction(weight) for weight in found]
    return [weight / sum(exact) for weight in exact]
