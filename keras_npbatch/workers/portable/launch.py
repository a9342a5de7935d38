"""Starts portable worker processes, and waits for their messages.

    launcher = PortableLauncher()
    process = launcher.launch([dataset, board])
    launcher.wait([process], seconds=None)       # [(0, False)]: it has something to say

A wait looks up twenty times a second: for processes that have ended while something else holds
their sockets open, and for a consumer that has given up. So no further descriptor is needed to
wake it.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_npbatch.workers.portable.memory import InheritedSegment
from keras_npbatch.workers.portable.process import PortableProcess, Selector, start

__all__ = ["PortableLauncher"]

_LOOK_S = 0.05


class PortableLauncher:
    """Starts the workers of one pool, and waits for their messages; see `system.Launcher`."""

    strike = int
    """Nothing: a `wait` returns soon by itself."""

    def launch(self, segments: Sequence[InheritedSegment]) -> PortableProcess:
        """Start a new worker, which inherits the segments."""
        return start(segments)

    def wait(
        self, processes: Sequence[PortableProcess], seconds: float | None
    ) -> list[tuple[int, bool]]:
        """Wait for news of the processes, `_LOOK_S` at most."""
        news = [(place, False) for place, each in enumerate(processes) if each.has_message]
        if news:
            return news
        look_s = _LOOK_S if seconds is None else min(seconds, _LOOK_S)
        news = [(place, False) for place in _ready(processes, look_s)]
        return news or [(place, True) for place, each in enumerate(processes) if each.has_ended()]

    def close(self) -> None:
        """Nothing is started in addition to the workers."""


def _ready(processes: Sequence[PortableProcess], seconds: float) -> list[int]:
    """The places of those from which something can be received."""
    cut = [each for each in processes if each.is_cut]
    if cut:  # its socket would always be ready
        cut[0].wait_for_its_end(seconds)
        return []
    if len(processes) == 1:
        return [0] if processes[0].is_ready(seconds) else []
    with Selector() as selector:
        for place, process in enumerate(processes):
            process.watch_with(selector, place)
        ready = [key.data for key, _ in selector.select(seconds)]
    for process in processes:
        process.flush()
    return ready
