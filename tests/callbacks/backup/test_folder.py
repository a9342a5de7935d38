"""The file of `BackupAndRestore`: whole or not there, told apart from what it is not.

On the fastest backend alone: nothing here depends on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import BackupAndRestore
from keras_npbatch.callbacks.backup import snapshot
from keras_npbatch.callbacks.backup.saving import Saving
from keras_npbatch.callbacks.watching import watching_of
from keras_npbatch.errors import InvalidArgumentError, InvalidStateError
from tests.callbacks.backup.test_callback import (
    StoppedError,
    assert_same_state,
    make_dataset,
    make_model,
    rows_of,
    saw,
    train,
)

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="tested on torch")


@pytest.fixture(scope="module")
def steady():
    """The run that is never interrupted."""
    return train(make_dataset())


@pytest.mark.parametrize("double_checkpoint", [False, True])
def test_a_crash_at_any_point_of_writing_leaves_a_good_backup(
    steady, tmp_path, monkeypatch, double_checkpoint
):
    """Each call of the operating system fails in turn, in the second backup."""
    calls = {"replace": os.replace, "fsync": os.fsync}
    outcomes = set()
    for failing in range(8):
        count = -1

        def call(name, *arguments, failing=failing):
            nonlocal count
            if count >= 0:
                count += 1
                if count == failing + 1:
                    raise StoppedError
            return calls[name](*arguments)

        for name in calls:
            monkeypatch.setattr(os, name, lambda *a, name=name, call=call: call(name, *a))
        folder = tmp_path / f"{failing}"
        dataset, model = make_dataset(), make_model()
        backup = BackupAndRestore(dataset, folder, save_freq=2, double_checkpoint=double_checkpoint)

        class Arm(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                nonlocal count
                if batch == 3:
                    count = 0
                if batch == 4:
                    raise StoppedError

        with pytest.raises(StoppedError):
            model.fit(dataset, verbose=0, callbacks=[Arm(), backup])
        monkeypatch.undo()
        backup = BackupAndRestore(dataset, folder)
        found = watching_of(backup, Saving).read()
        assert found is not None
        outcomes.add(found[0]["fit"]["step"])
    assert outcomes == {2, 4}


def backed_up(folder, **arguments):
    dataset = make_dataset()
    backup = BackupAndRestore(dataset, folder, save_freq=1, **arguments)
    train(dataset, backup, stop_after=3)
    return folder / "latest.snapshot"


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    with path.open("wb") as file:
        np.savez(file, a=np.arange(3))


@contextlib.contextmanager
def told_that_the_one_before_is_used():
    """As `pytest.warns`, which would let warnings of Keras through that are ignored elsewhere."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    (warning,) = [found for found in caught if found.category is UserWarning]
    text = str(warning.message)
    assert text.endswith(
        "expected a snapshot of training. Remove it to start again. Training goes on from the "
        "backup before it."
    )


@pytest.mark.parametrize("damage", [cut, flip, empty, foreign])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, damage):
    damage(backed_up(tmp_path))
    dataset = make_dataset()
    expected = (
        rf"{re.escape(str(tmp_path))}/latest.snapshot is damaged, or not written by keras_npbatch "
        r"\(.*\); expected a snapshot of training\. Remove it to start again\.$"
    )
    with pytest.raises(InvalidStateError, match=expected):
        train(dataset, BackupAndRestore(dataset, tmp_path))


@pytest.mark.parametrize("damage", [cut, flip, empty, foreign, Path.unlink])
def test_the_backup_before_a_damaged_one_is_used(steady, tmp_path, damage):
    damage(backed_up(tmp_path, double_checkpoint=True))
    dataset = make_dataset()
    backup = BackupAndRestore(dataset, tmp_path, save_freq=1, double_checkpoint=True)
    if damage is Path.unlink:
        model, watching = train(dataset, backup)
    else:
        with told_that_the_one_before_is_used():
            model, watching = train(dataset, backup)
    assert saw(model, watching) == rows_of(dataset, (0, 2, 7), (1, 0, 7), (2, 0, 7))
    assert_same_state(model, steady[0])


def test_a_damaged_backup_does_not_take_the_place_of_a_good_one(tmp_path):
    cut(backed_up(tmp_path, double_checkpoint=True))
    dataset = make_dataset()
    backup = BackupAndRestore(dataset, tmp_path, save_freq=1, double_checkpoint=True)
    with told_that_the_one_before_is_used():
        train(dataset, backup, stop_after=1)
    assert snapshot.read(tmp_path / "previous.snapshot")[0]["fit"] == {"epoch": 0, "step": 2}
    assert snapshot.read(tmp_path / "latest.snapshot")[0]["fit"] == {"epoch": 0, "step": 3}


def test_double_checkpoint_keeps_two_and_without_it_one(tmp_path):
    backed_up(tmp_path / "two", double_checkpoint=True)
    backed_up(tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "latest.snapshot",
        "previous.snapshot",
    ]
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["latest.snapshot"]


def test_delete_checkpoint_says_whether_the_backup_stays(tmp_path):
    dataset = make_dataset()
    (tmp_path / "mine.txt").write_text("kept")
    train(dataset, BackupAndRestore(dataset, tmp_path, delete_checkpoint=False), epochs=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.snapshot", "mine.txt"]
    dataset = make_dataset()
    _, watching = train(dataset, BackupAndRestore(dataset, tmp_path), epochs=2)
    assert watching.begun == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class SecondRun(keras.callbacks.Callback):
    """Starts another run on the same folder in the middle of the first."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.texts = folder, []

    def on_epoch_begin(self, epoch, logs=None):
        dataset = make_dataset()
        with pytest.raises(InvalidStateError) as caught:
            train(dataset, BackupAndRestore(dataset, self.folder))
        self.texts.append(str(caught.value))


def test_a_second_run_on_the_same_folder_is_refused(steady, tmp_path):
    dataset, second = make_dataset(), SecondRun(tmp_path / "backup")
    found = train(dataset, BackupAndRestore(dataset, tmp_path / "backup"), second)
    assert saw(*found) == saw(*steady)
    assert len(second.texts) == 3
    assert second.texts[0].startswith(
        f"{tmp_path / 'backup'} is in use by another run of training, process {os.getpid()} on "
    )
    assert not (tmp_path / "backup").exists()


def test_a_run_that_ended_with_an_exception_is_in_nobodys_way(steady, tmp_path):
    """Though its traceback is kept, as in a notebook."""
    kept = []
    for stop_after in (3, 5):
        dataset = make_dataset()
        backup = BackupAndRestore(dataset, tmp_path, save_freq=1)
        with pytest.raises(StoppedError) as caught:
            make_model().fit(dataset, epochs=3, verbose=0, callbacks=[backup, Stop(stop_after)])
        kept.append(caught)
    dataset = make_dataset()
    model, _ = train(dataset, BackupAndRestore(dataset, tmp_path))
    assert_same_state(model, steady[0])
    assert len(kept) == 2


class Stop(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise StoppedError


# -------------------------------------------------------------------- others


def test_the_backup_of_another_dataset_is_refused(tmp_path):
    backed_up(tmp_path)
    dataset = make_dataset(remainder="drop")
    with pytest.raises(
        InvalidStateError, match="another dataset: remainder was 'keep' and is 'drop'"
    ):
        train(dataset, BackupAndRestore(dataset, tmp_path))


@pytest.mark.parametrize(
    ("model", "difference"),
    [
        ({"units": 5}, r"variable 0 of model was \['kernel', \[4, 6\], 'float32'\] and is "),
        ({"optimizer": "sgd"}, r"the optimizer was Adam and is SGD; optimizer had "),
        ({"metrics": []}, r"metrics had \d+ variables and has \d+"),
    ],
)
def test_the_backup_of_another_model_is_refused(tmp_path, model, difference):
    backed_up(tmp_path)
    dataset = make_dataset()
    expected = (
        rf"^the backup is of another model: {difference}.*\. Expected the model, compiled, as it "
        r"was\. Make it so, or remove the backup to start again\.$"
    )
    with pytest.raises(InvalidStateError, match=expected):
        train(dataset, BackupAndRestore(dataset, tmp_path), model=make_model(**model))


def test_a_folder_in_the_place_of_the_dataset_is_told_where_it_belongs(tmp_path):
    for folder in ("backup", tmp_path):
        for also in ((), (make_dataset(),), (None, 100)):
            with pytest.raises(InvalidArgumentError) as caught:
                BackupAndRestore(folder, *also)
            assert str(caught.value).endswith(
                " to watch; expected the ArrayDataset or BatchDataset that fit is given. It comes "
                f"first: BackupAndRestore(dataset, {str(folder)!r})."
            )


def test_another_dataset_than_that_of_fit_is_refused(tmp_path):
    watched = make_dataset()
    with pytest.raises(InvalidArgumentError) as caught:
        train(watched.repeat(), BackupAndRestore(watched, tmp_path), steps_per_epoch=2)
    assert str(caught.value) == (
        f"BackupAndRestore watches {watched!r}, which fit was not given; expected the very "
        "dataset. One that repeat() returned is another: give that to both. The batches of a "
        "to_tf_dataset() are not watched."
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"dataset": np.zeros(3)},
            "BackupAndRestore was given ndarray of shape (3,) and dtype float64 to watch; expected "
            "the ArrayDataset or BatchDataset that fit is given.",
        ),
        ({"backup_dir": ""}, "backup_dir is '' (str); expected the path of a folder."),
        *(
            (
                {"save_freq": wrong},
                f"save_freq is {told}; expected 'epoch', or a number of batches from 1 up.",
            )
            for wrong, told in [
                (0, "0 (int)"),
                (False, "False (bool)"),
                ("batch", "'batch' (str)"),
                (None, "None (NoneType)"),
                (1.5, "1.5 (float)"),
            ]
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(tmp_path, arguments, text):
    given = {"dataset": ArrayDataset(np.zeros((3, 1))), "backup_dir": tmp_path} | arguments
    with pytest.raises(InvalidArgumentError) as caught:
        BackupAndRestore(**given)
    assert str(caught.value) == text
