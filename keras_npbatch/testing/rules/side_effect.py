"""Rules about side effects of a dataset: on the global generators, and on the caller's data."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.testing.rules.rule import Told, rule
from keras_npbatch.testing.rules.structure import every_batch_can_be_read
from keras_npbatch.testing.subject import digests
from keras_npbatch.testing.subject.randomness import SEEDED_BY, states
from keras_npbatch.testing.subject.subject import Subject, Unreadable
from keras_npbatch.tree import leaves

__all__ = ["global_generators_are_left_as_they_are", "hooks_leave_the_data_as_they_are"]

_HOOKS = ("on_epoch_begin", "on_epoch_end")


@rule(
    why="Everything else in the program that draws from them repeats itself from then on: other "
    "datasets, augmentation, dropout, the split that comes next.",
    mend="Seed no global generator. Keep one of your own, np.random.default_rng((seed, epoch)) or "
    "random.Random(seed), and draw from that.",
    after=(every_batch_can_be_read,),
)
def global_generators_are_left_as_they_are(subject: Subject) -> Iterator[str]:
    """No call leaves a generator in the same state whatever its state was: that is seeding it."""
    twin = subject.at_epoch(0)
    last = subject.num_batches - 1

    def calls(seed: int) -> Iterator[str]:
        for step in dict.fromkeys((0, last)):
            subject.read(twin, step, seed=seed)
            yield "dataset[i]"
        for name in _HOOKS:
            subject.call_hook(twin, name, seed)
            yield f"{name}()"
        if subject.with_seed is not None:
            subject.made_with(0, seed)
            yield "with_seed(0)"

    runs = [[(call, states()) for call in calls(seed)] for seed in (1, 2)]
    told: set[tuple[str, str]] = set()
    for (call, one), (_, other) in zip(*runs, strict=True):
        for name in one.keys() & other.keys():
            if one[name] == other[name] and (call, name) not in told:
                told.add((call, name))
                yield f"{call} seeds the global generator of {name} ({SEEDED_BY[name]})"


@rule(
    why="The arrays are the caller's: they stay changed after fit, for evaluate and for whoever "
    "else holds them. The changes pile up with each call, and Keras calls the hooks more often "
    "than once an epoch.",
    mend="Keep the data as they are, and change a copy: self.x = original * factor, or change the "
    "batch in __getitem__. An array of indices may be shuffled in place.",
    after=(every_batch_can_be_read,),
)
def hooks_leave_the_data_as_they_are(subject: Subject) -> Iterator[str | Told]:
    """Values don't change in place depending on what they were; only their order may change."""
    for hook in _HOOKS:
        for name in vars(subject.dataset):
            if _piles_up(subject, name, hook):
                yield f"{hook}() writes into {name}: values of it change in place"
            elif _is_held_by_others(subject.dataset, name) and _reorders(subject, name, hook):
                yield Told(
                    f"{hook}() changes the order of {name} in place, which others hold too",
                    why="Whoever made the dataset finds the order changed: of labels in another "
                    "list, say, or of the files of a second dataset.",
                    mend="Shuffle a copy, self.files = list(files), or an array of indices.",
                    is_fault=False,
                )


def _is_held_by_others(dataset: Any, name: str) -> bool:
    """Whether an array or list of a dataset has references other than the dataset's."""
    value = vars(dataset)[name]
    # Three references: those of the dataset, of `value`, and of the call.
    return isinstance(value, np.ndarray | list) and sys.getrefcount(value) > 3


def _reorders(subject: Subject, name: str, hook: str) -> bool:
    twin = subject.at_epoch(0)
    value = getattr(twin, name)
    before = list(value)
    subject.call_hook(twin, hook)
    return not all(map(np.array_equal, before, value))


def _piles_up(subject: Subject, name: str, hook: str) -> bool:
    def run(added: int) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        twin = subject.at_epoch(0)
        arrays = _data_in(getattr(twin, name, None))
        for array in arrays:
            array += array.dtype.type(added)
        before = [array.copy() for array in arrays]
        subject.call_hook(twin, hook)
        return list(zip(before, arrays, strict=True))

    if not _data_in(vars(subject.dataset)[name]):
        return False
    plain = run(0)
    changed = [number for number, (was, now) in enumerate(plain) if _has_other_values(was, now)]
    if not changed:
        return False
    try:
        disturbed = run(1)
    except Unreadable:
        return False
    # An array filled from other data, whatever it held, is the dataset's own buffer.
    return any(not np.array_equal(plain[n][1], disturbed[n][1], equal_nan=True) for n in changed)


def _has_other_values(was: npt.NDArray[Any], now: npt.NDArray[Any]) -> bool:
    """Whether the values differ, and not only in their order."""
    if np.array_equal(was, now, equal_nan=True) or not was.ndim:
        return False
    return Counter(digests.samples(was, len(was))) != Counter(digests.samples(now, len(now)))


def _data_in(value: Any) -> list[npt.NDArray[Any]]:
    """The arrays in an attribute that hold data: numbers, but not counters or indices."""
    return [
        leaf
        for leaf in leaves(value)
        if isinstance(leaf, np.ndarray)
        and leaf.flags.writeable
        and not isinstance(leaf, np.memmap)
        and leaf.size
        and (leaf.dtype.kind in "fc" or (leaf.dtype.kind in "iu" and leaf.ndim > 1))
    ]
