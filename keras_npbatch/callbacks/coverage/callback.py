"""`CoverageAudit`: a receipt for each epoch that says which samples the model was trained on.

    audit = CoverageAudit(train)
    model.fit(train, epochs=10, callbacks=[audit])
    audit.receipts[-1].order_digest     # the same in each run with this seed

Each sample comes once per epoch by construction. The audit is for those who want evidence, for
datasets that build their own batches, and for the effects of callbacks and wrappers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from keras_npbatch.batches.core import ATTRIBUTE, core_of
from keras_npbatch.callbacks.coverage.picture import draw
from keras_npbatch.callbacks.coverage.receipt import Receipt, Tally
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.watching import Watching, refuse_to_watch, watching_of
from keras_npbatch.errors import CoverageError, InvalidArgumentError, describe, describe_rows
from keras_npbatch.fit.deliveries import Delivery
from keras_npbatch.samplers.order import Rows
from keras_npbatch.tree import Tree

__all__ = ["CoverageAudit"]


class CoverageAudit(DatasetCallback):
    """Count the samples that training has seen, and complain unless it has seen each exactly once.

    Counts the batches whose step has ended, not those that Keras takes to build a model, reads
    ahead, or uses for validation. If training stops within an epoch, the epoch's receipt covers the
    part due until then; if training leaves an epoch and continues, that is a violation. After an
    exception or Ctrl-C, the receipt is added when the same callback is passed to `fit` again. Steps
    that are then trained again, from a backup made before them, count twice.

    At the end of each Keras epoch, writes to `logs`: `coverage/seen`, `coverage/missing` and
    `coverage/repeated`, for the epochs of the data that ended in it. With `on_error="set_aside"`,
    rows that could not be read are not a violation: the receipt names them, and
    `coverage/set_aside` counts them.

    Example:

    ```python
    audit = keras_npbatch.callbacks.CoverageAudit(train)
    model.fit(train, epochs=10, callbacks=[audit])
    json.dump([receipt.as_dict() for receipt in audit.receipts], file)
    ```

    Args:
        dataset: the dataset passed to `fit`.
        on_violation: `"raise"` a `CoverageError`, or `"warn"`.
        rows_of: a function: `rows_of(batch)` returns the row number of each sample as it stands in
            the batch itself, for example in a column of numbers. By default the audit assumes that
            a batch has the rows that the dataset was asked to load for it.

    Raises:
        CoverageError: during `fit`, naming the rows.
        InvalidArgumentError: for an invalid argument.
    """

    def __init__(
        self,
        dataset: Any,
        on_violation: Literal["raise", "warn"] = "raise",
        rows_of: Callable[[Tree], Any] | None = None,
    ) -> None:
        refuse_to_watch(type(self).__name__, dataset, needs_rows=True)
        super().__init__(dataset)
        if on_violation not in ("raise", "warn"):
            raise InvalidArgumentError(
                f"on_violation is {describe(on_violation)}; expected 'raise' or 'warn'."
            )
        self.on_violation = on_violation
        self.receipts: list[Receipt] = []
        """One receipt for each epoch of the data, in the order in which the epochs ended."""
        self.__dict__[ATTRIBUTE] = _Counting(self, dataset, rows_of)

    @staticmethod
    def merge(receipts: Sequence[Receipt | dict[str, Any]]) -> Receipt:
        """Merge the receipts of the parts of an epoch into one.

        The parts are those of processes that trained together, or those before and after an
        interruption. The merged receipt `is_whole` if together they have seen each sample once.

        Example:

        ```python
        audit = keras_npbatch.callbacks.CoverageAudit(train)    # on each process
        model.fit(train, callbacks=[audit])
        # gather audit.receipts[-1].as_dict() of all processes, then
        assert CoverageAudit.merge(gathered).is_whole
        ```

        Args:
            receipts: the receipts of the parts, or the dicts that their `as_dict()` returned.

        Raises:
            InvalidArgumentError: for receipts of different epochs or data.
        """
        return Receipt.merged(
            [each if isinstance(each, Receipt) else Receipt.from_dict(each) for each in receipts]
        )

    def on_train_begin(self, logs: Any = None) -> None:
        """Start a new count; receipts of earlier `fit` calls stay, even of an interrupted one."""
        super().on_train_begin(logs)
        counting = watching_of(self, _Counting)
        counting.stop()
        counting.told = len(self.receipts)

    def trained(self, delivery: Delivery) -> None:
        """Count a batch."""
        watching_of(self, _Counting).count(delivery)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the counts of the receipts since the last call to `logs`."""
        counting = watching_of(self, _Counting)
        closed, counting.told = self.receipts[counting.told :], len(self.receipts)
        if logs is not None:
            names = ["seen", "missing", "repeated"]
            if core_of(counting.dataset).aside is not None:
                names.append("set_aside")
            for name in names:
                logs[f"coverage/{name}"] = sum(getattr(receipt, name) for receipt in closed)

    def on_train_end(self, logs: Any = None) -> None:
        """Add the receipt of an epoch in which training was stopped."""
        watching_of(self, _Counting).stop()

    def plot(self) -> Any:
        """A matplotlib `Figure` with a line for each receipt, the last 20 of them.

        Raises:
            MissingExtraError: if matplotlib is not installed.
        """
        return draw(self.receipts)


class _Counting(Watching):
    """The epoch that is being counted."""

    def __init__(
        self, owner: CoverageAudit, dataset: Any, rows_of: Callable[[Tree], Any] | None
    ) -> None:
        super().__init__(owner, dataset)
        self.rows_of = rows_of
        self.tally: Tally | None = None
        self.walk = 0
        self.told = 0
        """How many receipts are in the logs already."""

    def count(self, delivery: Delivery) -> None:
        """Count a batch."""
        tally = self.tally
        if tally is not None and (
            (delivery.walk != self.walk and delivery.step != tally.stop)
            or delivery.epoch != tally.epoch
        ):
            self.close(tally, tally.plan.num_batches)
            tally = None
        if tally is None:
            tally = self.tally = Tally(delivery.plan, delivery.epoch, delivery.first)
        self.walk = delivery.walk
        tally.count(delivery.step, self.rows_in(delivery), delivery.set_aside)
        if delivery.is_last:
            self.close(tally, tally.plan.num_batches)

    def stop(self) -> None:
        """Training ends, or has ended, within an epoch: only what it has read of it was due."""
        if self.tally is not None:
            self.close(self.tally, self.tally.stop)

    def rows_in(self, delivery: Delivery) -> Rows:
        expected = delivery.rows
        if self.rows_of is None:
            return expected
        rows = np.asarray(self.rows_of(delivery.batch)).reshape(-1)[: len(expected)]
        most = delivery.plan.num_rows - 1
        is_right = len(rows) == len(expected) and rows.dtype.kind in "iuf"
        if not is_right or not ((rows >= 0) & (rows <= most) & (rows == rows.round())).all():
            raise InvalidArgumentError(
                f"rows_of returned {describe(rows)} for a batch of {len(expected)} samples; "
                f"expected their row numbers, from 0 to {most}."
            )
        return rows.astype(np.int64)

    def close(self, tally: Tally, stop: int) -> None:
        self.tally = None
        receipt = tally.receipt(stop)
        self.owner.receipts.append(receipt)
        if receipt.is_right:
            return
        repeats = tally.plan.sampler.repeats
        seldom, often = ("too seldom", "too often") if repeats else ("not at all", "more than once")
        wrong = [
            f"{count} {what} {describe_rows(rows)}"
            for count, what, rows in (
                (receipt.missing, f"{seldom}, rows", receipt.missing_rows),
                (receipt.repeated, f"{often}, rows", receipt.repeated_rows),
                (receipt.unexpected, "that don't belong to it, rows", receipt.unexpected_rows),
            )
            if count
        ]
        each = f"each of its {receipt.expected} samples once"
        expected = "every sample exactly once"
        if repeats:
            each = f"its {receipt.expected} samples as often as its sampler says"
            expected = "no row more often or more seldom"
        message = (
            f"epoch {receipt.epoch} was not trained on {each}: {'; '.join(wrong)}. Expected "
            f"{expected}. See what load(rows), a callback or a wrapper of the dataset does with "
            "the batches."
        )
        if self.owner.on_violation == "raise":
            raise CoverageError(message)
        warnings.warn(message, stacklevel=2)
