"""Cuts through the rows of the data that respect classes and groups.

    cut = stratified(codes, [0.8, 0.2], seed=0)      # 0 or 1 for each row: its part

`stratified` cuts each class in the same fractions, give or take one row. `grouped` keeps the rows
of a group together: which part a group is in is decided by a hash of the group alone, so that rows
which are appended move none. `dealt` can't do both exactly: it deals out the groups, the largest
first, each to the part that lacks most of its classes; of several such, to the emptiest one.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng

__all__ = ["dealt", "grouped", "stratified"]

_Codes = npt.NDArray[np.int64]

_WEIGHTS = (0, 1, 4, 16, 64)
"""Weights for the size of a part, next to its classes: the first that leaves no part empty is used.
With 0, a few groups of one class each might all go to one part."""


def stratified(codes: _Codes, shares: Sequence[Fraction], seed: int) -> _Codes:
    """The part of each row, each class cut in these fractions, give or take one row.

    Args:
        codes: the class of each row, from 0 up.
        shares: the fraction of each part; they sum to 1.
        seed: another one gives other rows to each part.
    """
    parts = np.empty(len(codes), np.int64)
    by_class = np.argsort(codes, kind="stable")
    begin = 0
    # What each part has too little of, over the classes so far: so the sizes of parts are right.
    lacking = [Fraction(0)] * len(shares)
    for number, count in enumerate(np.bincount(codes).tolist()):
        rows = by_class[begin : begin + count]
        begin += count
        wanted = [share * count for share in shares]
        sizes = [int(each) for each in wanted]
        lacking = [old + new - int(new) for old, new in zip(lacking, wanted, strict=True)]
        can_grow = [index for index, each in enumerate(wanted) if each != int(each)]
        can_grow.sort(key=lambda index: (-lacking[index], index))
        for index in can_grow[: count - sum(sizes)]:
            sizes[index] += 1
            lacking[index] -= 1
        generator = rng.generator(seed, rng.Purpose.SPLIT, 2**63, number)
        parts[generator.permutation(rows)] = np.repeat(np.arange(len(shares)), sizes)
    return parts


def grouped(codes: _Codes, names: Sequence[Any], shares: Sequence[Fraction], seed: int) -> _Codes:
    """The part of each row, by a hash of its group.

    Args:
        codes: the group of each row, from 0 up.
        names: the name of each group: an integer or a string.
        shares: the fraction of the groups in each part; they sum to 1.
        seed: another one gives other groups to each part.
    """
    ends = np.cumsum([float(share) for share in shares])[:-1]
    of_groups = np.searchsorted(ends, [_hashed(name, seed) for name in names], side="right")
    found: _Codes = of_groups[codes]
    return found


def dealt(
    groups: _Codes,
    codes: _Codes,
    names: Sequence[Any],
    shares: Sequence[Fraction],
    seed: int,
    what: str,
) -> _Codes:
    """The part of each row: groups stay together, and classes come close to these fractions.

    Args:
        groups: the group of each row, from 0 up.
        codes: the class of each row, from 0 up.
        names: the names of the classes; empty if there are none, and all codes are 0.
        shares: the fraction of each part; they sum to 1.
        seed: decides between groups of equal size.
        what: the call, for the warning about what could not be met.
    """
    num_groups, num_classes = int(groups.max()) + 1, int(codes.max()) + 1
    # Each group with the classes that it has, as adjacent pairs: a table would be mostly 0.
    pairs, counts = np.unique(groups * num_classes + codes, return_counts=True)
    begins = np.searchsorted(pairs, np.arange(num_groups + 1) * num_classes)
    fractions = np.array([float(share) for share in shares])[:, np.newaxis]
    totals = np.bincount(codes, minlength=num_classes).astype(np.float64)
    order = rng.generator(seed, rng.Purpose.SPLIT, 2**63 + 1).permutation(num_groups)
    order = order[np.argsort(-np.bincount(groups)[order], kind="stable")]
    for weight in _WEIGHTS:
        had, filled = np.zeros((len(shares), num_classes)), np.zeros((len(shares), 1))
        of_groups = np.empty(num_groups, np.int64)
        for group in order.tolist():
            span = slice(begins[group], begins[group + 1])
            here, more = pairs[span] % num_classes, counts[span]
            size = more.sum()
            cost = _cost(had[:, here], more, fractions * totals[here])
            cost += weight * _cost(filled, size, fractions * len(codes))
            part = int(np.lexsort((filled[:, 0] / fractions[:, 0], cost))[0])
            had[part, here] += more
            filled[part] += size
            of_groups[group] = part
        if filled.all():
            break
    _tell(had, fractions * totals, names, what)
    found: _Codes = of_groups[groups]
    return found


def _cost(had: npt.NDArray[Any], more: Any, wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """By how much farther from what is wanted each part would be with that much more."""
    found: npt.NDArray[Any] = ((2 * (had - wanted) + more) * more / wanted).sum(axis=1)
    return found


def _tell(had: npt.NDArray[Any], wanted: npt.NDArray[Any], names: Sequence[Any], what: str) -> None:
    off = np.abs(had - wanted)
    if off.max() <= 1 or (off / np.maximum(wanted, 1)).max() <= 0.1:
        return
    part, number = np.unravel_index((off / np.maximum(wanted, 1)).argmax(), off.shape)
    of_class = f" of class {names[number]!r}" if names else ""
    warnings.warn(
        f"{what} keeps groups together, so its parts can't be as asked: part {part} has "
        f"{int(had[part, number])} rows{of_class}, and {wanted[part, number]:.1f} would be its "
        "share. More and smaller groups come closer.",
        stacklevel=7,  # where the user calls `split` or `folds`
    )


def _hashed(name: Any, seed: int) -> float:
    """A number from 0 to 1 for a group."""
    kind = "text" if isinstance(name, str) else "number"
    digest = hashlib.blake2b(f"{seed} {kind} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
