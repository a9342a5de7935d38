"""`ZippedCore`: a dataset whose batches are batches of other datasets, side by side.

Each dataset is read batch by batch in its own epochs: where one has come to its end, its next epoch
begins, whatever the others do. So at step s of epoch e, of an epoch of n steps, a dataset of m
batches gives batch `(e * n + s) % m` of its epoch `(e * n + s) // m`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.joined import begin_passes, digests
from keras_npbatch.batches.loader import Batches, begin
from keras_npbatch.batches.making import Making, making, now_making
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import InvalidArgumentError, UnsupportedArgumentError, describe
from keras_npbatch.plan import position
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.position import Fingerprint
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import MAX_ROWS, Available, DataOrder, Order, Rows, WholeData
from keras_npbatch.samplers.sampler import Sampler
from keras_npbatch.samplers.shares import Until
from keras_npbatch.tree import Tree

__all__ = ["Steps", "ZippedBatches", "ZippedCore", "steps_of"]

Steps: TypeAlias = dict[str, tuple[int, int]] | tuple[tuple[int, int], ...]
"""The epoch and the step of the batch of each dataset."""


class ZippedCore(Core):
    """A core whose batches are those of other datasets.

    Args:
        owner: the dataset.
        datasets: those side by side: a sequence of two or three, or by name.
        until: when an epoch ends; see `keras_npbatch.zip`.
        shard: None, since it is that of the datasets.
    """

    has_rows = False

    def __init__(
        self,
        owner: Any,
        datasets: Sequence[Batches] | Mapping[str, Batches],
        *,
        until: Until = "first",
        shard: None = None,
        **settings: Any,
    ) -> None:
        self.names = tuple(datasets) if isinstance(datasets, Mapping) else None
        """The keys of its batches, if they are dicts."""
        self.datasets = tuple(datasets.values() if isinstance(datasets, Mapping) else datasets)
        """The datasets side by side."""
        _check(self.datasets, self.names)
        cores = [core_of(dataset) for dataset in self.datasets]
        self._steps = _steps(until, [core.plan.num_batches for core in cores])
        of_datasets = cores[0].plan.shard if cores[0].is_part else shard
        super().__init__(
            owner,
            self._steps * (1 if of_datasets is None else of_datasets.count),
            batch_size=1,
            sampler=SideBySide(),
            seed=0,
            remainder="keep",
            shard=of_datasets,
            **settings,
        )

    def place(self, core: Core, plan: Plan, epoch: int, step: int) -> tuple[int, int]:
        """The epoch and step of the batch that one of the datasets gives."""
        return divmod(epoch * self._steps + step, plan.num_batches)

    def loading(self, plan: Plan, training: bool = True) -> Recipe:
        """How any batch is made from those of the datasets."""
        load = partial(self._side_by_side, training)
        return Recipe(plan, load, name="zip", empty=self.slots.lease, is_whole=True)

    def _side_by_side(self, training: bool, _: Rows) -> Tree:
        now = now_making(self)
        assert now is not None
        in_order = not isinstance(now.plan.sampler, SideBySide)
        batches = []
        for dataset in self.datasets:
            core = core_of(dataset)
            plan = core.plan.for_call("evaluate") if in_order else core.plan
            epoch, step = self.place(core, plan, now.epoch, now.step)
            with making(Making(core, plan, epoch, step)):
                batches.append(core.recipe(Work(plan, training))(epoch, step))
        if self.names is None:
            return tuple(batches)
        return dict(zip(self.names, batches, strict=True))

    def be_shard(self, shard: Shard, seed: int) -> None:
        """Refuse to become a shard."""
        raise InvalidArgumentError(
            "zipped datasets can't be sharded; expected the datasets to be: shard each of them, "
            "and zip the shards."
        )

    def fingerprint(self) -> Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        parts = {
            f"datasets[{index}]": str(core_of(dataset).fingerprint())
            for index, dataset in enumerate(self.datasets)
        }
        # The steps of one process: all of them have as many, and another number may go on.
        steps = {"num_samples": self._steps, "global_batch_size": 1}
        names = {"names": None if self.names is None else [*self.names]}
        return super().fingerprint() | steps | names | parts

    def place_of(self, state: Any) -> Place:
        """The place that a state names: a step, whatever the number of processes."""
        alone = replace(self.plan, num_samples=self._steps, shard=Shard())
        return position.read(state, self.fingerprint(), alone)

    def data_digest(self) -> dict[str, Any]:
        """Figures that differ if another process reads other data, as far as that can be seen."""
        return digests(self.datasets)

    def begin_pass(self, number: int | None = None) -> None:
        """An epoch begins: what was read for the one before may have changed."""
        begin_passes(self.datasets, number)

    def check_class_weight(self, weights: ClassWeight) -> None:
        """Refuse `fit(class_weight=...)`."""
        raise UnsupportedArgumentError(
            f"fit(class_weight=...) was given with {self.name}, which has batches of several "
            "datasets; expected it for the dataset whose classes they are."
        )


class ZippedBatches(Batches):
    """Batches of several datasets side by side; see `keras_npbatch.zip`."""

    def __init__(self, datasets: Any, **settings: Any) -> None:
        begin(self, ZippedCore, datasets, **settings)

    def load(self, rows: Rows) -> Tree:
        """Refused: such a dataset has no rows, only whole batches."""
        raise NotImplementedError(
            "datasets that are zipped have no rows in common; expected dataset[step]."
        )


class SideBySide(Sampler):
    """The steps of zipped datasets, one after the other: each dataset has its own order."""

    def num_samples(self, rows: Available) -> int:
        """Steps in an epoch, over all shards.

        Raises:
            InvalidArgumentError: for a part of the data.
        """
        if not isinstance(rows, WholeData):
            raise InvalidArgumentError(
                "zipped datasets can't be split; expected the datasets to be: split each of them, "
                "and zip the parts."
            )
        return rows.num_samples

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The steps in their order."""
        return DataOrder()


def steps_of(dataset: Any, step: int, epoch: int) -> Steps:
    """The epoch and the step of the batch that each dataset gives at a step of training."""
    core = core_of(dataset)
    assert isinstance(core, ZippedCore)
    step = whole_number("step", step, least=0, most=core.plan.num_batches - 1)
    epoch = whole_number("epoch", epoch, least=0)
    cores = [core_of(each) for each in core.datasets]
    places = [core.place(each, each.plan, epoch, step) for each in cores]
    if core.names is None:
        return tuple(places)
    return dict(zip(core.names, places, strict=True))


def _steps(until: Any, lengths: list[int]) -> int:
    if until == "first":
        return min(lengths)
    if until == "longest":
        return max(lengths)
    if isinstance(until, str):
        raise InvalidArgumentError(
            f"until is {describe(until)}; expected 'first', 'longest', or how many batches an "
            "epoch has."
        )
    return whole_number("until", until, least=1, most=MAX_ROWS)


def _check(datasets: tuple[Any, ...], names: tuple[str, ...] | None) -> None:
    if len(datasets) == 1 and isinstance(datasets[0], list | tuple):
        raise InvalidArgumentError(
            f"zip was given a {type(datasets[0]).__name__}; expected datasets one by one: "
            "zip(a, b), or by name: zip(labelled=a, unlabelled=b)."
        )
    if len(datasets) < 2 or (names is None and len(datasets) > 3):
        several = "s" if len(datasets) != 1 else ""
        raise InvalidArgumentError(
            f"zip was given {len(datasets)} dataset{several}; expected two or three, zip(a, b), "
            "or any number by name: zip(labelled=a, unlabelled=b)."
        )
    shards = []
    for index, dataset in enumerate(datasets):
        name = f"datasets[{index}]" if names is None else names[index]
        if not isinstance(dataset, Batches):
            raise InvalidArgumentError(
                f"{name} is {describe(dataset)}; expected a dataset of keras_npbatch, such as "
                "ArrayDataset(x, y)."
            )
        core = core_of(dataset)
        if core.endless:
            raise InvalidArgumentError(
                f"{name} is endless; expected the dataset itself, without repeat(): it goes on by "
                "itself."
            )
        if core.aside is not None:
            raise InvalidArgumentError(
                f"{name} has on_error='set_aside', and the weights of its batches would not be "
                "those of the others; expected datasets without. Find the rows that can't be read "
                "with it alone (dataset.set_aside), and leave them out: dataset.subset(rows)."
            )
        shards.append(core.plan.shard if core.is_part else None)
        if shards[-1] != shards[0]:
            raise InvalidArgumentError(
                f"{name} has the shard {shards[-1]}, but the first dataset {shards[0]}; expected "
                "the same shard= in each dataset."
            )
