"""The seam between a pool and the system that it runs on: processes, messages, shared memory.

    segment = system.new_segment(1 << 20)       # of the parent's, for all workers
    launcher = system.launcher("spawn", modules=[], patience_s=None)
    process = launcher.launch([dataset, board])
    process.greet(hello)
    launcher.wait([process], seconds=None)      # [(0, False)]: the first has something to say
    process.hear()                              # Extent, Made, Failed

`linux` and `portable` stand behind it. All that decides which batch is made, where and how often,
is on this side of it, so it is the same on every system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from keras_npbatch.batches.slots import Slot
from keras_npbatch.workers.processes.messages import Hello, Said

__all__ = ["Launcher", "Line", "Process", "Segment", "StartMethod", "System"]

StartMethod: TypeAlias = Literal["forkserver", "spawn", "fork"]


class Segment(Protocol):
    """Memory that the parent shares with all workers of a pool, those to come too."""

    @property
    def num_bytes(self) -> int:
        """Its size."""

    def write(self, memory: memoryview, start: int) -> None:
        """Copy `memory` to the offset `start`."""

    def map(self) -> Slot:
        """All of it; what one process writes, the others see."""

    def close(self) -> None:
        """Let it go; processes that have mapped it keep it. Nothing of it is left in the system."""


class Process(Protocol):
    """A worker process, as its parent holds it.

    Its messages **must** arrive whole and in order, including those sent before it died, if the
    system still has them. No method **ever** waits for the worker, except `ends_within`.
    """

    @property
    def pid(self) -> int:
        """The process number, for messages."""

    def greet(self, hello: Hello) -> None:
        """Send the first message, with the segments."""

    def send(self, message: bytes) -> None:
        """Send a message. Does nothing if the process has ended: that is noticed later."""

    def hear(self) -> Said | None:
        """Take one message; None if there is none now, or never will be."""

    def hang_up(self) -> None:
        """Ask the process to end."""

    def kill(self) -> None:
        """End it, whatever it is doing; does nothing if it has ended."""

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end; return whether it has."""

    def exit_code(self) -> int:
        """The exit code of a process that has ended; -N if signal N ended it.

        The first call releases all that the system keeps for the process.
        """


class Launcher(Protocol):
    """Starts the worker processes of one pool, and waits for their messages.

    All methods but `wait` are called with interrupts deferred; one that waits for long lets them
    in.
    """

    @property
    def strike(self) -> Callable[[], object]:
        """Makes a `wait` return, now or soon; it may be called when modules have ended."""

    def launch(self, segments: Sequence[Any]) -> Process:
        """Start a new worker, which gets the segments; they are this system's.

        Raises:
            WorkerStartError: if the system refuses; then nothing of the worker is left behind.
        """

    def wait(self, processes: Sequence[Any], seconds: float | None) -> list[tuple[int, bool]]:
        """Wait until there is news of one of its processes, at most this long.

        May return earlier, with nothing.

        Returns:
            The place of each process that has news, and whether it has ended.
        """

    def close(self) -> None:
        """End whatever was started in addition to the workers; `launch` would start it again."""


class System(Protocol):
    """How worker processes are started, spoken to, and share memory."""

    @property
    def start_methods(self) -> tuple[StartMethod, ...]:
        """How processes can be started, the default first."""

    def new_segment(self, num_bytes: int, *, copied_on_write: bool = False) -> Segment:
        """Memory of the parent's, for its workers.

        Args:
            num_bytes: how much.
            copied_on_write: whether what a worker writes is seen by that worker alone.

        Raises:
            SharedMemoryError: if the system can't provide that much.
        """

    def launcher(
        self, method: StartMethod, modules: Sequence[str], patience_s: float | None
    ) -> Launcher:
        """What starts the workers of a pool.

        Args:
            method: how they are started.
            modules: the modules that they are going to import.
            patience_s: how long what starts them may take to answer, in seconds; None for a minute.

        Raises:
            WorkerStartError: if the system refuses what each worker needs.
        """


class Line(Protocol):
    """The worker's end of all that connects it to its parent."""

    def hello(self) -> Hello | None:
        """The first message; None if the parent is gone."""

    def map_board(self) -> Slot:
        """The board, which all share."""

    def map_dataset(self) -> Slot:
        """The package of the dataset, copied on write."""

    def has_message(self) -> bool:
        """Whether `receive` would not wait."""

    def receive(self) -> bytes:
        """Wait for a message; empty if the parent is gone."""

    def send(self, message: bytes) -> None:
        """Send a message. Waits while the parent does not read."""

    def check_available(self, num_bytes: int) -> None:
        """Refuse a request for more memory than is available, if that is known.

        Raises:
            SharedMemoryError: if less is available.
        """

    def new_extent(self, num_bytes: int) -> Slot:
        """Memory for batches, announced by an `Extent`, so that the parent maps it too.

        Raises:
            SharedMemoryError: if the system can't provide that much.
        """
