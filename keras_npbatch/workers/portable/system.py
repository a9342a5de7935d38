"""Any system, as a pool of worker processes sees it: the standard library alone.

A worker is a new interpreter that gets a socket and shared memory; `multiprocessing` would run the
user's main script again in each. Loky would not, but it copies each result through a pipe (batches
of 3 MB took 6 to 9 times as long), and one worker that dies breaks its whole executor: replacing
workers and lending memory would be written here all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_npbatch.workers.portable.launch import PortableLauncher
from keras_npbatch.workers.portable.memory import InheritedSegment
from keras_npbatch.workers.processes.system import StartMethod

__all__ = ["PortableSystem"]


class PortableSystem:
    """See `system.System`."""

    start_methods: tuple[StartMethod, ...] = ("spawn",)
    """How processes can be started."""

    def new_segment(self, num_bytes: int, *, copied_on_write: bool = False) -> InheritedSegment:
        """Memory of the parent's."""
        return InheritedSegment(num_bytes, copied_on_write=copied_on_write)

    def launcher(
        self, method: StartMethod, modules: Sequence[str], patience_s: float | None
    ) -> PortableLauncher:
        """What starts the workers of a pool."""
        return PortableLauncher()
