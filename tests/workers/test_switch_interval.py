"""What threads share holds when they take turns at every few instructions.

It stands in for an interpreter without a GIL, as far as one with it can: what relies on a thread
not being interrupted between two steps of Python fails here. What is atomic in C stays so.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.errors import ClosedError
from keras_npbatch.workers.tuning import INLINE, Setting
from tests.workers.test_auto import wander

N, BATCH = 120, 4


class Stored(npb.BatchDataset):
    """A row that can't be read, a cache, slots: all that threads share."""

    def load(self, rows: Any) -> Any:
        if 7 in rows:
            raise OSError("bad sector")
        return np.repeat(rows[:, np.newaxis], 6000, axis=1), rows


@pytest.fixture(autouse=True)
def hasty() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def made(workers: Any) -> Stored:
    settings: dict[str, Any] = {"cache": "1 MB", "on_error": "set_aside", "max_set_aside": 0.5}
    return Stored(N, batch_size=BATCH, seed=0, workers=workers, **settings)


def content(batch: Any) -> tuple[bytes, ...]:
    return tuple(leaf.tobytes() for leaf in batch)


@pytest.mark.filterwarnings("ignore:row 7 of the Stored could not be read:UserWarning")
@pytest.mark.parametrize("workers", [4, "auto"])
def test_batches_are_those_of_one_thread(workers: Any) -> None:
    alone, together = made(0), made(workers)
    if workers == "auto":
        wander(together, INLINE, Setting("threads", 4, 6), Setting("threads", 1, 2))
    for _ in range(2):
        for batch, other in zip(together, alone, strict=True):
            assert content(batch) == content(other)
    assert [*together.set_aside] == [*alone.set_aside] == [7]
    assert together.cache_info().rows == alone.cache_info().rows


@pytest.mark.filterwarnings("ignore:row 7 of the Stored could not be read:UserWarning")
def test_passes_in_several_threads_that_are_closed_in_between_end() -> None:
    dataset, wrong = made("auto"), []
    expected = [content(batch) for batch in made(0).batches_for("evaluate")]

    def read() -> None:
        try:
            for step, batch in enumerate(dataset.batches_for("evaluate")):
                if content(batch) != expected[step]:
                    wrong.append(step)
        except ClosedError:
            pass

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        dataset.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert wrong == []
