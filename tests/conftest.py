"""For every test: nothing it starts or opens is left behind.

Hypothesis profiles, chosen by the environment: `HYPOTHESIS_PROFILE=ci` draws the same examples in
every run; `dev`, the default, others each time; `thorough` draws twenty times as many; `quick`, for
mutation testing, a quarter, the same ones in every run.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import Phase, settings

settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2000)
settings.register_profile(
    "quick",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),  # nobody reads the example that kills a mutant
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

ON_A_BACKEND = ["callbacks", "fit", "tf_data"]
"""Folders whose tests run once for each backend, in a process of their own (see
tests/test_on_backends.py). By hand: `KERAS_NPBATCH_BACKEND=jax KERAS_BACKEND=jax pytest tests/fit`.
"""
if "KERAS_NPBATCH_BACKEND" in os.environ:
    pytest_plugins = ["tests.on_a_backend"]
else:
    collect_ignore_glob = [f"{folder}/*" for folder in ON_A_BACKEND]

# A shell's background jobs ignore Ctrl-C, as does what they start; there are tests that send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Of whichever test comes first: those that need a framework start processes of their own.
os.environ.setdefault("KERAS_BACKEND", "numpy")

WORKER_THREAD = "keras_npbatch-worker"
_LEFT_BEHIND_S = 5.0
"""How long a test's threads may take to end; they need a fifth of a second."""
_FRAMEWORKS = ("jax", "polars", "pyarrow", "tensorflow", "torch")
"""They open files of their own, once and for good, when they are first used."""

_APART = ["test_on_backends.py", "test_examples.py", "test_keras_tests.py"]
"""Files whose tests take a minute each and share nothing."""
_LONGEST = {
    name: place
    for place, name in enumerate(
        [
            "test_on_backends.py",
            "test_keras_tests.py",
            "test_tensorflow.py",
            "test_pool.py",
            "test_checking.py",
            "test_jax.py",
            "test_torch.py",
            "test_faults.py",
            "test_examples.py",
        ]
    )
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process runs all tests of a file, which may share what took long to start."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return nodeid if Path(file).name in _APART else file

    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: one that began last would be waited for alone."""
    items.sort(key=lambda item: _LONGEST.get(item.path.name, len(_LONGEST)))


def pytest_collection_finish() -> None:
    """What is imported and collected stays: the garbage collector need not look at it again.

    A collection, which many tests ask for, takes a few milliseconds then, instead of some hundred.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread of ours, no child process and no open file outlives a test."""
    if sys.modules.get("polars") is not None:
        start_event_loop_of_polars()
    if sys.modules.get("zarr") is not None:
        start_event_loop_of_zarr()
    threads, children, files = set(worker_threads()), child_processes(), open_files()
    frameworks = loaded_frameworks()
    yield
    new_threads = remaining(lambda: [t.name for t in worker_threads() if t not in threads])
    assert not new_threads, f"threads left behind: {new_threads}"
    new_children = remaining(lambda: sorted(child_processes() - children))
    assert not new_children, f"child processes left behind: {new_children}"
    if loaded_frameworks() == frameworks and "KERAS_NPBATCH_BACKEND" not in os.environ:
        new_files = remaining(lambda: sorted(open_files() - files))
        assert not new_files, f"files left open: {new_files}"


@functools.cache
def start_event_loop_of_zarr() -> None:
    """With the first array, zarr starts an event loop that stays."""
    sys.modules["zarr"].array([0])[:]


@functools.cache
def start_event_loop_of_polars() -> None:
    """With the first of some calls, polars starts an event loop that stays."""
    pl = sys.modules["polars"]
    pl.concat([pl.Series([True, None])] * 2, rechunk=False).gather([0]).is_null().to_numpy()


def remaining(found: Callable[[], list[object]]) -> list[object]:
    """What `found` still finds when it found nothing new for a while, at best nothing."""
    begin = time.monotonic()
    collected = False
    while left := found():
        waited = time.monotonic() - begin
        if waited > _LEFT_BEHIND_S:
            break
        if waited > 0.5 and not collected:
            gc.collect()  # what only a cycle holds is no leak
            collected = True
        time.sleep(0.01)
    return left


def worker_threads() -> list[threading.Thread]:
    """The threads of executors."""
    return [thread for thread in threading.enumerate() if thread.name == WORKER_THREAD]


def child_processes() -> set[int]:
    """Process numbers of this process's children, and of theirs."""
    if has_no_children():  # nearly always, and thirty times as fast
        return set()
    return {child.pid for child in psutil.Process().children(recursive=True)}


def has_no_children() -> bool:
    """Whether the system says so; not every system does."""
    tasks = "/proc/self/task"
    try:
        return not any(_bytes_of(f"{tasks}/{task}/children") for task in os.listdir(tasks))
    except OSError:  # a thread ended meanwhile
        return False


def _bytes_of(path: str) -> bytes:
    """Of a small file; this runs for each thread, twice a test."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def loaded_frameworks() -> set[str]:
    """Those that a test before, or this one, has imported."""
    return {name for name in _FRAMEWORKS if name in sys.modules}


def open_files() -> set[tuple[int, str]]:
    """Open file descriptors, each with what it refers to."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add((int(descriptor), os.readlink(f"/proc/self/fd/{descriptor}")))
        except OSError:  # the descriptor of this very listing
            continue
    return found
