"""What one call of Keras is served: the passes that its iterator over epochs makes.

Keras makes one iterator over epochs for each `fit`, `evaluate` and `predict`, and one more for the
validation within a `fit`. Each is served by a `Session` of its own, so that they never disturb
each other, also when all of them walk over the same dataset at once:

- `fit` gets shuffled epochs, one after the other, or with `shuffle=False` in the order of the data;
  an epoch counts once all of it was delivered.
  What Keras took only to build a model it gives back (`take_back`), and gets again.
- After `load_state_dict` the first pass of `fit` is the rest of an epoch, and Keras is told so.
- `evaluate` and `predict` read in the order of the data and never move an epoch on.
- `predict` gets every row once, also where training drops or pads.

Iterators are lazy: Keras makes some that it never uses, and a pass begins with its first batch.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator, Iterator, Sequence
from time import perf_counter
from typing import Any

import keras

from keras_npbatch.batches.class_weight import Training
from keras_npbatch.batches.core import NO_ROWS, core_of
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.set_aside import Failure
from keras_npbatch.batches.work import Work
from keras_npbatch.distributed.agreement import refuse_differences, tell_failure
from keras_npbatch.distributed.checks import check_engine, check_rest, join_strategy, rewire
from keras_npbatch.distributed.rank import has_others, mesh_place
from keras_npbatch.distributed.together import Together
from keras_npbatch.errors import InvalidStateError, UnsupportedArgumentError, describe_rows
from keras_npbatch.fit.call import Call, callbacks_of, is_build, show_steps
from keras_npbatch.fit.deliveries import Delivery, Watch
from keras_npbatch.fit.first_batch import (
    look_at,
    save_weights,
    warn_of_lone_samples,
    warn_of_lost_weights,
)
from keras_npbatch.fit.pace import has_time_for
from keras_npbatch.fit.requests import (
    check_arguments,
    initial_epoch,
    kind_of,
    passes_in_all,
    reads_in_order,
    weights_of,
)
from keras_npbatch.fit.set_aside import refuse_in_strategy, refuse_lacking
from keras_npbatch.fit.weighing import Weighing, without_weights
from keras_npbatch.plan.clock import Place
from keras_npbatch.plan.plan import Kind, Plan
from keras_npbatch.tree import Tree
from keras_npbatch.workers.epoch import walk
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.stream import Stream

__all__ = ["Session"]


class Session:
    """The passes of one iterator of Keras.

    Args:
        dataset: what is walked over.
        call: what Keras was asked for, if that is known.
        steps: how many steps Keras takes an epoch; None: as many as there are.

    Raises:
        AmbiguousCallError: if it is unknown and matters.
        UnsupportedArgumentError: for an argument that Keras would ignore.
    """

    def __init__(self, dataset: Any, call: Call | None, steps: int | None) -> None:
        self.watches: list[Watch] = []
        self._dataset = dataset
        self._core = core = core_of(dataset)
        self.steps_per_epoch = steps
        """What Keras was given by this name."""
        self._model = None if call is None or call.model is None else weakref.ref(call.model)
        self._strategy: Any = None
        self.is_settled = False
        """Whether nothing more has to be learned of the call, nor a model be built."""
        self.is_building = False
        """Whether Keras takes the batches of this pass only to build a model."""
        self._callbacks: weakref.ref[Any] | None = None
        kind = kind_of(core, call)
        check_arguments(core, call, steps)
        fit = call if kind == "fit" else None
        self._in_order = reads_in_order(core, fit)
        self._class_weight = weights_of(core, fit)
        self._choose(kind)
        self._together: Together | None = None
        """The other processes, if this one has to know which rows they could not read."""
        if core.aside is not None and kind != "predict" and has_others(self._plan.shard):
            self._together = Together(self._plan.shard)
        self._is_agreed = not has_others(self._plan.shard)
        self._check_engine(call)
        if not self._is_agreed and self._engine_talks_first():
            # Where the data begin may still change, so that is compared with the first batch.
            refuse_differences(self._plan.shard, self._described())
        self._times_set = core.clock.times_set
        self._first_epoch = initial_epoch(core, fit, steps)
        self._next: Place | None = None
        self._clock_before = core.clock.place
        if self._kind == "fit":
            core.clock.begin_pass(self._next_pass().epoch, self._in_order)
        self._steps_shown = self.num_batches
        self._walks = 0
        self._passes = 0
        self._has_begun = False
        self._last_pass: int | None = None
        self._stream: Stream | None = None
        # The metrics of a validation are those of `fit`.
        model = call.model if call is not None and call.kind == self._kind else None
        warn_of_lost_weights(self._kind, model)
        self._rewired = rewire(self._plan, self._kind, dataset, model)

    def end(self) -> None:
        """Note that the call of Keras is over. Safe to call twice."""
        if self._rewired is not None:
            self._rewired.end()
            self._rewired = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            clock = self._core.clock
            if self._in_order and not clock.place.is_rest:  # the next epoch may not have come
                clock.mark(clock.epoch, in_order=False)

    @property
    def num_batches(self) -> int | None:
        """Steps in the pass that comes next, or None for an endless dataset."""
        if self._core.endless:
            return None
        place = self._next_pass()
        return place.plan(self._plan).num_batches - place.step

    @property
    def is_fit(self) -> bool:
        """Whether a model is trained on the batches."""
        return self._kind == "fit"

    @property
    def steps(self) -> int:
        """Steps in an epoch of Keras that is not resumed."""
        return self.steps_per_epoch or self._plan.num_batches

    @property
    def model(self) -> Any:
        """The model that is served, or None if it is unknown."""
        return None if self._model is None else self._model()

    def learn(self, call: Call | None) -> None:
        """Learn from the call that asks for batches: it knows more than the one that began.

        If one `fit` trains on and validates with the same dataset, it shows which of the two this
        session is for. It also knows the initial epoch that a callback has restored, and the list
        of callbacks.
        """
        if call is not None and call.kind == "evaluate":
            self._choose("evaluate")
        self._first_epoch = initial_epoch(self._core, call, self.steps_per_epoch)
        self._last_pass = passes_in_all(call)
        callbacks = callbacks_of(call)
        self._callbacks = None if callbacks is None else weakref.ref(callbacks)

    def batches(self, *, building: bool = False) -> Iterator[Tree]:
        """One epoch (all that follow, for an endless dataset), from its first batch on.

        Args:
            building: whether Keras makes this iterator to build a model, and drops it then.
        """
        return self._epochs(building)

    def join(self, strategy: Any) -> None:
        """Check a strategy of TensorFlow that divides the batches, perhaps in several processes.

        Raises:
            RanksDisagreeError: on every process, if they have different datasets.
            UnsupportedArgumentError: if it would train samples twice, or wrongly, or fail.
        """
        dataset = self._dataset
        if self._together is not None:
            refuse_in_strategy(self._core)
        join_strategy(strategy, self._plan, self._kind, dataset, self.model, self._described())
        self._is_agreed, self._strategy = True, strategy
        self._choose(self._kind)

    def tell_place(self, error: Exception) -> None:
        """Add a note to an error about the batch that was given last: epoch, step and rows."""
        plan, epoch, step = self._at
        rows = describe_rows(plan.rows(epoch, step))
        error.add_note(f"keras_npbatch: in the batch of epoch {epoch}, step {step}, rows {rows}")

    def take_back(self) -> None:
        """Start the epoch again: Keras drops what it has read to build the model."""
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        if self._kind == "fit" and self._times_set == self._core.clock.times_set:
            self._core.clock.move_to(self._clock_before)
            self._next = None

    def _check_engine(self, call: Call | None) -> None:
        arguments = {} if call is None else call.arguments
        model, callbacks = getattr(call, "model", None), arguments.get("callbacks")
        try:
            check_engine(self._plan, self._kind, self._dataset, model, callbacks)
            validation = arguments.get("validation_data") if self._kind == "fit" else None
            if isinstance(validation, Batches):  # now, not after an epoch of training
                check_engine(validation.plan.in_data_order(), "evaluate", validation)
        except UnsupportedArgumentError as error:
            # Another process, with other settings, may find no fault with them and wait.
            if self._kind != "predict" and not self._is_agreed:
                tell_failure(self._plan.shard, error)
            raise

    def _engine_talks_first(self) -> bool:
        """Whether processes exchange messages, which must match, before they take a batch.

        Keras's JAX trainer does so. On Torch, `TorchDataParallel` does when it shares weights, and
        from version 3.16 on also Keras's Torch trainer, when it wraps a model.
        """
        on_torch = keras.backend.backend() == "torch" and self._kind != "predict"
        return on_torch or mesh_place() is not None

    def _agree(self) -> None:
        """Check, once, that all processes that train together have the same dataset."""
        if not self._is_agreed:
            refuse_differences(self._plan.shard, self._described())
            self._is_agreed = True

    def _described(self) -> dict[str, Any]:
        """What processes that train together must have alike, in the arguments of `fit` too."""
        described = self._core.description()
        if self._in_order:
            described["fit(shuffle)"] = False
        if self._class_weight is not None:
            described["fit(class_weight)"] = self._class_weight.pairs
        return described

    def _choose(self, kind: Kind) -> None:
        self._kind: Kind = kind
        plan = self._core.plan
        if kind != "fit" or self._in_order:
            plan = plan.in_data_order(every_row=kind == "predict")
        if kind == "evaluate" and plan.remainder == "pad" and not self._needs_equal_sizes(plan):
            # Exact for every loss and metric; weights would not be.
            plan = plan.in_data_order(every_row=True)
        self._plan = plan
        steps = self.steps_per_epoch
        if steps is not None and not self._core.endless:
            steps = min(steps, plan.num_batches)
        self._weighing = Weighing(
            "fit" if kind == "fit" else "evaluate",
            self.model,
            steps,
            sets_aside=self._core.aside is not None,
        )

    def _needs_equal_sizes(self, plan: Plan) -> bool:
        """Whether others, processes or devices, need a batch of the same size."""
        return plan.shard.count > 1 or self._strategy is not None or mesh_place() is not None

    @property
    def _training(self) -> Training:
        return self._kind == "fit" and (self._class_weight or True)

    def _epochs(self, building: bool) -> Iterator[Tree]:
        self._walks += 1
        number = self._walks
        while True:
            with contextlib.closing(self._one_epoch(number, building)) as epoch:
                yield from epoch
            if not self._core.endless:
                return

    def _one_epoch(self, number: int, building: bool) -> Generator[Tree, None, None]:
        place = self._next = self._next_pass()
        epoch, first, plan = place.epoch, place.step, place.plan(self._plan)
        self._times_set = self._core.clock.times_set
        if self._kind == "fit":
            self._core.clock.begin_pass(epoch, self._in_order)
        # Keras may have made this iterator at the end of the pass before, and now build with it.
        building = self.is_building = building or (not self.is_settled and is_build())
        if not building:
            self._agree()
            if plan.skip:
                check_rest(plan, self._kind, self._strategy)
        self._show_steps()
        if not self._has_begun:
            warn_of_lone_samples(plan, self._kind, self.model, self._dataset)
        summarise = next((watch.summarise for watch in self.watches if watch.summarise), None)
        follows = self._another_follows()
        stream = self._stream = self._core.part(Executor).stream(
            Work(plan, self._training, summarise),
            epoch,
            first=first,
            follows=follows,
            caller_has_time=has_time_for(self._core.facts(plan)),
        )
        last_step = plan.num_batches - 1
        weighing = self._weighing if self._weighing.weighs(plan) else None
        ready, asked = stream.ready if self.watches else 0, perf_counter()
        try:
            # Keras may build on one process alone. It drops the batch, and takes it again.
            together = None if building else self._together
            of_all = None if self._together is None else together.of_all if together else _none
            with contextlib.closing(walk(stream, first, last_step)) as steps:
                for step, batch in steps if together is None else together.watched(steps):
                    if step == last_step:
                        # Before the last batch leaves, since Keras does not come back after it.
                        self._passes += 1
                        self._move_to(epoch + 1, follows)
                    summary = None
                    if summarise is not None:
                        batch, summary = batch  # the pair must not keep it
                    lacking, num_lacking = NO_ROWS, 0
                    if self._core.aside is not None:
                        batch, lacking, num_lacking = self._core.taken(batch, of_all)
                    if self._kind == "predict":
                        refuse_lacking(self._core, lacking)
                    if weighing is None:
                        weighed = batch
                    elif building:
                        weighed = without_weights(batch)
                    else:
                        weighed = weighing(plan, batch, step, num_lacking)
                    if self.watches:
                        waited_s = 0.0 if ready else perf_counter() - asked
                        self._tell(
                            Delivery(
                                number,
                                plan,
                                place._replace(step=step, in_order=self._in_order),
                                first,
                                weighed,
                                summary,
                                waited_s,
                                ready,
                                self._class_weight,
                                lacking,
                            )
                        )
                    self._at = plan, epoch, step
                    if not self._has_begun:
                        look_at(weighed, self._kind, self.model, self._dataset)
                        self._has_begun = True
                    yield weighed
                    del weighed, batch  # the caller's alone, while the next is waited for
                    ready, asked = stream.ready if self.watches else 0, perf_counter()
        except Exception as error:
            save_weights(error, self._kind, self.model)
            raise

    def _tell(self, delivery: Delivery) -> None:
        for watch in self.watches:
            watch.deliver(delivery)

    def _another_follows(self) -> bool:
        """Whether the call is expected to ask for another epoch."""
        if self._kind != "fit":
            return False
        if self._core.endless or self._last_pass is None:
            return True
        return self._passes < self._last_pass

    def _next_pass(self) -> Place:
        """Where the pass that comes next begins."""
        if self._kind != "fit":
            return Place()
        clock = self._core.clock
        is_set = self._times_set != clock.times_set  # by the user, since
        if not is_set and self._next is not None:
            place = self._next
        elif is_set or self._first_epoch in (None, clock.epoch):
            place = clock.place
        else:
            place = Place(self._first_epoch)
        if place.in_order != self._in_order and place.is_rest:
            was, now = ("False", "True") if place.in_order else ("True", "False")
            raise InvalidStateError(
                f"the dataset goes on within epoch {place.epoch}, of which a part was read with "
                f"fit(shuffle={was}), and this is fit(shuffle={now}): of the rest, some samples "
                f"would come twice and others never. Give fit shuffle={was}, or call "
                f"set_epoch({place.epoch}) to begin that epoch again."
            )
        return place

    def _move_to(self, epoch: int, follows: bool) -> None:
        if self._kind != "fit":
            return
        self._next = Place(epoch)
        clock = self._core.clock
        if self._times_set == clock.times_set:
            clock.move_to(self._next)
        if self._in_order and follows:
            clock.mark(epoch, in_order=True)

    def _show_steps(self) -> None:
        """Correct the number of steps in progress bars: a resumed epoch has fewer."""
        steps = self.num_batches
        if self._kind == "fit" and self.steps_per_epoch is None and steps != self._steps_shown:
            show_steps(None if self._callbacks is None else self._callbacks(), steps)
            self._steps_shown = steps


def _none(failures: Sequence[Failure]) -> Sequence[Failure]:
    """The rows that a batch reports as lacking if Keras only builds with it: none."""
    return ()
