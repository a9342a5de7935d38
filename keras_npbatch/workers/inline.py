"""Batches made by the consumer itself, when it asks for them."""

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
        """Results that need not be waited for: none, each is made when it is asked for."""
        return 0

    def close(self) -> None:
        """Forget what is not begun."""
        self._results = iter(())
