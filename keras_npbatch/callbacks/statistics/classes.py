"""How the class shares of some batches differ from those of the whole data.

    drift({0: 30, 1: 2}, {0: 900, 1: 100})        # 0.0375

For a dataset of arrays, the classes of the whole data are counted in the arrays. For any other
dataset they are those of one epoch read from its first batch to its last, which has each sample
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_npbatch.batches.class_counts import add_counts, classes_of
from keras_npbatch.batches.summary import Counts, Summary
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.deliveries import Delivery

__all__ = ["WholeData", "drift"]


def drift(counts: Counts, whole: Mapping[int, float]) -> float:
    """The total variation distance, from 0 to 1, between two distributions given by counts."""
    here, there = sum(counts.values()), sum(whole.values())
    numbers = counts.keys() | whole.keys()
    return 0.5 * sum(abs(counts.get(n, 0) / here - whole.get(n, 0) / there) for n in numbers)


class WholeData:
    """The class counts in the whole data, as soon as they are known.

    Args:
        dataset: the dataset.
        given: the counts that the user gives, by leaf, or None.

    Raises:
        InvalidArgumentError: if `given` is invalid.
    """

    def __init__(self, dataset: Any, given: Any) -> None:
        self._dataset = dataset
        self.counts: dict[str, Mapping[int, float]] = {
            name: _checked(name, counts) for name, counts in _items(given)
        }
        """The known counts, by leaf."""
        self._is_counted = self._is_read = False
        self._next: tuple[int, int] | None = None
        self._so_far: dict[str, Counts] = {}

    def begin(self) -> None:
        """Count the classes in the arrays, once."""
        if not self._is_counted:
            self._is_counted = True
            self.counts = dict(classes_of(self._dataset)) | self.counts

    def learn(self, delivery: Delivery, summary: Summary) -> None:
        """Add a batch; after a whole epoch, the other leaves are known too."""
        if self._is_read:
            return
        if delivery.step == 0 and not delivery.plan.skip:
            self._so_far, self._next = {}, (delivery.epoch, 0)
        if self._next != (delivery.epoch, delivery.step):
            return
        self._next = delivery.epoch, delivery.step + 1
        for name, counts in summary.classes.items():
            add_counts(self._so_far.setdefault(name, {}), counts)
        if delivery.is_last:
            self._is_read = True
            self.counts = dict(self._so_far) | self.counts


def _items(given: Any) -> list[tuple[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise InvalidArgumentError(
            f"class_counts is {describe(given)}; expected the counts of the whole data for each "
            "leaf, such as {'y': {0: 900, 1: 100}}."
        )
    return list(given.items())


def _checked(name: str, counts: Any) -> Mapping[int, float]:
    is_right = isinstance(counts, Mapping) and all(
        isinstance(number, int | np.integer) and isinstance(count, int | float | np.number)
        for number, count in counts.items()
    )
    if not is_right or not sum(counts.values()) > 0 or min(counts.values()) < 0:
        raise InvalidArgumentError(
            f"class_counts[{name!r}] is {describe(counts)}; expected class numbers with their "
            "counts or shares in the whole data, such as {0: 900, 1: 100}."
        )
    return {int(number): float(count) for number, count in counts.items()}
