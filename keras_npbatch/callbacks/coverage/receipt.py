"""`Receipt`: the samples an epoch was trained on, as a few numbers that can be compared.

    tally = Tally(plan, epoch=3, first=0)
    tally.count(step=0, rows=plan.rows(3, 0))
    receipt = tally.receipt(stop=1)

Two digests show more than counts do. Each is the sum of a 128-bit hash of every sample: a hash of
`(position in the epoch, row)` for the order, and of the row alone for the set. Sums don't depend on
the order of adding: they are equal for any batch size, number of workers and backend, and the
digests of the parts of an epoch add up to that of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.errors import InvalidArgumentError, describe_rows
from keras_npbatch.plan.plan import Plan
from keras_npbatch.rng import mixed
from keras_npbatch.samplers.order import Order, Rows

__all__ = ["Receipt", "Tally"]

_MOST_NAMED = 100
"""Maximum number of rows of each kind that a receipt names."""
_ROWS_AT_ONCE = 2**20
_HALF = 2**64 - 1
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Receipt:
    """The samples trained on in an epoch, or in a part of it: some steps, or one shard."""

    epoch: int
    """The epoch of the data."""
    shard: tuple[int, int]
    """Index of the process and number of processes; (0, 1) for all of them."""
    steps: tuple[int, int]
    """The first step that was to be trained on, and the one after the last."""
    until: int
    """Samples of the epoch, over all processes, up to the last of those steps."""
    num_samples: int
    """Samples in the data, or in the part of a split."""
    total: int
    """Samples in the whole epoch, over all processes, if it continues with the same batches."""
    expected: int
    """Samples in those steps."""
    seen: int
    """Samples trained on, each counted as often as it was trained on."""
    missing: int
    """Expected samples that were not trained on, or less often than expected."""
    repeated: int
    """Samples that were trained on more often than expected: more than once, unless the sampler
    repeats rows."""
    unexpected: int
    """Samples that were trained on but belong to other steps or to none."""
    missing_rows: tuple[int, ...]
    """The first 100 missing rows."""
    repeated_rows: tuple[int, ...]
    """The first 100 repeated rows."""
    unexpected_rows: tuple[int, ...]
    """The first 100 unexpected rows."""
    order_digest: str
    """Digest of rows and their positions: equal for runs that saw the same rows in one order."""
    rows_digest: str
    """Digest of the rows alone."""
    total_digest: str
    """The `rows_digest` if each sample of the whole epoch is seen once."""
    epoch_digest: str
    """The `order_digest` of all samples in the order of the epoch; it identifies the epoch."""
    set_aside: int = 0
    """Samples that could not be read, with `on_error="set_aside"`; they are not missing."""
    set_aside_rows: tuple[int, ...] = ()
    """The first 100 rows of them."""
    set_aside_digest: str = "0" * 32
    """What their rows would have added to the `rows_digest`."""

    def __repr__(self) -> str:
        first, stop = self.steps
        index, count = self.shard
        of_shard = f" of shard {index} of {count}" if count > 1 else ""
        wrong = "".join(
            f", {number} {kind}: rows {describe_rows(rows)}"
            for kind, number, rows in (
                ("missing", self.missing, self.missing_rows),
                ("repeated", self.repeated, self.repeated_rows),
                ("unexpected", self.unexpected, self.unexpected_rows),
                ("set aside", self.set_aside, self.set_aside_rows),
            )
            if number
        )
        return (
            f"<Receipt of epoch {self.epoch}, steps {first} to {stop - 1}{of_shard}: {self.seen} "
            f"samples seen, {self.expected} expected{wrong or ', each as often as expected'}>"
        )

    @property
    def is_whole(self) -> bool:
        """Whether each sample of the whole epoch was trained on as often as expected.

        Those that could not be read don't count; see `set_aside`.
        """
        accounted = _added([self.rows_digest, self.set_aside_digest])
        is_all = self.seen + self.set_aside == self.total and accounted == self.total_digest
        return self.is_right and is_all

    @property
    def is_right(self) -> bool:
        """Whether each expected sample was trained on as often as expected, and no other."""
        return not (self.missing or self.repeated or self.unexpected)

    def as_dict(self) -> dict[str, Any]:
        """The receipt as a dict for `json.dump`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Receipt:
        """The receipt from the dict that `as_dict` returned."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entries.items()
        }
        return cls(**values)

    @classmethod
    def merged(cls, receipts: Sequence[Receipt]) -> Receipt:
        """Merge the receipts of the parts of an epoch into one.

        The parts are those of processes that trained together, or those before and after an
        interruption, even if the number of processes has changed.

        Raises:
            InvalidArgumentError: for receipts of different epochs or data, or an empty sequence.
        """
        epochs = {(each.epoch, each.num_samples, each.epoch_digest) for each in receipts}
        if len(epochs) != 1:
            told = sorted((epoch, samples) for epoch, samples, _ in epochs)
            raise InvalidArgumentError(
                f"the receipts are of {len(epochs)} different epochs, (epoch, samples): {told}; "
                "expected parts of one epoch of one dataset. Merge those of each epoch."
            )
        # The last batches decide which samples are dropped at the end.
        last = max(receipts, key=lambda receipt: (receipt.until, receipt.total))
        total, total_digest = last.total, last.total_digest

        def named(name: str) -> tuple[int, ...]:
            rows = {row for receipt in receipts for row in getattr(receipt, name)}
            return tuple(sorted(rows)[:_MOST_NAMED])

        seen = sum(receipt.seen for receipt in receipts)
        rows_digest = _added(receipt.rows_digest for receipt in receipts)
        set_aside = sum(receipt.set_aside for receipt in receipts)
        aside_digest = _added(receipt.set_aside_digest for receipt in receipts)
        accounted = _added([rows_digest, aside_digest])
        repeated = sum(receipt.repeated for receipt in receipts)
        missing = sum(receipt.missing for receipt in receipts)
        unexpected = sum(receipt.unexpected for receipt in receipts)
        if not (missing or repeated or unexpected) and accounted != total_digest:
            # Each part is right, but together they are not the epoch.
            missing = max(total - seen - set_aside, 0)
            repeated = max(seen + set_aside - total, 0)
            if seen + set_aside == total:
                missing = repeated = 1  # at least
        return cls(
            epoch=last.epoch,
            shard=(0, 1),
            steps=(
                min(receipt.steps[0] for receipt in receipts),
                max(receipt.steps[1] for receipt in receipts),
            ),
            until=last.until,
            num_samples=last.num_samples,
            total=total,
            expected=total,
            seen=seen,
            missing=missing,
            repeated=repeated,
            unexpected=unexpected,
            missing_rows=named("missing_rows"),
            repeated_rows=named("repeated_rows"),
            unexpected_rows=named("unexpected_rows"),
            order_digest=_added(receipt.order_digest for receipt in receipts),
            rows_digest=rows_digest,
            total_digest=total_digest,
            epoch_digest=last.epoch_digest,
            set_aside=set_aside,
            set_aside_rows=named("set_aside_rows"),
            set_aside_digest=aside_digest,
        )


class Tally:
    """Counts the samples of one pass: four bytes for each sample of the data.

    Args:
        plan: which rows are in which batch.
        epoch: the epoch.
        first: the step with which the pass begins.
    """

    def __init__(self, plan: Plan, epoch: int, first: int) -> None:
        self.plan, self.epoch, self.first = plan, epoch, first
        self.stop = first
        """The step after the last one counted."""
        self._times = np.zeros(plan.num_samples, np.uint32)
        self._strangers: Counter[int] = Counter()
        """Rows of other parts of a split."""
        self._set_aside: Counter[int] = Counter()
        """Rows that could not be read, and how often they were due."""
        self._seen = 0
        self._order = self._rows = 0

    def count(self, step: int, rows: Rows, set_aside: Rows = _NONE) -> None:
        """Count a batch that was trained on.

        Args:
            step: its step.
            rows: the rows in it, in their order.
            set_aside: those that could not be read, and so are not among them.
        """
        rows = np.asarray(rows, np.int64)
        self._set_aside.update(set_aside.tolist())
        numbers = self.plan.numbers(rows)
        np.add.at(self._times, numbers[numbers >= 0], 1)
        self._strangers.update(rows[numbers < 0].tolist())
        self._seen += len(rows)
        start, _ = self.plan.span(step)
        positions = np.arange(start, start + len(rows), dtype=np.uint64)
        if len(set_aside):
            planned = self.plan.rows(self.epoch, step)
            positions = (start + np.flatnonzero(~np.isin(planned, set_aside))).astype(np.uint64)
            positions = positions[: len(rows)]
        self._order = _sum(self._order, _hashed(rows.astype(np.uint64), positions))
        self._rows = _sum(self._rows, _hashed(rows.astype(np.uint64)))
        self.stop = step + 1

    def receipt(self, stop: int) -> Receipt:
        """The receipt of a pass that was to be trained on up to the step before `stop`."""
        wanted = np.zeros_like(self._times)
        expected = 0
        for rows in _planned(self.plan, self.epoch, self.first, stop):
            expected += len(rows)
            np.add.at(wanted, self.plan.numbers(rows), 1)
        aside = np.array(sorted(self._set_aside.elements()), np.int64)
        np.subtract.at(wanted, self.plan.numbers(aside), 1)
        lacking = self._times < wanted
        num_missing = int(np.count_nonzero(lacking))
        missing: list[int] = []
        if num_missing:
            for rows in _planned(self.plan, self.epoch, self.first, stop):
                absent = dict.fromkeys(rows[lacking[self.plan.numbers(rows)]].tolist())
                missing.extend([row for row in absent if row not in missing])
                if len(missing) >= _MOST_NAMED:
                    break
        repeated = self._rows_where(self._times > np.maximum(wanted, 1), least=2)
        unexpected = self._rows_where((self._times > 0) & (wanted == 0), least=1)
        # Includes what other processes read, and what was read before a resume with other batches.
        _, total = self.plan.global_span(self.plan.num_batches - 1)
        total_digest, epoch_digest = _digests(self.plan, self.epoch, total)
        return Receipt(
            epoch=self.epoch,
            shard=(self.plan.shard.index, self.plan.shard.count),
            steps=(self.first, stop),
            until=self.plan.global_span(stop - 1)[1] if stop else self.plan.skip,
            num_samples=self.plan.num_samples,
            total=total,
            expected=expected,
            seen=self._seen,
            missing=num_missing,
            repeated=len(repeated),
            unexpected=len(unexpected),
            missing_rows=tuple(missing[:_MOST_NAMED]),
            repeated_rows=tuple(repeated[:_MOST_NAMED].tolist()),
            unexpected_rows=tuple(unexpected[:_MOST_NAMED].tolist()),
            order_digest=_described(self._order),
            rows_digest=_described(self._rows),
            total_digest=_described(total_digest),
            epoch_digest=_described(epoch_digest),
            set_aside=len(aside),
            set_aside_rows=tuple(dict.fromkeys(aside.tolist()))[:_MOST_NAMED],
            set_aside_digest=_described(_hashed(aside.astype(np.uint64))),
        )

    def _rows_where(self, is_it: npt.NDArray[np.bool_], least: int) -> Rows:
        """The rows where `is_it`, and the rows of other parts seen at least `least` times."""
        rows = np.flatnonzero(is_it)
        if self.plan.selection is not None:
            rows = self.plan.selection.rows(rows)
        others = [row for row, times in self._strangers.items() if times >= least]
        return np.sort(np.concatenate([rows, np.array(others, np.int64)]))


def _digests(plan: Plan, epoch: int, total: int) -> tuple[int, int]:
    """The digest of the first `total` rows of an epoch, and that of the order of all its rows."""
    of_rows = of_order = start = 0
    for rows in _ordered(plan.order(epoch), 0, plan.epoch_size):
        numbers = rows.astype(np.uint64)
        of_rows = _sum(of_rows, _hashed(numbers[: max(total - start, 0)]))
        positions = np.arange(start, start + len(rows), dtype=np.uint64)
        of_order = _sum(of_order, _hashed(numbers, positions))
        start += len(rows)
    return of_rows, of_order


def _planned(plan: Plan, epoch: int, first: int, stop: int) -> Iterator[Rows]:
    """The rows of these steps in the order of the epoch, some at a time."""
    if first >= stop:
        return
    order = plan.order(epoch)
    if plan.shard.count > 1:  # the batches of a shard are not adjacent in the order
        for step in range(first, stop):
            yield order.rows(*plan.span(step))
        return
    yield from _ordered(order, plan.span(first)[0], plan.span(stop - 1)[1])


def _ordered(order: Order, begin: int, end: int) -> Iterator[Rows]:
    """The rows at the positions `begin..end-1` of an order, some at a time."""
    for start in range(begin, end, _ROWS_AT_ONCE):
        yield order.rows(start, min(start + _ROWS_AT_ONCE, end))


def _hashed(rows: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint64] | None = None) -> int:
    """The sum of a 128-bit hash of each row, with its position if given."""
    digest = 0
    for salt in (0x243F6A8885A308D3, 0x13198A2E03707344):  # digits of pi
        hashes = mixed(rows + np.uint64(salt))
        if positions is not None:
            hashes = mixed(hashes ^ mixed(positions + np.uint64(salt)))
        digest = digest << 64 | int(hashes.sum(dtype=np.uint64))
    return digest


def _sum(one: int, other: int) -> int:
    """The sum of two digests, each a pair of 64-bit sums."""
    high, low = (one >> 64) + (other >> 64), one + other
    return (high & _HALF) << 64 | low & _HALF


def _described(digest: int) -> str:
    return f"{digest:032x}"


def _added(digests: Iterable[str]) -> str:
    return _described(reduce(_sum, (int(digest, 16) for digest in digests)))
