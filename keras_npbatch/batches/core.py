"""`Core`: what a dataset is inside, behind the one private attribute that it has.

    core = core_of(dataset)
    make = core.maker(Work(core.plan))
    make(epoch=2, step=7)          # the same bytes wherever it is called

Users subclass a dataset, so its namespace belongs to them: a loader may have an attribute `_pool`
or `_plan` of its own. All that this library keeps is here, typed, and goes with the dataset when it
is copied or sent to a worker process.

What higher rooms keep for a dataset (its workers, the calls of Keras that it serves) is in `part`.
A part belongs to this one object, and is neither copied nor sent.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, cast

import numpy as np

from keras_npbatch import rng
from keras_npbatch.batches.cache_setting import (
    Cache,
    new_cache,
    refuse_cache,
    refuse_cache_of_one_process,
)
from keras_npbatch.batches.chain import Change, Functions, change_of
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.facts import Facts
from keras_npbatch.batches.making import Making, making, now_making
from keras_npbatch.batches.pad import Collate, Collation, collation_of
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.row_cache import RowCache
from keras_npbatch.batches.set_aside import Failure, Lacking, SetAside, share_set_aside
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.batches.summary import summing
from keras_npbatch.batches.transforms import wants_rng
from keras_npbatch.batches.whole import is_told_of_rows, refuse_beside_whole_batches
from keras_npbatch.batches.work import Work
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.errors import InvalidArgumentError, UnsupportedArgumentError
from keras_npbatch.plan import position
from keras_npbatch.plan.clock import Clock, Place
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.samplers.order import Rows
from keras_npbatch.samplers.own import chosen_sampler, is_plain
from keras_npbatch.sources.chunks_of_parts import starts_in
from keras_npbatch.sources.source import Reading
from keras_npbatch.tree import Tree

__all__ = [
    "ATTRIBUTE",
    "NO_ROWS",
    "Core",
    "Maker",
    "core_of",
    "refuse_empty_batches",
]

ATTRIBUTE = "_keras_npbatch"
"""The name of the attribute that holds the core of a dataset."""

Maker: TypeAlias = Callable[[int, int], Tree]
"""`maker(epoch, step)`: the batch."""

_Part = TypeVar("_Part")

NO_ROWS = np.empty(0, np.int64)
_SLOTS_BESIDE_QUEUE = 4
"""Batches that the model and the workers hold, besides those that wait in the queue."""


class Core:
    """The plan of a dataset, its position, and how its batches are made.

    Args:
        owner: the dataset, whose `load` or `__getitem__` makes batches.
        num_samples: see `BatchDataset`, as for the other settings.
        makes_whole_batches: whether the owner overrides `__getitem__`.
        settings: who makes the batches; None: the calling thread, as for a plain `Batches`.
        chunk_rows: rows that the storage of the data reads together, if it reads in chunks.
        chunk_starts: the first row of each chunk, and the number of all rows, if chunks differ.
    """

    datasets: tuple[Any, ...] = ()
    """The datasets that it is made of, if any."""
    has_rows = True
    """Whether a sample is a row of the data: false for batches side by side."""
    varies = False
    """Whether the shapes of the data differ from batch to batch."""
    from_user: ClassVar[tuple[str, ...]] = ("transform", "augment")
    """The attributes that hold what a user wrote, and that may keep a state of its own."""

    def __init__(
        self,
        owner: Any,
        num_samples: int,
        *,
        makes_whole_batches: bool = False,
        settings: WorkerSettings | None = None,
        batch_size: int = 32,
        shuffle: bool | None = None,
        sampler: Any = None,
        seed: int | None = None,
        remainder: Remainder | None = None,
        collate: Collate | None = None,
        transform: Functions | None = None,
        augment: Functions | None = None,
        class_weight: Mapping[Any, Any] | Sequence[Any] | None = None,
        shard: Shard | tuple[int, int] | None = None,
        cache: Cache | None = None,
        on_error: Any = "raise",
        max_set_aside: Any = None,
        chunk_rows: int | None = None,
        chunk_starts: Rows | None = None,
    ) -> None:
        self.makes_whole_batches = makes_whole_batches
        self.settings = settings
        self.has_own_remainder, self.has_own_seed = remainder is not None, seed is not None
        if remainder is None:
            remainder = self._default_remainder(is_part=shard is not None)
        chosen = chosen_sampler(shuffle, sampler)
        plan = Plan(
            num_samples=num_samples,
            batch_size=batch_size,
            seed=rng.draw_seed() if seed is None else seed,
            remainder=remainder if is_plain(chosen) else "keep",
            shard=Shard.of(shard),
        )
        if chunk_starts is not None:
            chosen = chosen.along(chunk_starts)
        chosen = chosen.checked(plan.num_rows, chunk_rows)
        if chosen.cuts_batches and remainder == "spread":
            raise InvalidArgumentError(
                f"remainder='spread' was given with the sampler {type(chosen).__name__}; expected "
                "'keep', 'drop' or 'pad': the sampler puts rows together into batches of one size."
            )
        self.plan = replace(plan, sampler=chosen, remainder=remainder)
        """Which rows are in which batch of any epoch."""
        self.is_part = shard is not None
        """Whether it was given a shard."""
        refuse_empty_batches(self.plan)
        self.collate: Collation | None = collation_of(collate)
        """How sequences are padded that `load` returned in lists."""
        if self.collate is not None:
            self.varies = self.varies or self.collate.varies
            self.collate.refuse_shard(self.plan.shard)
        self.transform: Change | None = change_of(transform, "transform")
        self.augment: Change | None = change_of(augment, "augment")
        self.class_weight = None if class_weight is None else ClassWeight(class_weight)
        self.sent_class_weight: ClassWeight | None = None
        """The one of `fit(class_weight=...)`, as worker processes have it."""
        self.load_draws = False
        """Whether `load` takes a random generator as its second argument."""
        if makes_whole_batches:
            settings_given = {
                "collate": collate,
                "transform": transform,
                "augment": augment,
                "class_weight": class_weight,
                "remainder='pad'": self.plan.remainder == "pad" or None,
                "cache": cache,
                "on_error='set_aside'": on_error == "set_aside" or None,
            }
            refuse_beside_whole_batches(type(owner).__name__, settings_given)
        else:
            self.load_draws = wants_rng(owner.load, f"{type(owner).__name__}.load", "rows")
        self.cache: RowCache | None = None
        """What `load` returned, by row."""
        if cache is not None:
            name = type(owner).__name__
            refuse_cache(name, self.load_draws, self.collate)
            self.cache = new_cache(cache, plan.num_rows, partial(self.told_of_data, name), settings)
            refuse_cache_of_one_process(self.cache, settings)
        self.aside: SetAside | None = None
        """The rows that could not be read, if batches are to do without them."""
        share = share_set_aside(on_error, max_set_aside)
        if share is not None:
            self.aside = SetAside(plan.num_samples, share, self.plan.shard.count > 1)
        self.endless = False
        """Whether epochs follow one another without end."""
        self.asked_for_rows = False
        """Whether the code that makes batches has asked which rows are in one."""
        self.is_agreed = False
        """Whether the processes that train together have compared their datasets."""
        self.clock = Clock()
        """Which batch comes next."""
        self._begin(owner)

    def _begin(self, owner: Any) -> None:
        self._owner = weakref.ref(owner)
        self._parts: dict[Callable[[Core], Any], Any] = {}
        kept = 1
        if self.settings is not None:
            kept = self.settings.most_under_way() + _SLOTS_BESIDE_QUEUE
        self.slots = Slots(PrivateMemory(kept=kept))
        """The memory that batches are made in."""

    @property
    def owner(self) -> Any:
        """The dataset; the core refers to it weakly."""
        return self._owner()

    @property
    def name(self) -> str:
        """The name of the dataset's class, for messages."""
        return type(self.owner).__name__

    def part(self, kind: Callable[[Core], _Part]) -> _Part:
        """What `kind(core)` returned when it was first requested."""
        found = self._parts.get(kind)
        if found is None:  # if two threads make it at once, one of the two is kept
            found = self._parts.setdefault(kind, kind(self))
        return cast(_Part, found)

    # ---------------------------------------------------------------- copies

    def copy_for(self, owner: Any) -> Self:
        """A copy for another dataset, at the same position, with nothing under way."""
        twin = copy.copy(self)
        twin._begin(owner)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        left_behind = {"_owner", "_parts", "slots"}
        state = {name: value for name, value in vars(self).items() if name not in left_behind}
        if self.aside is not None:
            state["aside"] = self.aside.copy()
        return state | {"clock": self.clock.copy(), "settings": copy.copy(self.settings)}

    def sent_settings(self) -> dict[str, Any]:
        """The settings that a worker process gets, and that using the dataset does not change."""
        state = self.__getstate__()
        del state["clock"], state["asked_for_rows"], state["is_agreed"], state["aside"]
        return state

    # ---------------------------------------------------------------- batches

    def maker(self, work: Work) -> Maker:
        """A function that makes any batch."""
        plan, _, summarise = work
        if summarise is not None:
            return summing(self.maker(work._replace(summarise=None)), plan, summarise)
        recipe = self.recipe(work)
        if recipe.finished and not self.asks_for_rows(plan):  # nor does user code
            return recipe

        def make(epoch: int, step: int) -> Tree:
            with making(Making(self, plan, epoch, step)):
                return recipe(epoch, step)

        return make

    def asks_for_rows(self, plan: Plan) -> bool:
        """Whether reading a batch takes knowing which one it is."""
        return False

    def taken(
        self,
        made: Tree,
        of_all: Callable[[Sequence[Failure]], Sequence[Failure]] | None = None,
    ) -> tuple[Tree, Rows, int]:
        """The batch that a maker or a stream has given, and the rows that it lacks.

        Warns of the first row that could not be read.

        Args:
            made: a batch, or a `Lacking`.
            of_all: if other processes take their parts of the batch: gives the rows that any of
                them lacks, from those that this one lacks.

        Returns:
            The batch, the rows that it lacks, and how many those of all processes lack together.

        Raises:
            SetAsideError: if there are too many of them.
        """
        batch, failures = made if isinstance(made, Lacking) else (made, ())
        told = failures if of_all is None else of_all(failures)
        if not told:
            return batch, NO_ROWS, 0
        assert self.aside is not None
        first = self.aside.note(told)
        if first is not None:
            warnings.warn(
                f"row {first.row} of the {self.name} could not be read ({first.reason}) and is set "
                "aside, as on_error='set_aside' says: it weighs nothing. No further warning "
                "follows; dataset.set_aside names all such rows.",
                stacklevel=3,
            )
        return batch, np.array([failure.row for failure in failures], np.int64), len(told)

    def calls_user_code(self, work: Work) -> bool:
        """Whether making a batch calls anything but this library."""
        return work.summarise is not None or not self.recipe(work).finished

    def recipe(self, work: Work) -> Recipe:
        """How any batch is made."""
        plan, training, _ = work
        if self.makes_whole_batches:
            recipe = Recipe(
                plan,
                self._make_by_index,
                name="__getitem__(index)",
                empty=self.slots.lease,
                is_whole=True,
            )
        else:
            recipe = self.loading(plan, bool(training))
        of_fit = self.sent_class_weight if training == "sent" else training
        if isinstance(of_fit, ClassWeight):
            recipe = replace(recipe, class_weight=of_fit, finished=False)
        return recipe

    def loading(self, plan: Plan, training: bool = True) -> Recipe:
        """How any batch is made from what `load` returns."""
        return Recipe(
            plan,
            self.cached(self.collated(self.owner.load)),
            self.transform,
            self.class_weight if training else None,
            augment=self.augment if training else None,
            load_draws=self.load_draws,
            empty=self.slots.lease,
            aside=self.aside,
            fills_up=training,
        )

    def collated(self, load: Callable[..., Tree]) -> Callable[..., Tree]:
        """`load`, with the sequences padded that it returns, if they are to be."""
        collate, empty = self.collate, self.slots.lease
        if collate is None:
            return load
        return lambda *given: collate.batch(load(*given), empty)

    def be_wider(self) -> None:
        """Pad one time step further, to show which axes of a batch vary."""
        assert self.collate is not None
        self.collate = self.collate.wider()

    def cached(self, load: Callable[..., Tree]) -> Callable[..., Tree]:
        """`load`, with rows from the cache if there is one."""
        cache = self.cache
        return load if cache is None else partial(cache.load, load=load, empty=self.slots.lease)

    def use_slots(self, slots: Slots) -> None:
        """Make arrays in these slots: in a worker process, in the memory that it shares."""
        self.slots = slots

    def _make_by_index(self, _: Rows) -> Tree:
        batch = now_making(self)
        assert batch is not None
        made = self.owner[batch.step]
        if not self.asked_for_rows:
            self.asked_for_rows = is_told_of_rows(self.name, batch.plan)
        return made

    # ---------------------------------------------------------------- rows and positions

    def note_asking(self) -> None:
        """Note that rows were asked for, if that happened while making a batch."""
        if now_making(self) is not None:  # other calls say nothing about how batches are made
            self.asked_for_rows = True

    @property
    def epoch(self) -> int:
        """The epoch that comes next; while a batch is made, the epoch it is in."""
        batch = now_making(self)
        return self.clock.epoch if batch is None else batch.epoch

    def plan_of(self, epoch: int) -> Plan:
        """The plan of an epoch; while a batch is made, the plan that it follows."""
        batch = now_making(self)
        if batch is not None:
            return batch.plan
        return self.plan.in_data_order() if self.clock.is_in_order(epoch) else self.plan

    def state_at(self, place: Place) -> dict[str, Any]:
        """The state in which the batch at `place` comes next."""
        state = position.write(self.fingerprint(), place, self.plan)
        known = {} if self.aside is None else self.aside.told
        return state | {"set_aside": [*map(list, known.items())]} if known else state

    def place_of(self, state: Any) -> Place:
        """The place that a state names.

        Raises:
            InvalidStateError: if it is not a state of this dataset.
        """
        return position.read(state, self.fingerprint(), self.plan)

    def restore_set_aside(self, state: Mapping[str, Any]) -> None:
        """Know the rows that a state says could not be read.

        Raises:
            InvalidStateError: if it names no rows.
        """
        if self.aside is not None:
            self.aside.restore(state.get("set_aside", []))

    # ---------------------------------------------------------------- what it is

    def fingerprint(self) -> position.Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        plan = self.plan
        weights = self.class_weight
        return {
            "class": self.name,
            "num_samples": plan.num_samples,
            # Not the shard: all processes write one state, and another number of them may read it.
            "global_batch_size": plan.global_batch_size,
            "shuffle": plan.shuffle,
            # If nothing draws, the seed changes nothing, and one drawn at random must not matter.
            "seed": plan.seed if self.draws else None,
            "remainder": plan.remainder,
            "transform": None if self.transform is None else self.transform.name,
            "augment": None if self.augment is None else self.augment.name,
            "class_weight": None if weights is None else weights.pairs,
        } | {
            name: value
            for name, value in (
                ("collate", None if self.collate is None else self.collate.name),
                ("sampler", None if is_plain(plan.sampler) else plan.sampler.identity),
                ("split", None if plan.selection is None else plan.selection.described),
                ("on_error", None if self.aside is None else "set_aside"),
            )
            if value is not None
        }

    def description(self) -> dict[str, Any]:
        """What must be equal on all processes that train together."""
        *place, order_size = self.clock.place
        position = [*place, order_size] if order_size else place
        return self.fingerprint() | self.data_digest() | {"position": position}

    def data_digest(self) -> dict[str, Any]:
        """Figures that differ if another process reads other data, as far as that can be seen."""
        return {}

    def told_of_data(self, name: str) -> dict[str, Any]:
        """What identifies the data, for a cache that may hold rows of others; reads none of them.

        Args:
            name: of the dataset's class.
        """
        collate = None if self.collate is None else self.collate.name
        return {"dataset": name, "rows": self.plan.num_rows, "collate": collate}

    @property
    def draws(self) -> bool:
        """Whether anything depends on the seed."""
        functions = self.transform, self.augment
        return self.plan.shuffle or self.load_draws or any(f is not None for f in functions)

    @property
    def for_training_alone(self) -> list[str]:
        """The settings that give training other batches than `evaluate` or `predict`."""
        remainder = self.plan.remainder
        reasons = {
            f"remainder={remainder!r}": remainder in ("pad", "drop"),
            "augment": self.augment is not None,
            "class_weight": self.class_weight is not None,
            "on_error='set_aside'": self.aside is not None,
        }
        return [reason for reason, matters in reasons.items() if matters]

    @property
    def data(self) -> dict[str, Any]:
        """Each array that is read, with `shape` and `dtype`, by a path such as `x['image']`."""
        return {}

    @property
    def are_several(self) -> bool:
        """Whether several threads or processes read."""
        return self.settings is not None and self.settings.workers not in (0, 1)

    def most_ahead(self, block_rows: int) -> int:
        """Rows of the order by which one thread may be ahead of another.

        The last block may be shorter, wherever it comes; the rows that it lacks are counted too.
        """
        who, plan = self.settings, self.plan
        if who is None:
            return 0
        lacking = -plan.num_rows % block_rows
        return who.most_under_way(in_blocks=True) * plan.global_batch_size + lacking

    @property
    def chunk_rows(self) -> int | None:
        """Rows of the largest chunk of its data; None if they are not read in chunks."""
        return None

    def chunk_starts(self, chunk_rows: int) -> Rows:
        """The first sample of each chunk of its data, and the number of all samples.

        Args:
            chunk_rows: what counts as a chunk of data that are not read in chunks.
        """
        return starts_in(self.plan.num_samples, chunk_rows)

    def keep(self, block_rows: int, blocks: int, ahead: int) -> None:
        """Keep what is needed to read each block of rows once; see `Chunked`."""

    def reading(self, batch_size: int) -> Reading | None:
        """What batches of rows from all over the data read, if they read chunks again and again."""
        return None

    @property
    def reads_arrays_alone(self) -> bool:
        """Whether its samples are rows of `data`, whatever is done to them afterwards."""
        return False

    @property
    def made_by(self) -> str:
        """The method or function of the user's that makes batches, for messages."""
        return "load(rows) or __getitem__"

    def begin_pass(self, number: int | None = None) -> None:
        """An epoch begins: what was read for the one before may have changed.

        Args:
            number: of the pass, in a worker process: other processes make batches of it too.
        """

    @property
    def rereads_chunks(self) -> bool:
        """Whether its order makes the storage read chunks of the data again and again."""
        return False

    def facts(self, plan: Plan) -> Facts:
        """What is known about how batches are made."""
        return Facts()

    def check_class_weight(self, weights: ClassWeight) -> None:
        """Refuse `fit(class_weight=...)` if it is known that no batch can be weighed by it.

        Raises:
            UnsupportedArgumentError: if there are weights already.
        """
        if self.class_weight is not None:
            raise UnsupportedArgumentError(
                f"fit(class_weight=...) was given with the dataset ({self.name}), which "
                "has class_weight itself; expected one of them. Leave the one of fit out, or make "
                "the dataset without."
            )

    # ---------------------------------------------------------------- changes

    def be_shard(self, shard: Shard, seed: int) -> None:
        """Become one of several shards, as if made with this shard and seed."""
        if self.aside is not None:
            self.aside = self.aside.of_shard(shard)
        if self.collate is not None:
            self.collate.refuse_shard(shard)
        plan = replace(self.plan, shard=shard, seed=seed)
        if not self.has_own_remainder:
            plan = replace(plan, remainder=self._default_remainder(is_part=True))
        refuse_empty_batches(plan)
        self.plan, self.is_part, self.is_agreed = plan, True, False

    def be_split(self, plan: Plan) -> None:
        """Become a part of the data, at epoch 0."""
        refuse_empty_batches(plan)
        self.plan, self.is_agreed = plan, False
        self.asked_for_rows = False  # a part must ask, whatever the whole did
        self.clock = Clock()
        if self.aside is not None:
            self.aside = self.aside.of_part(plan)

    def _default_remainder(self, is_part: bool) -> Remainder:
        # Processes that train together need batches of one size.
        return "pad" if is_part and not self.makes_whole_batches else "keep"


def core_of(dataset: Any) -> Core:
    """The core of a dataset.

    Raises:
        InvalidArgumentError: if `super().__init__` was not called.
    """
    found = vars(dataset).get(ATTRIBUTE)
    if not isinstance(found, Core):
        raise InvalidArgumentError(
            f"{type(dataset).__name__} was not initialised; call "
            "super().__init__(num_samples=..., **kwargs) first in its __init__."
        )
    return found


def refuse_empty_batches(plan: Plan) -> None:
    """Refuse batches without samples: such a batch has no mean, so its loss would be NaN.

    Raises:
        InvalidArgumentError: if a shard has such a batch.
    """
    if plan.remainder == "pad":
        return
    last = plan.num_batches - 1
    fewest, _ = plan.sizes(last)
    if fewest == 0:
        start, stop = plan.global_span(last)
        raise InvalidArgumentError(
            f"remainder={plan.remainder!r} leaves shards without a sample: the last batch has "
            f"{stop - start} for {plan.shard.count} of them. Use remainder='pad', whose added "
            "samples weigh nothing, 'drop', or another batch_size."
        )
