"""`python -m keras_npbatch check module:factory`: what it prints, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_npbatch.__main__ import main

ROOT = Path(__file__).parents[1]
GOOD = "tests.testing.gallery.good"
BROKEN = "tests.testing.gallery.broken"
BAD = "tests.testing.gallery.unusable"
FAST = ["--ignore", "processes_read_the_same_batches"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "keras_npbatch", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "numpy"},
    )


def test_a_dataset_without_findings_exits_with_0():
    done = command("check", f"{GOOD}:Textbook", *FAST)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{GOOD}.Textbook: no findings"
    assert "✓ every_batch_can_be_read" in lines
    assert "- keras_trains_one_step: the backend numpy does not train" in lines
    assert not any("processes_read" in line for line in lines)


def test_findings_are_told_and_exit_with_1():
    done = command("check", f"{BROKEN}:RepeatsAtTheWrap", *FAST, "--num-samples", "50")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        f"{BROKEN}.RepeatsAtTheWrap: 1 finding",
        "",
        "✗ every_sample_comes_once",
        "  seen: 56 samples came in an epoch; expected 50",
        "  why it matters: What is left out is never learned; what is repeated weighs double.",
        "  to mend it: Let the batches of an epoch be slices of one permutation of all samples: "
        "order[i * batch_size:(i + 1) * batch_size], without wrapping round at its end.",
    ]


@pytest.mark.more
def test_timeout_is_handed_on():
    done = command("check", f"{BROKEN}:Hangs", "--timeout", "0.25")
    assert done.returncode == 1
    assert "  seen: it did not come back within 0.25 seconds" in done.stdout.splitlines()


WRONG = {
    GOOD: f"{GOOD!r} is no module:factory, such as my_project.data:make_train",
    "no_module:x": "no_module can't be imported: No module named 'no_module'",
    f"{GOOD}:Nope": f"{GOOD} has no Nope",
    f"{GOOD}:N": f"{GOOD}:N is neither a dataset nor makes one",
    f"{GOOD}:data.__name__": f"{GOOD}:data.__name__ is neither a dataset nor makes one",
    f"{GOOD}:jitter": f"{GOOD}:jitter() raised TypeError: jitter() missing 2 required positional "
    "arguments: 'batch' and 'rng'",
    f"{BAD}:make_exit": f"{BAD}:make_exit() raised SystemExit: 0",
    f"{BAD}:Lie.dataset": f"{BAD}:Lie.dataset can't be looked up: ValueError: a lie",
    f"{BAD}:Lie": f"{BAD}:Lie is neither a dataset nor makes one",
    f"{BAD}_exit:x": f"{BAD}_exit can't be imported: SystemExit: 0",
    f"{BAD}_zero:x": f"{BAD}_zero can't be imported: ZeroDivisionError: division by zero",
    f"{GOOD}:data": "dataset is a tuple of 2 items; expected a keras.utils.PyDataset, such as a "
    "BatchDataset. Pass the object, not its class.",
}


@pytest.mark.parametrize("target", WRONG)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(target, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check", target])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"python -m keras_npbatch: {WRONG[target]}\n")


def test_no_command_is_wrong_usage():
    done = command()
    assert done.returncode == 2
    assert "the following arguments are required: command" in done.stderr


def test_an_unknown_option_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check", f"{GOOD}:Textbook", "--nope"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --nope" in capsys.readouterr().err


def test_a_module_that_is_no_python_is_wrong_usage(tmp_path, monkeypatch, capsys):
    (tmp_path / "no_python.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["check", "no_python:f"])
    assert caught.value.code == 2
    assert "no_python can't be imported: SyntaxError: " in capsys.readouterr().err


@pytest.mark.more
def test_a_dataset_that_exits_is_not_read_as_clean():
    done = command("check", f"{BAD}:Exits", *FAST)
    assert done.returncode == 2
    assert done.stderr.endswith("python -m keras_npbatch: the check was ended by SystemExit: 0\n")


@pytest.mark.more
def test_a_console_without_check_marks_gets_the_report(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    done = command("check", f"{GOOD}:Textbook", *FAST)
    assert (done.returncode, done.stderr) == (0, "")
    assert "? every_batch_can_be_read" in done.stdout.splitlines()
