"""`JoinedCore`: a dataset that is made of others, whose samples come together in its batches.

Its samples are numbered through: those of the first dataset from 0 up, then those of the second. A
batch is made dataset by dataset, each as if its rows had been a batch there: with its own `load`,
`transform`, `augment` and `class_weight`. Then the rows are put into the order of the batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_npbatch import rng
from keras_npbatch.arguments import row_numbers
from keras_npbatch.batches import parts as assemble
from keras_npbatch.batches.array_loader import much_reading, what_it_costs
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.facts import Facts
from keras_npbatch.batches.generators import Generators
from keras_npbatch.batches.joined_arrays import JoinedArrays, joined_arrays
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
from keras_npbatch.sources.categories import categories_of, what_differs
from keras_npbatch.sources.chunks_of_parts import joined_reading, joined_starts, unless_even
from keras_npbatch.sources.scatter import groups, new, put
from keras_npbatch.sources.source import Reading
from keras_npbatch.tree import Tree, flatten

__all__ = [
    "JoinedBatches",
    "JoinedCore",
    "Origin",
    "begin_passes",
    "digests",
    "joined_core_of",
]


_Spec: TypeAlias = dict[str, tuple[tuple[int, ...], str]]
"""The shape of a sample and the dtype of each leaf, by its path."""


def _most_of(count: int, share: float) -> int:
    """How many of `count` blocks are of a dataset, at most, but for about one time in 30,000.

    Their number is binomial: this is its mean and four standard deviations.
    """
    mean = count * share
    return min(count, math.ceil(mean + 4 * math.sqrt(mean * (1 - share)) + 1))


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
        self._specs: dict[bool, tuple[int, tuple[_Spec, Any]]] = {}
        if weights is not None:
            walks = [
                Walk(core.plan, None if core.has_own_seed else index)
                for index, core in enumerate(cores)
            ]
            counts = shares(weights, [walk.epoch_size for walk in walks], until)
            settings["sampler"] = Mixture(walks, counts)
        self._chunk_rows = max((core.chunk_rows or 0 for core in cores), default=0) or None
        self._is_mixed = weights is not None
        starts = None
        if self._chunk_rows is not None and weights is None:
            every = self.chunk_starts(self._chunk_rows)
            self._chunk_rows = int(np.diff(every).max())  # of parts, chunks have fewer samples
            starts = unless_even(every)
        super().__init__(
            owner,
            int(self._ends[-1]),
            chunk_rows=self._chunk_rows,
            chunk_starts=starts,
            **settings,
        )
        held = self.plan.sampler.blocks_held
        if held is not None:
            self.keep(*held, ahead=self.most_ahead(held[0]))
        elif not self.plan.shuffle and self.are_several:
            self.keep(1, 1, ahead=self.most_ahead(1))
        reading = much_reading(self)
        if reading is not None:
            told = what_it_costs("the datasets are", reading, self.plan.batch_size)
            warnings.warn(told, stacklevel=8)

    @property
    def chunk_rows(self) -> int | None:
        """Rows of the largest chunk of what it is made of."""
        return self._chunk_rows

    def chunk_starts(self, chunk_rows: int) -> Rows:
        """The first sample of each chunk, and the number of all samples."""
        return joined_starts([core_of(each).chunk_starts(chunk_rows) for each in self.datasets])

    def keep(self, block_rows: int, blocks: int, ahead: int) -> None:
        """Keep what is needed to read each block of samples once, as far as chance allows."""
        in_order, is_along = block_rows * blocks == 1, block_rows == self._chunk_rows
        for core in map(core_of, self.datasets):
            size = core.chunk_rows
            if in_order or size is None:
                core.keep(block_rows, blocks, ahead)
                continue
            # If a block is not a chunk, it may begin and end within one.
            held = blocks * (1 if is_along else 1 - (-block_rows // size))
            of_chunk = core.plan.num_samples / (len(core.chunk_starts(size)) - 1)
            # Two groups, and one more: those between may have few rows, of other datasets.
            together = 3 * held + math.ceil(ahead / of_chunk)
            share = core.plan.num_samples / int(self._ends[-1])
            core.keep(size, math.ceil(_most_of(together, share) / 2), 0)  # of each group

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        cores = [core_of(each) for each in self.datasets if not self._is_mixed]
        parts = [(core.plan.num_samples, core.reading) for core in cores]
        return joined_reading(parts, int(self._ends[-1]), batch_size)

    @property
    def rereads_chunks(self) -> bool:
        """Whether its order makes the storage read chunks of the data again and again."""
        return much_reading(self) is not None

    def origin(self, rows: Any) -> Origin:
        """Where samples come from, after checking them."""
        return self._origin(row_numbers(rows, self.plan.num_rows))

    def load(self, rows: Any) -> Tree:
        """The batch of any samples, after checking them."""
        rows = row_numbers(rows, self.plan.num_rows)
        if not len(rows):
            raise InvalidArgumentError("rows is empty; expected at least one row.")
        return self.gather(True, rows)

    def _origin(self, rows: Rows) -> Origin:
        found = Origin(np.empty_like(rows), np.empty_like(rows))
        for index, here, of_dataset in self._members(rows):
            found.datasets[here], found.rows[here] = index, of_dataset
        return found

    def _members(self, rows: Rows) -> Iterator[tuple[int, Rows, Rows]]:
        """Of each dataset that samples are of: its index, their places, and its rows."""
        for index, here in groups(self._ends.searchsorted(rows, side="right")):
            available = core_of(self.datasets[index]).plan.available
            yield index, here, available.rows(rows[here] - self._start(index))

    def _start(self, index: int) -> int:
        return int(self._ends[index - 1]) if index else 0

    def loading(self, plan: Plan, training: bool = True) -> Recipe:
        """How any batch is made from those of the datasets."""
        recipe = super().loading(plan, training)
        arrays = joined_arrays([core_of(dataset) for dataset in self.datasets], training)
        if arrays is None:
            return replace(recipe, load=partial(self.gather, training))
        changes = recipe.transform, recipe.augment, recipe.class_weight
        nothing_to_do = changes == (None, None, None) and plan.remainder != "pad"
        return replace(recipe, load=partial(self._gather_at_once, arrays), finished=nothing_to_do)

    def _gather_at_once(self, arrays: JoinedArrays, rows: Rows) -> Tree:
        """`gather`, for arrays that nothing is done to."""
        return arrays.read(list(self._members(rows)), len(rows), self.slots.lease)

    def facts(self, plan: Plan) -> Facts:
        """What is known about how batches are made."""
        if not self.recipe(Work(plan)).finished:
            return super().facts(plan)
        cores = [core_of(dataset) for dataset in self.datasets]
        found = [core.facts(core.plan) for core in cores]
        return Facts(
            are_gathered=True,
            are_arrays=all(each.are_arrays for each in found),
            is_in_memory=all(each.is_in_memory for each in found),
            batch_bytes=found[0].batch_bytes // cores[0].plan.batch_size * plan.batch_size,
        )

    def gather(self, training: bool, rows: Rows) -> Tree:
        """The batch of some samples.

        Args:
            training: whether it is augmented and classes are weighed.
            rows: which samples.
        """
        now = now_making(self)
        if now is None:  # the batch of no step
            numbers = Generators(self.plan, 0, 0, rows, times=np.zeros_like(rows))
        else:
            numbers = now.numbers or Generators(now.plan, now.epoch, now.step, rows)
        found = []
        for index, here, of_dataset in self._members(rows):
            core = core_of(self.datasets[index])
            seed = core.plan.seed
            if not core.has_own_seed:
                seed = rng.component_seed(numbers.plan.seed, index)
            part = numbers.of_some(here, of_dataset, seed)
            with making(Making(core, core.plan, numbers.epoch, numbers.step, part)):
                batch = core.recipe(Work(core.plan, training)).made(part)
            found.append((index, here, assemble.unpack(batch, "load(rows)")))
            self._check(training, *found[-1])
        if len(found) == 1:
            return assemble.pack(found[0][2])
        return assemble.pack(self._together(found, len(rows)))

    def _check(self, training: bool, index: int, _: Rows, parts: Parts) -> None:
        """Refuse a batch of a dataset that is unlike the first one that was made."""
        spec = _spec_of(index, parts), flatten(parts)[1]
        # Threads that race keep one of several that are equal, or else one of them is refused.
        first, known = self._specs.setdefault(training, (index, spec))
        if spec != known:
            raise InvalidBatchError(
                f"datasets[{index}] gave {_spec_told(spec[0])}, but datasets[{first}] "
                f"{_spec_told(known[0])}; expected the same leaves, shapes and dtypes. Make them "
                "alike in transform=."
            )

    def _together(self, found: list[tuple[int, Rows, Parts]], num_rows: int) -> Parts:
        structure = flatten(found[0][2])[1]
        columns = zip(*(flatten(parts)[0] for _, _, parts in found), strict=True)
        whole = []
        for column in columns:
            leaf = np.asarray(column[0])
            out = new((num_rows, *leaf.shape[1:]), leaf.dtype, self.slots.lease)
            for (_, here, _), each in zip(found, column, strict=True):
                put(each, out, here)
            whole.append(out)
        return Parts(*structure.unflatten(whole))

    def __getstate__(self) -> dict[str, Any]:
        # What was seen of batches changes none of them: workers are not started again for it.
        return super().__getstate__() | {"_specs": {}}

    def begin_pass(self, number: int | None = None) -> None:
        """An epoch begins: what was read for the one before may have changed."""
        begin_passes(self.datasets, number)

    def data_digest(self) -> dict[str, Any]:
        """Figures that differ if another process reads other data, as far as that can be seen."""
        return digests(self.datasets)

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


def begin_passes(datasets: Sequence[Batches], number: int | None) -> None:
    """Begin an epoch of each dataset that another one is made of."""
    for dataset in datasets:
        core_of(dataset).begin_pass(number)


def digests(datasets: Sequence[Batches]) -> dict[str, Any]:
    """The `data_digest` of each dataset that another one is made of."""
    return {
        f"{name} of datasets[{index}]": value
        for index, dataset in enumerate(datasets)
        for name, value in core_of(dataset).data_digest().items()
    }


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
        if not core.has_rows:
            raise InvalidArgumentError(
                f"{name} is zipped: its batches have no rows in common; expected the datasets "
                "before. Mix or join those first, and zip the results."
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
        if core.aside is not None:
            raise InvalidArgumentError(
                f"{name} has on_error='set_aside', and its rows would be read as those of another "
                "batch; expected datasets without. Find the rows that can't be read with it alone "
                "(dataset.set_aside), and leave them out: dataset.subset(rows)."
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
    weighed = [core_of(dataset).class_weight is not None for dataset in datasets]
    if any(weighed) and not all(weighed):
        one, other = weighed.index(True), weighed.index(False)
        raise InvalidArgumentError(
            f"datasets[{one}] has class_weight, and datasets[{other}] has none; expected it for "
            "all of them, or for the whole."
        )
    _refuse_other_data(datasets)
    _refuse_other_codes(datasets)
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


def _refuse_other_codes(datasets: Sequence[Batches]) -> None:
    """Refuse columns whose codes stand for other categories than those of another dataset.

    A `transform` may number them alike, but not if each dataset has the same.
    """
    cores = [core_of(dataset) for dataset in datasets]
    if any(_functions(core) != _functions(cores[0]) for core in cores):
        return
    first: dict[str, tuple[int, list[Any] | None]] = {}
    for index, core in enumerate(cores):
        for path, found in _codes(core).items():
            number, expected = first.setdefault(path, (index, found))
            told = what_differs(
                found,
                f"{path} of datasets[{index}]",
                expected,
                f"{path} of datasets[{number}]",
                "datasets",
            )
            if told is not None:
                raise InvalidArgumentError(told)


def _functions(core: Core) -> list[Any]:
    """The functions of `transform`."""
    links = () if core.transform is None else core.transform.links
    return [getattr(link, "function", link) for link in links]


def _codes(core: Core) -> dict[str, list[Any] | None]:
    """The known categories of each leaf of a dataset; None if a leaf has none."""
    if isinstance(core, JoinedCore):
        first = core_of(core.datasets[0])
        return {} if first.transform is not None else _codes(first)
    if not core.reads_arrays_alone:
        return {}
    return {path: categories_of(leaf) for path, leaf in core.data.items()}


def _spec_told(spec: _Spec) -> str:
    def told(shape: tuple[int, ...]) -> str:
        return f"({', '.join(['n', *map(str, shape)])}{'' if shape else ','})"

    return ", ".join(f"{path} {dtype} {told(shape)}" for path, (shape, dtype) in spec.items())


def _spec_of(index: int, parts: Parts) -> _Spec:
    found = {}
    for path, leaf in parts.leaves_with_paths():
        if type(leaf) is not np.ndarray:
            raise InvalidBatchError(
                f"datasets[{index}] gave {path} as {describe(leaf)}; expected arrays, which can be "
                "put together with those of other datasets. Convert it in transform=."
            )
        found[path] = leaf.shape[1:], str(leaf.dtype)
    return found


def _told(core: Core) -> dict[str, Any]:
    """What decides the samples of one of the datasets; how it makes batches does not matter."""
    ignored = {"global_batch_size", "remainder", "shuffle"}
    found = {key: value for key, value in core.fingerprint().items() if key not in ignored}
    if not core.has_own_seed:
        found.pop("seed", None)
    return found
