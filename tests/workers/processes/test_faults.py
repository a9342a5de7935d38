"""Worker processes that stand still, can't be started, or outlive whom they work for."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from keras_npbatch import errors
from tests import loaders
from tests.inside import children
from tests.workers.processes.test_pool import (
    IS_PORTABLE,
    LINUX,
    METHODS,
    WAIT_S,
    assert_all_end,
    assert_same_batch,
    assert_same_epoch,
    dataset,
    epoch_of,
    expected,
    only_linux,
    opened,
    run_script,
    wait_until,
)

# --- what stands still ---------------------------------------------------------------------------


def test_workers_that_were_stopped_while_they_had_nothing_to_do_are_replaced() -> None:
    batches = dataset(loaders.Ids)
    with opened(batches, timeout_s=1.0) as pool:
        stream = epoch_of(pool, batches, ahead=2)
        found = [next(stream)]
        wait_until(lambda: stream.ready == 1)
        before = pool.pids
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        found += stream
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
        assert not set(before) & set(pool.pids)


def test_answers_that_nobody_was_there_to_hear_are_no_silence() -> None:
    """The parent was elsewhere for longer than the timeout, and waits for another worker first."""
    batches = dataset(loaders.Slow, n=160, seconds=0.02)
    with opened(batches, timeout_s=0.5) as pool:
        before = pool.pids
        stream = epoch_of(pool, batches, ahead=12)
        found = []
        for batch in stream:
            found.append(batch)
            if len(found) in (3, 20):
                time.sleep(1.0)
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
        assert pool.pids == before


class HangsUnpacked:
    def __reduce__(self) -> Any:
        return time.sleep, (600,)


AT_START = (
    "2 worker processes ended at their start, the last one after {} seconds in which it was not "
    "ready (timeout=0.2); what they wrote is on standard error. {} use_multiprocessing=False."
).format(
    *(
        (10.0, "Give them more time (timeout=...), or try threads:")
        if IS_PORTABLE
        else (6.0, "Give them more time (timeout=...), or try start_method='spawn', or threads:")
    )
)


@pytest.mark.more
def test_a_dataset_that_hangs_while_it_is_unpacked_is_an_error_not_a_wait() -> None:
    batches = dataset(loaders.Holds, held=HangsUnpacked())
    with opened(batches, timeout_s=0.2) as pool, pytest.raises(errors.WorkerStartError) as caught:
        list(epoch_of(pool, batches))
    assert str(caught.value) == AT_START


@pytest.mark.more
def test_a_module_that_hangs_while_it_is_imported_is_an_error_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging_loader.py").write_text(
        "import os, time\n"
        "from keras_npbatch.batches.loader import Batches\n"
        f"if os.getpid() != {os.getpid()}:\n    time.sleep(600)\n"
        "class Loader(Batches):\n    def load(self, rows):\n        return rows, rows\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("hanging_loader")
    try:
        batches = dataset(module.Loader)
        with opened(batches, timeout_s=0.2) as pool, pytest.raises(errors.WorkerStartError):
            list(epoch_of(pool, batches))
    finally:
        del sys.modules["hanging_loader"]


@only_linux("there is no template")
def test_a_stopped_template_is_replaced() -> None:
    batches = dataset(loaders.Slow, n=100, seconds=0.001)
    with opened(batches, timeout_s=1.0) as pool:
        stream = epoch_of(pool, batches)
        found = [next(stream)]
        (template,) = children()
        template.suspend()
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        found += stream
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
        assert not template.is_running()


# --- what is killed again and again --------------------------------------------------------------


@only_linux("there is no template")
def test_workers_outlive_the_template_and_no_batch_is_blamed_for_its_death() -> None:
    batches = dataset(loaders.Slow, n=120, seconds=0.05)
    with opened(batches) as pool:
        before = pool.pids
        found = []
        for batch in epoch_of(pool, batches):
            if len(found) in (1, 5, 9):
                for child in children():
                    child.kill()
            found.append(batch)
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
        assert pool.pids == before


@only_linux("there is no template")
def test_a_launch_is_tried_again_when_its_template_is_killed() -> None:
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.002) and len(killed) < 5:
            for child in children():
                if child.pid not in killed:
                    killed.append(child.pid)
                    child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        batches = dataset()
        with opened(batches) as pool:
            assert_same_epoch(pool, batches)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 5


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_are_killed_as_they_start_are_started_again(method: str) -> None:
    batches = dataset()
    with opened(batches, 1, start_method=method) as pool:
        for _ in range(5):
            before = pool.pids
            os.kill(before[0], signal.SIGKILL)
            stream = epoch_of(pool, batches, 0, ahead=1)
            threading.Timer(0.01, stream.close).start()
            list(stream)
        assert_same_epoch(pool, batches, 1)


# --- what outlives the trainer -------------------------------------------------------------------

HOLDS = """
    import os, re, sys, threading, time
    from keras_npbatch.batches.work import Work
    from keras_npbatch.workers.processes.stream import ProcessStream
    from keras_npbatch.workers.processes.pool import Pool
    from keras_npbatch.batches.loader import Batches
    class Holds(Batches):
        def load(self, rows):
            if self.state == "gil":
                re.match(r"(a+)+$", "a" * 64 + "b")  # C code that never lets go
            return rows
    batches = Holds(50, batch_size=4, seed=0)
    batches.state = sys.argv[2]
    def begin():
        global pool
        pool = Pool(batches, workers=2, start_method=sys.argv[1])
    thread = threading.Thread(target=begin)  # its end is not that of the workers
    thread.start()
    thread.join()
    if len(sys.argv) > 3 and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    if sys.argv[2] == "stopped":
        list(ProcessStream(pool, Work(batches.plan), 0, ahead=2))
    stream = ProcessStream(pool, Work(batches.plan), 1, ahead=6)
    threading.Timer(0.5, lambda: print(*pool.pids, flush=True)).start()
    for batch in stream:
        pass
    time.sleep(600)
"""


@only_linux("a thread ends them")
@pytest.mark.parametrize("state", ["gil", pytest.param("stopped", marks=pytest.mark.more)])
@pytest.mark.parametrize("method", LINUX)
def test_the_end_of_the_trainer_is_that_of_workers_that_run_no_python(
    method: str, state: str
) -> None:
    trainer = run_script(HOLDS, method, state)
    family = psutil.Process(trainer.pid)
    assert trainer.stdout is not None
    assert len(trainer.stdout.readline().split()) == 2
    workers = family.children(recursive=True)
    assert len(workers) == 3 if method == "forkserver" else 2
    if state == "stopped":
        for worker in workers:
            worker.suspend()
    trainer.kill()
    trainer.communicate(timeout=WAIT_S)
    assert_all_end(workers)


@pytest.mark.parametrize("method", METHODS[:1])
def test_a_fork_of_the_trainer_keeps_no_worker_alive(method: str) -> None:
    trainer = run_script(HOLDS, method, "stopped", "fork")
    assert trainer.stdout is not None
    fork = psutil.Process(int(trainer.stdout.readline()))
    try:
        assert len(trainer.stdout.readline().split()) == 2
        workers = [
            child for child in psutil.Process(trainer.pid).children(recursive=True) if child != fork
        ]
        assert len(workers) == (2 if method == "portable" else 3)
        for worker in workers if method != "portable" else []:  # a thread ends those
            worker.suspend()
        trainer.kill()
        assert_all_end(workers)
        assert fork.is_running()
    finally:
        fork.kill()
        trainer.communicate(timeout=WAIT_S)


# --- what the system refuses ---------------------------------------------------------------------

REFUSED = """
    import ctypes, gc, os, resource, struct, sys
    from keras_npbatch.errors import KerasNpBatchError
    from keras_npbatch.batches.work import Work
    from keras_npbatch.workers.processes.stream import ProcessStream
    from keras_npbatch.workers.processes.pool import Pool
    from tests import loaders

    def forbid(number, error):  # by a filter of system calls, as a sandbox does
        answers = (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7fff0000)
        code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), *answers]
        text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
        class Program(ctypes.Structure):
            _fields_ = [("lines", ctypes.c_ushort), ("text", ctypes.c_void_p)]
        program = Program(len(code), ctypes.cast(text, ctypes.c_void_p))
        libc = ctypes.CDLL(None)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.byref(program)) == 0

    what, *numbers = sys.argv[2:]
    batches = loaders.Wide(50, batch_size=4, seed=0)
    begin = len(os.listdir("/proc/self/fd"))
    if what == "call":
        forbid(*map(int, numbers))
    elif what == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(numbers[0]),) * 2)
    else:
        os.setgid(65534)
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (int(numbers[0]),) * 2)
    try:
        with Pool(batches, workers=2, start_method=sys.argv[1]) as pool:
            print(len(list(ProcessStream(pool, Work(batches.plan), 0, ahead=2))))
    except KerasNpBatchError as error:
        print(type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    gc.collect()  # what only a cycle holds, as a traceback on Python 3.13, is no leak
    print(len(os.listdir("/proc/self/fd")) - begin, open("/proc/thread-self/children").read() == "")
"""
FORBIDDEN = (
    "They need memfd_create, eventfd, pidfd_open and pidfd_send_signal, which a sandbox may forbid "
    "and an old kernel lacks. Without them, set KERAS_NPBATCH_EXECUTOR=portable, or use threads: "
    "use_multiprocessing=False."
)
MEMFD, EVENTFD, PIDFD_OPEN, PIDFD_SEND_SIGNAL, CLONE = "319", "290", "434", "424", "56"


def refused(*arguments: str) -> tuple[str, str]:
    told, errors_told = run_script(REFUSED, *arguments).communicate(timeout=2 * WAIT_S)
    assert errors_told == ""
    said, left = told.splitlines()
    return said, left


@only_linux("it makes none of these calls")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize(
    ("method", "number", "error"),
    [
        ("forkserver", MEMFD, "38"),
        ("forkserver", EVENTFD, "1"),
        ("forkserver", PIDFD_OPEN, "38"),
        ("spawn", PIDFD_OPEN, "1"),
        ("fork", PIDFD_SEND_SIGNAL, "1"),
    ],
)
def test_a_system_call_that_is_refused_is_an_error_that_says_what_to_do(
    method: str, number: str, error: str
) -> None:
    said, left = refused(method, "call", number, error)
    strerror = os.strerror(int(error))
    if number == MEMFD:
        begin = "SharedMemoryError worker processes asked for shared memory, and the system said: "
    else:
        begin = "WorkerStartError worker processes can't be started: "
    assert said == f"{begin}{strerror}. {FORBIDDEN}"
    assert left == "0 True"


@only_linux("it forks no worker")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_a_process_that_can_not_be_forked_is_an_error_that_says_what_to_do() -> None:
    said, left = refused("fork", "call", CLONE, "11")
    assert said.startswith(
        "WorkerStartError worker processes can't be started: Resource temporarily unavailable. "
        "This user may have "
    )
    assert said.endswith(
        " processes and threads; a container or a lack of memory may allow fewer. Use fewer "
        "workers, raise the limit (ulimit -u), or use threads: use_multiprocessing=False."
    )
    assert left == "0 True"


@pytest.mark.parametrize(
    ("method", "files"),
    [
        *zip(LINUX, ["11", "8", "13"], strict=bool(LINUX)),
        # On Python 3.14 a forked worker of 13 gets one descriptor of two.
        *zip(LINUX, ["12", "15", "12"], strict=bool(LINUX)),  # also: none for /dev/null
        ("portable", "9"),
    ],
)
def test_too_few_descriptors_are_an_error_that_says_what_to_do(method: str, files: str) -> None:
    said, left = refused(method, "files", files)
    assert said.split()[0] in ("WorkerStartError", "SharedMemoryError")
    has = "" if method == "portable" else f", and this process may have {files}"
    assert said.endswith(
        f": Too many open files. Each worker takes several descriptors{has}. Use fewer workers, "
        "raise the limit (ulimit -n), or use threads: "
        "use_multiprocessing=False."
    )
    assert left == "0 True"


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_path_may_be_longer_than_an_argument(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    longest = [f"/home/{number}/{'runfiles/' * 12}site-packages" for number in range(2000)]
    monkeypatch.setattr(sys, "path", [*sys.path, *longest, "/tmp/späce\udcff"])
    batches = dataset()
    with opened(batches, 1, start_method=method) as pool:
        assert_same_epoch(pool, batches)


def test_an_interpreter_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(errors.WorkerStartError) as caught:
        opened(dataset())
    assert str(caught.value) == (
        "worker processes can't be started: No such file or directory: '/nowhere/python'. Workers "
        "run in the interpreter that sys.executable names. "
        f"{'Or' if IS_PORTABLE else 'Use start_method=' + repr('fork') + ', or'} use threads: "
        "use_multiprocessing=False."
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_workers_need_no_proc() -> None:
    script = """
        mount -t tmpfs tmpfs /proc || exit 77
        exec "$0" -c '
        from keras_npbatch.batches.work import Work
        from keras_npbatch.workers.processes.stream import ProcessStream
        from keras_npbatch.workers.processes.pool import Pool
        from keras_npbatch.workers.systems import this_system
        from tests import loaders
        batches = loaders.Wide(50, batch_size=4, seed=0)
        for method in this_system().start_methods:
            with Pool(batches, workers=2, start_method=method) as pool:
                print(len(list(ProcessStream(pool, Work(batches.plan), 0, ahead=10))))
        '
    """
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", textwrap.dedent(script), sys.executable],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting is not permitted here")
    assert (done.stdout.split(), done.stderr) == (["13"] * len(LINUX or METHODS), "")


@pytest.mark.more
def test_the_soak() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "soak", "--minutes", "0.4"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost, changed or left behind" in done.stdout
