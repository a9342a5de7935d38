"""`as_sampler`: what a user gives as `sampler=`, as a `Sampler`; and those that users write.

as_sampler(lambda rng, epoch: rng.permutation(100))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_npbatch import rng
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.samplers.given import digest
from keras_npbatch.samplers.in_order import InOrder
from keras_npbatch.samplers.order import Available, Listed, Order, Rows, WholeData
from keras_npbatch.samplers.sampler import Sampler, TableSampler
from keras_npbatch.samplers.shuffle import Shuffle

__all__ = ["Own", "as_sampler", "chosen_sampler", "is_plain", "order_setting"]

_LOOKED_AT = 2**16
"""How many rows identify an order that is computed on demand."""


def chosen_sampler(shuffle: Any, sampler: Any) -> Sampler:
    """The sampler of a dataset that was given `shuffle`, or `sampler`, or neither.

    Raises:
        InvalidArgumentError: if both were given, or something else than expected.
    """
    if sampler is None:
        if shuffle is not None and not isinstance(shuffle, bool | np.bool_):
            raise InvalidArgumentError(
                f"shuffle is {describe(shuffle)}; expected True (a new permutation each epoch) or "
                "False (the order of the data)."
            )
        return Shuffle() if shuffle is None or shuffle else InOrder()
    if shuffle is not None:
        raise InvalidArgumentError(
            f"sampler and shuffle={shuffle!r} were both given; expected one of them. The sampler "
            "decides the order: shuffle=True is Shuffle(), shuffle=False is InOrder()."
        )
    return as_sampler(sampler)


def order_setting(sampler: Sampler) -> str:
    """The setting that decides the order, for messages."""
    if is_plain(sampler):
        return f"shuffle={isinstance(sampler, Shuffle)}"
    return f"sampler={sampler.name if isinstance(sampler, Own) else type(sampler).__name__}"


def is_plain(sampler: Sampler) -> bool:
    """Whether it is what `shuffle` means."""
    return isinstance(sampler, Shuffle | InOrder)


def as_sampler(given: Any) -> Sampler:
    """A sampler: one of this library, or a user's own, wrapped.

    Raises:
        InvalidArgumentError: for anything else.
    """
    if isinstance(given, type) and hasattr(given, "order"):
        raise InvalidArgumentError(
            f"sampler is the class {given.__name__}; expected an object: {given.__name__}(...)."
        )
    if isinstance(given, Sampler) and type(given).__module__.startswith("keras_npbatch."):
        return given
    if callable(getattr(given, "order", None)):
        return Own(given)
    if callable(given):
        _refuse_other_parameters(given)
        return Own(given)
    raise InvalidArgumentError(
        f"sampler is {describe(given)}; expected one of keras_npbatch.samplers, an object with "
        "order(rows, global_batch_size, seed, epoch), or a function f(rng, epoch) that returns the "
        "rows of an epoch."
    )


def _refuse_other_parameters(function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise InvalidArgumentError(
            f"sampler is a function with the parameters {signature}; expected f(rng, epoch), which "
            "returns the rows of an epoch."
        ) from error


class Own(TableSampler):
    """A user's sampler, or function: what it gives is checked, and kept as an array.

    Args:
        given: an object with `order(rows, global_batch_size, seed, epoch)`, or a function of a
            generator and the epoch.
    """

    def __init__(self, given: Any) -> None:
        super().__init__()
        self._given = given
        self._is_function = not callable(getattr(given, "order", None))
        self.name = str(getattr(given, "__qualname__", type(given).__qualname__))
        self.repeats = bool(getattr(given, "repeats", True))
        self.uses_batch_size = bool(getattr(given, "uses_batch_size", not self._is_function))
        self.cuts_batches = bool(getattr(given, "cuts_batches", False))
        self._identity = self.name

    @property
    def identity(self) -> str:
        """What the sampler says itself, or its name and a digest of its first epoch."""
        return self._identity

    def along(self, chunk_starts: Rows) -> Own:
        """This order for data in chunks of different sizes."""
        given = self._given
        return Own(given.along(chunk_starts)) if isinstance(given, Sampler) else self

    def checked(self, num_rows: int, chunk_rows: int | None) -> Own:
        """The same sampler, identified by its first epoch."""
        rows, given = WholeData(num_rows), self._given
        if callable(getattr(given, "checked", None)):
            given = given.checked(num_rows, chunk_rows)
        found = Own(given)
        num_samples, first = found._first_epoch(rows)
        own = getattr(given, "identity", None)
        if isinstance(own, str) and own != type(given).__name__:
            # An inherited one says nothing about what the class changes.
            is_own = own.startswith(type(given).__name__)
            found._identity = own if is_own else f"{type(given).__name__}: {own}"
        else:
            found._identity = f"{self.name}({num_samples} samples, {first})"
        return found

    def num_samples(self, rows: Available) -> int:
        """Samples in an epoch: those of epoch 0, and so of each."""
        return self._first_epoch(rows)[0]

    def draws_long(self, rows: Available) -> bool:
        """What the sampler says itself, if it does."""
        return bool(self._answer("draws_long", rows))

    def lengths_of(self, rows: Rows) -> Rows | None:
        """What the sampler says itself, if it does."""
        found: Rows | None = self._answer("lengths_of", rows)
        return found

    @property
    def blocks_held(self) -> tuple[int, int] | None:
        """What the sampler says itself, if it does."""
        return getattr(self._given, "blocks_held", None)

    def _answer(self, name: str, asked: Any) -> Any:
        of_itself = getattr(self._given, name, None)
        return of_itself(asked) if callable(of_itself) else None

    def order(self, rows: Available, global_batch_size: int, seed: int, epoch: int) -> Order:
        """The order of one epoch."""
        drawn = self._drawn(rows, global_batch_size, seed, epoch)
        if isinstance(drawn, Order):
            return drawn
        expected = self.num_samples(rows)
        if len(drawn) != expected:
            raise InvalidArgumentError(
                f"the sampler {self.name} gave {len(drawn)} rows for epoch {epoch}, seed {seed} "
                f"and batch size {global_batch_size}, and {expected} for epoch 0, seed 0 and batch "
                "size 1; expected the same number always: Keras counts steps. Train on another "
                "number with a dataset of its own: fit(dataset.subset(rows))."
            )
        return Listed(drawn)

    def _first_epoch(self, rows: Available) -> tuple[int, str]:
        """The samples of epoch 0, and a digest of its first rows."""
        return self.table(rows, lambda _: self._look_at(rows))

    def _look_at(self, rows: Available) -> tuple[int, str]:
        drawn = self._drawn(rows, 1, 0, 0)
        if isinstance(drawn, Order):
            found = self._answer("num_samples", rows)
            num_samples = rows.num_samples if found is None else int(found)
            return num_samples, digest(drawn.rows(0, min(num_samples, _LOOKED_AT)))
        return len(drawn), digest(drawn)

    def _drawn(
        self, rows: Available, global_batch_size: int, seed: int, epoch: int
    ) -> Order | Rows:
        if self._is_function:
            drawn = self._given(rng.generator(seed, rng.Purpose.SAMPLER, epoch), epoch)
        else:
            drawn = self._given.order(rows, global_batch_size, seed, epoch)
            if isinstance(drawn, Order):
                return _Checked(drawn, self.name, rows)
        found = np.asarray(drawn)
        if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
            raise InvalidArgumentError(
                f"the sampler {self.name} returned {describe(drawn)}; expected row numbers: "
                "integers of shape (samples in an epoch,)."
            )
        found = np.array(found, np.int64)
        numbers = _numbers(found, self.name, rows)
        if not self.repeats:
            times = np.bincount(numbers)
            if len(found) != rows.num_samples or (times != 1).any():
                raise InvalidArgumentError(
                    f"the sampler {self.name} gave {len(found)} rows, not each of the "
                    f"{rows.num_samples} rows once; expected a permutation, since its repeats is "
                    "False. Say repeats = True in its class, if this is meant."
                )
        return found


class _Checked(Order):
    """A user's order: what it gives is checked, one batch after the other."""

    def __init__(self, order: Order, name: str, available: Available) -> None:
        self._order, self._name, self._available = order, name, available

    def rows(self, start: int, stop: int) -> Rows:
        """The rows at positions `start..stop-1`."""
        found = np.asarray(self._order.rows(start, stop))
        if found.shape != (stop - start,) or found.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"the order of the sampler {self._name} returned {describe(found)} for positions "
                f"{start} to {stop - 1}; expected {stop - start} row numbers: integers."
            )
        found = found.astype(np.int64, copy=False)
        _numbers(found, self._name, self._available)
        return found

    def positions(self, rows: Rows) -> Rows:
        """A position of each of `rows`."""
        return self._order.positions(rows)

    def places(self, row: int) -> Rows:
        """Every position of one row."""
        return self._order.places(row)

    def times(self, start: int, stop: int) -> Rows:
        """How often the row at each of these positions came before."""
        return self._order.times(start, stop)


def _numbers(found: Rows, name: str, rows: Available) -> Rows:
    """The numbers of rows that a sampler gave.

    Raises:
        InvalidArgumentError: if one of them is not available.
    """
    outside = (found < 0) | (found >= rows.num_rows)
    if outside.any():
        raise InvalidArgumentError(
            f"the sampler {name} gave row {found[outside][0]}; expected rows from 0 to "
            f"{rows.num_rows - 1}."
        )
    numbers = rows.numbers(found)
    if (numbers < 0).any():
        raise InvalidArgumentError(
            f"the sampler {name} gave row {found[numbers < 0][0]}, which is not in this part of "
            "the data; expected rows that are. Write an object with order(rows, "
            "global_batch_size, seed, epoch), and choose from every_row(rows)."
        )
    return numbers
