"""Batches made by the consumer itself, when it asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

__all__ = ["InlineStream"]

Result = TypeVar("Result")


class InlineStream(Generic[Result]):
    """What `results` gives when it is asked; the same contract as `ThreadedStream`."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results: Iterator[Result] = iter(results)

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
