"""The loop over an epoch: it counts, drops each batch before the next, and notices a short end."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_npbatch.errors import ClosedError
from keras_npbatch.workers.epoch import walk
from keras_npbatch.workers.inline import InlineStream


class Counted(InlineStream[Any, Any]):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


def stream(first: int, stop: int, make: Any = lambda step: step) -> Counted:
    return Counted(make, range(first, stop))


@given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9))
def test_each_batch_comes_with_its_step(first: int, number: int, taken: int) -> None:
    batches = stream(first, first + number)
    with contextlib.closing(walk(batches, first, first + number - 1)) as steps:
        found = [pair for pair, _ in zip(steps, range(taken), strict=False)]
    assert found == [(step, step) for step in range(first, first + min(number, taken))]
    assert batches.closed


def test_a_stream_that_ends_early_is_an_error() -> None:
    with pytest.raises(ClosedError, match=r"^the dataset was closed after 3 of 5 batches"):
        list(walk(stream(0, 3), 0, 4))


def test_no_batch_is_held_while_the_next_is_made() -> None:
    alive: list[weakref.ref[Any]] = []

    def make(step: int) -> Any:
        assert all(batch() is None for batch in alive)
        batch = np.zeros(3)
        alive.append(weakref.ref(batch))
        return batch

    def consumer() -> Iterator[Any]:
        for _, batch in walk(stream(0, 5, make), 0, 4):
            yield batch
            del batch

    for batch in consumer():
        assert len(batch) == 3
        del batch
    assert len(alive) == 5


def test_an_error_of_a_batch_is_raised_in_its_turn_and_closes_the_stream() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise OSError("broken")
        return step

    batches = stream(0, 5, make)
    steps = walk(batches, 0, 4)
    assert [next(steps), next(steps)] == [(0, 0), (1, 1)]
    with pytest.raises(OSError, match="broken"):
        next(steps)
    assert batches.closed
