"""Ctrl-C at any point of a pool's life leaves no process and no descriptor behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest

from keras_npbatch.workers.processes import interrupts
from tests.inside import children
from tests.workers.processes.test_pool import METHODS, dataset, epoch_of, opened, shared_names

EXECUTION = str(Path(interrupts.__file__).parents[1])


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []
    try:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")
    except KeyboardInterrupt:
        done.append("interrupted")
    assert done == ["all of it", "interrupted"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_of_a_block_that_fails_is_not_lost() -> None:
    def fail() -> None:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError("no memory")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, OSError)


def test_blocks_may_be_nested_and_let_signals_in() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        with interrupts.deferred(), interrupts.deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not came
            interrupts.deliver()
            assert came == [signal.SIGUSR1]
        assert came == [signal.SIGUSR1]
        os.kill(os.getpid(), signal.SIGUSR1)
        assert came == [signal.SIGUSR1] * 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_defer_nothing() -> None:
    seen: list[Any] = []

    def look() -> None:
        with interrupts.deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


class InterruptedAt:
    """Sends Ctrl-C to this process as the given line of the executor is reached, by number."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(EXECUTION):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
        return self


def lines_of(method: str, line: int) -> int:
    """How many lines were left when the pool's life was over; it was interrupted if below 0."""
    batches = dataset(n=12)
    tracer = InterruptedAt(line)
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with opened(batches, start_method=method) as pool:
            list(epoch_of(pool, batches))
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return tracer.left


@pytest.mark.parametrize(
    ("method", "times"),
    [
        ("forkserver", 6),
        ("fork", 12),
        ("portable", 3),
        pytest.param("spawn", 20, marks=pytest.mark.more),
        pytest.param("forkserver", 25, marks=pytest.mark.more),
        pytest.param("fork", 100, marks=pytest.mark.more),
        pytest.param("portable", 40, marks=pytest.mark.more),
    ],
)
def test_ctrl_c_at_any_line_leaves_nothing(method: str, times: int) -> None:
    """What is left is seen by the fixture that looks for it, and by this."""
    if method not in (*METHODS, "portable"):
        pytest.skip("not with the portable executor: it starts no process so")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    total = 10**6 - lines_of(method, 10**6)
    descriptors = psutil.Process().num_fds()
    for line in range(3, total, total // times):
        lines_of(method, line)
        left = children(recursive=True)
        assert not [child for child in left if child.ppid() == os.getpid()], line
        assert psutil.Process().num_fds() <= descriptors, line
        assert shared_names(os.getpid()) == []
