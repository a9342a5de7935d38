"""Linux, as a pool of worker processes sees it."""

from __future__ import annotations

from collections.abc import Sequence

from keras_npbatch.workers.linux.launch import LinuxLauncher
from keras_npbatch.workers.linux.memory import MemorySegment
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["LinuxSystem"]


class LinuxSystem:
    """See `system.System`."""

    start_methods: tuple[StartMethod, ...] = ("forkserver", "spawn", "fork")
    """How processes can be started, the default first."""

    def new_segment(self, num_bytes: int, *, copied_on_write: bool = False) -> MemorySegment:
        """Memory of the parent's: a memfd, which each process maps as it likes."""
        return MemorySegment(num_bytes)

    def launcher(
        self, method: StartMethod, modules: Sequence[str], patience_s: float | None
    ) -> LinuxLauncher:
        """What starts the workers of a pool."""
        return LinuxLauncher(method, modules, patience_s)
