"""`Summing`: what `BatchStatistics` keeps between batches, epochs and validations.

summing = watching_of(statistics, Summing)
summing.training.overall("data")        # the figures of the epoch so far
"""

from __future__ import annotations

import fnmatch
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from keras_npbatch.batches.summary import summarise
from keras_npbatch.callbacks.statistics.classes import WholeData, drift
from keras_npbatch.callbacks.statistics.epoch_figures import EpochFigures, of_classes, of_leaves
from keras_npbatch.callbacks.watching import Watching
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.fit.adapter import session_of
from keras_npbatch.fit.deliveries import Delivery, Watch

__all__ = ["Summing"]

_MOST_CLASSES_LOGGED = 20
"""For a leaf with more classes, the counts of the classes are only in `history`."""


class Summing(Watching):
    """The figures of the epoch of Keras, and of the validation in it, so far.

    Args:
        owner: the `BatchStatistics`, which has the history and the settings.
        dataset: what it watches.
        class_counts: see `BatchStatistics`.
    """

    of_one_fit = Watching.of_one_fit | {"validation_watch"}

    def __init__(self, owner: Any, dataset: Any, class_counts: Any) -> None:
        super().__init__(owner, dataset)
        self.whole = WholeData(dataset, class_counts)
        self.epoch: int | None = None
        """The number of the epoch, when its first batch is known."""
        self.keras_epoch = 0
        self.training = EpochFigures()
        self.validated: EpochFigures | None = None
        self.last_test_step = -1

    def forget_fit(self) -> None:
        """Reset what belongs to a `fit`."""
        super().forget_fit()
        self.validation_watch = self.new_watch()

    def new_watch(self) -> Watch:
        """What notes the batches and lets workers compute their figures."""
        return Watch(summarise)

    def begin_fit(self) -> None:
        """Count the classes in the whole data."""
        self.validation_watch = self.new_watch()
        self.whole.begin()

    def begin_epoch(self, epoch: int) -> None:
        """Start counting an epoch of Keras."""
        self.keras_epoch, self.epoch = epoch, None
        self.training, self.validated = EpochFigures(), None

    def begin_validation(self, dataset: Any) -> None:
        """Start counting what validation reads.

        Raises:
            InvalidArgumentError: if `fit` was given another dataset for it.
        """
        served = session_of(dataset, self.session.model)
        if served is None or served[1] is self.session:
            raise InvalidArgumentError(
                f"BatchStatistics was given validation={dataset!r}, which fit was not "
                "given as validation_data; expected the very dataset."
            )
        _, session = served
        if self.validation_watch not in session.watches:
            session.watches.append(self.validation_watch)
        self.validated, self.last_test_step = EpochFigures(), -1

    def validated_up_to(self, step: int) -> None:
        """Add the batches of the validation steps that have ended."""
        if self.validated is not None:
            steps, self.last_test_step = step - self.last_test_step, step
            for delivery in self.validation_watch.trained(steps):
                self.validated.add(delivery.summary, delivery)

    def logged(self, figures: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
        """The figures that `log` selects."""
        owner, everything = self.owner, {**figures, **counts}
        if not owner.epochs:
            strangers = [
                pattern
                for pattern in owner.log
                if not _matching(everything, pattern) and not pattern.startswith("val_")
            ]
            if strangers:
                warnings.warn(
                    f"BatchStatistics was given log={strangers}, which names no figure; expected "
                    f"some of {', '.join(sorted(everything))}.",
                    stacklevel=2,
                )
        found = {name for pattern in owner.log for name in _matching(figures, pattern)}
        return {name: everything[name] for name in everything if name in found | {*owner.log}}

    def number(self, delivery: Delivery | None) -> int:
        """The number of the Keras epoch that begins with this batch.

        Keras counts from 0 in each `fit`; the epochs of the data continue, even in another process.
        """
        owner, found = self.owner, [self.keras_epoch]
        if owner.epochs:
            found.append(owner.epochs[-1] + 1)
        if delivery is not None:
            steps = self.session.steps_per_epoch
            batches = delivery.plan.num_batches
            at = delivery.epoch * batches + delivery.step
            found.append(delivery.epoch if steps is None else at // steps)
        return max(found)

    def is_rest(self, delivery: Delivery) -> bool:
        """Whether the batch is not the first of its epoch, because the epoch was resumed."""
        is_whole = self.session.steps_per_epoch is None
        return is_whole and (delivery.step > 0 or delivery.plan.skip > 0)

    def figures(self, root: str, tally: EpochFigures) -> tuple[dict[str, float], dict[str, float]]:
        """The figures to log, and the counts of all classes."""
        figures = tally.overall(root) | of_leaves(tally.moments, root)
        counts: dict[str, float] = {}
        for name, found in tally.classes.items():
            whole = self.whole.counts.get(name)
            figures[f"{root}/{name}/drift"] = math.nan if whole is None else drift(found, whole)
            known = re.compile(rf"{re.escape(root)}/{re.escape(name)}/class_(-?\d+)")
            before = [int(match[1]) for match in map(known.fullmatch, self.owner.history) if match]
            complete = dict.fromkeys([*before, *(whole or ())], 0) | found
            in_classes = of_classes({name: complete}, root)
            counts |= in_classes
            if len(complete) <= _MOST_CLASSES_LOGGED:
                figures |= in_classes
        return figures, counts


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
