"""Batches that the consumer makes itself, each when it is requested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

__all__ = ["InlineStream"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class InlineStream(Generic[Task, Result]):
    """The results of `make(task)` for each task; the same contract as `ThreadedStream`."""

    def __init__(self, make: Callable[[Task], Result], tasks: Iterable[Task]) -> None:
        self._results: Iterator[Result] = map(make, tasks)

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        try:
            return next(self._results)
        except BaseException:
            self.close()
            raise

    @property
    def ready(self) -> int:
        """Always 0: each result is made when it is requested."""
        return 0

    def close(self) -> None:
        """Drop the tasks that have not started."""
        self._results = iter(())
