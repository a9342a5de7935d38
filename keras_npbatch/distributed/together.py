"""`Together`: tells processes that train together, at each step, which rows others could not read.

    together = Together(shard)
    for step, batch in together.watched(steps):
        failures = together.of_all(own_failures)      # the same on all processes

The loss of a step is the mean over the rows that all processes have read, so each has to know how
many the others could not. All must know the same rows, too, to end the run at the same step if they
are too many. So the processes exchange a message a step.

A process that fails while it reads says so in its message: none waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from keras_npbatch.batches.set_aside import LONGEST_REASON, Failure
from keras_npbatch.distributed.agreement import contents, say_to_all
from keras_npbatch.errors import InvalidArgumentError, RanksDisagreeError, describe_error
from keras_npbatch.plan.shard import Shard

__all__ = ["Together", "joined"]

_T = TypeVar("_T")


class Together:
    """The exchange of the processes that take the steps of one call of Keras.

    Args:
        shard: what this process reads.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def watched(self, steps: Iterable[_T]) -> Iterator[_T]:
        """The same steps; if one can't be made, the other processes learn why."""
        try:
            yield from steps
        except Exception as error:
            message = json.dumps(["a failure", describe_error(error, LONGEST_REASON)])
            say_to_all(message, self._shard.count, steadily=True)
            raise

    def of_all(self, failures: Sequence[Failure]) -> tuple[Failure, ...]:
        """The rows of a step that any process could not read, in the order of the shards.

        All processes must call it at each step.

        Args:
            failures: those of this process.

        Raises:
            RanksDisagreeError: if another process can't go on, or one that reads the same rows
                could not read others.
            InvalidArgumentError: if the processes can't communicate.
        """
        message = json.dumps(["rows set aside", [self._shard.index, failures]])
        said = say_to_all(message, self._shard.count, steadily=True)
        if said is None:
            raise InvalidArgumentError(
                f"on_error='set_aside' was given with {self._shard}, and the processes have no way "
                "to tell each other which rows they could not read; expected one, since the loss "
                "is the mean over the rows of all. Start jax.distributed or torch.distributed "
                "before the dataset is made, or leave such rows out: dataset.subset(rows)."
            )
        return joined(said)


def joined(said: Sequence[str]) -> tuple[Failure, ...]:
    """The rows in the messages of all processes, in the order of the shards.

    Raises:
        RanksDisagreeError: if a message is about something else, or two of one shard differ.
    """
    of_shards: dict[int, list[Failure]] = {}
    for index, pairs in contents(said):
        found = [Failure(*pair) for pair in pairs]
        known = of_shards.setdefault(index, found)
        rows, others = ([failure.row for failure in each] for each in (known, found))
        if rows != others:
            raise RanksDisagreeError(
                f"two processes read shard {index}, and one could not read rows {rows}, the other "
                f"{others}; expected the same: they hold parts of one model. Look at how each of "
                "them reaches the data."
            )
    return tuple(failure for index in sorted(of_shards) for failure in of_shards[index])
