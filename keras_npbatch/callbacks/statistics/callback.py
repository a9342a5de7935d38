"""`BatchStatistics`: statistics of the batches that training has seen.

    statistics = BatchStatistics(train)
    model.fit(train, epochs=10, callbacks=[statistics])
    statistics.history["data/x/mean"]       # one number for each epoch
    rich.print(statistics.table())
    statistics.plot().savefig("data.png")   # with the extra: pip install 'keras_npbatch[plot]'

The workers that make the batches compute the figures, and this callback merges them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_npbatch.batches.core import ATTRIBUTE
from keras_npbatch.batches.summary import Summary
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.statistics.epoch_figures import of_classes, of_leaves
from keras_npbatch.callbacks.statistics.images import write_images
from keras_npbatch.callbacks.statistics.picture import draw
from keras_npbatch.callbacks.statistics.summing import Summing
from keras_npbatch.callbacks.watching import refuse_to_watch, watching_of
from keras_npbatch.dataset.batch_dataset import BatchDataset
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.deliveries import Delivery

__all__ = ["BatchStatistics"]


class BatchStatistics(DatasetCallback):
    """Statistics, for each epoch, of the data that the model was trained on.

    Counts the batches whose step has ended, after the transform and without padding. The workers
    that make the batches compute the figures; with `workers=0`, training does. Names:

    - `data/batches`, `data/samples`, `data/bytes`, `data/samples_per_second`, `data/wait_share`;
    - with the sampler `LengthBuckets`, `data/padding_waste`: how much of the epoch is padding if
      each batch is padded to its longest sample, from 0 to 1;
    - for each leaf of numbers, such as `x`, `x/image`, `y`: `data/x/mean`, `std`, `min`, `max` of
      its finite values, `zeros` (the share of zeros), `nan` and `inf` (their number). Sample
      weights are those of the dataset, before `fit` scales the weights of padded batches;
    - for each leaf of class numbers or one-hot rows in `y`: `data/y/class_3`, the number of samples
      of that class, and `data/y/drift`, the total variation distance (0 to 1) between the class
      shares in this epoch and those in the whole data.

    Figures of validation are named `val_data/...`; their drift is from the whole training data.

    All figures are in `history`. At the end of each epoch, those selected by `log` are also written
    to `logs`, for the progress bar, `CSVLogger` and `TensorBoard`. The bar prints everything in
    `logs`, so the default is only `data/samples_per_second` and `data/wait_share`.

    Example:

    ```python
    names = ["data/wait_share", "*data/y/drift"]    # of training and of validation
    statistics = keras_npbatch.callbacks.BatchStatistics(train, validation=test, log=names)
    model.fit(train, validation_data=test, epochs=3, callbacks=[statistics])
    statistics.history["data/x/mean"], statistics.history["val_data/x/mean"]
    ```

    Args:
        dataset: the dataset passed to `fit`.
        per_batch: whether to also keep the statistics of each training batch, in `batches`.
        image_dir: a folder for TensorBoard. The images of the first batch of each epoch are written
            there, as the model got them: leaves of `x` of shape `(n, height, width, channels)`
            with 1, 3 or 4 channels, uint8 or floats from 0 to 1. Their steps are the epochs in
            `epochs`; the rest of a resumed epoch has no images. Needs TensorFlow, as Keras's own
            `TensorBoard` callback does.
        validation: the dataset passed to `fit` as `validation_data`, to include its figures.
        class_counts: the counts (or shares) of the classes in the whole data, by leaf:
            `{"y": {0: 900, 1: 100}}`. By default, counts the classes in the arrays of an
            `ArrayDataset`, once before training. For other datasets, uses the first epoch that is
            trained on from its first batch to its last; `drift` is NaN until then.
        log: the figures to write to `logs`: one name or several, with `*`, `?` and `[...]` as in
            `fnmatch`. `"*"` selects all, except that the counts of more than 20 classes need their
            full names; `()` selects none.

    Raises:
        InvalidArgumentError: for an invalid argument, or in `fit` for a dataset that was not passed
            to it.
    """

    def __init__(
        self,
        dataset: Any,
        per_batch: bool = False,
        image_dir: Any = None,
        validation: Any = None,
        class_counts: Mapping[str, Mapping[int, float]] | None = None,
        log: str | Iterable[str] = ("data/samples_per_second", "data/wait_share"),
    ) -> None:
        refuse_to_watch(type(self).__name__, dataset, needs_rows=True)
        super().__init__(dataset)
        if validation is not None and not isinstance(validation, BatchDataset):
            raise InvalidArgumentError(
                f"validation is {describe(validation)}; expected the ArrayDataset or BatchDataset "
                "that fit is given as validation_data."
            )
        self.per_batch = per_batch
        self.image_dir = image_dir
        self.validation: Any = validation
        self.history: dict[str, list[float]] = {}
        """For each name, a number for each epoch; NaN if an epoch did not have that figure."""
        self.epochs: list[int] = []
        """The numbers of these epochs. They continue after a resume and in a second `fit`."""
        self.batches: list[dict[str, float]] = []
        """With `per_batch`, the statistics of each batch, with its `epoch` and `step`."""
        self.log = _patterns(log)
        self.__dict__[ATTRIBUTE] = Summing(self, dataset, class_counts)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start watching; count the classes in the whole data."""
        super().on_train_begin(logs)
        watching_of(self, Summing).begin_fit()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start counting an epoch."""
        super().on_epoch_begin(epoch, logs)
        watching_of(self, Summing).begin_epoch(epoch)

    def trained(self, delivery: Delivery) -> None:
        """Add the figures of a batch."""
        found: Summary = delivery.summary
        summing = watching_of(self, Summing)
        if summing.training.batches == 0:
            summing.epoch = epoch = summing.number(delivery)
            if self.image_dir is not None and not summing.is_rest(delivery):
                write_images(str(self.image_dir), delivery.batch, found.samples, epoch)
        if self.per_batch:
            self.batches.append(
                {
                    "epoch": delivery.epoch,
                    "step": delivery.step,
                    "data/samples": found.samples,
                    "data/bytes": found.num_bytes,
                    **of_leaves(found.moments),
                    **of_classes(found.classes),
                }
            )
        summing.whole.learn(delivery, found)
        summing.training.add(found, delivery)

    def on_test_begin(self, logs: Any = None) -> None:
        """Start counting what validation reads."""
        summing = watching_of(self, Summing)
        if self.validation is not None and summing.has_session:  # not in evaluate, outside of fit
            summing.begin_validation(self.validation)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Add the batches of the validation steps that have ended."""
        watching_of(self, Summing).validated_up_to(batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the figures of the epoch to `logs` and `history`."""
        summing = watching_of(self, Summing)
        figures, counts = summing.figures("data", summing.training)
        if summing.validated is not None:
            of_validation = summing.figures("val_data", summing.validated)
            figures, counts = figures | of_validation[0], counts | of_validation[1]
        if logs is not None:
            logs.update(summing.logged(figures, counts))
        for name, value in (figures | counts).items():
            # A class seen for the first time had a count of 0 in the epochs before.
            before = 0.0 if name in counts else math.nan
            self.history.setdefault(name, [before] * len(self.epochs)).append(value)
        self.epochs.append(summing.number(None) if summing.epoch is None else summing.epoch)
        for values in self.history.values():
            values.extend([math.nan] * (len(self.epochs) - len(values)))

    def table(self) -> Any:
        """The last epoch as a `rich.table.Table`, with a row for each leaf, also of validation."""
        from rich.table import Table

        names = ["mean", "std", "min", "max", "zeros", "nan", "inf", "drift"]
        samples = self.history.get("data/samples", [0.0])[-1]
        epoch = f" of epoch {self.epochs[-1]}" if self.epochs else ""
        table = Table(title=f"{samples:.0f} samples{epoch}")
        for column in ("leaf", *names):
            table.add_column(column, justify="left" if column == "leaf" else "right")
        for leaf, root in _leaves(self.history):
            found = (self.history.get(f"{root}/{name}") for name in names)
            table.add_row(leaf, *(f"{values[-1]:.4g}" if values else "" for values in found))
        return table

    def plot(self) -> Any:
        """A matplotlib `Figure` of classes, throughput, waiting, and each leaf.

        Raises:
            MissingExtraError: if matplotlib is not installed.
        """
        return draw(self.history, self.epochs)


def _leaves(history: Iterable[str]) -> list[tuple[str, str]]:
    """The display name of each leaf, and the prefix of the names of its figures."""
    found = []
    for name in history:
        match = re.fullmatch(r"((val_)?data/(.*))/mean", name)
        if match:
            found.append((f"{match[2] or ''}{match[3]}", match[1]))
    return found


def _patterns(log: Any) -> tuple[str, ...]:
    found = (log,) if isinstance(log, str) else log
    is_right = isinstance(found, Iterable) and not isinstance(found, Mapping | bytes)
    found = tuple(found) if is_right else (None,)
    if not all(isinstance(pattern, str) for pattern in found):
        raise InvalidArgumentError(
            f"log is {describe(log)}; expected names of figures, such as ['data/wait_share', "
            "'data/*/drift'], '*' for all of them, or () for none."
        )
    return found
