"""`WorkersChosen`: what `workers="auto"` has chosen, for users to read.

print(dataset.workers_chosen)       # 2 threads, 3 batches ahead
dataset.workers_chosen.without      # {"processes": "UnsendableError: ..."}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keras_npbatch.batches.core import Core
from keras_npbatch.batches.work import Work
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.tuning import Kind, Setting

__all__ = ["WorkersChosen", "workers_chosen"]


@dataclass(frozen=True, slots=True)
class WorkersChosen:
    """Who makes batches, as `workers="auto"` has chosen."""

    kind: Kind
    """`"inline"`, `"threads"` or `"processes"`. Inline: whoever asks for a batch makes it."""
    workers: int
    """How many threads or processes; 0 inline."""
    max_queue_size: int
    """How many batches are made ahead at most; 0 inline."""
    settled: bool
    """Whether the choice stays until something changes; otherwise it is being tried."""
    without: Mapping[Kind, str]
    """The kinds that can't be chosen, each with the reason."""

    def __str__(self) -> str:
        """In words: `2 threads, 3 batches ahead`."""
        setting = Setting(self.kind, self.workers, self.max_queue_size)
        return f"{setting}{'' if self.settled else ', being tried'}"


def workers_chosen(core: Core) -> WorkersChosen | None:
    """What was chosen for training; None if the user has given a number of workers."""
    if core.settings is None or core.settings.workers != "auto":
        return None
    tuner = core.part(Executor).tuner(Work(core.plan))
    return WorkersChosen(*tuner.setting, tuner.settled, dict(tuner.without))
