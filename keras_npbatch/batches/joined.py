"""`JoinedCore`: a dataset that is made of others, whose samples come together in its batches.

Its samples are numbered through: those of the first dataset from 0 up, then those of the second. A
batch is made dataset by dataset, each as if its rows had been a batch there: with its own `load`,
`transform`, `augment` and `class_weight`. Then the rows are put into the order of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.arguments import row_numbers
from keras_npbatch.batches import parts as assemble
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.loader import Batches, begin
from keras_npbatch.batches.making import Making, making, now_making
from keras_npbatch.batches.parts import Parts
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import InvalidArgumentError, InvalidBatchError, describe
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.position import Fingerprint
from keras_npbatch.plan.walk import Walk
from keras_npbatch.samplers.mixture import Mixture
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.own import is_plain
from keras_npbatch.samplers.shares import Until, shares
from keras_npbatch.tree import Tree, flatten, leaves_with_paths

__all__ = ["JoinedBatches", "JoinedCore", "Origin", "joined_core_of"]


class Origin(NamedTuple):
    """Where samples come from."""

    datasets: npt.NDArray[np.int64]
    """The index of the dataset of each sample, shape `(n,)`."""
    rows: Rows
    """The row of each sample in the data of its dataset, shape `(n,)`."""


class JoinedCore(Core):
    """A core whose samples are those of other datasets.

    Args:
        owner: the dataset.
        datasets: what it is made of.
        weights: the share of each dataset in an epoch; None if each sample comes once.
        until: when an epoch ends; see `keras_npbatch.mix`.
    """

    def __init__(
        self,
        owner: Any,
        datasets: Sequence[Batches],
        *,
        weights: Sequence[float] | None = None,
        until: Until = "first",
        **settings: Any,
    ) -> None:
        self.datasets = _checked(datasets, is_mixed=weights is not None)
        """What it is made of."""
        cores = [core_of(dataset) for dataset in self.datasets]
        self._ends = np.cumsum([core.plan.num_samples for core in cores])
        if weights is not None:
            walks = [
                Walk(core.plan, None if core.has_own_seed else index)
                for index, core in enumerate(cores)
            ]
            counts = shares(weights, [walk.epoch_size for walk in walks], until)
            settings["sampler"] = Mixture(walks, counts)
        super().__init__(owner, int(self._ends[-1]), **settings)

    def origin(self, rows: Any) -> Origin:
        """Where samples come from, after checking them."""
        return self._origin(row_numbers(rows, self.plan.num_rows))

    def load(self, rows: Any) -> Tree:
        """The batch of any samples, after checking them."""
        return self.gather(True, row_numbers(rows, self.plan.num_rows))

    def _origin(self, rows: Rows) -> Origin:
        which = np.searchsorted(self._ends, rows, side="right")
        found = np.empty(len(rows), np.int64)
        for index in np.unique(which).tolist():
            here = which == index
            available = core_of(self.datasets[index]).plan.available
            found[here] = available.rows(rows[here] - self._start(index))
        return Origin(which, found)

    def _start(self, index: int) -> int:
        return int(self._ends[index - 1]) if index else 0

    def loading(self, plan: Plan, training: bool = True) -> Recipe:
        """How any batch is made from those of the datasets."""
        recipe = super().loading(plan, training)
        return replace(recipe, load=partial(self.gather, training), load_draws=False)

    def gather(self, training: bool, rows: Rows) -> Tree:
        """The batch of some samples.

        Args:
            training: whether it is augmented and classes are weighed.
            rows: which samples.
        """
        now = now_making(self) or Making(self, self.plan, 0, 0)
        numbers = Generators(now.plan, now.epoch, now.step, rows)
        origin, found = self._origin(rows), []
        for index in np.unique(origin.datasets).tolist():
            here = np.flatnonzero(origin.datasets == index)
            core = core_of(self.datasets[index])
            seed = core.plan.seed
            if not core.has_own_seed:
                seed = rng.component_seed(now.plan.seed, index)
            part = numbers.of_some(here, origin.rows[here], seed)
            with making(Making(core, part.plan, now.epoch, now.step)):
                batch = core.recipe(Work(core.plan, training)).made(part)
            found.append((index, here, assemble.unpack(batch, "load(rows)")))
        if len(found) == 1:
            return assemble.pack(found[0][2])
        return assemble.pack(self._together(found, len(rows)))

    def _together(self, found: list[tuple[int, Rows, Parts]], num_rows: int) -> Parts:
        (first, _, as_first), *others = found
        for index, _, parts in others:
            _refuse_other_parts(first, as_first, index, parts)
        _, structure = flatten(as_first)
        columns = zip(*(flatten(parts)[0] for _, _, parts in found), strict=True)
        whole = []
        for column in columns:
            leaf = np.asarray(column[0])
            shape = (num_rows, *leaf.shape[1:])
            is_raw = not leaf.dtype.hasobject and leaf.dtype.kind != "T"
            out = (self.slots.lease if is_raw else np.empty)(shape, leaf.dtype)
            for (_, here, _), each in zip(found, column, strict=True):
                out[here] = each
            whole.append(out)
        return Parts(*structure.unflatten(whole))

    def fingerprint(self) -> Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        parts = {
            f"datasets[{index}]": str(_told(core_of(dataset)))
            for index, dataset in enumerate(self.datasets)
        }
        return super().fingerprint() | parts

    @property
    def draws(self) -> bool:
        """Whether anything depends on the seed."""
        return super().draws or any(
            core.draws and not core.has_own_seed for core in map(core_of, self.datasets)
        )

    @property
    def for_training_alone(self) -> list[str]:
        """The settings that give training other batches than `evaluate` or `predict`."""
        of_datasets = [
            reason
            for dataset in self.datasets
            for reason in core_of(dataset).for_training_alone
            if not reason.startswith("remainder")
        ]
        return [*super().for_training_alone, *dict.fromkeys(of_datasets)]


class JoinedBatches(Batches):
    """Batches of samples of several datasets; see `keras_npbatch.mix` and `concat`."""

    def __init__(self, datasets: Sequence[Batches], **settings: Any) -> None:
        begin(self, JoinedCore, datasets, **settings)

    def load(self, rows: Rows) -> Tree:
        """See `JoinedDataset.load`."""
        return joined_core_of(self).load(rows)

    def origin(self, rows: Rows) -> Origin:
        """See `JoinedDataset.origin`."""
        return joined_core_of(self).origin(rows)


def joined_core_of(dataset: Any) -> JoinedCore:
    """The core of a dataset that is made of others."""
    core = core_of(dataset)
    assert isinstance(core, JoinedCore)
    return core


def _checked(datasets: Any, is_mixed: bool) -> tuple[Batches, ...]:
    if isinstance(datasets, Batches) or not isinstance(datasets, list | tuple) or not datasets:
        raise InvalidArgumentError(
            f"datasets is {describe(datasets)}; expected a list of datasets of keras_npbatch."
        )
    for index, dataset in enumerate(datasets):
        if not isinstance(dataset, Batches):
            raise InvalidArgumentError(
                f"datasets[{index}] is {describe(dataset)}; expected a dataset of keras_npbatch, "
                "such as ArrayDataset(x, y)."
            )
        core, name = core_of(dataset), f"datasets[{index}]"
        if core.makes_whole_batches:
            raise InvalidArgumentError(
                f"{name} overrides __getitem__ and so makes whole batches, which can't be mixed; "
                "expected a dataset with load(rows)."
            )
        if core.endless:
            raise InvalidArgumentError(
                f"{name} is endless; expected the dataset itself, without repeat()."
            )
        if core.varies:
            raise InvalidArgumentError(
                f"{name} has sequences that are padded to another length in each batch; expected "
                "one length: Ragged(..., pad_to=256)."
            )
        if core.is_part:
            raise InvalidArgumentError(
                f"{name} has a shard; expected datasets without. Give shard= to the whole."
            )
        if not is_mixed and not is_plain(core.plan.sampler):
            raise InvalidArgumentError(
                f"{name} has the sampler {core.plan.sampler}, which the whole would not follow; "
                "expected datasets without one. Give sampler= to the whole, or write mix."
            )
    _refuse_other_data(datasets)
    return tuple(datasets)


def _refuse_other_data(datasets: Sequence[Batches]) -> None:
    """Refuse arrays that are known to differ, before a batch is made of them."""
    cores = [core_of(dataset) for dataset in datasets]
    specs = [
        {path: (tuple(leaf.shape[1:]), str(leaf.dtype)) for path, leaf in core.data.items()}
        for core in cores
        if core.reads_arrays_alone and core.transform is None and core.augment is None
    ]
    if len(specs) < len(cores):
        return
    for index, spec in enumerate(specs):
        if spec != specs[0]:
            raise InvalidArgumentError(
                f"datasets[{index}] has {_spec_told(spec)}, but datasets[0] has "
                f"{_spec_told(specs[0])}; expected the same leaves, shapes and dtypes."
            )


def _spec_told(spec: dict[str, tuple[tuple[int, ...], str]]) -> str:
    return ", ".join(f"{path} {dtype} {('n', *shape)}" for path, (shape, dtype) in spec.items())


def _refuse_other_parts(first: int, expected: Parts, index: int, found: Parts) -> None:
    def spec(parts: Parts) -> dict[str, tuple[tuple[int, ...], str]]:
        return {
            path: (tuple(np.shape(leaf)[1:]), str(getattr(leaf, "dtype", type(leaf).__name__)))
            for name, part in zip(Parts._fields, parts, strict=True)
            for path, leaf in leaves_with_paths(part, name)
        }

    if spec(found) != spec(expected) or flatten(found)[1] != flatten(expected)[1]:
        raise InvalidBatchError(
            f"datasets[{index}] gave {_spec_told(spec(found))}, but datasets[{first}] "
            f"{_spec_told(spec(expected))}; expected the same leaves, shapes and dtypes. Make them "
            "alike in transform=."
        )


def _told(core: Core) -> dict[str, Any]:
    """What decides the samples of one of the datasets; how it makes batches does not matter."""
    ignored = {"global_batch_size", "remainder", "shuffle"}
    found = {key: value for key, value in core.fingerprint().items() if key not in ignored}
    if not core.has_own_seed:
        found.pop("seed", None)
    return found
