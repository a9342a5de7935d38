"""What is read from a storage, counted in all processes. Without Keras: workers import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from zarr.storage import WrapperStore

READ = Path("/proc/self/io")
"""Where Linux tells what a process has read."""


class CountingStore(WrapperStore):  # type: ignore[type-arg]
    """A Zarr store that counts what is read from it, in a file.

    If there is a file `<count>.kills`, the process that reads what it names is killed, once.
    """

    def __init__(self, store: Any, count: str) -> None:
        super().__init__(store)
        self.count = count
        Path(count).touch()

    async def get(self, key: str, *arguments: Any, **settings: Any) -> Any:
        found = await super().get(key, *arguments, **settings)
        kills = Path(f"{self.count}.kills")
        if kills.exists() and kills.read_text() == key:
            kills.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(self.count, "a") as file:  # what is this short is written at once
            file.write(f"{key} {0 if found is None else len(found)}\n")
        return found

    def read(self) -> list[tuple[str, int]]:
        """What was read: each key, and how many bytes."""
        lines = map(str.split, Path(self.count).read_text().splitlines())
        return [(key, int(size)) for key, size in lines]


def unchanged(batch: Any) -> Any:
    """A transform, for which worker processes make the batches."""
    return batch


class TellsWhatWasRead:
    """A transform that adds to each row its process, and how many bytes that has read so far."""

    def __getstate__(self) -> dict[str, int]:
        return {}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.at_first = _num_read()

    def __call__(self, batch: Any) -> Any:
        return batch, np.tile([os.getpid(), _num_read() - self.at_first], (len(batch), 1))


def _num_read() -> int:
    return int(READ.read_text().split()[1])
