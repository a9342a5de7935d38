"""`ReadAhead`: chunks are read before a batch needs them.

    ahead = ReadAhead(sources, block_rows=64, blocks=16, rows_behind=1152)
    ahead.begin(plan, epoch=0, step=7)
    ...                                      # make the batch of this step
    ahead.prepare(plan, epoch=0, step=7)

A group of blocks is shuffled as a whole, so its first batch needs nearly all of its chunks at once,
and the others none. Each answer of a storage far away takes its time, so training would wait there.
Therefore whoever makes a batch then also reads its share of the chunks of the next group: a batch
that is the tenth part of a group reads a tenth of them.

Nothing is kept longer for it. The chunks of the next group take the room of a group that no batch
needs any more: the share is 0 until the slowest thread has left that group. Sources are told which
group that is. When a chunk was used last does not show whether a slow thread still needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.order import Order, Rows
from keras_npbatch.sources.source import Prepared

__all__ = ["ReadAhead", "share"]

_GROUPS_KEPT = 4


class ReadAhead:
    """Reads chunks of the next group of blocks.

    Args:
        sources: those that read in chunks.
        block_rows: rows of a block, at most.
        blocks: how many blocks are shuffled together.
        rows_behind: by how many rows of the order one thread may be behind another.
    """

    def __init__(
        self, sources: Sequence[Prepared], block_rows: int, blocks: int, rows_behind: int
    ) -> None:
        self._sources = list({id(source.kept_in): source for source in sources}.values())
        self._group_rows = block_rows * blocks
        self._rows_behind = rows_behind
        self._chunks: dict[tuple[Order, tuple[int, int]], list[Rows]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_chunks": {}}

    def forget(self) -> None:
        """A pass over the data begins, for which the sources have been told nothing yet."""
        self._chunks = {}

    def begin(self, plan: Plan, epoch: int, step: int) -> None:
        """Tell the sources of the groups that a batch has rows of."""
        position, stop = plan.global_span(step)
        order = plan.order(epoch)
        while position < stop:
            group = order.group(position)
            if group is None:
                return
            self._chunks_of(order, group)
            position = group[1]

    def prepare(self, plan: Plan, epoch: int, step: int) -> None:
        """Read what falls to a batch of the next group.

        A failure here is ignored: the batch that needs the chunk tries again, and raises it.
        """
        start, stop = plan.global_span(step)
        order = plan.order(epoch)
        group = order.group(start)
        if group is None or group[1] >= plan.epoch_size:
            return
        behind = self._rows_behind
        # As many groups are kept as the threads are in, and at least two: `Chunked.keep`.
        first = group[0] + behind - max(0, -(-behind // self._group_rows) - 1) * self._group_rows
        if min(stop, group[1]) <= first:
            return
        following = order.group(group[1])
        assert following is not None
        for source, numbers in zip(self._sources, self._chunks_of(order, following), strict=True):
            mine = numbers[share(len(numbers), start, stop, first, group[1])]
            for number in mine.tolist():
                with contextlib.suppress(Exception):  # whatever a storage raises
                    source.prepare(number)

    def _chunks_of(self, order: Order, group: tuple[int, int]) -> list[Rows]:
        """The chunks of a group, for each source; at the first call, sources learn of them."""
        found = self._chunks.get((order, group))
        if found is None:
            rows = order.rows(*group)
            found = [source.chunks_of(rows) for source in self._sources]
            for source, numbers in zip(self._sources, found, strict=True):
                source.expect(numbers, until=group[1])
            if len(self._chunks) >= _GROUPS_KEPT:
                self._chunks = {}
            self._chunks[order, group] = found  # racing threads find the same
        return found


def share(count: int, start: int, stop: int, first: int, last: int) -> slice:
    """Which of `count` things fall to the positions `start..stop-1` of `first..last-1`.

    Over all batches each falls to one, and none to positions before `first`.
    """
    before, after = (
        count * (min(max(position, first), last) - first) // (last - first)
        for position in (start, stop)
    )
    return slice(before, after)
