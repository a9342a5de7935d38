"""`NaNReport`: finds the batch that made the loss NaN, and saves it to inspect or make again.

model.fit(train, callbacks=[NaNReport(train, "nan")])      # raises NonFiniteError
batch = replay("nan", train)                               # the same batch, in a later session
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_npbatch.batches.as_array import as_numbers
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.core import ATTRIBUTE, core_of
from keras_npbatch.batches.parts import pack, unpack
from keras_npbatch.batches.work import Work
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.files import folder_path
from keras_npbatch.callbacks.nan_report.batch_report import (
    arrays_path,
    as_text,
    named_leaves,
    read_arrays,
    read_report,
    storable,
    write,
)
from keras_npbatch.callbacks.watching import Watching, watching_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidStateError,
    NonFiniteError,
    describe,
    describe_rows,
)
from keras_npbatch.fit.deliveries import Delivery
from keras_npbatch.tree import Tree, map_leaves

__all__ = ["NaNReport", "replay"]


class NaNReport(DatasetCallback):
    """When the loss or an input becomes NaN or infinite, save the batch and end training.

    Checks the loss of each step, and each float array in its batch. Writes to `folder`:
    `report.json` (epoch, step, rows, the reason, the metrics so far) and the arrays of the batch,
    `arrays-0.npz`.

    With `steps_per_execution=N`, Keras gives one loss for N steps, and the batches of all N are
    written. The report names the first step whose batch has a NaN or infinite value. If all batches
    are finite and the loss is not, the message names all N steps and the step in the report is
    `null`: only a `fit` with `steps_per_execution=1` can tell them apart.

    Example:

    ```python
    report = keras_npbatch.callbacks.NaNReport(train, "nan")
    model.fit(train, epochs=10, callbacks=[report])
    ```

    Args:
        dataset: the dataset passed to `fit`.
        folder: the folder to write the report to, created if it does not exist.
        on_nan: `"raise"` a `NonFiniteError`, or `"stop"` training after the step. If several
            processes train together, one may stop while the others wait for it, so they accept only
            `"raise"`. Give each process its own folder.

    Raises:
        NonFiniteError: during `fit`.
        InvalidArgumentError: for an invalid value.
    """

    def __init__(
        self, dataset: Any, folder: Any, on_nan: Literal["raise", "stop"] = "raise"
    ) -> None:
        super().__init__(dataset)
        self.folder = folder_path("folder", folder)
        if on_nan not in ("raise", "stop"):
            raise InvalidArgumentError(f"on_nan is {describe(on_nan)}; expected 'raise' or 'stop'.")
        count = dataset.plan.shard.count
        if on_nan == "stop" and count > 1:
            raise InvalidArgumentError(
                f"on_nan is 'stop' with a dataset for {count} processes; expected 'raise'. Each "
                "process looks at its own part of a batch: one that stopped within an epoch would "
                "be waited for by the others, while an error ends them all."
            )
        self.on_nan = on_nan
        self.__dict__[ATTRIBUTE] = _Checking(self, dataset)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start watching."""
        super().on_train_begin(logs)
        watching_of(self, _Checking).is_written = False

    def trained(self, delivery: Delivery) -> None:
        """Keep a batch whose step has ended until it is checked."""
        watching_of(self, _Checking).deliveries.append(delivery)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss and the batch; write a report if either is not finite."""
        checking = watching_of(self, _Checking)
        checking.deliveries = []
        super().on_train_batch_end(batch, logs)
        deliveries, checking.deliveries = checking.deliveries, []
        if checking.is_written or not deliveries:
            return
        in_batches = [_non_finite(delivery.batch) for delivery in deliveries]
        loss = _loss(logs or {})
        if loss is None and not any(in_batches):
            return
        checking.is_written = True
        number = next((n for n, found in enumerate(in_batches) if found), None)
        if number is None and len(deliveries) == 1:
            number = 0
        reasons = [
            f"{path}{'' if n == number else f' of {_place(deliveries[n])}'} has {count} values "
            "that are NaN or infinite"
            for n, found in enumerate(in_batches)
            for path, count in found
        ]
        if loss is not None:
            of_steps = "" if len(deliveries) == 1 else f" of {_span(deliveries)}"
            reasons.append(f"the loss{of_steps} is {loss}")
        try:
            write(self.folder, checking.dataset, deliveries, number, reasons, logs or {})
            where = _where(self.folder, number, len(deliveries))
        except OSError as error:
            where = (
                f"The report can't be written to {self.folder} ({type(error).__name__}: {error}); "
                "give NaNReport a folder that can be written to."
            )
        if number is None:
            message = f"after {_span(deliveries)}: {'; '.join(reasons)}. {where}"
        else:
            named = deliveries[number]
            message = f"after {_place(named)}, rows {describe_rows(named.rows)}: "
            message += f"{'; '.join(reasons)}. {where}"
        if self.on_nan == "raise":
            raise NonFiniteError(message)
        self.model.stop_training = True


def replay(folder: Any, dataset: Any, number: int | None = None) -> Tree:
    """The batch of a report as the model got it, made again by the dataset.

    With `remainder="pad"`, the sample weights are read from the report: their shape and scale
    depend on the losses and metrics of the model.

    Args:
        folder: the folder that `NaNReport` wrote to.
        dataset: a dataset with the same data and settings.
        number: with `steps_per_execution`, the number of the batch, counted from 0. By default, the
            batch of the step that the report names.

    Returns:
        `x`, `(x, y)` or `(x, y, sample_weight)`, as NumPy arrays.

    Raises:
        InvalidStateError: if the report is missing, damaged or of another dataset, or if the data
            have changed since; the message says what differs.
        InvalidArgumentError: if the report names no step and `number` is not given.
    """
    if not isinstance(dataset, BatchDataset):
        raise InvalidArgumentError(
            f"replay was given {describe(dataset)}; expected the ArrayDataset or BatchDataset "
            "whose batch it is."
        )
    folder = folder_path("folder", folder)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise InvalidArgumentError(f"number is {describe(number)}; expected the number of a batch.")
    found, number = read_report(folder, number)
    core = core_of(dataset)
    place = core.place_of(found["state"])
    epoch, step, plan = place.epoch, place.step, place.plan(core.plan)
    pairs = found["class_weight"]
    training = True if pairs is None else ClassWeight.of_pairs(pairs)
    batch, *_ = core.taken(core.maker(Work(plan, training))(epoch, step))
    kept = read_arrays(arrays_path(folder, number), len(found["leaves"]))
    if plan.remainder == "pad" or core.aside is not None:
        # The model determines the shape and scale of the weights.
        weights = map_leaves(kept.__getitem__, found["weights"])
        batch = pack(unpack(batch, "the dataset")._replace(sample_weight=weights))
    named = named_leaves(batch)
    if [path for path, _ in named] != found["leaves"]:
        raise InvalidStateError(
            f"the batch of epoch {epoch}, step {step} has the leaves "
            f"{[path for path, _ in named]}; expected those of the report, {found['leaves']}. The "
            f"data or the transform have changed; the arrays as they were are in {folder}."
        )
    for was, (path, value) in zip(kept, named, strict=True):
        now = storable(value)
        if was.shape != now.shape or was.dtype != now.dtype or was.tobytes() != now.tobytes():
            raise InvalidStateError(
                f"{path} of epoch {epoch}, step {step} is another array than when the report "
                "was written; expected the same bytes. The data or the transform have changed; "
                f"the arrays as they were are in {folder}."
            )
    return batch


class _Checking(Watching):
    """The batches whose step has just ended, and whether a report was written."""

    of_one_fit = Watching.of_one_fit | {"deliveries"}

    def __init__(self, owner: NaNReport, dataset: Any) -> None:
        super().__init__(owner, dataset)
        self.is_written = False

    def forget_fit(self) -> None:
        """Reset what belongs to a `fit`."""
        super().forget_fit()
        self.deliveries: list[Delivery] = []


def _where(folder: Any, number: int | None, batches: int) -> str:
    if number is not None:
        return (
            f"The batch is in {folder}; make it again with "
            f"keras_npbatch.callbacks.replay({str(folder)!r}, dataset)."
        )
    return (
        f"All {batches} batches are finite: which of these steps it was can only be told with "
        f"steps_per_execution=1. The batches are in {folder}; make one again with "
        f"keras_npbatch.callbacks.replay({str(folder)!r}, dataset, number), number from 0 "
        f"to {batches - 1}."
    )


def _place(delivery: Delivery) -> str:
    return f"epoch {delivery.epoch}, step {delivery.step}"


def _span(deliveries: list[Delivery]) -> str:
    first, last = deliveries[0], deliveries[-1]
    if first.epoch == last.epoch:
        return f"epoch {first.epoch}, steps {first.step} to {last.step}"
    return f"{_place(first)} to {_place(last)}"


def _loss(logs: Mapping[str, Any]) -> str | None:
    """The loss as text if it, or any of its values, is NaN or infinite."""
    loss = logs.get("loss")
    if loss is None:
        return None
    try:
        values = np.asarray(keras.ops.convert_to_numpy(loss), np.float64)
    except (TypeError, ValueError):  # a user's train_step may return anything
        return None
    return None if np.isfinite(values).all() else str(as_text(loss))


def _non_finite(batch: Tree) -> list[tuple[str, int]]:
    """The leaves with NaN or infinite values, and the number of these values."""
    found = []
    for path, leaf in named_leaves(batch):
        array = as_numbers(leaf)
        if array.dtype.kind not in "fc":
            continue
        with np.errstate(all="ignore"):
            if np.isfinite(array.sum()):  # one pass without a copy; rules out nearly all
                continue
        count = array.size - int(np.isfinite(array).sum())
        if count:
            found.append((path, count))
    return found
