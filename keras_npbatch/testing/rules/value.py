"""Rules about the values in a batch: all were written, and all are finite."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.batches.as_array import as_array
from keras_npbatch.batches.parts import unpack
from keras_npbatch.samplers.own import is_plain
from keras_npbatch.testing.rules.rule import rule
from keras_npbatch.testing.rules.structure import batches_have_a_form_that_keras_takes
from keras_npbatch.testing.subject.memory import filled
from keras_npbatch.testing.subject.seen import Seen, contents
from keras_npbatch.testing.subject.subject import Subject, Unreadable

__all__ = ["every_row_of_a_batch_is_filled", "values_are_finite"]

_STEPS = 8
_EPOCHS = 4
_FEWEST_BATCHES = 3
_CHANCE = 1e-3
"""If the places of rows of one value are less likely than this by chance, they are a finding."""


@rule(
    why="The model is trained on samples that nobody made: zeros, or what the memory happened to "
    "hold, with the targets of nobody.",
    mend="Fill every row of the arrays made with np.zeros or np.empty: look for a return inside "
    "the loop, a loop over too few rows, a wrong index. Make the last batch as short as its "
    "samples: np.zeros((len(rows), ...)); or let rows that pad it have a sample_weight of 0.",
    after=(batches_have_a_form_that_keras_takes,),
)
def every_row_of_a_batch_is_filled(subject: Subject) -> Iterator[str]:
    """No row depends on what `np.empty` returns, and no place in a batch is always blank."""
    unwritten = list(_unwritten(subject))
    yield from unwritten
    if unwritten or (subject.reads_arrays and not subject.changes_batches):
        return
    epochs = [subject.epoch(0)]
    if [seen.inputs for seen in epochs[0]] != [seen.inputs for seen in subject.epoch(1)]:
        epochs.append(subject.epoch(1))  # an epoch in another order is more evidence
    # A sampler may put the same class at the same place of each batch.
    is_own_order = subject.is_ours and not is_plain(subject.dataset.plan.sampler)
    blank = list(_places_never_filled(epochs, are_targets_periodic=is_own_order))
    yield from blank
    if not blank:
        yield from _end_never_filled(subject, len(epochs) > 1)


# --- np.empty ----------------------------------------------------------------------------------


def _unwritten(subject: Subject) -> Iterator[str]:
    twin, told = subject.at_epoch(0), set[str]()
    for step in subject.steps(_STEPS):
        try:
            first, other, again = (_leaves(subject, twin, step, value) for value in (0, 1, 0))
        except Unreadable:  # only with the filling: np.empty is more than a function to the loader
            return
        if not all(_equal(a, b).all() for (_, a), (_, b) in zip(first, again, strict=True)):
            return  # it differs by itself
        for (path, a), (_, b) in zip(first, other, strict=True):
            differs = ~_equal(a, b).all(axis=tuple(range(1, a.ndim)))
            if differs.any() and path not in told:
                told.add(path)
                yield (
                    f"{differs.sum()} of {len(a)} rows of {path} in batch {step} hold what was in "
                    "the memory before: np.empty made them, and nothing wrote to them"
                )


def _leaves(
    subject: Subject, twin: Any, step: int, value: int
) -> list[tuple[str, npt.NDArray[Any]]]:
    with filled(value, type(subject.dataset)):
        parts = unpack(subject.read(twin, step), f"dataset[{step}]")
    return [(path, np.array(as_array(leaf))) for path, leaf in parts.leaves_with_paths()]


def _equal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if a.dtype.hasobject:  # np.empty fills it with None
        return np.ones(a.shape, bool)
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.zeros(a.shape, bool)
    equal: npt.NDArray[np.bool_] = np.asarray(a == b)
    return equal | ((a != a) & (b != b)) if a.dtype.kind in "fcmM" else equal


# --- np.zeros ----------------------------------------------------------------------------------


def _places_never_filled(
    epochs: Sequence[Sequence[Seen]], are_targets_periodic: bool
) -> Iterator[str]:
    """Rows of one value at the same places in all batches, and hardly anywhere else."""
    size = epochs[0][0].size
    full = [seen for epoch in epochs for seen in epoch if len(seen.inputs) == size]
    if len(full) < _FEWEST_BATCHES:
        return
    for part in ("x", "y"):
        # A target of one number may be periodic; with epochs in two orders it would not be.
        if not full[0].wide(part) and (len(epochs) == 1 or are_targets_periodic):
            continue
        keys = [seen.inputs if part == "x" else seen.targets for seen in full]
        blank = np.array([getattr(seen.blank, part) & ~seen.weightless for seen in full])
        if not blank.any():
            continue
        table = np.array([[hash(key) for key in row] for row in keys])
        value, _ = Counter(table[blank].tolist()).most_common(1)[0]
        alike = (table == value) & blank
        places = np.flatnonzero(alike.all(axis=0))
        if (table == table[0]).all():  # all batches are equal: another rule reports that
            continue
        if 0 < len(places) < alike.shape[1] and _chance(alike, len(places)) < _CHANCE:
            yield (
                f"{_described(places)} of {part} {'is' if len(places) == 1 else 'are'} blank, one "
                f"value all over, in each of {len(full)} batches"
            )


def _chance(alike: npt.NDArray[np.bool_], num_places: int) -> float:
    """The probability that all others are at the other places if they were placed at random."""
    num_batches, size = alike.shape
    others = int((~alike).sum())
    held = num_batches * (size - num_places)
    return math.exp(
        _log_ways(size, num_places) + _log_ways(held, others) - _log_ways(alike.size, others)
    )


def _log_ways(of: int, chosen: int) -> float:
    """The logarithm of the number of ways to choose `chosen` of `of` things."""
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)


def _described(places: npt.NDArray[np.intp]) -> str:
    first, last = int(places[0]), int(places[-1])
    if len(places) == 1:
        return f"row {first}"
    if last - first + 1 == len(places):
        return f"rows {first} to {last}"
    return f"{len(places)} rows, the first of them row {first},"


def _end_never_filled(subject: Subject, is_shuffled: bool) -> Iterator[str]:
    """Blank samples at the end of the last batch of each epoch, and nowhere else."""
    ends = set()
    for number in range(_EPOCHS if is_shuffled else 1):
        ends.add(_blank_at_the_end(subject.epoch(number)))
        if len(ends) > 1 or () in ends:
            return
    (end,) = ends
    if is_shuffled or (len(end) > 1 and subject.epoch(0)[0].wide("x")):
        told = "its last sample is" if len(end) == 1 else f"its last {len(end)} samples are"
        yield (
            f"the last batch is as large as the others, but {told} blank, one value all over, as "
            "no other sample is"
        )


def _blank_at_the_end(epoch: Sequence[Seen]) -> tuple[tuple[bytes, bytes], ...]:
    """The blank samples at the end of an epoch, all equal; empty if there are none."""
    *others, last = epoch
    if not others or len(last.inputs) != others[0].size or not last.size:
        return ()
    keys = contents(last)
    blank = last.blank.x & last.blank.y & ~last.weightless
    length = 0
    while length < len(keys) and blank[-1 - length] and keys[-1 - length] == keys[-1]:
        length += 1
    elsewhere = keys[: len(keys) - length] + [key for seen in others for key in contents(seen)]
    return tuple(keys[-length:]) if length and keys[-1] not in elsewhere else ()


# --- NaN ---------------------------------------------------------------------------------------


@rule(
    why="One such value makes the loss NaN, and after it every weight of the model.",
    mend="Clean the data (np.nan_to_num, a mask, leaving samples out), or look for a division by "
    "zero or a logarithm in what prepares them.",
    after=(batches_have_a_form_that_keras_takes, every_row_of_a_batch_is_filled),
)
def values_are_finite(subject: Subject) -> Iterator[str]:
    """No value is NaN or infinite; one finding for each leaf."""
    told: set[str] = set()
    for batch in subject.epoch(0):
        for leaf in batch.leaves:
            if leaf.not_finite and leaf.path not in told:
                told.add(leaf.path)
                yield (
                    f"{leaf.path} has {leaf.not_finite} values that are NaN or infinite in batch "
                    f"{batch.step}"
                )
