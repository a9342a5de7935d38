"""What a worker process and its parent tell each other, and the board.

    parent  ->  worker    Hello; then Tasks
    worker  ->  parent    Extent: shared memory that will hold batches
                          Made, or Failed: the answer to a task, in the order of the tasks

How they travel, and the memory with them, is the system's business; see `system`.

On the board, which all workers of a pool share, each worker writes the number of its current task.
So if a worker dies, the parent knows which batch it was making.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from keras_npbatch.batches.slots import Slot

__all__ = [
    "BOARD_BYTES",
    "IDLE",
    "MESSAGE_BYTES",
    "STARTING",
    "Extent",
    "Failed",
    "Hello",
    "Made",
    "Place",
    "Said",
    "Task",
]

MESSAGE_BYTES = 64 * 1024
"""No message is longer; what is goes through shared memory."""

STARTING = -1
"""On the board: the worker has not unpacked the dataset yet."""
IDLE = -2
"""On the board: the worker has no task."""

BOARD_BYTES = 16
"""Bytes per worker on the board: its current task, and when it began its last (int64 each)."""


@dataclass(slots=True)
class Hello:
    """The first message to a worker."""

    index: int
    """Its row of the board."""
    dataset_bytes: int
    """Size of the first segment."""
    board_bytes: int
    """Size of the second."""


@dataclass(slots=True)
class Task:
    """To a worker: make a batch."""

    number: int
    """The number of the task, unique within a pool."""
    work: bytes
    """How the batch is made; see `work_sent`."""
    epoch: int
    step: int
    pass_number: int
    """Of the pass over the data that it belongs to: what was read for another may have changed."""
    returned: list[int] = field(default_factory=list)
    """Slots that the parent gives back, by the numbers that the worker gave them."""


@dataclass(slots=True)
class Extent:
    """From a worker: memory that will hold batches."""

    num_bytes: int
    memory: Slot | None = None
    """The memory itself, as the parent has mapped it."""


@dataclass(slots=True)
class Place:
    """Where lent memory is."""

    lent: int
    """The number under which it is given back."""
    extent: int
    """The number of the extent, in the order in which they were announced."""
    start: int
    stop: int


@dataclass(slots=True)
class Made:
    """From a worker: a batch."""

    number: int
    """The number of the task."""
    message: bytes | None
    """The input of `packing.unpack`; None if it is in the last of the places."""
    places: list[Place]


@dataclass(slots=True)
class Failed:
    """From a worker: an exception."""

    number: int
    """The number of the task; `STARTING` if the dataset could not be unpacked."""
    message: bytes | None
    """The input of `failures.restore`; None if it is in the only one of the places."""
    places: list[Place]


Said: TypeAlias = Extent | Made | Failed
"""What a worker says."""
