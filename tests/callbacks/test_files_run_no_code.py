"""A file that the callbacks read runs no code, whoever wrote it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import BackupAndRestore, NaNReport, replay
from keras_npbatch.errors import InvalidStateError, NonFiniteError


class Planted:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled_array(path):
    return np.array([Planted(path)], dtype=object)


def make_dataset():
    x = np.full((16, 1), np.nan, "float32")
    return ArrayDataset(x, np.zeros((16, 1), "float32"), batch_size=8, seed=0)


def make_model():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Planted(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_the_arrays_of_a_report(tmp_path):
    folder, ran = tmp_path / "nan", tmp_path / "ran"
    dataset = make_dataset()
    with pytest.raises(NonFiniteError):
        make_model().fit(dataset, verbose=0, callbacks=[NaNReport(dataset, folder)])
    replay(folder, make_dataset())
    (arrays,) = folder.glob("*.npz")
    with np.load(arrays) as kept:
        names = kept.files
    np.savez(arrays, **dict.fromkeys(names, pickled_array(ran)))
    with pytest.raises((InvalidStateError, ValueError), match="allow_pickle"):
        replay(folder, make_dataset())
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["a pickle", "an archive of pickles", "pickles among its arrays"])
def test_a_backup(tmp_path, kind):
    folder, ran = tmp_path / "backup", tmp_path / "ran"

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise InterruptedError

    dataset = make_dataset()
    backup = BackupAndRestore(dataset, folder, save_freq=1)
    with pytest.raises(InterruptedError):
        make_model().fit(dataset, verbose=0, callbacks=[backup, Stop()])
    path = folder / "latest.snapshot"
    planted = pickle.dumps(Planted(ran))
    if kind == "a pickle":
        path.write_bytes(planted)
    elif kind == "an archive of pickles":
        with path.open("wb") as file:
            np.savez(file, pickled_array(ran))
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content if name == "facts.json" else planted)
    dataset = make_dataset()
    with pytest.raises(InvalidStateError, match=r"latest\.snapshot"):
        make_model().fit(dataset, callbacks=[BackupAndRestore(dataset, folder)], verbose=0)
    assert not ran.exists()
