"""Executors: one contract for all, however many threads make how many results ahead."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch.workers import threads
from keras_npbatch.workers.inline import InlineStream
from keras_npbatch.workers.threads import Job, ThreadedStream, begin
from tests.conftest import worker_threads

WAIT_S = 10.0
"""How long a test waits for what should come at once, before it fails."""


class Executor(NamedTuple):
    """How a stream is opened; `workers=0` is the inline one."""

    workers: int
    ahead: int

    def __call__(self, make: Callable[[Any], Any], tasks: Iterable[Any], errand: Any = None) -> Any:
        if self.workers == 0:
            return InlineStream(make, tasks)
        return ThreadedStream(make, tasks, workers=self.workers, ahead=self.ahead, errand=errand)


INLINE = Executor(0, 0)
THREADED = [Executor(workers, ahead) for workers in (1, 2, 4) for ahead in (1, 2, 10)]

every_executor = pytest.mark.parametrize("executor", [INLINE, *THREADED], ids=str)
every_threaded = pytest.mark.parametrize("executor", THREADED, ids=str)


@pytest.fixture(autouse=True)
def impatient_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads without work end soon; how soon is no part of the contract."""
    monkeypatch.setattr(threads, "_IDLE_S", 0.02)
    THREADS_BEFORE[:] = worker_threads()


THREADS_BEFORE: list[threading.Thread] = []
"""What another test left behind is that test's failure."""


def own_threads() -> list[threading.Thread]:
    """The threads of executors that this test has started."""
    return [thread for thread in worker_threads() if thread not in THREADS_BEFORE]


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within `WAIT_S`."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


class Result:
    """Something that a weak reference can watch."""

    def __init__(self, task: Any) -> None:
        self.task = task


# --- the results -------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    workers=st.integers(0, 4),
    ahead=st.integers(1, 10),
    # Some tasks take longer than several others: results that overtake.
    delays=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.0005, 0.003]), max_size=25),
)
def test_results_come_in_the_order_of_the_tasks_each_made_once(
    workers: int, ahead: int, delays: list[float]
) -> None:
    made: Counter[int] = Counter()

    def make(task: int) -> int:
        made[task] += 1
        time.sleep(delays[task])
        return task * 10

    stream = Executor(workers, ahead)(make, range(len(delays)))
    assert list(stream) == [task * 10 for task in range(len(delays))]
    assert list(stream) == []
    assert all(times == 1 for times in made.values())
    assert len(made) == len(delays)


@every_executor
def test_a_stream_is_its_own_iterator(executor: Executor) -> None:
    stream = executor(str, [1, 2])
    assert iter(stream) is stream
    assert next(stream) == "1"
    assert list(stream) == ["2"]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stream_of_threads_tells_how_many_results_are_ready(workers: int) -> None:
    slow = threading.Event()

    def make(task: int) -> int:
        assert task != 2 or slow.wait(WAIT_S)
        return task

    stream = Executor(workers, 4)(make, range(6))
    assert stream.ready == 0
    assert next(stream) == 0
    assert wait_until(lambda: stream.ready == 1)  # 1, and 3 at most is there before 2
    slow.set()
    assert wait_until(lambda: stream.ready == 3)
    assert list(stream) == [1, 2, 3, 4, 5]
    assert stream.ready == 0


@pytest.mark.parametrize("workers", [0])
def test_a_result_that_the_consumer_makes_is_never_ready(workers: int) -> None:
    stream = Executor(workers, 4)(str, range(2))
    next(stream)
    assert stream.ready == 0


@every_executor
def test_no_tasks_are_no_results_and_no_threads(executor: Executor) -> None:
    stream = executor(str, [])
    assert list(stream) == []
    assert own_threads() == []
    stream.close()


@every_executor
def test_none_and_false_are_results_as_any_other(executor: Executor) -> None:
    assert list(executor(lambda task: task, [None, 0, False, [], None])) == [
        None,
        0,
        False,
        [],
        None,
    ]


@every_executor
def test_a_generator_can_tell_the_tasks(executor: Executor) -> None:
    assert list(executor(str, (task for task in range(30)))) == [str(task) for task in range(30)]


@every_executor
def test_tasks_are_taken_by_the_consumer_alone_and_only_when_it_asks(executor: Executor) -> None:
    taken: list[int] = []
    takers: set[int] = set()

    def tasks() -> Iterator[int]:
        for task in itertools.count():
            taken.append(task)
            takers.add(threading.get_ident())
            yield task

    stream = executor(str, tasks())
    assert taken == []
    assert next(stream) == "0"
    time.sleep(0.02)  # a thread might go on to take some
    assert len(taken) == max(1, executor.ahead)
    assert next(stream) == "1"
    assert len(taken) == max(1, executor.ahead) + 1
    assert takers == {threading.get_ident()}
    stream.close()


@every_executor
def test_two_streams_do_not_mix(executor: Executor) -> None:
    one, other = executor(str, range(20)), executor(float, range(20))
    pairs = list(zip(one, other, strict=True))
    assert pairs == [(str(task), float(task)) for task in range(20)]


# --- how far ahead, how many at once -----------------------------------------------------------


@every_threaded
def test_no_more_than_ahead_are_begun_beyond_what_was_delivered(executor: Executor) -> None:
    begun = 0
    lock = threading.Lock()
    most = 0

    def make(task: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return task

    stream = executor(make, range(60))
    for delivered, _ in enumerate(stream):
        # While the consumer works, `ahead - 1` wait beside the one it has.
        expected = min(delivered + executor.ahead, 60)
        assert wait_until(lambda expected=expected: begun >= expected)
        most = max(most, begun - delivered)
    assert most <= executor.ahead
    assert begun == 60


def test_inline_nothing_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []
    stream = INLINE(made.append, range(5))
    assert made == []
    next(stream)
    assert made == [0]


def test_inline_results_are_made_by_the_consumer() -> None:
    assert set(INLINE(lambda _: threading.get_ident(), range(4))) == {threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_as_many_are_made_at_once_as_there_are_workers(workers: int) -> None:
    """The barrier is passed only when `workers` calls are in it at the same time."""
    together = threading.Barrier(workers)

    def make(task: int) -> int:
        together.wait(WAIT_S)
        return threading.get_ident()

    stream = Executor(workers, ahead=workers * 2)(make, range(workers * 4))
    makers = list(stream)
    assert len(set(makers)) == workers
    assert threading.get_ident() not in makers


@every_threaded
def test_no_more_are_made_at_once_than_there_are_workers(executor: Executor) -> None:
    lock = threading.Lock()
    at_once = most = 0

    def make(task: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.001)
        with lock:
            at_once -= 1
        return task

    assert list(executor(make, range(40))) == list(range(40))
    assert most <= executor.workers
    assert most >= min(executor.workers, executor.ahead, 2)


@every_threaded
def test_threads_are_named_and_do_not_keep_a_process_alive(executor: Executor) -> None:
    seen = list(executor(lambda _: threading.current_thread(), range(4)))
    assert {thread.name for thread in seen} == {"keras_npbatch-worker"}
    assert all(thread.daemon for thread in seen)


# --- errands -----------------------------------------------------------------------------------


@every_threaded
def test_an_errand_is_done_by_a_thread_of_the_stream_and_changes_no_result(
    executor: Executor,
) -> None:
    done_by: list[str] = []

    def fail_at_once(name: str) -> None:
        done_by.append(threading.current_thread().name)
        assert len(own_threads()) <= executor.workers
        raise BrokenError(name)  # nobody is told

    stream = executor(str, range(20), errand=Job(fail_at_once, "an errand"))
    assert list(stream) == [str(task) for task in range(20)]
    assert wait_until(lambda: not own_threads())
    assert done_by == ["keras_npbatch-worker"]


@every_threaded
def test_an_errand_of_a_stream_without_tasks_is_done(executor: Executor) -> None:
    done: list[int] = []
    assert list(executor(str, [], errand=Job(done.append, 1))) == []
    assert wait_until(lambda: not own_threads())
    assert done == [1]


def test_an_errand_that_is_not_begun_ends_with_its_stream() -> None:
    held, begun, done = threading.Event(), threading.Event(), []

    def make(task: int) -> int:
        begun.set()
        assert held.wait(WAIT_S)
        return task

    stream = ThreadedStream(make, range(9), workers=1, ahead=2, errand=Job(done.append, 1))
    came = Consumer(stream)
    assert begun.wait(WAIT_S)
    assert wait_until(lambda: waits_in_next(came))
    stream.close()
    held.set()
    came.join_or_fail()
    assert wait_until(lambda: not own_threads())
    assert done == []


def test_an_errand_begun_by_itself_is_done_by_a_thread_that_ends() -> None:
    done_by: list[str] = []
    begin(Job(lambda _: done_by.append(threading.current_thread().name), None))
    assert wait_until(lambda: not own_threads())
    assert done_by == ["keras_npbatch-worker"]


@pytest.mark.parametrize("has_stream", [False, True])
def test_an_errand_without_a_thread_for_it_is_left_undone(
    monkeypatch: pytest.MonkeyPatch, *, has_stream: bool
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    errand = Job(str, 1)
    if has_stream:
        stream = ThreadedStream(str, [], workers=1, ahead=1, errand=errand)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert list(stream) == []
    else:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        begin(errand)
    assert errand.done.locked()


# --- exceptions --------------------------------------------------------------------------------


class BrokenError(Exception):
    """An error of the user's own."""


@every_executor
@pytest.mark.parametrize("kind", [BrokenError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exception_comes_in_its_turn_as_itself_and_ends_the_stream(
    executor: Executor, kind: type[BaseException]
) -> None:
    error = kind()

    def read_the_file(task: int) -> int:
        if task == 3:
            raise error
        return task

    stream = executor(read_the_file, range(20))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(kind) as caught:
        next(stream)
    assert caught.value is error
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "read_the_file"
    assert list(stream) == []
    assert wait_until(lambda: not own_threads())


@every_threaded
def test_after_an_exception_what_is_not_begun_is_never_begun(executor: Executor) -> None:
    begun: list[int] = []

    def make(task: int) -> int:
        begun.append(task)
        if task == 0:
            raise BrokenError
        assert release.wait(WAIT_S)
        return task

    release = threading.Event()
    stream = executor(make, range(100))
    with pytest.raises(BrokenError):
        next(stream)
    before = len(begun)
    assert before <= executor.workers + 1
    release.set()
    assert wait_until(lambda: not own_threads())
    # One more each, for a thread that had one in its hand.
    assert len(begun) <= before + executor.workers


@every_threaded
def test_an_exception_is_not_kept_by_what_it_went_through(executor: Executor) -> None:
    """Nor the frames in its traceback, with all the arrays in them."""

    def make(task: int) -> int:
        big = Result(task)
        watched.append(weakref.ref(big))
        raise BrokenError

    watched: list[weakref.ref[Result]] = []
    stream = executor(make, range(5))
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(BrokenError):
            next(stream)
        assert wait_until(lambda: not own_threads())
        assert watched[0]() is None
    finally:
        gc.enable()


@every_executor
@pytest.mark.parametrize("kind", [BrokenError, IndexError])
def test_an_exception_of_the_tasks_reaches_the_consumer(
    executor: Executor, kind: type[Exception]
) -> None:
    error = kind()

    def tasks() -> Iterator[int]:
        yield 0
        yield 1
        raise error

    stream = executor(lambda task: task, tasks())
    with pytest.raises(kind) as caught:
        list(stream)
    assert caught.value is error


# --- the end -----------------------------------------------------------------------------------


@every_threaded
def test_no_thread_remains_after_the_last_result(executor: Executor) -> None:
    """Without reading on to StopIteration: Keras does not."""
    stream = executor(str, range(12))
    for _ in range(12):
        next(stream)
    assert wait_until(lambda: not own_threads())
    assert list(stream) == []
    assert own_threads() == []


@pytest.mark.parametrize("end", ["last result", "close"])
def test_a_thread_that_waits_for_work_is_told_that_none_will_come(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_IDLE_S", 2 * WAIT_S)
    stream = Executor(workers=1, ahead=2)(str, range(12))
    next(stream)
    if end == "close":
        stream.close()
    else:
        assert len(list(stream)) == 11
    assert wait_until(lambda: not own_threads())


def test_a_thread_without_work_ends_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0 < threads._IDLE_S < 1


@every_executor
def test_close_ends_a_stream_and_may_be_called_twice(executor: Executor) -> None:
    stream = executor(str, range(50))
    assert next(stream) == "0"
    stream.close()
    stream.close()
    assert list(stream) == []
    assert wait_until(lambda: not own_threads())
    stream.close()


@every_executor
def test_close_before_the_first_result_makes_nothing(executor: Executor) -> None:
    made: list[int] = []
    stream = executor(made.append, range(50))
    stream.close()
    assert list(stream) == []
    assert made == []


@every_threaded
def test_close_does_not_wait_for_what_is_being_made(executor: Executor) -> None:
    begun: list[int] = []
    release = threading.Event()

    def make(task: int) -> int:
        begun.append(task)
        if task:
            assert release.wait(WAIT_S)
        return task

    stream = executor(make, range(100))
    assert next(stream) == 0
    expected = 1 + min(executor.workers, executor.ahead - 1)
    assert wait_until(lambda: len(begun) == expected)
    stream.close()
    assert list(stream) == []
    release.set()
    assert wait_until(lambda: not own_threads())
    assert len(begun) == expected


@every_threaded
def test_a_stream_that_is_dropped_leaves_no_thread(executor: Executor) -> None:
    stream = executor(str, range(1000))
    assert next(stream) == "0"
    watched = weakref.ref(stream)
    del stream
    assert watched() is None  # threads do not hold it
    assert wait_until(lambda: not own_threads())


@every_threaded
def test_a_stream_that_an_exception_of_the_consumer_leaves_ends_too(executor: Executor) -> None:
    def consume() -> None:
        for _ in executor(str, range(1000)):
            raise BrokenError

    with pytest.raises(BrokenError):
        consume()
    assert wait_until(lambda: not own_threads())


@every_threaded
def test_close_by_another_thread_ends_the_wait_of_the_consumer(executor: Executor) -> None:
    """Nothing waits without a way out."""
    release = threading.Event()
    begun = threading.Event()

    def make(task: int) -> int:
        begun.set()
        assert release.wait(WAIT_S)
        return task

    stream = executor(make, range(20))
    came = Consumer(stream)
    assert begun.wait(WAIT_S)
    stream.close()
    release.set()
    came.join_or_fail()
    assert came.results in ([], [0])
    assert came.error is None


@every_threaded
def test_a_task_that_is_told_while_the_stream_is_closed_is_never_begun(executor: Executor) -> None:
    made: list[int] = []

    def tasks() -> Iterator[int]:
        yield 0
        stream.close()
        yield 1

    stream = executor(made.append, tasks())
    assert len(list(stream)) <= 1
    assert wait_until(lambda: not own_threads())
    assert made in ([], [0])


@every_threaded
def test_close_before_a_task_is_begun_ends_the_wait_of_the_consumer(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that would begin it comes late, sees the end, and must not leave it undone."""
    start, late = threading.Event(), threading.Event()
    work = threads._Crew._work

    def work_late(crew: Any) -> None:
        late.set()
        assert start.wait(WAIT_S)
        work(crew)

    monkeypatch.setattr(threads._Crew, "_work", work_late)
    stream = executor(str, range(20))
    came = Consumer(stream)
    assert late.wait(WAIT_S)
    assert wait_until(lambda: waits_in_next(came))
    stream.close()
    start.set()
    came.join_or_fail()
    assert came.results == []
    assert came.error is None


class Consumer(threading.Thread):
    """Reads a stream to its end; a daemon, so that one that hangs fails one test alone."""

    def __init__(self, stream: Any) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.results: list[Any] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for result in self.stream:
                self.results.append(result)
        except BaseException as error:  # noqa: BLE001  # for the test to see
            self.error = error

    def join_or_fail(self) -> None:
        self.join(3.0)
        if self.is_alive():
            # End the wait, so that no thread is left to the next test.
            for job in list(self.stream._pending) or [waited_for(self)]:
                if job is not None and job.done.locked():
                    job.done.release()
            pytest.fail("the consumer waits for ever")


def waited_for(consumer: threading.Thread) -> Any:
    """The job for which the consumer waits, if it does wait in `next` and nowhere below."""
    frame = sys._current_frames().get(consumer.ident or 0)
    if frame is None or frame.f_code is not ThreadedStream.__next__.__code__:
        return None
    return frame.f_locals.get("job")


def waits_in_next(consumer: threading.Thread) -> bool:
    job = waited_for(consumer)
    return job is not None and job.done.locked()


# --- pauses and interruptions ------------------------------------------------------------------


@every_threaded
def test_a_slow_consumer_finds_threads_again_that_went_idle(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_IDLE_S", 0.001)
    stream = executor(str, range(12))
    results = []
    for result in stream:
        results.append(result)
        assert wait_until(lambda: not own_threads())
    assert results == [str(task) for task in range(12)]


@every_threaded
def test_threads_that_end_while_work_comes_lose_none(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer's pauses are about as long as the patience of the threads."""
    monkeypatch.setattr(threads, "_IDLE_S", 0.0005)
    stream = executor(str, range(150))
    results = []
    for result in stream:
        results.append(result)
        time.sleep(0.0005)
    assert results == [str(task) for task in range(150)]


def test_a_thread_that_another_forestalls_at_the_last_moment_still_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wait with a time limit must end also when it was woken in vain.

    `queue.SimpleQueue.get(timeout=...)` does not, up to Python 3.12: it goes on with what is left
    of the time, and takes less than nothing for "no limit". So here one thread waits for work and
    is woken by the end of the tasks, while the other one computes on, without letting go of the
    interpreter until that time is over, and then takes what the first was woken for.
    """
    monkeypatch.setattr(threads, "_IDLE_S", 0.05)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10.0)
    try:
        for _ in range(10):  # which thread comes first is decided by the system
            forestall_one_of_two_threads()
    finally:
        sys.setswitchinterval(interval)
    assert wait_until(lambda: not own_threads())


def forestall_one_of_two_threads() -> None:
    both, running, go = threading.Barrier(2), threading.Event(), threading.Event()

    def make(task: int) -> int:
        if task < 2:
            both.wait(WAIT_S)  # so that there are two threads
            return task
        running.set()
        assert go.wait(WAIT_S)
        end = time.perf_counter() + 1.5 * threads._IDLE_S
        while time.perf_counter() < end:
            pass
        return task

    def tasks() -> Iterator[int]:
        yield from range(3)
        assert running.wait(WAIT_S)
        go.set()

    assert list(Executor(workers=2, ahead=2)(make, tasks())) == [0, 1, 2]


@every_threaded
def test_an_interrupted_wait_loses_no_result(executor: Executor) -> None:
    """Ctrl-C in a notebook, then the loop goes on."""
    blocks = {0: threading.Event(), 5: threading.Event()}
    made: Counter[int] = Counter()

    def make(task: int) -> int:
        made[task] += 1
        if task in blocks:
            assert blocks[task].wait(WAIT_S)
        return task

    stream = executor(make, range(20))
    results: list[int] = []
    for stop, block in blocks.items():
        results.extend(itertools.islice(stream, stop - len(results)))
        for _ in range(2):
            with interrupt_of_the_wait(), pytest.raises(KeyboardInterrupt):
                next(stream)
        block.set()
        results.append(next(stream))
    results.extend(stream)
    assert results == list(range(20))
    assert made == Counter(range(20))


@contextlib.contextmanager
def interrupt_of_the_wait() -> Iterator[None]:
    """Ctrl-C comes once, when this thread waits in `next`."""
    consumer = threading.main_thread()
    assert threading.current_thread() is consumer  # the only one that gets signals

    def press_ctrl_c() -> None:
        assert wait_until(lambda: waits_in_next(consumer))
        time.sleep(0.005)
        signal.pthread_kill(consumer.ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    finger = threading.Thread(target=press_ctrl_c)
    finger.start()
    try:
        yield
    finally:
        finger.join()
        signal.signal(signal.SIGINT, before)


@every_threaded
def test_a_thread_that_can_not_be_started_is_an_error_not_a_wait(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may have no thread left. The error is told, and a later try finds all results."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stream = executor(str, range(5))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(stream)
    monkeypatch.setattr(threading.Thread, "start", start)
    came = Consumer(stream)
    came.join_or_fail()
    assert came.error is None
    assert came.results in ([], ["0", "1", "2", "3", "4"])


def test_threads_that_can_be_started_do_for_those_that_can_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the others are started as soon as there is room for them."""
    start = threading.Thread.start
    refused = 0
    together = threading.Barrier(2)

    def start_one_alone(thread: threading.Thread) -> None:
        nonlocal refused
        if own_threads():
            refused += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    def make(task: int) -> int:
        if task in (10, 11):
            together.wait(WAIT_S)
        return task

    monkeypatch.setattr(threads, "_IDLE_S", 1.0)
    monkeypatch.setattr(threading.Thread, "start", start_one_alone)
    stream = Executor(workers=2, ahead=2)(make, range(20))
    assert list(itertools.islice(stream, 8)) == list(range(8))
    assert refused
    monkeypatch.setattr(threading.Thread, "start", start)
    assert list(stream) == list(range(8, 20))


# --- memory ------------------------------------------------------------------------------------


@every_executor
def test_a_result_dies_with_the_consumers_last_reference(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is a slot that the next batch needs."""
    if executor.workers == 1:  # a thread that waits for more must not hold it either
        monkeypatch.setattr(threads, "_IDLE_S", 3 * WAIT_S)
    stream = executor(Result, range(20))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            watched = weakref.ref(next(stream))
            # The thread that made it may be about to forget it.
            assert wait_until(lambda watched=watched: watched() is None)
    finally:
        gc.enable()
    assert list(stream) == []


@every_threaded
def test_results_that_nobody_took_die_with_the_stream(executor: Executor) -> None:
    watched: list[weakref.ref[Result]] = []

    def make(task: int) -> Result:
        result = Result(task)
        watched.append(weakref.ref(result))
        return result

    for end in ("close", "drop"):
        watched.clear()
        stream = executor(make, range(20))
        next(stream)
        assert wait_until(lambda: len(watched) >= executor.ahead)
        if end == "close":
            stream.close()
            assert wait_until(lambda: all(result() is None for result in list(watched)))
        del stream
        assert wait_until(lambda: all(result() is None for result in list(watched)))
        assert wait_until(lambda: not own_threads())


@every_threaded
def test_the_maker_dies_with_the_stream(executor: Executor) -> None:
    """It holds the dataset, and the dataset its arrays."""

    class Maker:
        def __call__(self, task: int) -> int:
            return task

    maker = Maker()
    watched = weakref.ref(maker)
    stream = executor(maker, range(5))
    del maker
    assert list(stream) == list(range(5))
    assert wait_until(lambda: not own_threads())
    del stream
    assert wait_until(lambda: watched() is None)


def test_the_interpreter_waits_for_threads_that_are_at_a_task() -> None:
    """One that it ends within C++ code would abort the process."""
    script = """
import threading, time
from keras_npbatch.workers.threads import ThreadedStream
at_the_next = threading.Event()

def make(task):
    if task == 1:
        at_the_next.set()
    time.sleep(0.2)
    print(task, flush=True)

stream = ThreadedStream(make, range(100), workers=1, ahead=10)
next(stream)
at_the_next.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["0", "1"], "")
