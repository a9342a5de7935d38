"""Worker processes that nobody asks for a batch end by themselves, and come back when asked."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import BatchDataset
from keras_npbatch.batches.work import Work
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.processes import pool as pools
from keras_npbatch.workers.processes.idle import watch
from keras_npbatch.workers.processes.stream import ProcessStream
from tests.inside import children, core_of, maker_of, pool_of
from tests.workers.processes.test_pool import assert_same_batch, dataset, expected, opened

WITHIN_S = 2.0


def seconds_until_none_is_left(most: float) -> float:
    begin = time.monotonic()
    while children(recursive=True) and time.monotonic() < begin + most:
        time.sleep(0.02)
    assert not children(recursive=True)
    return time.monotonic() - begin


class Loader(BatchDataset):
    def load(self, rows: Any) -> Any:
        return rows * 1.0, rows


def loader(**settings_: Any) -> Loader:
    return Loader(40, batch_size=4, seed=0, workers=2, use_multiprocessing=True, **settings_)


def test_they_end_soon_after_the_last_pass_that_anybody_expects() -> None:
    data = loader()
    for batch in data.batches_for("evaluate"):
        assert len(batch) == 2
    assert pool_of(data).pids
    assert seconds_until_none_is_left(WITHIN_S + 1) <= WITHIN_S
    assert len(list(data.batches_for("evaluate"))) == 10
    data.close()


def test_they_stay_for_the_next_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_IDLE_S", 0.1)
    data = loader()
    assert len(list(data)) == 10
    pids = pool_of(data).pids
    time.sleep(0.5)
    assert len(list(data)) == 10
    assert pool_of(data).pids == pids
    core_of(data).part(Executor).expect_nothing()
    seconds_until_none_is_left(1)


def test_with_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_IDLE_S", 0.1)
    with loader() as data:
        assert len(list(data.batches_for("evaluate"))) == 10
        pids = pool_of(data).pids
        time.sleep(0.5)
        assert {child.pid for child in children(recursive=True)} >= set(pids)
    assert not children(recursive=True)


def test_a_stream_that_is_held_keeps_no_worker_for_ever_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "_UNUSED_S", 0.3)
    data = loader()
    steps = iter(data)
    found = [next(steps) for _ in range(3)]
    seconds_until_none_is_left(3)
    found += list(steps)
    make = maker_of(data)
    assert len(found) == 10
    for step, batch in enumerate(found):
        assert_same_batch(batch, make(0, step))
    data.close()


def test_a_batch_that_takes_longer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_UNUSED_S", 0.2)

    class Slow(Loader):
        def load(self, rows: Any) -> Any:
            time.sleep(0.5)
            return super().load(rows)

    data = Slow(8, batch_size=4, seed=0, workers=1, use_multiprocessing=True)
    assert len(list(data)) == 2
    data.close()


@settings(max_examples=6)
@given(
    program=st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(1, 4)),
            st.tuples(st.just("rest"), st.just(0)),
            st.tuples(st.just("leave"), st.just(0)),
        ),
        max_size=8,
    )
)
def test_whenever_they_rest_the_batches_are_those_of_this_process(
    program: list[tuple[str, int]],
) -> None:
    data: Any = dataset(n=40)
    wanted = list(expected(data))
    with opened(data) as pool:
        stream, step = ProcessStream(pool, Work(data.plan), 0, ahead=4, follows=True), 0
        for what, number in program:
            if what == "take":
                for _ in range(min(number, len(wanted) - step)):
                    assert_same_batch(next(stream), wanted[step])
                    step += 1
            elif what == "rest":
                deadline = time.monotonic() + 20
                while pool.pids:  # those that are at work finish first
                    assert time.monotonic() < deadline
                    pool._used_s = -1e9
                    pool.rest()
            else:
                stream.close()
                stream, step = ProcessStream(pool, Work(data.plan), 0, ahead=4, follows=True), 0
        for batch in stream:
            assert_same_batch(batch, wanted[step])
            step += 1
        assert step == len(wanted)


def test_a_worker_that_is_at_work_does_not_rest() -> None:
    """Its batch would be made again, and again."""
    data: Any = dataset(n=8)
    with opened(data, workers=1) as pool:
        stream = ProcessStream(pool, Work(data.plan), 0, ahead=1)
        stream._ask_ahead()
        (job,), pids = stream._pending, pool.pids
        os.kill(pids[0], signal.SIGSTOP)
        try:
            pool._used_s = -1e9
            pool.rest()
            assert pool.pids == pids or job.finished
        finally:
            os.kill(pids[0], signal.SIGCONT)
        assert len(list(stream)) == 2


def test_nobody_watches_a_pool_that_is_gone() -> None:
    data: Any = dataset(n=8)
    made = opened(data)
    watch(made)
    made.close()
    del made
    assert not children(recursive=True)


def test_a_thread_that_was_not_let_run_gets_other_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = loader()
    executor = core_of(data).part(Executor)
    current_pool, given = executor.current_pool, []

    def rested_after_it(workers: int) -> Any:
        pool = current_pool(workers)
        given.append(pool)
        if len(given) == 1:  # as if this thread had been kept waiting for seconds
            pool._used_s -= 100
            pool.rest()
        return pool

    monkeypatch.setattr(executor, "current_pool", rested_after_it)
    assert len(list(data.batches_for("evaluate"))) == 10
    assert [pool.is_open for pool in given] == [False, True]
    data.close()
