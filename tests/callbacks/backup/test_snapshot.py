"""What lies in the folder of a backup: damaged, made up, linked, locked.

On the fastest backend alone: nothing here depends on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import threading
import time
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_npbatch.callbacks.backup import snapshot
from keras_npbatch.callbacks.backup.folder_lock import FolderLock
from keras_npbatch.callbacks.files import opened, remove_unfinished, replacing
from keras_npbatch.errors import InvalidStateError

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="tested on torch")

ARRAYS = {
    "model/0": np.arange(6, dtype="float32").reshape(2, 3),
    "optimizer/0": np.array(3),
    "empty": np.zeros((0, 3)),
}
FACTS = {"fit": {"epoch": 1, "step": 2}, "variables": {"model": [["a", [2, 3], "float32"]]}}


def written(folder):
    path = folder / "latest.snapshot"
    snapshot.write(path, FACTS, ARRAYS)
    return path


def assert_same_or_refused(path, what):
    """Whatever is in the file: what was written comes back, or our error."""
    try:
        facts, arrays = snapshot.read(path)
    except InvalidStateError:
        return
    assert facts == FACTS, what
    assert arrays.keys() == ARRAYS.keys(), what
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True, err_msg=what)


def damages(raw, rng):
    """Endlessly: some bytes changed, a part cut off, left out, doubled or set to zero."""
    while True:
        kind = rng.randrange(6)
        start = rng.randrange(len(raw))
        stop = min(start + rng.choice([1, 4, 64, len(raw)]), len(raw))
        if kind == 0:
            yield f"cut at {start}", raw[:start]
        elif kind == 1:
            yield f"without {start}:{stop}", raw[:start] + raw[stop:]
        elif kind == 2:
            yield f"{start}:{stop} twice", raw[:stop] + raw[start:]
        elif kind == 3:
            yield f"zeros at {start}:{stop}", raw[:start] + bytes(stop - start) + raw[stop:]
        else:
            changed = bytearray(raw)
            places = [(rng.randrange(len(raw)), rng.randrange(8)) for _ in range(kind - 3)]
            for place, bit in places:
                changed[place] ^= 1 << bit
            yield f"bits {places}", bytes(changed)


def fuzzed(folder, seed, seconds):
    path = written(folder)
    raw, began = path.read_bytes(), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, for names that come twice
        for number, (what, data) in enumerate(damages(raw, random.Random(seed))):
            if number >= 300 and time.monotonic() - began > seconds:
                return
            path.write_bytes(data)
            assert_same_or_refused(path, what)


def test_a_damaged_file_is_refused(tmp_path):
    fuzzed(tmp_path, seed=0, seconds=0)


@pytest.mark.more
def test_many_damaged_files_are_refused(tmp_path):
    fuzzed(tmp_path, seed=random.randrange(2**32), seconds=60)


def test_every_bit_of_the_end_of_the_directory_may_be_wrong(tmp_path):
    """Where zipfile raises whatever comes to its mind: flags, offsets, methods, lengths."""
    path = written(tmp_path)
    raw = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place in range(raw.rindex(b"PK\1\2"), len(raw)):
            for bit in range(8):
                changed = bytearray(raw)
                changed[place] ^= 1 << bit
                path.write_bytes(changed)
                assert_same_or_refused(path, f"bit {bit} of byte {place}")


def header(**changes):
    text = {
        "format": "keras_npbatch snapshot",
        "version": 2,
        "facts": {},
        "arrays": {"a": ["float32", [2]]},
    }
    return text | changes


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        {},
        header(format="another"),
        header(facts=[]),
        header(facts=None),
        header(arrays=[]),
        header(arrays={"a": ["float32"]}),
        header(arrays={"a": ["float32", [3]]}),
        header(arrays={"a": ["float64", [2]]}),
        header(arrays={"a": ["object", [1]]}),
        header(arrays={"a": ["O", [1]]}),
        header(arrays={"a": ["f4,f4", [1]]}),
        header(arrays={"a": ["no dtype", [2]]}),
        header(arrays={"a": [7, [2]]}),
        header(arrays={"a": ["float32", [-1, -2]]}),
        header(arrays={"a": ["float32", [-1]]}),
        header(arrays={"a": ["float32", [2.0]]}),
        header(arrays={"a": ["float32", [True, 2]]}),
        header(arrays={"a": ["float32", 2]}),
        header(arrays={"a": ["float32", [2**62, 2**62]]}),
        header(arrays={"b": ["float32", [2]]}),
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, content):
    path = tmp_path / "latest.snapshot"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.json", json.dumps(content))
        archive.writestr("a", np.zeros(2, "float32").tobytes())
    with pytest.raises(InvalidStateError, match="is damaged, or not written by keras_npbatch"):
        snapshot.read(path)


def test_deep_json_and_compressed_members_are_refused(tmp_path):
    path = tmp_path / "latest.snapshot"
    for compression, text in ((zipfile.ZIP_STORED, "[" * 10**6), (zipfile.ZIP_DEFLATED, "{}")):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("facts.json", text)
        with pytest.raises(InvalidStateError, match="is damaged"):
            snapshot.read(path)


def test_another_version_is_told(tmp_path):
    path = tmp_path / "latest.snapshot"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.json", json.dumps(header(version=9)))
    with pytest.raises(InvalidStateError) as caught:
        snapshot.read(path)
    assert str(caught.value) == (
        f"{path} has version 9 (int); this keras_npbatch reads version 2. Read it with the "
        "keras_npbatch that wrote it, or start again."
    )


# -------------------------------------------------------------------- what else is there


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "folder", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidStateError, match=r"not a regular file|Is a directory"):
            snapshot.read(path)
    for path in (tmp_path / "nothing", tmp_path / "broken link"):
        (tmp_path / "broken link").unlink(missing_ok=True)
        (tmp_path / "broken link").symlink_to(tmp_path / "gone")
        with pytest.raises(FileNotFoundError):
            snapshot.read(path)


def test_a_planted_link_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "latest.snapshot"
    path.symlink_to(victim)
    snapshot.write(path, FACTS, ARRAYS)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert_same_or_refused(path, "")


def test_a_folder_in_the_place_of_a_file_is_moved_aside(tmp_path):
    path = tmp_path / "latest.snapshot"
    path.mkdir()
    (path / "mine.txt").write_text("kept")
    snapshot.write(path, FACTS, ARRAYS)
    assert_same_or_refused(path, "")
    (aside,) = tmp_path.glob("latest.snapshot.*.aside")
    assert (aside / "mine.txt").read_text() == "kept"


def test_unfinished_files_have_names_that_nobody_knows(tmp_path, monkeypatch):
    """And are gone after an exception; what kills leave is swept up."""
    path, names = tmp_path / "file", set()

    def fail():
        with replacing(path) as file:
            names.update(found.name for found in tmp_path.iterdir())
            file.write(b"half")
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert len(names) == 3
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    (tmp_path / f"file.{'0' * 16}.unfinished").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError), replacing(path):
        pass
    assert (tmp_path / "victim").read_text() == "precious"
    (tmp_path / "file.mine.unfinished").write_text("kept")
    remove_unfinished(path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file.mine.unfinished", "victim"]


def test_new_files_have_the_permissions_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    with opened(tmp_path / "file") as file:
        assert file.read() == b"text"


# -------------------------------------------------------------------- one run at a time


@contextlib.contextmanager
def forked(run):
    """A child that runs it, says "x" to the pipe, and lives until the block ends."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which a fork leaves behind
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            run()
            os.write(writer, b"x")
            time.sleep(60)
        os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"x"
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def test_another_process_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "backup"
    held = []
    with forked(lambda: held.append(FolderLock(folder, is_calling=lambda: False))) as child:
        with pytest.raises(InvalidStateError) as caught:
            FolderLock(folder, is_calling=lambda: False)
        assert str(caught.value) == (
            f"{folder} is in use by another run of training, process {child} on "
            f"{os.uname().nodename}; expected a folder of its own for each training. Give this one "
            "another, or end the other run."
        )
    assert [path.name for path in folder.iterdir()] == ["running.lock"]  # harmless
    FolderLock(folder, is_calling=lambda: False).release()
    assert list(folder.iterdir()) == []


def in_a_thread(do):
    """Do it in another thread, which ends only when it is told to."""
    began, end = threading.Event(), threading.Event()

    def run():
        do()
        began.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(20)
    return thread, end


def test_in_one_process_too_unless_the_first_is_over(tmp_path):
    held = []
    thread, end = in_a_thread(lambda: held.append(FolderLock(tmp_path, is_calling=lambda: False)))
    try:
        with pytest.raises(InvalidStateError, match=f"process {os.getpid()} on "):
            FolderLock(tmp_path / ".." / tmp_path.name, is_calling=lambda: False)
    finally:
        end.set()
        thread.join()
    calling = [True]
    second = FolderLock(tmp_path, is_calling=lambda: calling[0])  # that thread has ended
    held[0].release()
    assert (tmp_path / "running.lock").exists()
    with pytest.raises(InvalidStateError, match=f"process {os.getpid()} on "):
        FolderLock(tmp_path, is_calling=lambda: False)
    calling[0] = False
    third = FolderLock(tmp_path, is_calling=lambda: False)  # this thread does something else now
    second.release()
    assert (tmp_path / "running.lock").exists()
    third.release()
    third.release()
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_forked_does_not_hold_it(tmp_path):
    lock = FolderLock(tmp_path, is_calling=lambda: False)
    with forked(lock.release):  # which is not the child's
        assert (tmp_path / "running.lock").exists()
        lock.release()
        FolderLock(tmp_path, is_calling=lambda: False).release()


def test_a_lock_is_not_taken_through_a_link_nor_from_a_folder(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "running.lock").symlink_to(tmp_path / "victim")
    (tmp_path / "two" / "running.lock").mkdir(parents=True)
    (tmp_path / "three").write_text("a file")
    (tmp_path / "four").mkdir()
    os.mkfifo(tmp_path / "four" / "running.lock")
    for name in ("one", "two", "three", "four"):
        with pytest.raises(InvalidStateError) as caught:
            FolderLock(tmp_path / name, is_calling=lambda: False)
        assert str(caught.value).startswith(f"{tmp_path / name} can't be written to (")
        assert str(caught.value).endswith(
            "; expected a folder for the backup of this one training."
        )
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="nothing would notice another run"):
        FolderLock(tmp_path, is_calling=lambda: False).release()
