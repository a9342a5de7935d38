"""What one call of Keras is served: the passes that its iterator over epochs makes.

Keras makes one iterator over epochs for each `fit`, `evaluate` and `predict`, and one more for the
validation within a `fit`. Each is served by a `Session` of its own, so that they never disturb
each other, also when all of them walk over the same dataset at once:

- `fit` gets shuffled epochs, one after the other; an epoch counts once all of it was delivered.
  What Keras took only to build a model it gives back (`take_back`), and gets anew.
- `evaluate` and `predict` read in the order of the data and never move an epoch on.
- `predict` gets every row once, also where training drops or pads.

Iterators are lazy: Keras makes some that it never uses, and a pass begins with its first batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from keras_npbatch.assemble import scale_weights
from keras_npbatch.errors import (
    AmbiguousCallError,
    ClosedError,
    UnsupportedArgumentError,
    told,
)
from keras_npbatch.keras_calls import Call, Kind
from keras_npbatch.plan import Plan
from keras_npbatch.tree import Tree

__all__ = ["Clock", "Service", "Session", "Stream", "check_delivered"]

_STEPS = {"fit": "steps_per_epoch", "evaluate": "steps", "predict": "steps"}


class Stream(Protocol):
    """Batches in order, which can be ended early."""

    def __iter__(self) -> Iterator[Tree]: ...

    def __next__(self) -> Tree: ...

    def close(self) -> None:
        """Forget the rest; safe to call twice, also from another thread."""


@dataclass(slots=True)
class Clock:
    """Which epoch of a dataset comes next."""

    epoch: int = 0
    """Counted from 0."""
    times_set: int = 0
    """How often the user has set it; a session that sees a new number follows the clock."""

    def set(self, epoch: int) -> None:
        """The user's word."""
        self.epoch = epoch
        self.times_set += 1


@dataclass(frozen=True, slots=True)
class Service:
    """What a dataset offers to sessions."""

    dataset: Any
    """The object that Keras was given."""
    plan: Plan
    """The plan of its shuffled epochs."""
    clock: Clock
    """The epoch, shared by all who train."""
    endless: bool
    """Whether one epoch follows the other without an end."""
    stream: Callable[[Plan, int, bool], Stream]
    """`stream(plan, epoch, training)`: an epoch of batches through the dataset's executor."""


class Session:
    """The passes of one iterator of Keras.

    Args:
        service: what is walked over.
        call: what Keras was asked for, if that can be told.
        steps: how many steps Keras takes an epoch; None: as many as there are.

    Raises:
        AmbiguousCallError: if it can't be told and matters.
        UnsupportedArgumentError: for an argument that Keras would ignore.
    """

    def __init__(self, service: Service, call: Call | None, steps: int | None) -> None:
        self._service = service
        self._steps = steps
        self._choose(_kind(service, call))
        _check_arguments(service, call, steps)
        self._times_set = service.clock.times_set
        self._first_epoch: int | None = None
        self._epoch: int | None = None
        self._clock_before = service.clock.epoch
        self._stream: Stream | None = None

    @property
    def num_batches(self) -> int | None:
        """Steps in an epoch, or None for an endless dataset."""
        return None if self._service.endless else self._plan.num_batches

    def batches(self, call: Call | None) -> Iterator[Tree]:
        """One epoch (all that follow, for an endless dataset), from its first batch on.

        Args:
            call: what asks for them. It knows more than the call that made the session: where a
                dataset is trained on and validated with in one `fit`, which of both this is; and
                the initial epoch that a callback has restored.
        """
        if call is not None and call.kind == "evaluate":
            self._choose("evaluate")
        self._first_epoch = _initial_epoch(self._service, call, self._steps)
        return self._epochs()

    def take_back(self) -> None:
        """Keras drops what it has read to build the model: the epoch is begun anew."""
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        if self._kind == "fit" and self._times_set == self._service.clock.times_set:
            self._service.clock.epoch = self._clock_before
            self._epoch = None

    def _choose(self, kind: Kind) -> None:
        self._kind: Kind = kind
        plan = self._service.plan
        if kind != "fit":
            plan = plan.in_data_order(every_row=kind == "predict")
        self._plan = plan

    def _epochs(self) -> Iterator[Tree]:
        yield from self._one_epoch()
        while self._service.endless:
            yield from self._one_epoch()

    def _one_epoch(self) -> Iterator[Tree]:
        epoch = self._next_epoch()
        stream = self._stream = self._service.stream(self._plan, epoch, self._kind == "fit")
        step, last_step = -1, self._plan.num_batches - 1
        try:
            for step, batch in enumerate(stream):
                if step == last_step:
                    # Before the last batch leaves, since Keras does not come back after it.
                    self._move_to(epoch + 1)
                yield self._weighed(batch, step)
            check_delivered(step, last_step)
        finally:
            stream.close()

    def _next_epoch(self) -> int:
        if self._kind != "fit":
            return 0
        clock = self._service.clock
        if self._times_set != clock.times_set:  # the user has set it since
            self._times_set = clock.times_set
            self._epoch = clock.epoch
        elif self._epoch is None:
            self._epoch = clock.epoch if self._first_epoch is None else self._first_epoch
        return self._epoch

    def _move_to(self, epoch: int) -> None:
        if self._kind != "fit":
            return
        self._epoch = epoch
        if self._times_set == self._service.clock.times_set:
            self._service.clock.epoch = epoch

    def _weighed(self, batch: Tree, step: int) -> Tree:
        """The batch with its sample weights scaled to what Keras makes of padded batches.

        Keras divides the loss of a batch by all its rows, padded ones too, and then weighs that
        batch by all its rows. For `fit` the gradient must be that of the real rows, so in a
        padded batch they weigh `batch_size / real rows`. For `evaluate` the mean over the batches
        that are read must be that over their real rows, so in each batch they weigh
        `all rows / real rows`.
        """
        plan = self._plan
        if plan.remainder != "pad":
            return batch
        if self._kind == "fit":
            start, stop = plan.span(step)
            factor = plan.batch_size / (stop - start)
        else:
            read = min(self._steps or plan.num_batches, plan.num_batches)
            factor = read * plan.batch_size / plan.span(read - 1)[1]
        return batch if factor == 1 else scale_weights(batch, factor)


def check_delivered(step: int, last_step: int) -> None:
    """Refuses to take the end of a stream for the end of its epoch when batches are missing.

    Raises:
        ClosedError: if `step`, the last one delivered, is not the epoch's.
    """
    if step != last_step:
        raise ClosedError(
            f"the dataset was closed after {step + 1} of {last_step + 1} batches of an epoch that "
            "was under way. Close it when all iteration is over."
        )


def _kind(service: Service, call: Call | None) -> Kind:
    if call is not None:
        # While fit makes the iterator of its validation, fit itself is the innermost call.
        if call.kind == "fit" and not call.is_given("x", service.dataset):
            return "evaluate"
        return call.kind
    if service.plan.shuffle:
        raise AmbiguousCallError(
            "Keras asks for batches, but it can't be told whether for fit, evaluate or predict: "
            "shuffled rows might reach predict, whose results would be out of order. Expected a "
            "call of model.fit, model.evaluate or model.predict. Use a dataset with "
            "shuffle=False, or iterate over the dataset yourself."
        )
    return "fit"


def _initial_epoch(service: Service, call: Call | None, steps: int | None) -> int | None:
    """The epoch of the data that `fit(initial_epoch=...)` begins with, if it says so.

    Where an epoch of `fit` is not one of the data, because of `steps_per_epoch`, it does not.
    """
    if call is None or call.kind != "fit" or not call.is_given("x", service.dataset):
        return None
    if steps not in (None, service.plan.num_batches):
        return None
    return call.arguments.get("initial_epoch") or None


def _check_arguments(service: Service, call: Call | None, steps: int | None) -> None:
    """Refuses what Keras would ignore in silence when data come from an adapter."""
    if call is None:
        return
    dataset = type(service.dataset).__name__
    is_validation = call.kind == "fit" and not call.is_given("x", service.dataset)
    if service.endless and steps is None:
        name = "validation_steps" if is_validation else _STEPS[call.kind]
        if call.kind == "fit" and call.arguments.get("steps_per_epoch") is not None:
            name = "validation_steps"
        raise UnsupportedArgumentError(
            f"{call.kind} with an endless dataset ({dataset}.repeat()) would never end; expected "
            f"{name}. One pass over the data is {name}={service.plan.num_batches}."
        )
    if is_validation:
        return
    for name, instead in (
        ("class_weight", "Give it to the dataset: class_weight=..."),
        ("y", "Put the targets into the dataset."),
        ("sample_weight", "Put the weights into the dataset."),
    ):
        if call.arguments.get(name) is not None:
            raise UnsupportedArgumentError(
                f"{call.kind}({name}=...) was given with the dataset ({dataset}), and Keras would "
                f"ignore it; expected None. {instead}"
            )
    batch_size = call.arguments.get("batch_size")
    if batch_size is not None and batch_size != service.plan.batch_size:
        raise UnsupportedArgumentError(
            f"{call.kind}(batch_size=...) was given {told(batch_size)} with the dataset "
            f"({dataset}) of batch_size={service.plan.batch_size}, and Keras would ignore it. Set "
            "the dataset's batch_size."
        )
