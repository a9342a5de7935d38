"""`NaNReport`: which batch made the loss NaN, kept so that it can be looked at and made again.

model.fit(train, callbacks=[NaNReport(train, "nan")])      # raises NonFiniteError
batch = replay("nan", train)                               # the very batch, in a later session
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_npbatch.assemble import Parts, unpack
from keras_npbatch.callbacks.watcher import Watcher
from keras_npbatch.clock import Place
from keras_npbatch.errors import (
    InvalidArgumentError,
    InvalidStateError,
    NonFiniteError,
    told,
    told_rows,
)
from keras_npbatch.serving import weighed_for_fit
from keras_npbatch.tree import Tree, leaves_with_paths
from keras_npbatch.watching import Delivery

__all__ = ["NaNReport", "replay"]

_REPORT = "report.json"
_VERSION = 1


class NaNReport(Watcher):
    """When the loss or an input turns NaN or infinite, write down what made it, and end training.

    Looks at the loss of each step, and at each array of floats in its batch. Written to `folder`
    are `report.json` (epoch, step, rows, the reason, the metrics so far) and the arrays of the
    batch, `arrays-0.npz`; with `steps_per_execution`, of each batch of that execution.

    Example:

    ```python
    report = keras_npbatch.callbacks.NaNReport(train, "nan")
    model.fit(train, epochs=10, callbacks=[report])
    ```

    Args:
        dataset: the dataset that `fit` is given.
        folder: where the report is written; made if it is not there.
        on_nan: `"raise"` a `NonFiniteError`, or `"stop"` training after the step. Of several
            processes that train together one may find what the others don't, and they would wait
            for it: there only `"raise"` is taken. Give each process a folder of its own.

    Raises:
        NonFiniteError: during `fit`.
        InvalidArgumentError: for a value that makes no sense.
    """

    def __init__(
        self, dataset: Any, folder: Any, on_nan: Literal["raise", "stop"] = "raise"
    ) -> None:
        super().__init__(dataset)
        if not folder:
            raise InvalidArgumentError(f"folder is {told(folder)}; expected the path of a folder.")
        if on_nan not in ("raise", "stop"):
            raise InvalidArgumentError(f"on_nan is {told(on_nan)}; expected 'raise' or 'stop'.")
        count = self.dataset.plan.shard.count
        if on_nan == "stop" and count > 1:
            raise InvalidArgumentError(
                f"on_nan is 'stop' with a dataset for {count} processes; expected 'raise'. Each "
                "process looks at its own part of a batch: one that stopped within an epoch would "
                "be waited for by the others, while an error ends them all."
            )
        self.folder = Path(folder)
        self.on_nan = on_nan
        self._deliveries: list[Delivery] = []
        self._is_written = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to watch."""
        super().on_train_begin(logs)
        self._is_written = False

    def trained(self, delivery: Delivery) -> None:
        """Keep the batches of the step that has ended, until it is looked at."""
        self._deliveries.append(delivery)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the loss and the batch; write a report if there is reason to."""
        self._deliveries = []
        super().on_train_batch_end(batch, logs)
        deliveries, self._deliveries = self._deliveries, []
        if self._is_written or not deliveries:
            return
        reasons = [
            f"{path} has {count} values that are NaN or infinite"
            for delivery in deliveries
            for path, count in _non_finite(delivery.batch)
        ]
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            reasons.append(f"the loss is {float(loss)}")
        if not reasons:
            return
        self._is_written = True
        self._write(deliveries, reasons, logs or {})
        last = deliveries[-1]
        message = (
            f"after epoch {last.epoch}, step {last.step}, rows {told_rows(last.rows)}: "
            f"{'; '.join(reasons)}. The batch is in {self.folder}; make it again with "
            f"keras_npbatch.callbacks.replay({str(self.folder)!r}, dataset)."
        )
        if self.on_nan == "raise":
            raise NonFiniteError(message)
        self.model.stop_training = True

    def _write(self, deliveries: list[Delivery], reasons: list[str], logs: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        batches = []
        for number, delivery in enumerate(deliveries):
            named = _named(delivery.batch)
            arrays: dict[str, Any] = {
                f"leaf-{leaf}": np.asarray(value) for leaf, (_, value) in enumerate(named)
            }
            np.savez(self.folder / f"arrays-{number}.npz", **arrays)
            batches.append(
                {
                    "state": self.dataset._state_at(
                        Place(delivery.epoch, delivery.step, delivery.plan.skip)
                    ),
                    "rows": delivery.rows.tolist(),
                    "leaves": [path for path, _ in named],
                }
            )
        report = {
            "version": _VERSION,
            "reasons": reasons,
            "epoch": deliveries[-1].epoch,
            "step": deliveries[-1].step,
            # As text: JSON has no word for NaN.
            "logs": {name: str(float(value)) for name, value in logs.items()},
            "batches": batches,
        }
        unfinished = self.folder / (_REPORT + ".unfinished")
        unfinished.write_text(json.dumps(report, indent=1))
        os.replace(unfinished, self.folder / _REPORT)


def replay(folder: Any, dataset: Any, number: int = -1) -> Tree:
    """The batch of a report, made again by the dataset, as the model got it.

    Args:
        folder: where `NaNReport` has written.
        dataset: with the same data and settings.
        number: which batch, of an execution of several steps; the last by default.

    Returns:
        `x`, `(x, y)` or `(x, y, sample_weight)`, as NumPy arrays.

    Raises:
        InvalidStateError: if there is no report, it is one of another dataset, or the data have
            changed since; the message tells what differs.
    """
    folder = Path(folder)
    try:
        report = json.loads((folder / _REPORT).read_text())
        batches = report["batches"]
        found, number = batches[number], range(len(batches))[number]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidStateError(
            f"{folder} has no report of a NaNReport with such a batch ({type(error).__name__}: "
            f"{error}); expected the folder that it was given."
        ) from error
    epoch, step, _ = place = dataset._place_of(found["state"])
    plan = place.plan(dataset.plan)
    batch = weighed_for_fit(plan, dataset._maker(plan)(epoch, step), step)
    named = _named(batch)
    with np.load(folder / f"arrays-{number}.npz", allow_pickle=False) as kept:
        for leaf, (path, value) in enumerate(named):
            was, now = kept[f"leaf-{leaf}"], np.asarray(value)
            if was.shape != now.shape or was.dtype != now.dtype or was.tobytes() != now.tobytes():
                raise InvalidStateError(
                    f"{path} of epoch {epoch}, step {step} is another array than when the report "
                    "was written; expected the same bytes. The data or the transform have changed; "
                    f"the arrays as they were are in {folder}."
                )
    return batch


def _named(batch: Tree) -> list[tuple[str, Any]]:
    parts = unpack(batch, "the dataset")
    return [
        found
        for name, part in zip(Parts._fields, parts, strict=True)
        for found in leaves_with_paths(part, name)
    ]


def _non_finite(batch: Tree) -> list[tuple[str, int]]:
    """The leaves with values that are NaN or infinite, and how many they have."""
    found = []
    for path, leaf in _named(batch):
        array = np.asarray(leaf)
        if array.dtype.kind not in "fc":
            continue
        with np.errstate(all="ignore"):
            if np.isfinite(array.sum()):  # one pass without a copy; rules out nearly all
                continue
        count = array.size - int(np.isfinite(array).sum())
        if count:
            found.append((path, count))
    return found
