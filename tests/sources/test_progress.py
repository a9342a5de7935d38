"""Progress is shown on a terminal, if it takes long, and nowhere else."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.sources import progress
from keras_npbatch.sources.progress import counted, waiting

pty = pytest.importorskip("pty")


class Terminal:
    """Standard error as a terminal, and what was written to it."""

    def __init__(self, monkeypatch, ours, stream):
        self._monkeypatch, self._ours, self._stream = monkeypatch, ours, stream

    def begin(self):
        """In the test itself: pytest sets the streams anew after its fixtures."""
        self._monkeypatch.setattr(sys, "stderr", self._stream)
        assert sys.stderr.isatty()

    def text(self):
        self._stream.flush()
        os.set_blocking(self._ours, False)
        text = b""
        while True:
            try:
                text += os.read(self._ours, 65536)
            except BlockingIOError:
                return text.decode()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    ours, theirs = pty.openpty()
    with open(theirs, "w", buffering=1) as stream:
        yield Terminal(monkeypatch, ours, stream)
        monkeypatch.undo()
    os.close(ours)


def wait_for_the_bar():
    """Until the thread that lets it appear has ended."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def test_a_long_loop_shows_how_far_it_is(terminal, monkeypatch):
    terminal.begin()
    monkeypatch.setattr(progress, "_AFTER_S", 0.01)
    seen = []
    with counted(range(7), "reading [bold]files") as each:
        for item in each:
            wait_for_the_bar()
            seen.append(item)
    assert seen == list(range(7))
    text = terminal.text()
    assert "reading [bold]files" in text
    assert "7/7" in text
    assert text.endswith("\x1b[2K")  # the line is empty again


def test_a_short_loop_shows_nothing(terminal):
    terminal.begin()
    with counted([3, 4], "reading") as each:
        assert list(each) == [3, 4]
    assert terminal.text() == ""


def fail_late():
    wait_for_the_bar()
    raise ValueError("no")


def test_what_can_t_be_counted_shows_that_it_goes_on(terminal, monkeypatch):
    terminal.begin()
    monkeypatch.setattr(progress, "_AFTER_S", 0.01)
    threads = set(threading.enumerate())
    with waiting("sorting"):
        wait_for_the_bar()
    with pytest.raises(ValueError, match="no"), waiting("sorting again"):
        fail_late()
    assert not left_behind(threads)
    text = terminal.text()
    assert "sorting" in text
    assert "sorting again" in text
    assert "/" not in text
    assert text.endswith("\x1b[2K")


def left_behind(threads):
    """Threads that are new and do not end by themselves: rich does not wait for its own."""
    new = set(threading.enumerate()) - threads
    for thread in new:
        thread.join(5.0)
    return [thread for thread in new if thread.is_alive()]


def test_a_loop_that_is_left_or_fails_leaves_nothing(terminal, monkeypatch):
    terminal.begin()
    monkeypatch.setattr(progress, "_AFTER_S", 0.01)
    threads = set(threading.enumerate())
    with counted(range(7), "reading") as each:
        for _ in each:
            wait_for_the_bar()
            break
    assert not left_behind(threads)
    with pytest.raises(ValueError, match="no"), counted(range(7), "reading") as each:
        raise ValueError("no")
    assert not left_behind(threads)


@pytest.mark.parametrize("stream", [None, "file"])
def test_elsewhere_nothing_is_shown(stream, monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "_AFTER_S", 0.0)
    with open(tmp_path / "log", "w") as file:
        monkeypatch.setattr(sys, "stderr", None if stream is None else file)
        threads = set(threading.enumerate())
        with counted(range(3), "reading") as each:
            for _ in each:
                assert set(threading.enumerate()) <= threads
        monkeypatch.undo()
    assert (tmp_path / "log").read_text() == ""


@pytest.fixture
def told(monkeypatch):
    """What each bar says that is made."""
    found = []

    class Told(progress._Bar):
        def __init__(self, what, total):
            super().__init__(what, total)
            found.append(what)

    monkeypatch.setattr(progress, "_Bar", Told)
    return found


def test_the_checker_and_the_count_of_classes_show_theirs(terminal, told):
    terminal.begin()
    from keras_npbatch.batches.class_counts import classes_of

    data = npb.ArrayDataset(np.zeros((20, 2)), np.arange(20) % 3, batch_size=4)
    assert classes_of(data) == {"y": {0: 7, 1: 7, 2: 6}}
    npb.testing.check_dataset(data, ignore=_all_but("batches_have_a_form_that_keras_takes"))
    assert told == ["counting the classes of y", "checking ArrayDataset"]


def test_sources_of_many_files_or_sequences_show_theirs(terminal, told, tmp_path):
    terminal.begin()
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.zeros((3, 4)))
    paths = sorted(tmp_path.glob("*.npy"))
    assert len(npb.sources.Concatenated(paths)) == 6
    npb.sources.Ragged([np.arange(3)] * 5, pad_to=6, pack=True)
    npb.ArrayDataset(npb.sources.Files(paths, np.load), cache=str(tmp_path / "cache"))
    expected = [
        "reading the headers of Concatenated",
        "packing sequences",
        "reading the sizes and times of files",
    ]
    if importlib.util.find_spec("PIL"):
        from PIL import Image

        (tmp_path / "red").mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / "red" / "0.png")
        npb.sources.ImageFolder(tmp_path, size=None)
        expected.append(f"looking for images in {tmp_path}")
    if importlib.util.find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        (tmp_path / "tables").mkdir()
        pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "tables" / "0.parquet")
        assert np.asarray(npb.sources.Parquet(tmp_path / "tables")["a"]).tolist() == [1]
        expected += ["reading the footers of Parquet files", "reading the column 'a'"]
    assert told == expected


def test_splits_and_folds_show_theirs(terminal, told):
    terminal.begin()
    labels = np.arange(1000) % 3
    data = npb.ArrayDataset(labels, seed=0)
    data.split(0.8)
    data.split(0.8, stratify=labels)
    data.folds(4, groups=np.arange(1000) // 10)
    assert told == ["splitting 1,000 rows"] * 2 + ["cutting 1,000 rows into folds"]


def _all_but(name):
    from keras_npbatch.testing.rules.all import RULES

    return [rule.name for rule in RULES if rule.name != name]
