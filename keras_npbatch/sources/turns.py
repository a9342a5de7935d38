"""`Turns`: threads that read the same chunks at once begin with different ones.

    turns = Turns()
    turns.turned([0, 1, 2, 3])       # [0, 1, 2, 3]
    turns.turned([0, 1, 2, 3])       # [2, 3, 0, 1]

Batches of one group of blocks need the same chunks. Threads that asked for them in one order would
all wait for the first, then for the second: eight threads would have one request under way, and
wait for one answer of the network after the other. For the same reason, a chunk that another thread
is reading comes last (`others_last`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["Turns", "others_last"]

_T = TypeVar("_T")
_GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, without their whole part, are never close to each other."""


class Turns:
    """Where each call begins."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._calls = itertools.count()

    def turned(self, items: Sequence[_T]) -> list[_T]:
        """The items from another one on, and around."""
        first = int(next(self._calls) * _GOLDEN % 1 * len(items))
        return [*items[first:], *items[:first]]


def others_last(items: Sequence[_T], is_under_way: Callable[[_T], bool]) -> Iterator[_T]:
    """The items, at the end those that another thread was reading when their turn came."""
    waited_for = []
    for item in items:
        if is_under_way(item):
            waited_for.append(item)
        else:
            yield item
    yield from waited_for
