"""The fixture that looks for what tests leave behind sees it: a check that can't fail is none."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import conftest
from tests.conftest import WORKER_THREAD, child_processes, open_files, remaining, worker_threads


def test_a_worker_thread_is_seen_until_it_has_ended() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name=WORKER_THREAD)
    thread.start()
    assert worker_threads() == [thread]
    end.set()
    thread.join()
    assert worker_threads() == []


def test_a_child_process_is_seen_until_it_has_ended() -> None:
    before = child_processes()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child_processes() - before == {child.pid}
    child.communicate()
    assert child_processes() == before


def test_an_open_file_is_seen_until_it_is_closed(tmp_path: Path) -> None:
    before = open_files()
    with (tmp_path / "open").open("w") as file:
        assert open_files() - before == {(file.fileno(), str(tmp_path / "open"))}
    assert open_files() == before


def test_what_stays_is_found_and_what_ends_in_time_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "_LEFT_BEHIND_S", 0.05)
    assert remaining(lambda: ["it"]) == ["it"]
    looks = iter([["it"], ["it"], []])
    assert remaining(lambda: next(looks)) == []


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        (
            "threading.Thread(target=time.sleep, args=(60,), name='keras_npbatch-worker', "
            "daemon=True).start()",
            "threads left behind: ['keras_npbatch-worker']",
        ),
        ("subprocess.Popen(['sleep', '9'])", "child processes left behind: ["),
        ("HELD.append(open(__file__))", "files left open: [("),
    ],
)
def test_a_test_that_leaves_something_behind_fails(leak: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "test_leak.py").write_text(
        "import subprocess, threading, time\n"
        "from tests import conftest\n"
        "from tests.conftest import nothing_is_left_behind\n"
        "conftest._LEFT_BEHIND_S = 0.1\n"
        f"HELD = []\ndef test_leak():\n    {leak}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert told in done.stdout
