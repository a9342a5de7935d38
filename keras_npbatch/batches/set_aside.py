"""`SetAside`: rows that can't be read, which batches do without: `on_error="set_aside"`.

    aside = SetAside(num_samples=1000, most_share=0.01)
    held, numbers, failures = aside.read(load, numbers)   # the batch of the rows that can be read
    aside.note(failures)                                  # where batches arrive: warns of the first
    aside.told                                            # {17: "OSError: broken data stream"}

If `load` raises for a batch, its rows are tried one by one. The batch is then the one that `load`
makes of the others, filled up like a padded one; see `Recipe`. So it is still a function of (seed,
epoch, step), as long as the same rows can be read. A row that has failed is not tried again.

Each worker process finds such rows by itself, and names them with the batches that lack them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_npbatch.batches.generators import Generators
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidStateError,
    SetAsideError,
    describe,
    describe_error,
    describe_rows,
)
from keras_npbatch.plan.plan import Plan
from keras_npbatch.plan.shard import Shard
from keras_npbatch.tree import Tree

__all__ = ["DEFAULT_SHARE", "LONGEST_REASON", "Failure", "Lacking", "SetAside", "share_set_aside"]

DEFAULT_SHARE = 0.01
"""The share of the rows that may be set aside, if the user names none."""
LONGEST_REASON = 200
_NO_FAULT_OF_A_ROW = (MemoryError, InvalidArgumentError)
"""A setting is wrong, such as a cache in a folder of other data."""


class Failure(NamedTuple):
    """A row that could not be read."""

    row: int
    reason: str
    """The exception, in a line."""


class Lacking(NamedTuple):
    """A batch that lacks rows, as it goes from where it is made to where it is taken."""

    batch: Tree
    failures: tuple[Failure, ...]
    """One for each place in the batch whose row could not be read."""


class SetAside:
    """The rows of a dataset that could not be read.

    Args:
        num_samples: samples of the dataset.
        most_share: the largest share of them that may be set aside.
        has_others: whether several processes train together. They must end a run at the same step,
            so only rows that `note` was told of count, and not what is read ahead.
    """

    def __init__(self, num_samples: int, most_share: float, has_others: bool = False) -> None:
        self.num_samples, self.most_share, self.has_others = num_samples, most_share, has_others
        self._reasons: dict[int, str] = {}
        self._noted: dict[int, str] = {}
        self._lock = threading.Lock()
        self._has_warned = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"} | {
            "_reasons": self._reasons.copy(),
            "_noted": self._noted.copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()

    def copy(self) -> SetAside:
        """A separate one that knows the same rows."""
        twin = SetAside.__new__(SetAside)
        twin.__setstate__(self.__getstate__())
        return twin

    def of_part(self, plan: Plan) -> SetAside:
        """The one for a part of the data: it knows those of the rows that the part has."""
        part = SetAside(plan.num_samples, self.most_share, self.has_others)
        rows = np.array([*self._reasons], np.int64)
        for row in rows[plan.numbers(rows) >= 0].tolist():
            part._reasons[row] = self._reasons[row]
            if row in self._noted:
                part._noted[row] = self._noted[row]
        return part

    def of_shard(self, shard: Shard) -> SetAside:
        """The one for a shard: it knows the same rows."""
        part = self.copy()
        part.has_others = shard.count > 1
        part._noted = dict(self._counted)
        return part

    @property
    def told(self) -> dict[int, str]:
        """Why each row was set aside, by row, in the order of the data."""
        with self._lock:
            return dict(sorted(self._counted.items()))

    @property
    def _counted(self) -> dict[int, str]:
        return self._noted if self.has_others else self._reasons

    # ---------------------------------------------------------------- where batches are made

    def read(
        self, load: Callable[[Generators], Tree], numbers: Generators
    ) -> tuple[list[Tree], Generators, tuple[Failure, ...]]:
        """What `load` returns for those rows of a batch that can be read.

        Args:
            load: reads the rows of `numbers`.
            numbers: the rows, and the generators for their place.

        Returns:
            What `load` returned, alone in a list; the rows that it was asked for; and the rows that
            can't be read. If none can, another row of the data is read, which stands in for them.

        Raises:
            SetAsideError: if too many rows can't be read.
            Exception: what `load` raises twice for rows that it can read one by one.
        """
        good = self._without_known(numbers)
        if len(good.rows):
            try:
                return [load(good)], good, self._failures(numbers)
            except _NO_FAULT_OF_A_ROW:
                raise
            except Exception:  # noqa: BLE001  # whatever the user's code raises; again, if it stays
                self._try_each(load, good)
            good = self._without_known(good)
        if len(good.rows):
            return [load(good)], good, self._failures(numbers)
        return *self._stand_in(load, numbers), self._failures(numbers)

    def _without_known(self, numbers: Generators) -> Generators:
        is_known = self._are_known(numbers.rows)
        if not is_known.any():
            return numbers
        here = np.flatnonzero(~is_known)
        return numbers.of_some(here, numbers.rows[here], numbers.plan.seed)

    def _are_known(self, rows: Any) -> Any:
        reasons = self._reasons
        if not reasons:
            return np.zeros(len(rows), np.bool_)
        return np.array([row in reasons for row in rows.tolist()], np.bool_)

    def _failures(self, numbers: Generators) -> tuple[Failure, ...]:
        reasons = self._reasons
        if not reasons:
            return ()
        return tuple(Failure(row, reasons[row]) for row in numbers.rows.tolist() if row in reasons)

    def _try_each(self, load: Callable[[Generators], Tree], numbers: Generators) -> None:
        """Read each row alone, and set aside those that fail."""
        _, places = np.unique(numbers.rows, return_index=True)
        for place in np.sort(places):
            here = np.array([place])
            one = numbers.of_some(here, numbers.rows[here], numbers.plan.seed)
            self._try(load, one)

    def _try(self, load: Callable[[Generators], Tree], one: Generators) -> bool:
        try:
            load(one)
        except _NO_FAULT_OF_A_ROW:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the user's code raises
            self._add(int(one.rows[0]), describe_error(error, LONGEST_REASON), error)
            return False
        return True

    def _stand_in(
        self, load: Callable[[Generators], Tree], numbers: Generators
    ) -> tuple[list[Tree], Generators]:
        """The first row of the data that can be read."""
        plan = numbers.plan
        for number in range(plan.num_samples):
            rows = plan.available.rows(np.array([number], np.int64))
            if self._are_known(rows)[0]:
                continue
            one = Generators(plan, numbers.epoch, numbers.step, rows, times=np.zeros_like(rows))
            if self._try(load, one):
                return [load(one)], one
        raise SetAsideError(
            f"none of the {plan.num_samples} rows could be read; row 0 raised "
            f"{next(iter(self._reasons.values()))}. Expected some that can."
        )

    # ---------------------------------------------------------------- what is known

    def note(self, failures: Sequence[Failure]) -> Failure | None:
        """Note the rows that a batch lacks.

        Returns:
            The first of them, if no row was noted before: it is worth a warning.

        Raises:
            SetAsideError: if they are too many.
        """
        for failure in failures:
            self._noted.setdefault(*failure)
            self._add(*failure)
        if self._has_warned or not failures:
            return None
        self._has_warned = True
        return failures[0]

    def restore(self, pairs: Any) -> None:
        """Know the rows of a saved state too.

        Raises:
            InvalidStateError: if they are not pairs of a row and a reason.
        """
        is_right = isinstance(pairs, list) and all(
            isinstance(pair, list | tuple)
            and [type(each) for each in pair] == [int, str]
            and pair[0] >= 0
            for pair in pairs
        )
        if not is_right:
            raise InvalidStateError(
                f"in the state, set_aside is {describe(pairs)}; expected pairs of a row and the "
                "reason why it was set aside."
            )
        for row, reason in pairs:
            self._noted.setdefault(row, reason)
            self._add(row, reason)

    def _add(self, row: int, reason: str, error: Exception | None = None) -> None:
        with self._lock:
            self._reasons.setdefault(row, reason)
            count = len(self._counted)
        if count / self.num_samples > self.most_share:
            share = f"{count / self.num_samples:.2%}"
            raise SetAsideError(
                f"{count} of {self.num_samples} rows ({share}) could not be read, the last, row "
                f"{row}, because of {reason}; expected at most max_set_aside={self.most_share}. "
                f"Rows: {describe_rows(self.told)}. Mend the data, leave these rows out "
                "(subset), or give a larger max_set_aside."
            ) from error


def share_set_aside(on_error: Any, most_share: Any) -> float | None:
    """The largest share of the rows that may be set aside; None if an error is to be raised.

    Args:
        on_error: the setting of the dataset.
        most_share: its `max_set_aside`.

    Raises:
        InvalidArgumentError: for an invalid value, or a share without `on_error="set_aside"`.
    """
    if not isinstance(on_error, str) or on_error not in ("raise", "set_aside"):
        raise InvalidArgumentError(
            f"on_error is {describe(on_error)}; expected 'raise', or 'set_aside' to go on without "
            "the rows that can't be read."
        )
    if on_error == "raise":
        if most_share is not None:
            raise InvalidArgumentError(
                f"max_set_aside is {describe(most_share)}, and no row is set aside; expected it "
                "with on_error='set_aside' only."
            )
        return None
    if most_share is None:
        return DEFAULT_SHARE
    is_number = isinstance(most_share, int | float | np.integer | np.floating)
    if not is_number or isinstance(most_share, bool) or not 0 < most_share <= 1:
        raise InvalidArgumentError(
            f"max_set_aside is {describe(most_share)}; expected a share of the rows, above 0 and "
            "at most 1, such as 0.01."
        )
    return float(most_share)
