"""`ArrayBatches`: what an `ArrayDataset` is without Keras: arrays that are read by rows.

`load(rows)` gathers the rows of each leaf into reused buffers.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import row_numbers
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import Core, Maker, core_of
from keras_npbatch.batches.facts import Facts
from keras_npbatch.batches.loader import Batches, begin
from keras_npbatch.batches.making import now_making
from keras_npbatch.batches.parts import Parts, pack, unpack
from keras_npbatch.batches.read_ahead import ReadAhead
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.slots import SMALLEST_SLOT_BYTES
from keras_npbatch.batches.work import Work
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidDataError,
    UnsupportedArgumentError,
    describe,
)
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.position import Fingerprint
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.arrays import TakenArray
from keras_npbatch.sources.chunks_of_parts import starts_in
from keras_npbatch.sources.source import Chunked, Empty, Padded, Prepared, Reading, Source, stamp_of
from keras_npbatch.sources.sources import as_sources, num_rows, of_one_dataset
from keras_npbatch.tree import Tree, flatten, leaves, leaves_with_paths, map_with_none

__all__ = ["ArrayBatches", "ArrayCore", "array_core_of", "much_reading", "what_it_costs"]

_FEW_ROWS = 8
_MOST_TIMES = 2.0
"""A shuffle of chunks of more rows that reads the data more often is worth a warning."""
_ROWS_LOOKED_AT = 16
"""Rows by which processes that train together check whether they have the same data."""


class ArrayCore(Core):
    """The core of a dataset of arrays.

    Args:
        owner: the dataset.
        x: see `ArrayDataset`, as for the other arguments.
        has_own_load: whether the owner overrides `load`.
    """

    def __init__(
        self,
        owner: Any,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        *,
        has_own_load: bool = False,
        **settings: Any,
    ) -> None:
        if isinstance(sample_weight, Number):
            is_size = isinstance(sample_weight, int) and sample_weight > 1
            raise InvalidArgumentError(
                f"sample_weight, the third argument, is {describe(sample_weight)}; expected an "
                f"array of weights. Settings are given by name: batch_size="
                f"{sample_weight if is_size else 32}."
            )
        if sample_weight is not None and settings.get("class_weight") is not None:
            raise InvalidArgumentError(
                "sample_weight and class_weight were both given; expected one of them. Multiply "
                "the class weights into sample_weight."
            )
        given = {"x": x, "y": y, "sample_weight": sample_weight}
        made = {name: as_sources(tree, name) for name, tree in given.items()}
        parts = Parts(**of_one_dataset(**made))
        changes = settings.get("transform"), settings.get("augment")
        if changes == (None, None):  # otherwise they may change the weights
            weights = settings.get("class_weight")
            _check_weights(parts, None if weights is None else ClassWeight(weights))
        rows = num_rows(**parts._asdict())
        if rows == 0:
            raise InvalidDataError(
                "x has 0 rows: there is nothing to make a batch of. Check how the data was "
                "selected."
            )
        data = pack(parts)
        self.sources, self.nesting = flatten(data)
        """The arrays, and the nesting they were given in."""
        self._is_flat = isinstance(data, tuple) and list(data) == self.sources
        self._largest_row = max(map(_bytes_of_row, self.sources))
        self._has_own_load = has_own_load
        self._padded = [
            source if isinstance(source, Padded) and source.shape[1] is None else None
            for source in self.sources
        ]
        self._more_width = 0
        self._is_padded = self.varies = any(source is not None for source in self._padded)
        if settings.get("collate") is not None and not has_own_load:
            self._refuse_collate()
        chunked = [source for source in self.sources if isinstance(source, Chunked)]
        heaviest = max(chunked, key=_bytes_of_row, default=None)
        chunk_rows = None if heaviest is None else heaviest.chunk_rows
        are_in_memory = all(source.is_in_memory for source in self.sources)
        if settings.get("cache") is not None and are_in_memory and not has_own_load:
            raise InvalidArgumentError(
                "cache was given, and all data are arrays in memory; expected data that are read "
                "from files or by a function. Leave cache out: the arrays are the cache."
            )
        starts = None if heaviest is None else heaviest.chunk_starts
        super().__init__(owner, rows, chunk_rows=chunk_rows, chunk_starts=starts, **settings)
        held = self.plan.sampler.blocks_held
        most_ahead = self.most_ahead(1 if held is None else held[0])
        for source in chunked:
            if held is not None:
                source.keep(*held, ahead=most_ahead)
            elif not self.plan.shuffle and source.chunk_rows is not None and self.are_several:
                source.keep(1, 1, ahead=most_ahead)
        self._heaviest, self._chunked = heaviest, chunked
        self._keeps_blocks = held is not None
        prepared = [source for source in chunked if isinstance(source, Prepared)]
        self._read_ahead: ReadAhead | None = None
        """Reads chunks before they are needed, if others than the consumer make batches."""
        who, alone = self.settings, has_own_load or settings.get("cache") is not None
        if held is not None and prepared and who is not None and who.workers != 0 and not alone:
            self._read_ahead = ReadAhead(prepared, *held, rows_behind=most_ahead)
        is_cut = held is not None and chunk_rows is not None and held[0] % chunk_rows
        # A single block of all rows reads each chunk once.
        if is_cut and held is not None and held[0] < self.sources[0].shape[0]:
            warnings.warn(
                f"the blocks of {self.plan.sampler} are no whole chunks: the data are stored in "
                f"chunks of {chunk_rows} rows, so some are read several times. Leave block_rows "
                f"out, or make it a multiple of {chunk_rows}.",
                stacklevel=6,
            )
        reading = much_reading(self)
        if reading is not None:
            path = next(path for path, each in self.data.items() if each is heaviest)
            costs = what_it_costs(f"{path} is", reading, self.plan.batch_size)
            warnings.warn(costs, stacklevel=6)

    def maker(self, work: Work) -> Maker:
        """A function that makes any batch, and then reads ahead."""
        make, ahead = super().maker(work), self._read_ahead
        if ahead is None:
            return make

        def make_and_prepare(epoch: int, step: int) -> Any:
            ahead.begin(work.plan, epoch, step)
            made = make(epoch, step)
            ahead.prepare(work.plan, epoch, step)
            return made

        return make_and_prepare

    def begin_pass(self, number: int | None = None) -> None:
        """An epoch begins: what was read for the one before may have changed."""
        for source in self._chunked:
            source.forget(number)
        if self._read_ahead is not None:
            self._read_ahead.forget()

    @property
    def rereads_chunks(self) -> bool:
        """Whether its order makes the storage read chunks of the data again and again."""
        return much_reading(self) is not None

    @property
    def chunk_rows(self) -> int | None:
        """Rows of the largest chunk of its heaviest data."""
        return None if self._heaviest is None else self._heaviest.chunk_rows

    def chunk_starts(self, chunk_rows: int) -> Rows:
        """The first sample of each chunk of its heaviest data, and the number of all samples."""
        source = self._heaviest
        if source is None or source.chunk_rows is None:
            return super().chunk_starts(chunk_rows)
        starts = starts_in(self.plan.num_rows, source.chunk_rows, source.chunk_starts)
        return np.unique(self.plan.available.below(starts))  # a part has rows of some of them

    def keep(self, block_rows: int, blocks: int, ahead: int) -> None:
        """Keep what is needed to read each block of rows once; see `Chunked`."""
        if block_rows * blocks > 1:
            self._keeps_blocks = True
        elif self._keeps_blocks:
            return  # another dataset that is made of it needs them
        available = self.plan.available  # of a part, the samples ahead are in more of the rows
        ahead = -(-ahead * available.num_rows // available.num_samples)
        for source in self._chunked:
            source.keep(block_rows, blocks, ahead)

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        if self._heaviest is None or self._has_own_load:
            return None
        return self._heaviest.reading(batch_size)

    def load(self, rows: Any) -> Tree:
        """The batch of any rows, after checking them."""
        return self.gather(row_numbers(rows, self.plan.num_rows))

    def gather(self, rows: Rows) -> Tree:
        """The batch of rows that are known to be in range."""
        if self._is_padded:
            return self.nested(self._gather_padded(rows))
        # Small arrays are in no slot anyway.
        is_small = len(rows) * self._largest_row < SMALLEST_SLOT_BYTES
        empty: Empty = np.empty if is_small else self.slots.lease
        found = [source.read(rows, empty) for source in self.sources]
        return tuple(found) if self._is_flat else self.nested(found)

    def nested(self, found: list[npt.NDArray[Any]]) -> Tree:
        """A batch of an array for each of `sources`."""
        # Without optree if possible; see `tree`.
        return tuple(found) if self._is_flat else self.nesting.unflatten(found)

    def _gather_padded(self, rows: Rows) -> list[npt.NDArray[Any]]:
        """The rows of each leaf, as wide as the rows that all processes read at this step need."""
        lease, batch, together = self.slots.lease, now_making(self), rows
        if batch is not None and self.asks_for_rows(batch.plan):
            together = batch.plan.global_rows(batch.epoch, batch.step)
            if self._has_own_load:  # it may ask for others
                together = np.concatenate([together, rows])
        return [
            source.read(rows, lease)
            if padded is None
            else padded.read(rows, lease, padded.width(together) + self._more_width)
            for source, padded in zip(self.sources, self._padded, strict=True)
        ]

    def asks_for_rows(self, plan: Plan) -> bool:
        """Whether reading a batch takes knowing which one it is: what other processes read."""
        return self._is_padded and plan.shard.count > 1

    def be_wider(self) -> None:
        """Pad one time step further, to show which axes of a batch vary."""
        self._more_width = 1
        if self.collate is not None:
            super().be_wider()

    def _refuse_collate(self) -> None:
        """Refuse to pad anything but sequences."""
        if not any(source.dtype.hasobject for source in self.sources):
            raise InvalidArgumentError(
                "collate was given, and no array has sequences as its items; expected them as "
                "keras_npbatch.sources.Ragged(rows, pad_to=...), in place of an array, which needs "
                "no collate."
            )

    def loading(self, plan: Plan, training: bool = True) -> Recipe:
        """How any batch is made from what `load` returns."""
        recipe = super().loading(plan, training)
        if self._has_own_load:
            return recipe
        has_weights = plan.remainder == "pad" or self.aside is not None
        # The rows of a plan are in range, so they need no check.
        load = self.cached(self.collated(self.gather))
        return replace(recipe, load=load, finished=self._is_plain(training) and not has_weights)

    def _is_plain(self, training: bool) -> bool:
        """Whether samples are rows of its arrays as they are."""
        in_training = (self.augment, self.class_weight) if training else ()
        changes = (self.collate, self.transform, *in_training)
        return not self._has_own_load and all(change is None for change in changes)

    def gathers_alone(self, training: bool) -> bool:
        """Whether samples are rows of its arrays as they are, and none is kept in a cache."""
        return self._is_plain(training) and self.cache is None

    def check_class_weight(self, weights: ClassWeight) -> None:
        """As for any dataset; also check the data, if nothing changes them."""
        super().check_class_weight(weights)
        if self._has_own_load or (self.transform, self.augment) != (None, None):
            return  # they may change the weights; each batch is checked
        parts = self._parts_of_data
        if parts.sample_weight is not None:
            raise UnsupportedArgumentError(
                f"fit(class_weight=...) was given with the dataset ({self.name}), which "
                "has a sample_weight; expected one of them. Multiply the class weights into "
                "sample_weight."
            )
        _check_weights(parts, weights)

    @property
    def data(self) -> dict[str, Any]:
        """Each source, by a path such as `x['image']`."""
        return dict(self._parts_of_data.leaves_with_paths())

    @property
    def reads_arrays_alone(self) -> bool:
        """Whether its samples are rows of `data`, whatever is done to them afterwards."""
        return not self._has_own_load and not self.makes_whole_batches

    def facts(self, plan: Plan) -> Facts:
        """What is known about how batches are made."""
        of_a_sample = sum(map(_bytes_of_row, self.sources))
        return Facts(
            are_gathered=self.recipe(Work(plan)).finished,
            are_arrays=all(isinstance(source, TakenArray) for source in self.sources),
            is_in_memory=all(source.is_in_memory for source in self.sources),
            batch_bytes=int(of_a_sample * plan.batch_size),
        )

    def fingerprint(self) -> Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        return super().fingerprint() | {
            path: [list(source.shape), str(source.dtype), *_identity(source)]
            for path, source in self.data.items()
        }

    def data_digest(self) -> dict[str, Any]:
        """A digest of some rows: the same rows in another order would give other batches."""
        last = self.plan.num_rows - 1
        rows = np.array([last * i // (_ROWS_LOOKED_AT - 1) for i in range(_ROWS_LOOKED_AT)])
        digest = hashlib.blake2b(digest_size=8)
        for batch in [self.gather(rows)] if self.aside is None else self._gather_each(rows):
            for leaf in leaves(batch):
                array = np.asarray(leaf)
                if not array.dtype.hasobject:
                    digest.update(array.tobytes())
        return {"data": digest.hexdigest()}

    def _gather_each(self, rows: Rows) -> Iterator[Tree]:
        """Each row alone, without those that can't be read."""
        for place in range(len(rows)):
            with contextlib.suppress(Exception):  # whatever the data raise
                yield self.gather(rows[place : place + 1])

    def told_of_data(self, name: str) -> dict[str, Any]:
        """What identifies the data: also the shape, dtype and stamp of each source."""
        return super().told_of_data(name) | {
            path: [list(source.shape), str(source.dtype), *_identity(source), stamp_of(source)]
            for path, source in self.data.items()
        }

    @property
    def _parts_of_data(self) -> Parts:
        return unpack(self.nesting.unflatten(self.sources), "the data")


class ArrayBatches(Batches):
    """Batches gathered from arrays; see `ArrayDataset` for the arguments."""

    def __init__(
        self, x: Tree, y: Tree = None, sample_weight: Tree = None, **settings: Any
    ) -> None:
        own = type(self).load is not ArrayBatches.load
        begin(self, ArrayCore, x, y, sample_weight, has_own_load=own, **settings)

    def load(self, rows: Rows) -> Tree:
        """See `ArrayDataset.load`."""
        return array_core_of(self).load(rows)


def much_reading(core: Core) -> Reading | None:
    """What a batch of a dataset reads, if it is far more than its rows."""
    plan = core.plan
    if plan.sampler.blocks_held or not plan.shuffle:
        return None
    reading = core.reading(plan.batch_size)
    if reading is None or reading.chunk_rows <= _FEW_ROWS or reading.times < _MOST_TIMES:
        return None
    return reading


def what_it_costs(data: str, reading: Reading, batch_size: int) -> str:
    """What a shuffle of chunks costs, and what to write, for a warning."""
    return (
        f"{data} stored in chunks of {reading.chunk_rows} rows, and a batch of {batch_size} rows "
        f"from all over the data touches about {reading.chunks:.0f} of them, so an epoch reads the "
        f"data {reading.times:.0f} times. Write sampler=keras_npbatch.samplers.BlockShuffle(), "
        "which reads each chunk once, and see how well it mixes: "
        "BlockShuffle(...).describe(num_rows)."
    )


def _bytes_of_row(source: Source) -> int:
    shape = source.shape[1:]
    if isinstance(source, Padded):
        shape = source.widest, *shape[1:]
    return int(np.prod(shape, dtype=np.int64)) * source.dtype.itemsize


def _identity(source: Source) -> list[str]:
    """What decides, besides the data, what is read from a source; in words."""
    found = getattr(source, "identity", None)
    return [] if found is None else [found]


def array_core_of(dataset: Any) -> ArrayCore:
    """The core of a dataset that is known to read arrays; for any other, see `core_of`."""
    core = core_of(dataset)
    assert isinstance(core, ArrayCore)
    return core


def _check_weights(parts: Parts, class_weight: ClassWeight | None) -> None:
    """Refuse weights that a model with several outputs would fail on or misread.

    Raises:
        InvalidDataError: for weights that are not nested as the targets are.
        InvalidArgumentError: for class weights without a single array of labels.
    """
    outputs, weights = _paths(parts.y), _paths(parts.sample_weight)
    if weights not in ([""], outputs):  # one array, or None, goes with any targets
        raise InvalidDataError(
            f"the weights are {_listed('sample_weight', weights)}, but the targets "
            f"{_listed('y', outputs)}; expected weights nested as y is, None for an output that "
            "has none, or one array for all outputs."
        )
    if class_weight is not None:
        class_weight.check_outputs(parts.y)


def _paths(tree: Tree) -> list[str]:
    return [path for path, _ in leaves_with_paths(map_with_none(lambda leaf: True, tree))]


def _listed(root: str, paths: list[str]) -> str:
    return ", ".join(root + path for path in paths)
