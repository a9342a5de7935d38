"""Saved runs: what is written is read again, and each row is compared with its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks import cases, results
from benchmarks.compare import compare
from benchmarks.workloads import FOLDER

ROOT = Path(__file__).parents[2]
QUESTIONS = {
    "copy": SimpleNamespace(NAME="copy", KEY=("workload", "peer"), RATIO="x limit"),
    "memory": SimpleNamespace(NAME="memory", KEY=("data",), RATIO="grown MB"),
}
STILL, SLOW = [1.0, 1.01, 1.02, 1.0, 1.01, 1.02], [1.3, 1.31, 1.32, 1.3, 1.31, 1.32]


def row(peer, ratios, workload="C", others=0.0):
    return {
        "workload": workload,
        "peer": peer,
        "x limit": sorted(ratios)[3],
        "ratios": ratios,
        "others": others,
    }


def run(rows, **machine):
    return {
        "machine": {**results.machine(), **machine},
        "answers": {"copy": rows, "memory": [{"data": "array", "grown MB": 7.0}]},
    }


def test_each_row_is_compared_with_the_one_of_its_name():
    old = run([row("a", STILL), row("b", SLOW), row("c", STILL), row("a", SLOW, "T")])
    new = run([row("c", SLOW), row("b", STILL), row("a", STILL), row("a", SLOW, "T")])
    said = {one["what"]: one["verdict"] for one in compare(old, new, QUESTIONS).rows}
    assert said == {
        "C · a": "within noise",
        "C · b": "faster",
        "C · c": "slower",
        "T · a": "within noise",
        "array": "too few rounds",
    }


@pytest.mark.parametrize(("old", "new"), [(0.0, 0.5), (0.5, 0.0)])
def test_a_row_that_others_disturbed_is_not_judged(old, new):
    compared = compare(
        run([row("a", STILL, others=old)]), run([row("a", SLOW, others=new)]), QUESTIONS
    )
    assert compared.rows[0]["verdict"] == "disturbed"
    assert not compared.has_slower


def test_what_only_one_run_has_is_told():
    compared = compare(
        run([row("gone", STILL), row("a", STILL)]),
        run([row("a", STILL), row("new", SLOW)]),
        QUESTIONS,
    )
    assert not compared.has_slower
    assert compared.notes == [
        "1 within noise, 1 too few rounds",
        "copy: C · new is new",
        "copy: C · gone was not measured",
    ]


def test_the_greatest_change_comes_first():
    old = run([row("a", STILL), row("b", STILL)])
    text = str(compare(old, run([row("a", STILL), row("b", SLOW)]), QUESTIONS))
    first = text.splitlines()[2]
    assert first == (
        "| 1.30 | slower | copy | C · b | x limit | 1.01 | 1.00-1.02 | 1.31 | 1.30-1.32 |"
    )


def test_another_machine_is_told():
    rows = [row("a", STILL)]
    assert not any("machines" in note for note in compare(run(rows), run(rows), QUESTIONS).notes)
    notes = compare(run(rows), run(rows, cores=64), QUESTIONS).notes
    assert any("of different machines (cores)" in note and "64 cores" in note for note in notes)


def test_a_run_is_read_as_it_was_written(tmp_path):
    answers = {"copy": [row("a", STILL), row("b", SLOW)], "memory": []}
    results.write(tmp_path / "run.json", ["copy", "--ours"], answers)
    found = results.read(tmp_path / "run.json")
    assert found == {
        "command": ["copy", "--ours"],
        "machine": results.machine(),
        "answers": answers,
    }


def command(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def files(tmp_path):
    """The committed run, and one whose every row takes 1.3 times as long."""
    baseline = results.read(results.BASELINE)
    slower = json.loads(json.dumps(baseline))
    for rows in slower["answers"].values():
        for one in rows:
            one["ratios"] = [1.3 * ratio for ratio in one.get("ratios", [])]
    (tmp_path / "slower.json").write_text(json.dumps(slower))
    return results.BASELINE, tmp_path / "slower.json"


@pytest.mark.more
def test_the_command_fails_for_what_became_slower(files):
    baseline, slower = files
    same = command("compare", baseline, baseline)
    assert same.returncode == 0, same.stderr
    assert "| slower |" not in same.stdout
    assert "| faster |" not in same.stdout
    other = command("compare", slower)  # with the committed run
    assert other.returncode == 1, other.stderr
    assert "| 1.30 | slower | iterate |" in other.stdout
    back = command("compare", slower, baseline)
    assert back.returncode == 0, back.stderr
    assert "| faster |" in back.stdout


@pytest.mark.more
def test_the_committed_run_has_rows_of_each_question_and_can_be_shown():
    baseline = results.read(results.BASELINE)
    shown = command("show", results.BASELINE)
    assert shown.returncode == 0, shown.stderr
    for name, rows in baseline["answers"].items():
        assert rows, name
    assert results.told(baseline["machine"]) in shown.stdout


@pytest.mark.more
def test_an_unknown_question_is_refused():
    refused = command("iterat")
    assert refused.returncode == 2
    assert (
        "no question 'iterat'; expected one of iterate, samplers, sequences, tfdata"
        in refused.stderr
    )


def case_of(pid, within_s):
    """The process of a case that a run has started, and the folder that it was given."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.Error):  # one that has ended since
                environment = child.environ()  # at first that of its parent
                if FOLDER in environment:
                    return child, Path(environment[FOLDER])
        time.sleep(0.01)
    raise AssertionError(f"no case within {within_s} s")


@pytest.mark.more
def test_a_run_that_is_ended_leaves_neither_its_case_nor_its_files():
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "growth", "--within", "1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        case, folder = case_of(process.pid, within_s=60)
        assert folder.is_dir()
        process.terminate()
        assert process.wait(30) == 1
        assert not case.is_running()
        assert not folder.exists()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_would_end_a_run_while_a_case_starts_comes_afterwards(number):
    came = []
    before = signal.signal(number, lambda *_: came.append("handled"))
    try:
        with cases._ended_later():
            signal.raise_signal(number)
            came.append("started")
        assert came == ["started", "handled"]
    finally:
        signal.signal(number, before)
