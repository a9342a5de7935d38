"""`Batches`: what a dataset is without Keras.

    class Slides(Batches):
        def load(self, rows):
            return read(self.paths[rows]), self.labels[rows]

    make = Slides(num_samples=1000, batch_size=64, seed=0)._maker()
    make(epoch=2, step=7)     # the same bytes wherever it is called

`BatchDataset` adds to it what Keras and the executors need. A worker process has this part alone:
the classes of users that derive from `BatchDataset` here derive from `Batches` there, so that a
worker need not load Keras and a framework to read files.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from keras_npbatch import rng
from keras_npbatch.batches.making import Making, making, now_making
from keras_npbatch.batches.parts import ClassWeight, Training
from keras_npbatch.batches.planned import Planned, refuse_empty_batches
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.batches.summary import Summarise, summing
from keras_npbatch.batches.transforms import Transform, wants_rng
from keras_npbatch.errors import InvalidArgumentError, UnsupportedArgumentError, told
from keras_npbatch.plan import position
from keras_npbatch.plan.clock import Clock
from keras_npbatch.plan.permutation import Rows
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard
from keras_npbatch.tree import Tree

__all__ = ["Batches", "Maker"]

Maker: TypeAlias = Callable[[int, int], Tree]
"""`maker(epoch, step)`: the batch."""


class Batches(Planned):
    """Which batches there are and how each is made; see `BatchDataset` for the settings."""

    _sent_class_weight: ClassWeight | None = None
    """That of `fit(class_weight=...)`, as worker processes have it."""

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        remainder: Remainder | None = None,
        transform: Callable[..., Tree] | None = None,
        augment: Callable[..., Tree] | None = None,
        class_weight: Mapping[int, float] | None = None,
        shard: Shard | tuple[int, int] | None = None,
    ) -> None:
        self._has_own_remainder, self._has_own_seed = remainder is not None, seed is not None
        if remainder is None:
            remainder = self._default_remainder(is_part=shard is not None)
        self._plan = Plan(
            num_samples=num_samples,
            batch_size=batch_size,
            seed=rng.draw_seed() if seed is None else seed,
            shuffle=shuffle,
            remainder=remainder,
            shard=Shard.of(shard),
        )
        self._is_part = shard is not None
        refuse_empty_batches(self._plan)
        self._transform = None if transform is None else Transform(transform)
        self._augment = None
        if augment is not None:
            self._augment = Transform(augment, "augment", rng.Purpose.AUGMENT)
        self._class_weight = None if class_weight is None else ClassWeight(class_weight)
        self._load_draws = False
        if self._makes_whole_batches:
            self._refuse_finishing()
        else:
            self._load_draws = wants_rng(self.load, f"{type(self).__name__}.load", "rows")
        self._endless = False
        self._asked_for_rows = False
        self._start(epoch=0)

    # ---------------------------------------------------------------- what a user writes

    def load(self, rows: Rows) -> Tree:
        """Read a batch; the one method to write. It may be called from several threads at once.

        Write `load(self, rows, rng)` to draw random numbers: `rng` is a `np.random.Generator` that
        depends on (seed, epoch, step) alone. `evaluate` and `predict` draw those of epoch 0.

        Args:
            rows: int64 array of shape `(n,)`: the samples of the batch, in their order.

        Returns:
            `x`, `(x, y)` or `(x, y, sample_weight)`: each an array of shape
            `(n, *feature_shape)`, or a dict, tuple or list of such. Views of your data, cached
            batches and a buffer that you fill again are fine: what you keep is copied. (Several
            threads need a buffer each: `threading.local()`.)
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no load(rows); expected a method that returns the batch "
            "of these rows: x, (x, y) or (x, y, sample_weight)."
        )

    # ---------------------------------------------------------------- batches

    def __len__(self) -> int:
        """Batches in an epoch."""
        num_batches = self.plan.num_batches
        if self._endless:
            raise TypeError(
                "an endless dataset (`repeat()`) has no length; one pass over the data is "
                f"{num_batches} batches"
            )
        return num_batches

    def __bool__(self) -> bool:
        """True, also for an endless dataset, which has no length to ask."""
        return True

    def __getitem__(self, index: int) -> Tree:
        """Batch `index` of the epoch that comes next. Asking changes nothing.

        For an endless dataset, `index` counts on through the epochs that follow.
        """
        try:
            step = operator.index(index)
        except TypeError:
            several = ""
            if isinstance(index, slice):
                several = (
                    ". Several batches: [dataset[i] for i in range(0, 2)]; samples of your choice: "
                    "dataset.load(np.arange(0, 2))"
                )
            raise TypeError(
                f"index is {told(index)}; expected the number of a batch{several}"
            ) from None
        num_batches, epoch = self.plan.num_batches, self.epoch
        if self._endless and step >= 0:
            later, step = divmod(step, num_batches)
            epoch += later
        elif step < 0:
            step += num_batches
        if not 0 <= step < num_batches:
            raise IndexError(f"there is no batch {index}: an epoch has {num_batches}, from 0 up")
        self._asked_for_rows = True
        plan = self._plan_of(epoch)
        with making(Making(self, plan, epoch, step)):
            return self._loading(plan)(epoch, step)

    # ---------------------------------------------------------------- what it is

    def _fingerprint(self) -> position.Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        plan = self.plan
        weights = self._class_weight
        return {
            "class": type(self).__name__,
            "num_samples": plan.num_samples,
            # Not the shard: all processes write one state, and another number of them reads it.
            "global_batch_size": plan.global_batch_size,
            "shuffle": plan.shuffle,
            # Without these the seed changes nothing, and one that was drawn must not be in the way.
            "seed": plan.seed if self._draws else None,
            "remainder": plan.remainder,
            "transform": None if self._transform is None else self._transform.name,
            "augment": None if self._augment is None else self._augment.name,
            "class_weight": None if weights is None else weights.pairs,
        } | ({} if plan.selection is None else {"split": plan.selection.described})

    # ---------------------------------------------------------------- making

    def _maker(
        self,
        plan: Plan | None = None,
        training: Training = True,
        summarise: Summarise | None = None,
    ) -> Maker:
        """What makes any batch.

        Args:
            plan: which rows are in it; by default the dataset's own.
            training: whether batches are augmented and classes weighed, as `fit` does, and by what;
                see `Training`.
            summarise: what is to be computed from each batch where it is made; then the maker
                returns both, as `Summed`.
        """
        if summarise is not None:
            return summing(self._maker(plan, training), plan or self.plan, summarise)
        plan = self.plan if plan is None else plan
        recipe = self._recipe(plan, bool(training))
        of_fit = self._sent_class_weight if training == "sent" else training
        if isinstance(of_fit, ClassWeight):
            recipe = replace(recipe, class_weight=of_fit, finished=False)
        if recipe.finished:  # no code of the user's is called, which might ask
            return recipe

        def make(epoch: int, step: int) -> Tree:
            with making(Making(self, plan, epoch, step)):
                return recipe(epoch, step)

        return make

    def _check_class_weight(self) -> None:
        """Refuses `fit(class_weight=...)` where it is known that no batch could be weighed by it.

        Raises:
            UnsupportedArgumentError: if there are weights already.
        """
        if self._class_weight is not None:
            raise UnsupportedArgumentError(
                f"fit(class_weight=...) was given with the dataset ({type(self).__name__}), which "
                "has class_weight itself; expected one of them. Leave the one of fit out, or make "
                "the dataset without."
            )

    @property
    def _for_training_alone(self) -> list[str]:
        """The settings by which training has other batches than `evaluate` or `predict`."""
        reasons = {
            f"remainder={self.remainder!r}": self.remainder in ("pad", "drop"),
            "augment": self._augment is not None,
            "class_weight": self._class_weight is not None,
        }
        return [reason for reason, matters in reasons.items() if matters]

    def _use_slots(self, slots: Slots) -> None:
        """Make arrays there: in a worker process, in the memory that it shares."""
        self._slots = slots

    @property
    def _slots_kept(self) -> int:
        """Free buffers of one size that are kept for reuse."""
        return 1

    # ---------------------------------------------------------------- state

    def _start(self, epoch: int) -> None:
        self._clock = Clock(epoch)
        self._slots = Slots(PrivateMemory(kept=self._slots_kept))

    def __getstate__(self) -> dict[str, Any]:
        """Settings, data and the epoch that comes next."""
        state = self.__dict__.copy()
        del state["_clock"], state["_slots"]
        state["_place"] = self._clock.place
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on a state."""
        state = state.copy()
        place = state.pop("_place")
        self.__dict__.update(state)
        self._start(place.epoch)
        self._clock.move_to(*place)

    # ---------------------------------------------------------------- inside

    def _recipe(self, plan: Plan, training: bool = True) -> Recipe:
        if self._makes_whole_batches:
            return Recipe(
                plan,
                self._make_by_index,
                name="__getitem__(index)",
                empty=self._slots.lease,
                is_whole=True,
            )
        return self._loading(plan, training)

    def _loading(self, plan: Plan, training: bool = True) -> Recipe:
        return Recipe(
            plan,
            self.load,
            self._transform,
            self._class_weight if training else None,
            augment=self._augment if training else None,
            load_draws=self._load_draws,
            empty=self._slots.lease,
        )

    @property
    def _draws(self) -> bool:
        """Whether anything depends on the seed."""
        functions = self._transform, self._augment
        return self.plan.shuffle or self._load_draws or any(f is not None for f in functions)

    @property
    def _told_data(self) -> str:
        """What is known of the data without reading any."""
        return ""

    @property
    def _makes_whole_batches(self) -> bool:
        return type(self).__getitem__ is not Batches.__getitem__

    def _default_remainder(self, is_part: bool) -> Remainder:
        # Processes that train together need batches of one size.
        return "pad" if is_part and not self._makes_whole_batches else "keep"

    def _set_shard(self, shard: Shard, seed: int) -> None:
        """Be one of several, as if made with this shard and seed."""
        plan = replace(self.plan, shard=shard, seed=seed)
        if not self._has_own_remainder:
            plan = replace(plan, remainder=self._default_remainder(is_part=True))
        refuse_empty_batches(plan)
        self._plan, self._is_part = plan, True

    def _set_split(self, plan: Plan) -> None:
        """Be a part of the data, from epoch 0 on."""
        refuse_empty_batches(plan)
        self._plan = plan
        self._asked_for_rows = False  # whatever the whole did: now it matters more
        self._start(epoch=0)

    def _refuse_finishing(self) -> None:
        for name, value in (
            ("transform", self._transform),
            ("augment", self._augment),
            ("class_weight", self._class_weight),
            ("remainder='pad'", self.remainder == "pad" or None),
        ):
            if value is not None:
                raise InvalidArgumentError(
                    f"{name} was given to {type(self).__name__}, which overrides __getitem__ and "
                    "so returns finished batches; expected neither transform, augment, "
                    "class_weight nor remainder='pad'. Override load(rows) instead."
                )

    def _make_by_index(self, _: Rows) -> Tree:
        batch = now_making(self)
        assert batch is not None
        made = self[batch.step]
        if batch.plan.selection is not None and not self._asked_for_rows:
            raise InvalidArgumentError(
                f"{type(self).__name__}.__getitem__(index) made a batch without asking "
                "self.rows(index) which rows are in it, so the parts of a split would have the "
                "same samples. Read these rows, or override load(rows) instead."
            )
        ignored = [
            name
            for name, matters in (
                ("shuffle=True", batch.plan.shuffle),
                ("the shard", batch.plan.shard.count > 1),
            )
            if matters
        ]
        if ignored and not self._asked_for_rows:
            self._asked_for_rows = True
            warnings.warn(
                f"{type(self).__name__}.__getitem__(index) made a batch without asking "
                f"self.rows(index) which rows are in it, so {' and '.join(ignored)} "
                "would change nothing. Read these rows, or say shuffle=False and no shard.",
                stacklevel=2,
            )
        return made
