"""`JoinedArrays`: rows of the arrays of several datasets, read into one batch.

    arrays = joined_arrays([core_of(common), core_of(rare)], training=True)
    arrays.read([(0, places, rows), (1, more_places, more_rows)], num_rows, np.empty)

If each dataset gives its arrays as they are, no batch of each is made before they are put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_npbatch.batches.array_loader import ArrayCore
from keras_npbatch.batches.core import Core
from keras_npbatch.samplers.order import Rows
from keras_npbatch.sources.scatter import new, scatter
from keras_npbatch.sources.source import Empty
from keras_npbatch.tree import Tree

__all__ = ["JoinedArrays", "joined_arrays"]


class JoinedArrays:
    """The arrays of several datasets, alike in nesting, shapes and dtypes."""

    def __init__(self, cores: Sequence[ArrayCore]) -> None:
        self._columns = list(zip(*(core.sources for core in cores), strict=True))
        self._nested = cores[0].nested

    def read(self, members: Sequence[tuple[int, Rows, Rows]], num_rows: int, empty: Empty) -> Tree:
        """A batch.

        Args:
            members: of each dataset, its index, the places of its rows in the batch, which rise,
                and its rows.
            num_rows: of the batch.
            empty: allocates its arrays.
        """
        if len(members) == 1:
            ((index, _, rows),) = members
            return self._nested([column[index].read(rows, empty) for column in self._columns])
        found: list[Any] = []
        for column in self._columns:
            first = column[0]
            out = new((num_rows, *first.shape[1:]), first.dtype, empty)
            for index, places, rows in members:
                scatter(column[index], rows, out, places)
            found.append(out)
        return self._nested(found)


def joined_arrays(cores: Sequence[Core], training: bool) -> JoinedArrays | None:
    """The arrays of datasets that give them as they are; None if one does anything else.

    Args:
        cores: those of the datasets, whose arrays have the same shapes and dtypes.
        training: whether they are read for training.
    """
    alone = [core for core in cores if isinstance(core, ArrayCore) and core.gathers_alone(training)]
    if len(alone) < len(cores) or any(core.nesting != alone[0].nesting for core in alone):
        return None
    return JoinedArrays(alone)
