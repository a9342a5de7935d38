"""`SampleBatches`: what a `SampleDataset` is without Keras: samples that are read one by one.

`load(rows)` calls `load_sample(row)` for each row, and writes the samples into the arrays of the
batch; see `collate`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_npbatch.arguments import row_numbers
from keras_npbatch.batches.collate import Collating, note_row
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.generators import of_rows
from keras_npbatch.batches.loader import Batches, begin
from keras_npbatch.batches.map_style import MapStyle
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.transforms import name_of, wants_rng
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.position import Fingerprint
from keras_npbatch.rng import Purpose
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree

__all__ = ["SampleBatches", "SampleCore", "overridden", "sample_core_of"]

_TOLD_BY = "load_sample(row)"


class SampleCore(Core):
    """The core of a dataset of samples.

    Args:
        owner: the dataset.
        load_sample: the user's function, or a `MapStyle`; None if the owner has a method instead.
        num_samples: see `SampleDataset`, as for the settings.
        overridden: the methods that the owner overrides; see `overridden`.
    """

    from_user = (*Core.from_user, "load_sample")

    def __init__(
        self,
        owner: Any,
        load_sample: Any,
        num_samples: Any,
        *,
        overridden: Collection[str],
        **settings: Any,
    ) -> None:
        name, has_own = type(owner).__name__, "load_sample" in overridden
        _refuse_overrides(name, overridden)
        _refuse_arguments(name, load_sample, num_samples, has_own)
        self.load_sample = load_sample
        """The user's function; None if the dataset has a method of its own."""
        super().__init__(owner, num_samples, **settings)
        told = f"{name}.load_sample" if has_own else "load_sample"
        self.load_draws = wants_rng(self._function, told, "row")
        if self.cache is not None and self.load_draws:
            raise InvalidArgumentError(
                f"cache was given to {name}, and {told} draws random numbers; expected samples "
                "that depend on their rows alone. Draw in augment=each(f), f(sample, rng)."
            )

    @property
    def _function(self) -> Any:
        return self.owner.load_sample if self.load_sample is None else self.load_sample

    def load(self, rows: Any) -> Tree:
        """The batch of any rows, after checking them."""
        checked = row_numbers(rows, self.plan.num_rows)
        if not len(checked):
            raise InvalidArgumentError(
                "rows is empty; expected at least one row: the shapes of a batch are those of its "
                "samples."
            )
        return self.gather(checked, self._drawn(checked) if self.load_draws else None)

    def one(self, row: Any) -> Tree:
        """The sample of a row, as the user's function gives it."""
        checked = row_numbers([row], self.plan.num_rows)
        return self._sample(int(checked[0]), self._drawn(checked)[0] if self.load_draws else None)

    def gather(self, rows: Rows, drawn: Sequence[np.random.Generator] | None = None) -> Tree:
        """The batch of rows that are known to be in range.

        Args:
            rows: row numbers, at least one.
            drawn: the generator of each, if `load_sample` takes one.
        """
        numbers = rows.tolist()
        collating = Collating(numbers, self.slots.lease, _TOLD_BY, self.collate)
        many = self.load_sample.many if isinstance(self.load_sample, MapStyle) else None
        samples = None if many is None else many(numbers)
        for at, row in enumerate(numbers):
            try:
                if samples is not None:
                    collating.add(samples[at])
                else:
                    collating.add(self._sample(row, None if drawn is None else drawn[at]))
            except Exception as error:
                note_row(error, row)
                raise
        return collating.batch()

    def _sample(self, row: int, drawn: np.random.Generator | None) -> Tree:
        return self._function(row) if drawn is None else self._function(row, drawn)

    def _drawn(self, rows: Rows) -> list[np.random.Generator]:
        """The generators for the first time that each row comes in the next epoch."""
        return of_rows(
            self.plan.seed, Purpose.LOAD_OF_SAMPLE, self.epoch, rows, np.zeros_like(rows)
        )

    def loading(self, plan: Plan, training: bool = True) -> Recipe:
        """How any batch is made from samples."""
        return replace(
            super().loading(plan, training),
            # The rows of a plan are in range.
            load=self.gather if self.load_draws else self.cached(self.gather),
            name=_TOLD_BY,
            load_draws_by_sample=self.load_draws,
        )

    def collated(self, load: Callable[..., Tree]) -> Callable[..., Tree]:
        """`load` itself, which pads the samples as it puts them together."""
        return load

    @property
    def made_by(self) -> str:
        """The method or function of the user's that makes batches, for messages."""
        return _TOLD_BY

    def fingerprint(self) -> Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        return super().fingerprint() | self._function_told

    def told_of_data(self, name: str) -> dict[str, Any]:
        """What identifies the data: also the name of the user's function."""
        return super().told_of_data(name) | self._function_told

    @property
    def _function_told(self) -> dict[str, Any]:
        return {} if self.load_sample is None else {"load_sample": name_of(self.load_sample)}


class SampleBatches(Batches):
    """Batches of samples that are read one by one; see `SampleDataset` for the arguments."""

    def __init__(
        self, load_sample: Any = None, *, num_samples: int | None = None, **settings: Any
    ) -> None:
        own = overridden(type(self), SampleBatches)
        begin(self, SampleCore, load_sample, num_samples, overridden=own, **settings)

    def load_sample(self, row: int) -> Tree:
        """See `SampleDataset.load_sample`."""
        return sample_core_of(self).one(row)

    def load(self, rows: Rows) -> Tree:
        """See `SampleDataset.load`."""
        return sample_core_of(self).load(rows)


def sample_core_of(dataset: Any) -> SampleCore:
    """The core of a dataset of samples."""
    core = core_of(dataset)
    assert isinstance(core, SampleCore)
    return core


def _refuse_arguments(name: str, load_sample: Any, num_samples: Any, has_own: bool) -> None:
    """Refuse arguments that don't say, in one way, how samples are read.

    Raises:
        InvalidArgumentError: saying what to write.
    """
    if load_sample is None and not has_own:
        raise InvalidArgumentError(
            f"{name} was given no load_sample; expected a function of a row: "
            f"{name}(load_sample, num_samples=...), or a subclass with load_sample(self, row). A "
            f"dataset of samples, such as one of torch: {name}.of(dataset)."
        )
    if load_sample is not None and has_own:
        raise InvalidArgumentError(
            f"{name} was given {describe(load_sample)} and has a method load_sample; expected one "
            "of them: super().__init__(num_samples=...)."
        )
    if load_sample is not None and not callable(load_sample):
        remedy = f"Write {name}(load_sample, num_samples=...)."
        if hasattr(load_sample, "__getitem__"):
            remedy = f"A dataset of samples: {name}.of(dataset)."
        raise InvalidArgumentError(
            f"load_sample is {describe(load_sample)}; expected a function of a row. {remedy}"
        )
    if num_samples is None:
        raise InvalidArgumentError(
            f"{name} was given no num_samples; expected how many samples there are: rows are from "
            "0 to num_samples - 1."
        )


_METHODS = ("__getitem__", "__len__", "load", "load_sample")


def overridden(kind: type, base: type) -> list[str]:
    """Which of the methods that read samples a class has of its own."""
    return [name for name in _METHODS if getattr(kind, name) is not getattr(base, name)]


_REFUSED = {
    "__getitem__": "returns a batch here, not a sample; expected load_sample(self, row): rename "
    "it.",
    "__len__": "counts batches here, not samples; expected super().__init__(num_samples=...): "
    "leave it out.",
    "load": "calls load_sample for each row; expected one of them. Derive it from BatchDataset to "
    "load whole batches, or change them with transform=function.",
}
"""Methods that a dataset of torch has, and that mean something else here, or nothing."""


def _refuse_overrides(name: str, methods: Collection[str]) -> None:
    for method, why in _REFUSED.items():
        if method in methods:
            raise InvalidArgumentError(f"{name} overrides {method}, which {why}")
