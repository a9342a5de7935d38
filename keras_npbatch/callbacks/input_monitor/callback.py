"""`InputMonitor`: whether training waits for data, where the time goes, and what to change.

monitor = InputMonitor(train)
model.fit(train, epochs=10, callbacks=[monitor])
monitor.advice      # None, or for example ("workers", 7)
"""

from __future__ import annotations

import warnings
from collections import deque
from time import perf_counter
from typing import Any

import numpy as np

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.core import ATTRIBUTE, core_of
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.input_monitor.costs import Costs, advice, measure
from keras_npbatch.callbacks.input_monitor.picture import draw
from keras_npbatch.callbacks.watching import Watching, watching_of
from keras_npbatch.errors import InvalidArgumentError, describe
from keras_npbatch.fit.deliveries import Delivery

__all__ = ["InputMonitor"]

_EXPLAINED = 0.5
"""If making a batch takes less than this share of the wait, it does not explain the wait."""


class InputMonitor(DatasetCallback):
    """Measure how long each training step waits for its batch, and warn if that is too long.

    Warns once, with the waiting time, the step time, where the time goes (reading, transform,
    transport), and the one setting of the dataset to change. To find the place it makes one batch
    again; until then it only reads the clock a few times per step. If making that batch takes much
    less time than the wait (a busy machine, steps of a millisecond), it does not warn, since no
    setting would help.

    At the end of each epoch, it writes to `logs`: `data_wait_time_ms`, the mean wait of a step in
    milliseconds (0 for a batch that was ready); `data_wait_share`, the share of the epoch's time,
    from 0 to 1; `samples_per_second`; and `data_queue_depth`, the mean number of batches that were
    ready. With a `cache`, `data_cache_share` is the share of the rows that were found in it, from 0
    to 1. With `on_error="set_aside"`, `data_set_aside` is the number of rows that could not be read
    so far. After each batch, it writes the `data_wait_time_ms` of that step.

    Example:

    ```python
    monitor = keras_npbatch.callbacks.InputMonitor(train)
    model.fit(train, epochs=1, callbacks=[monitor])
    ```

    Args:
        dataset: the dataset passed to `fit`.
        warn_above: warn if a step waits for more than this share of its time, from 0 to 1.
        patience: number of steps over which the share is measured. The first step of an epoch does
            not count.

    Raises:
        InvalidArgumentError: for an invalid value.
    """

    def __init__(self, dataset: Any, warn_above: float = 0.3, patience: int = 20) -> None:
        super().__init__(dataset)
        is_number = isinstance(warn_above, int | float) and not isinstance(warn_above, bool)
        if not is_number or not 0 <= warn_above <= 1:
            raise InvalidArgumentError(
                f"warn_above is {describe(warn_above)}; expected a share of the time of a step, "
                "from 0 to 1."
            )
        self.warn_above = warn_above
        self.patience = whole_number("patience", patience, least=1)
        self.costs: Costs | None = None
        """The measured costs of a batch, if there was a warning."""
        self.advice: tuple[str, Any] | None = None
        """The setting to change and its new value, if there was a warning."""
        self.epochs: list[int] = []
        """The epochs of the last `fit`."""
        self.history: dict[str, list[float]] = {}
        """The figures of each of these epochs by name, as in `logs`, and `data_step_time_ms`, the
        mean time of a step."""
        self.__dict__[ATTRIBUTE] = _Measuring(self, dataset)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start watching."""
        super().on_train_begin(logs)
        self.costs = self.advice = None
        self.epochs, self.history = [], {}
        watching_of(self, _Measuring).recent.clear()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start measuring an epoch."""
        super().on_epoch_begin(epoch, logs)
        watching_of(self, _Measuring).begin_epoch()

    def trained(self, delivery: Delivery) -> None:
        """Add the figures of a batch."""
        watching_of(self, _Measuring).add(delivery)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Add the figures of a step; warn if the wait is too long."""
        measuring = watching_of(self, _Measuring)
        batches_before = measuring.batches
        measuring.waited_now = 0.0
        super().on_train_batch_end(batch, logs)
        measuring.end_step(batches_before, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the figures of the epoch, and write them to `logs`."""
        figures, step_time_ms = watching_of(self, _Measuring).figures()
        if logs is not None:
            logs.update(figures)
        self.epochs.append(epoch)
        for name, value in (figures | {"data_step_time_ms": step_time_ms}).items():
            self.history.setdefault(name, []).append(value)

    def plot(self) -> Any:
        """A matplotlib `Figure` of the time of a step, and of a batch if there was a warning.

        Raises:
            MissingExtraError: if matplotlib is not installed.
        """
        return draw(self.history, self.epochs, self.costs, self.advice)


class _Measuring(Watching):
    """The figures of the epoch so far, and the waits of the last steps."""

    of_one_fit = Watching.of_one_fit | {"last"}

    def __init__(self, owner: InputMonitor, dataset: Any) -> None:
        super().__init__(owner, dataset)
        self.recent: deque[tuple[float, float]] = deque(maxlen=owner.patience)
        self.epoch_began = self.step_began = 0.0
        self.waited = self.waited_now = 0.0
        self.samples = self.ready = self.batches = 0
        self.found_before: tuple[int, int] | None = None
        self.looked = False
        """Whether the costs of a batch were already measured in this epoch."""

    def forget_fit(self) -> None:
        """Reset what belongs to a `fit`."""
        super().forget_fit()
        self.last: Delivery | None = None

    def begin_epoch(self) -> None:
        """Start measuring an epoch."""
        self.epoch_began = self.step_began = perf_counter()
        self.waited = 0.0
        self.samples = self.ready = self.batches = 0
        self.looked = False
        self.found_before = self.found_in_cache()

    def add(self, delivery: Delivery) -> None:
        """Add the figures of a batch."""
        self.waited_now += delivery.waited_s
        self.samples += len(delivery.rows)
        self.ready += delivery.ready
        self.batches += 1
        self.last = delivery

    def end_step(self, batches_before: int, logs: Any) -> None:
        """Add the figures of a step; warn if the wait is too long."""
        now = perf_counter()
        took_s, self.step_began = now - self.step_began, now
        steps = self.batches - batches_before
        self.waited += self.waited_now
        if logs is not None and steps:
            logs["data_wait_time_ms"] = 1000 * self.waited_now / steps
        if batches_before and steps:
            self.recent.extend([(self.waited_now / steps, took_s / steps)] * steps)
            self.warn_if_it_is_time()

    def figures(self) -> tuple[dict[str, float], float]:
        """The figures of the epoch, and the mean time of a step in milliseconds."""
        took_s = max(self.step_began - self.epoch_began, 1e-9)
        batches = max(self.batches, 1)
        figures: dict[str, float] = {
            "data_wait_time_ms": 1000 * self.waited / batches,
            "data_wait_share": min(self.waited / took_s, 1.0),
            "samples_per_second": self.samples / took_s,
            "data_queue_depth": self.ready / batches,
        }
        found = self.found_in_cache()
        if found is not None and self.found_before is not None:
            hits, rows = np.subtract(found, self.found_before).tolist()
            figures["data_cache_share"] = hits / max(rows, 1)
        if core_of(self.dataset).aside is not None:
            figures["data_set_aside"] = len(self.dataset.set_aside)
        return figures, 1000 * took_s / batches

    def found_in_cache(self) -> tuple[int, int] | None:
        """Rows that were found in the cache, and all that were asked for; None without one."""
        cache = core_of(self.dataset).cache
        if cache is None:
            return None
        info = cache.info()
        return info.hits, info.hits + info.misses

    def warn_if_it_is_time(self) -> None:
        last, owner = self.last, self.owner
        if owner.advice is not None or last is None or len(self.recent) < owner.patience:
            return
        waited_s = sum(waited for waited, _ in self.recent) / owner.patience
        took_s = sum(took for _, took in self.recent) / owner.patience
        if waited_s <= owner.warn_above * took_s:
            return
        chosen = self.dataset.workers_chosen
        if self.looked or (chosen is not None and not chosen.settled):
            return
        self.looked = True
        # Half an epoch away, so that the rows are not in a system cache because of this step.
        step = (last.step + last.plan.num_batches // 2) % last.plan.num_batches
        costs = measure(self.dataset, last.plan, last.epoch, step)
        self.step_began = perf_counter()  # the measurement is not part of a step
        if costs.total_s < _EXPLAINED * waited_s:
            return
        owner.costs = costs
        owner.advice = advice(self.dataset, costs, took_s - waited_s)
        if owner.advice is None:
            what = f"workers='auto' has found nothing better than what makes them now, {chosen}"
        else:
            setting, value = owner.advice
            now = getattr(self.dataset, setting)
            what = f"make the dataset with {setting}={value}, which is {now} now"
        warnings.warn(
            f"training waits for data {waited_s / took_s:.0%} of the time: {_ms(waited_s)} of the "
            f"{_ms(took_s)} that a step takes, over the last {owner.patience} steps. A batch takes "
            f"{_ms(costs.reading_s)} for reading, {_ms(costs.transform_s)} for the transform, "
            f"{_ms(costs.transport_s)} for transport. Most goes to {costs.dearest}: {what}.",
            stacklevel=2,
        )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
