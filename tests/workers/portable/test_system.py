"""The contract of worker processes, on the portable executor.

The tests themselves are those of tests/workers/processes, which run as a whole with
`KERAS_NPBATCH_EXECUTOR=portable pytest tests/workers/processes`; here are those that show most.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, errors
from keras_npbatch.workers import systems
from keras_npbatch.workers.portable import process as processes
from keras_npbatch.workers.portable.memory import unlink
from tests import loaders
from tests.workers.processes import test_faults, test_pool
from tests.workers.processes.test_pool import (
    assert_same_batch,
    assert_same_epoch,
    dataset,
    epoch_of,
    expected,
    opened,
    shared_names,
)


@pytest.fixture(autouse=True)
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(systems.VARIABLE, "portable")


@pytest.mark.skipif(test_pool.IS_PORTABLE, reason="they run anyway")
@pytest.mark.parametrize(
    ("contract", "arguments"),
    [
        (test_pool.test_batches_are_those_of_this_process, ("portable", 2)),
        (test_pool.test_a_kept_batch_never_changes_and_its_slot_comes_back_when_it_is_gone, ()),
        (test_pool.test_what_a_worker_writes_no_other_sees, ()),
        (test_pool.test_close_of_a_stream_by_another_thread_ends_the_wait_of_its_consumer, ()),
        (test_pool.test_an_interrupted_wait_closes_the_pool, ()),
        (
            test_pool.test_an_exception_comes_in_its_turn_with_type_text_note_and_traceback,
            ("own", loaders.OwnError, "this and that"),
        ),
        (
            test_pool.test_a_batch_that_ends_three_workers_is_an_error_that_names_it,
            ("kill", r"by signal 9 \(Killed\)"),
        ),
        (test_pool.test_a_killed_worker_is_replaced_and_its_batches_are_made_again, ("portable",)),
        (
            test_pool.test_the_end_of_the_parent_is_the_end_of_its_workers,
            ("portable", "600", signal.SIGKILL),
        ),
        (test_pool.test_ctrl_c_in_a_terminal_ends_all_at_once, ("portable",)),
        (test_faults.test_a_fork_of_the_trainer_keeps_no_worker_alive, ("portable",)),
        (
            test_faults.test_workers_that_were_stopped_while_they_had_nothing_to_do_are_replaced,
            (),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_contract(contract: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    contract(*arguments)
    assert shared_names(os.getpid()) == []


# --- what only this executor has -----------------------------------------------------------------


def test_what_was_made_in_memory_that_is_gone_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Windows the memory of a worker that dies is gone, unless the parent has mapped it."""
    gone: list[str] = []

    def open_named(name: str, num_bytes: int) -> Any:
        if len(gone) < 2:
            gone.append(name)
            unlink(name)
            raise FileNotFoundError(name)
        return really_open(name, num_bytes)

    really_open = processes.open_named
    monkeypatch.setattr(processes, "open_named", open_named)
    batches = dataset(loaders.Wide, batch_size=16)
    with opened(batches) as pool:
        before = set(pool.pids)
        assert_same_epoch(pool, batches)
        assert before != set(pool.pids)
    assert len(gone) == 2


def test_a_task_that_does_not_fit_into_the_socket_is_sent_when_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS and Windows have buffers of 8 KB, and neither side may wait for the other."""
    monkeypatch.setattr("keras_npbatch.workers.portable.frames._BUFFER_BYTES", 1)
    batches = dataset(loaders.Columns, n=3000, batch_size=100, transform=Heavy("x" * 100_000))
    with opened(batches, 2) as pool:
        found = list(epoch_of(pool, batches, ahead=40))
        plan = batches.plan.in_data_order(every_row=True)
        assert len(found) == plan.num_batches == 30
        for ours, theirs in zip(found, expected(batches), strict=True):
            assert_same_batch(ours, theirs)


class Heavy:
    """A transform that is long to send."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, batch: Any) -> Any:
        return batch


def test_a_worker_that_could_not_unpack_tells_why_at_any_length() -> None:
    """Its message is in memory that it has named, and it ends right after it."""
    batches = dataset(loaders.Holds, held=FailsUnpacked())
    with opened(batches, 1) as pool, pytest.raises(ValueError, match="long x") as caught:
        list(epoch_of(pool, batches))
    assert len(str(caught.value)) == 50_005
    assert "unpacked the dataset" in caught.value.__notes__[0]
    assert shared_names(os.getpid()) == []


class FailsUnpacked:
    def __reduce__(self) -> Any:
        return fail, ("long " + "x" * 50_000,)


def fail(text: str) -> None:
    raise ValueError(text)


SCRIPT = """
    import sys
    import numpy as np
    from keras_npbatch.batches.loader import Batches
    from keras_npbatch.batches.work import Work
    from keras_npbatch.workers.processes.pool import Pool
    from keras_npbatch.workers.processes.stream import ProcessStream

    print("once", flush=True)

    class Cell(Batches):
        def load(self, rows):
            assert sys.stdin.read() == ""  # it is at its end, as that of a worker always is
            return helper(rows), rows

    helper = lambda rows: rows * scale
    scale = 3
    batches = Cell(40, batch_size=10, seed=0)
    with Pool(batches, workers=2) as pool:
        for x, rows in ProcessStream(pool, Work(batches.plan), 0, ahead=4):
            assert (x == 3 * rows).all()
    print("done")
"""


def test_a_script_needs_no_main_guard_and_its_classes_and_functions_work(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$1" <&-', sys.executable, script],  # without standard input
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert (done.stdout.split(), done.stderr) == (["once", "done"], "")


def test_names_of_memory_that_nobody_has_heard_of_go_with_the_worker() -> None:
    """The parent has been away since the worker made memory, and one of the two is killed."""
    batches = dataset(loaders.Wide, batch_size=16)
    with opened(batches, 1) as pool:
        stream = epoch_of(pool, batches, ahead=3)
        stream._ask_ahead()
        test_pool.wait_until(lambda: bool(shared_names(os.getpid())))
        os.kill(pool.pids[0], signal.SIGKILL)
        for ours, theirs in zip(stream, expected(batches), strict=True):
            assert_same_batch(ours, theirs)
    assert shared_names(os.getpid()) == []
    process = test_pool.run_script(AWAY)
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["made"]
    assert shared_names(process.pid)
    process.kill()
    process.communicate(timeout=test_pool.WAIT_S)
    test_pool.wait_until(lambda: shared_names(process.pid) == [])


AWAY = """
    import os, time
    from keras_npbatch.workers.processes.pool import Pool
    from tests import loaders
    from tests.workers.processes.test_pool import epoch_of, shared_names
    batches = loaders.Wide(100, batch_size=16, seed=0)
    pool = Pool(batches, workers=1)
    stream = epoch_of(pool, batches, ahead=3)
    stream._ask_ahead()
    while not shared_names(os.getpid()):
        time.sleep(0.01)
    print("made", flush=True)
    time.sleep(600)
"""


# --- the choice ----------------------------------------------------------------------------------


def test_another_start_method_is_refused_when_the_dataset_is_made() -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        ArrayDataset(np.zeros((4, 1)), start_method="fork")
    assert str(caught.value) == (
        "start_method is 'fork' (str); expected 'spawn', the only one of worker processes on "
        f"{sys.platform}, or None for 'spawn'."
    )


def test_an_executor_that_is_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(systems.VARIABLE, "loky")
    with pytest.raises(errors.InvalidArgumentError) as caught:
        ArrayDataset(np.zeros((4, 1)), workers=1, use_multiprocessing=True)
    assert str(caught.value) == (
        "the environment variable KERAS_NPBATCH_EXECUTOR is 'loky'; expected 'portable', or none "
        "for what this system has by default."
    )
