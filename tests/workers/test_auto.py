"""`workers="auto"`: the same batches, whoever makes each of them and however often that changes."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keras_npbatch.batches.array_loader import ArrayBatches
from keras_npbatch.batches.loader import Batches
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.batches.work import Work
from keras_npbatch.batches.worker_settings import WorkerSettings
from keras_npbatch.errors import WorkerDiedError
from keras_npbatch.workers.auto import AutoStream
from keras_npbatch.workers.executor import Executor
from keras_npbatch.workers.tuning import BUDGET, INLINE, Limits, Setting
from tests import loaders
from tests.comparing import assert_same_array
from tests.inside import core_of, maker_of

N, BATCH = 26, 4
LAST = -(-N // BATCH)
THREADS = [Setting("threads", workers, ahead) for workers, ahead in ((1, 1), (2, 3), (3, 7))]
PROCESSES = Setting("processes", 2, 3)


class Wandering:
    """Takes the tuner's place: says who makes the next batch as it was told, and never settles."""

    settled = False
    batch_bytes = 1
    limits = Limits(cores=2, memory_bytes=10**9)

    def __init__(self, chosen: Iterator[Setting]) -> None:
        self.chosen = chosen
        self.setting = next(chosen)
        self.made: list[Setting] = []
        self.refused: dict[str, str] = {}

    def note(self, waited_s: float, away_s: float, worked_s: float) -> None:
        assert waited_s >= 0
        assert away_s >= 0
        assert worked_s >= 0
        self.made.append(self.setting)
        self.setting = next(self.chosen)

    def note_starting(self) -> bool:
        return False

    def refuse(self, kind: str, why: str) -> None:
        self.refused[kind] = why
        self.setting = INLINE


def dataset(kind: type[Batches] = loaders.Ids, n: int = N, **who: Any) -> Any:
    made = kind(n, batch_size=BATCH, seed=0)
    core_of(made).settings = WorkerSettings(**{"workers": "auto", "max_queue_size": 10, **who})
    return made


def wander(data: Any, *chosen: Setting) -> Wandering:
    """Let the workers of a dataset change as told, after each step."""
    tuner = Wandering(itertools.cycle(chosen))
    executor = core_of(data).part(Executor)
    executor.tuner = lambda _: tuner
    return tuner


def stream_of(data: Any, epoch: int = 0, first: int = 0, **how: Any) -> AutoStream:
    core = core_of(data)
    stream = core.part(Executor).stream(Work(core.plan), epoch, first=first, **how)
    assert isinstance(stream, AutoStream)
    return stream


def assert_same_batch(batch: Any, expected: Any) -> None:
    for leaf, other in zip(batch, expected, strict=True):
        assert_same_array(leaf, other)


def assert_rest(stream: AutoStream, data: Any, epoch: int = 0, first: int = 0) -> None:
    make = maker_of(data)
    batches = list(stream)
    assert len(batches) == LAST - first
    for step, batch in enumerate(batches, first):
        assert_same_batch(batch, make(epoch, step))


class Machine(RuleBasedStateMachine):
    """An epoch after the other is read, left, begun again and closed, while all else changes."""

    data: Any

    def __init__(self) -> None:
        super().__init__()
        self.make = maker_of(self.data)
        self.next = INLINE
        self.tuner = wander(self.data, INLINE)
        self.tuner.chosen = iter(lambda: self.next, None)
        self.epoch = self.step = 0
        self.stream: AutoStream | None = None
        self.kept: list[tuple[Any, int, int]] = []

    @rule(setting=st.sampled_from([INLINE, *THREADS, PROCESSES]))
    def change(self, setting: Setting) -> None:
        self.next = setting

    @rule()
    def take(self) -> None:
        if self.stream is None:
            self.stream = stream_of(self.data, self.epoch, self.step)
        if self.step == LAST:
            assert next(self.stream, None) is None
            self.stream.close()
            self.stream, self.step, self.epoch = None, 0, self.epoch + 1
            return
        batch = next(self.stream)
        assert_same_batch(batch, self.make(self.epoch, self.step))
        self.kept.append((batch, self.epoch, self.step))
        self.step += 1

    @precondition(lambda self: self.stream is not None)
    @rule()
    def leave_and_resume(self) -> None:
        self.stream.close()
        self.stream.close()
        assert next(self.stream, None) is None
        self.stream = stream_of(self.data, self.epoch, self.step)

    @precondition(lambda self: self.stream is not None)
    @rule()
    def evaluate_meanwhile(self) -> None:
        assert_same_batch(next(stream_of(self.data, 9)), self.make(9, 0))

    @precondition(lambda self: self.stream is not None)
    @rule()
    def close_the_dataset(self) -> None:
        core_of(self.data).part(Executor).close()
        assert next(self.stream, None) is None
        self.stream = None

    def teardown(self) -> None:
        for batch, epoch, step in self.kept:  # nothing was written over
            assert_same_batch(batch, self.make(epoch, step))
        if self.stream is not None:
            self.stream.close()


def test_batches_are_the_same_whoever_makes_them() -> None:
    data = dataset(loaders.Wide)
    machine = type("ThisMachine", (Machine,), {"data": data})
    executor = core_of(data).part(Executor)
    executor.enter()  # the processes stay
    try:
        run_state_machine_as_test(
            machine, settings=settings(max_examples=5, stateful_step_count=30, deadline=None)
        )
    finally:
        executor.leave()


def test_each_step_is_made_by_who_was_chosen() -> None:
    data = dataset(loaders.Wide)
    tuner = wander(data, INLINE, THREADS[0], THREADS[2], PROCESSES)
    executor = core_of(data).part(Executor)
    executor.enter()
    for epoch in range(2):
        assert_rest(stream_of(data, epoch), data, epoch)
    executor.leave()
    assert tuner.made[:8] == 2 * [INLINE, THREADS[0], THREADS[2], PROCESSES]
    assert len(tuner.made) == 2 * LAST


def test_it_begins_where_it_is_told_and_says_what_is_ready() -> None:
    data = dataset()
    wander(data, Setting("threads", 1, 2))
    stream = stream_of(data, 1, first=3)
    assert stream.ready == 0
    assert_rest(stream, data, 1, first=3)
    assert list(stream) == []


class Settled(Wandering):
    """Has chosen for good; takes the time of some steps together."""

    settled, window = True, 5

    def watch(self, step_s: float) -> None:
        assert step_s >= 0
        self.made.append(self.setting)


def settle(data: Any, chosen: Setting) -> Settled:
    """Let the workers of a dataset be chosen for good."""
    tuner = Settled(itertools.repeat(chosen))
    core_of(data).part(Executor).tuner = lambda _: tuner
    return tuner


@pytest.mark.parametrize("chosen", [INLINE, THREADS[1]], ids=str)
def test_windows_of_steps_are_left_and_taken_up_again_anywhere(chosen: Setting) -> None:
    data = dataset(n=30 * BATCH)
    tuner, make = settle(data, chosen), maker_of(data)
    stream, step = stream_of(data), 0
    for taken in (1, 3, 4, 1, 9, 2):
        for batch in itertools.islice(stream, taken):  # each time another iterator
            assert_same_batch(batch, make(0, step))
            step += 1
        assert_same_batch(next(stream), make(0, step))
        step += 1
    for batch in stream:
        assert_same_batch(batch, make(0, step))
        step += 1
    assert step == 30
    assert tuner.made == 5 * [chosen]  # four windows of one step and five; and the last step


def test_a_stream_that_is_closed_within_a_window_ends() -> None:
    for chosen in (INLINE, *THREADS):
        data = dataset(n=30 * BATCH)
        settle(data, chosen)
        stream = stream_of(data)
        for step, _ in enumerate(stream):
            if step == 3:
                stream.close()
        assert step == 3
        assert list(stream) == []


class Locked(loaders.Ids):
    """Can't be sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()


def test_what_cant_be_sent_is_never_made_by_processes_and_it_says_why() -> None:
    data = dataset(Locked)
    tuner = wander(data, PROCESSES)
    assert_rest(stream_of(data), data)
    assert tuner.refused["processes"].startswith("UnsendableError: ")
    assert "lock" in tuner.refused["processes"]
    assert core_of(data).part(Executor).pool is None


class OfOneThread(loaders.Ids):
    """As a connection of sqlite3."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.thread = threading.get_ident()

    def load(self, rows: Any) -> Any:
        if threading.get_ident() != self.thread:
            raise ValueError("used in another thread")
        return super().load(rows)


def test_workers_that_fail_where_the_consumer_does_not_are_given_up() -> None:
    data = dataset(OfOneThread)
    tuner = wander(data, THREADS[1])
    stream = stream_of(data)
    with pytest.warns(UserWarning, match="no threads make batches any more") as warned:
        batches = list(stream)
    assert str(warned[0].message) == (
        "threads could not make a batch (ValueError: used in another thread), and this thread "
        "could: workers='auto' has no threads make batches any more. What makes batches must work "
        "in any thread or process."
    )
    make = maker_of(data)
    for step, batch in enumerate(batches):
        assert_same_batch(batch, make(0, step))
    assert tuner.refused == {"threads": "ValueError: used in another thread"}


class Hiccuping(loaders.Ids):
    """As a file of a network that is away for a moment."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fails_at: set[int] = set()

    def load(self, rows: Any) -> Any:
        if self.fails_at & set(rows.tolist()):
            self.fails_at = set()
            raise TimeoutError("no answer")
        return super().load(rows)


@pytest.mark.parametrize("let", [wander, settle])
@pytest.mark.parametrize("first", [0, 80])
def test_workers_that_have_made_many_batches_are_not_given_up_for_one(first: int, let: Any) -> None:
    data = dataset(Hiccuping, n=1000 * BATCH)
    plan = core_of(data).plan
    data.fails_at = set(plan.rows(0, 100).tolist())
    tuner = let(data, THREADS[1])
    stream = stream_of(data, first=first)
    with pytest.warns(UserWarning, match="could not make a batch") as warned:
        batches = list(itertools.islice(stream, 200))
    stream.close()
    make = maker_of(data)
    for step, batch in enumerate(batches, first):
        assert_same_batch(batch, make(0, step))
    if first:  # too few to tell
        assert tuner.refused == {"threads": "TimeoutError: no answer"}
        return
    assert tuner.refused == {}
    assert stream._setting == THREADS[1]
    assert str(warned[0].message) == (
        "threads could not make a batch (TimeoutError: no answer), and this thread could, at the "
        "second try: training goes on. With a number of workers, this would have ended it. What "
        "makes batches must not fail now and then."
    )


class Failing(loaders.Ids):
    def load(self, rows: Any) -> Any:
        if 5 in rows:
            raise KeyError("row 5")
        return super().load(rows)


@pytest.mark.parametrize("let", [wander, settle])
@pytest.mark.parametrize("chosen", [INLINE, THREADS[1]], ids=str)
def test_an_exception_of_the_batch_comes_in_its_turn_and_ends_the_stream(
    chosen: Setting, let: Any
) -> None:
    data = dataset(Failing)
    let(data, chosen)
    stream = stream_of(data)
    expected = next(step for step in range(LAST) if 5 in data.plan.rows(0, step))
    made = []
    with pytest.raises(KeyError, match="row 5") as caught:
        made.extend(stream)
    assert len(made) == expected
    assert any("keras_npbatch" in note for note in caught.value.__notes__)
    assert caught.value.__context__ is None
    assert list(stream) == []


@pytest.mark.more
def test_a_batch_that_ends_processes_is_not_made_here() -> None:
    data = dataset(loaders.Dies)
    wander(data, PROCESSES)
    with pytest.raises(WorkerDiedError):
        list(stream_of(data))
    core_of(data).part(Executor).close()


def test_arrays_that_take_more_than_the_memory_limit_are_not_sent() -> None:
    data = dataset(memory_bytes=10**6)
    data.table = np.zeros(2 * 10**6, "uint8")
    executor = core_of(data).part(Executor)
    with pytest.raises(MemoryError, match="2 MB of shared memory, and 1 MB are allowed"):
        executor.prepare_pool(1)
    assert executor.pool is None


def test_training_and_evaluation_are_tuned_apart_and_both_are_remembered() -> None:
    data = dataset()
    executor = core_of(data).part(Executor)
    training, evaluation = Work(data.plan), Work(data.plan, training=False)
    assert executor.tuner(training) is executor.tuner(training)
    assert executor.tuner(training) is not executor.tuner(evaluation)
    for epoch in range(BUDGET // LAST + 1):  # what was noted in one counts in the next
        assert_rest(stream_of(data, epoch), data, epoch)
    assert executor.tuner(training).settled
    assert not executor.tuner(evaluation).settled
    settings_ = core_of(data).settings
    assert settings_ is not None
    settings_.use_multiprocessing = False  # another question, another answer
    assert not executor.tuner(training).settled


def test_an_epoch_of_one_batch_is_noted_too() -> None:
    data = dataset(n=BATCH)
    executor = core_of(data).part(Executor)
    for epoch in range(BUDGET):
        assert len(list(stream_of(data, epoch))) == 1
    assert executor.tuner(Work(data.plan)).settled


def test_the_next_epoch_uses_the_same_memory() -> None:
    """Its threads are there from its first batch on: a change of workers lets the memory go."""
    x = np.zeros((32, 40_000), "float32")
    made: Any = ArrayBatches(x, batch_size=BATCH, seed=0)
    core_of(made).settings = WorkerSettings(workers="auto", max_queue_size=10)
    core_of(made).use_slots(Slots(PrivateMemory(kept=10)))
    wander(made, THREADS[1])
    list(map(np.sum, stream_of(made, 0)))
    tracemalloc.start()
    try:
        list(map(np.sum, stream_of(made, 1)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < x[:BATCH].nbytes


def test_worker_processes_may_be_closed_by_another_thread_while_an_epoch_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = dataset()
    executor = core_of(data).part(Executor)
    pool = executor.current_pool(1)
    claim = pool.claim

    def closed_after_it() -> bool:
        is_claimed = claim()
        executor.close()  # as another thread may, at that moment
        return is_claimed

    monkeypatch.setattr(pool, "claim", closed_after_it)
    executor.prepare_pool(1)
    assert not pool.is_open
    assert executor.pool is None
