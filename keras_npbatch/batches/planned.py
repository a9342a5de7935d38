"""`Planned`: what a dataset knows of its batches without making any: rows, epochs, positions.

    dataset.rows(step=5, epoch=3)       # the samples of a batch
    dataset.explain(epoch=3, step=5)    # and those of all processes
    dataset.state_dict()                # where to go on

Its subclasses set `_plan` and `_clock`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_npbatch.arguments import is_called, whole_number
from keras_npbatch.batches.making import now_making
from keras_npbatch.errors import InvalidArgumentError
from keras_npbatch.plan import position
from keras_npbatch.plan.clock import Clock, Place
from keras_npbatch.plan.explanation import Explanation
from keras_npbatch.plan.permutation import Rows
from keras_npbatch.plan.plan import Plan, Remainder
from keras_npbatch.plan.shard import Shard

__all__ = ["Planned", "refuse_empty_batches"]


class Planned:
    """Which samples are in which batch, and which batch comes next."""

    _plan: Plan
    _clock: Clock
    _is_part: bool
    """Whether it was given a shard."""
    _asked_for_rows: bool = False
    """Whether what makes batches has asked which rows are in one."""

    def rows(self, step: int, epoch: int | None = None, shard: int | Shard | None = None) -> Rows:
        """The samples of a batch, without loading it.

        Of an epoch that `fit(shuffle=False)` has read, or is reading, they are those it was given.
        Steps are those of the whole epoch in batches of the present size, also where an epoch
        that was begun with batches of another size goes on: its rest has steps of its own.

        Args:
            step: from 0 to `num_batches - 1`.
            epoch: from 0 up; by default the one that comes next.
            shard: whose batch: the index of another process, or a `Shard` of any count that
                divides the global batch; by default that of this dataset.

        Returns:
            int64 array of shape `(samples in the batch,)`, read-only; padding is not in it.
        """
        epoch = self._epoch_or_next(epoch)
        plan = self._plan_of(epoch)
        if shard is not None:
            plan = plan.of_shard(shard)
        self._note_asking()
        step = whole_number("step", step, least=0, most=plan.num_batches - 1)
        return plan.rows(epoch, step)

    def rows_in_order(self) -> Rows:
        """All rows of the data that the dataset has, in the order in which `predict` reads them.

        Row numbers for the predictions of a part of a split, where those of the whole data would
        be `np.arange(num_samples)`:

        ```python
        _, validation = keras_npbatch.ArrayDataset(x, y).split(0.8)
        predicted = model.predict(validation)       # predicted[i] is of x[rows[i]]
        rows = validation.rows_in_order()
        ```

        Returns:
            int64 array of shape `(num_samples,)`, increasing.
        """
        return self.plan.in_data_order().order(0).rows(0, self.num_samples)

    def locate(self, row: int, epoch: int | None = None) -> tuple[int, int] | None:
        """Where a sample is in an epoch, the inverse of `rows`.

        Args:
            row: a row of the data, from 0 up.
            epoch: from 0 up; by default the one that comes next.

        Returns:
            `(step, position in the batch)`, or None if that epoch drops the sample, or another
            shard (`explain` tells which) or another part of a split has it.
        """
        epoch = self._epoch_or_next(epoch)
        self._note_asking()
        return self._plan_of(epoch).locate(row, epoch)

    def explain(self, *, epoch: int, step: int) -> Explanation:
        """Which samples every process reads at a step, without loading them; `print` it.

        Steps are those of the whole epoch, as in `rows`, not those of the rest of one that goes
        on with batches of another size.

        Example:

        ```python
        print(train.explain(epoch=0, step=2))
        # step 2 of 3 in epoch 0: 2 of 10 samples, remainder='pad'
        #   shard 0 of 2: rows [7], 1 padded
        #   shard 1 of 2: rows [9], 1 padded
        ```

        Args:
            epoch: from 0 up.
            step: from 0 to `num_batches - 1`.

        Returns:
            The rows of each shard, and of the global batch.
        """
        return Explanation.of(self._plan_of(whole_number("epoch", epoch, least=0)), epoch, step)

    # ---------------------------------------------------------------- epochs

    @property
    def epoch(self) -> int:
        """The epoch that comes next, counted from 0; while a batch is made, the epoch it is in."""
        batch = now_making(self)
        return self._clock.epoch if batch is None else batch.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0 up, beginning with its first batch."""
        self._clock.set(whole_number("epoch", epoch, least=0))

    # ---------------------------------------------------------------- resuming

    def state_dict(self, *, epoch: int | None = None, step: int | None = None) -> dict[str, Any]:
        """Where to go on, as a small dict that `json.dump` takes.

        In `for batch in dataset` it is the position after the batches delivered so far. `fit`
        reads batches ahead of training, so there it is the epoch that is not delivered whole;
        who knows what has been trained on (a callback) says so: `state_dict(epoch=3, step=17)`.

        Example:

        ```python
        for batch in dataset:
            ...
            Path("state.json").write_text(json.dumps(dataset.state_dict()))
        # another process, the same data and settings
        dataset.load_state_dict(json.loads(Path("state.json").read_text()))
        for batch in dataset:       # the rest of that epoch, then whole ones
            ...
        ```

        Args:
            epoch: the epoch of the batch that comes next; by default the dataset's position.
            step: its step, from 0 to `num_batches`; by default 0 if `epoch` is given.

        Returns:
            The position, and a description of the dataset by which another one is refused: its
            class, settings, and for arrays their shapes and dtypes. Not the contents of the data.
        """
        here = self._clock.reached or self._clock.place
        if epoch is not None or step is not None:
            is_here = epoch is None or epoch == here.epoch
            here = Place(
                here.epoch if epoch is None else epoch,
                0 if step is None else step,
                here.skip if is_here else 0,
            )
            here = here._replace(in_order=self._clock.is_in_order(here.epoch))
        return self._state_at(here)

    def _state_at(self, place: Place) -> dict[str, Any]:
        return position.write(self._fingerprint(), place, self.plan)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state says: the next iteration or `fit` begins there, later ones with 0.

        `batch_size` and the number of processes may be others than they were: then the rest of
        the epoch is read in the new batches, each sample of it once, in the order that it has.

        Args:
            state: what `state_dict()` returned, of a dataset with the same data and settings, on
                any of the processes that trained together.

        Raises:
            InvalidStateError: for a state that is damaged or of another dataset; the message
                tells what differs.
        """
        place = self._place_of(state)
        refuse_empty_batches(place.plan(self.plan))
        self._clock.set(*place)

    def _place_of(self, state: Any) -> Place:
        return position.read(state, self._fingerprint(), self.plan)

    def _fingerprint(self) -> position.Fingerprint:
        """What decides which batches there are; see `position.Fingerprint`."""
        raise NotImplementedError

    def _description(self) -> dict[str, Any]:
        """What processes that train together must have alike."""
        return self._fingerprint()

    # ---------------------------------------------------------------- settings

    @property
    def plan(self) -> Plan:
        """Which rows are in which batch of any epoch."""
        plan: Plan | None = self.__dict__.get("_plan")
        if plan is None:
            raise InvalidArgumentError(
                f"{type(self).__name__} was not initialised; call "
                "super().__init__(num_samples=..., **kwargs) first in its __init__."
            )
        return plan

    @property
    def num_samples(self) -> int:
        """Samples in the data, or in the part of a split."""
        return self.plan.num_samples

    @property
    def batch_size(self) -> int:
        """Samples in a full batch."""
        return self.plan.batch_size

    @property
    def seed(self) -> int:
        """What, with the epoch, determines every order and random transform."""
        return self.plan.seed

    @property
    def shuffle(self) -> bool:
        """Whether epochs of training are shuffled."""
        if is_called():
            raise TypeError(
                f"{type(self).__name__}.shuffle is {self.plan.shuffle}, no method; expected "
                "shuffle=True or False where the dataset is made. There is no buffer: each epoch "
                "is a permutation of all samples."
            )
        return self.plan.shuffle

    @property
    def partial_batch_size(self) -> int | None:
        """Samples in the last batch if it is shorter than `batch_size`, else None."""
        plan = self.plan
        if plan.remainder != "keep":
            return None
        start, stop = plan.span(plan.num_batches - 1)
        return stop - start if stop - start < plan.batch_size else None

    @property
    def global_batch_size(self) -> int:
        """Samples in a full batch of all processes that train together."""
        return self.plan.global_batch_size

    @property
    def remainder(self) -> Remainder:
        """What happens to `num_samples % batch_size`."""
        return self.plan.remainder

    # ---------------------------------------------------------------- inside

    def _note_asking(self) -> None:
        if now_making(self) is not None:  # others who ask say nothing of how batches are made
            self._asked_for_rows = True

    def _epoch_or_next(self, epoch: int | None) -> int:
        self.plan  # noqa: B018  # tells that __init__ was not called
        return self.epoch if epoch is None else whole_number("epoch", epoch, least=0)

    def _plan_of(self, epoch: int) -> Plan:
        """Which rows an epoch has; while a batch is made, that by which it is."""
        plan, batch = self.plan, now_making(self)
        if batch is not None:
            return batch.plan
        return plan.in_data_order() if self._clock.is_in_order(epoch) else plan


def refuse_empty_batches(plan: Plan) -> None:
    """A batch of no samples has no mean: its loss would be NaN."""
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
