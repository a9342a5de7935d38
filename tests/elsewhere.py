"""The library on Windows or macOS, as far as Linux can show it; see `without`.

python -m tests.elsewhere win32
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from tests.without import WORKER, go


def main(platform):
    import keras_npbatch as npb

    here = tempfile.mkdtemp()
    (Path(here) / "sitecustomize.py").write_text(WORKER.format(platform=platform))
    os.environ["PYTHONPATH"] = os.pathsep.join([here, str(Path(__file__).parents[1])])
    go(platform)
    from tests.test_public_api import check, importable_with

    for name in importable_with("jax"):
        if not name.startswith(("workers.linux", "batches.linux")):
            check(name)

    from keras_npbatch.errors import InvalidArgumentError
    from keras_npbatch.testing import check_dataset
    from tests.inside import pool_of

    x = np.random.default_rng(0).random((100, 8)).astype("float32")
    y = np.arange(100) % 3

    def model():
        made = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        made.compile("sgd", "sparse_categorical_crossentropy")
        return made

    def halve(batch, rng):
        return batch[0] / 2, batch[1]

    for workers in (0, 1, 2):
        batches = list(npb.ArrayDataset(x, y, transform=halve, workers=workers, seed=0))
        assert sum(len(batch[0]) for batch in batches) == 100

    # Callbacks, threads, validation, and what they write.
    train = npb.ArrayDataset(x, y, seed=0, workers=2, transform=halve)
    test = npb.ArrayDataset(x, y, shuffle=False)
    folder = Path(tempfile.mkdtemp())
    callbacks = npb.callbacks
    watching = [
        callbacks.BackupAndRestore(train, folder / "backup", save_freq=2, delete_checkpoint=False),
        callbacks.BatchStatistics(train),
        callbacks.CoverageAudit(train),
        callbacks.InputMonitor(train, warn_above=1.0),
        callbacks.NaNReport(train, folder / "nan"),
    ]
    trained = model()
    trained.fit(train, validation_data=test, epochs=2, callbacks=watching, verbose=0)
    assert trained.predict(test, verbose=0).shape == (100, 3)
    assert len(list((folder / "backup").iterdir())) == 1
    resumed = npb.ArrayDataset(x, y, seed=0, workers=2, transform=halve)
    again = callbacks.BackupAndRestore(resumed, folder / "backup")
    model().fit(resumed, epochs=3, callbacks=[again], verbose=0)
    assert not (folder / "backup").exists()

    broken = x.copy()
    broken[7] = np.nan
    bad = npb.ArrayDataset(broken, y, seed=0)
    try:
        model().fit(bad, callbacks=[callbacks.NaNReport(bad, folder / "nan")], verbose=0)
    except npb.errors.NonFiniteError:
        callbacks.replay(folder / "nan", bad)
    else:
        raise AssertionError("the NaN was not reported")

    # A memory map, parts, and one of several processes.
    np.save(folder / "x.npy", x)
    mapped = npb.ArrayDataset(np.load(folder / "x.npy", mmap_mode="r"), y, batch_size=10)
    assert sum(len(list(part)) for part in mapped.split(0.8)) == 10
    assert npb.ArrayDataset(x, y, seed=0, shard=(1, 2))[0][0].shape == (32, 8)

    # Worker processes, of a class that only this function has; one of them is killed.
    class Local(npb.BatchDataset):
        def load(self, rows):
            assert sys.platform == platform
            assert os.getpid() == parent or not {"keras", "jax"} & set(sys.modules)
            return big[rows], rows

    parent, big = os.getpid(), np.arange(400 * 5000, dtype="float32").reshape(400, 5000)
    settings = {"batch_size": 32, "seed": 0, "augment": lambda batch, rng: (batch[0] / 2, batch[1])}
    there = Local(400, workers=2, use_multiprocessing=True, **settings)
    with there:
        made = []
        for batch in there:
            made.append(batch)
            if len(made) == 4:
                os.kill(pool_of(there).pids[0], 9)
    for ours, theirs in zip(made, Local(400, workers=0, **settings), strict=True):
        for mine, its in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, its)
    mapped = npb.ArrayDataset(
        np.load(folder / "x.npy", mmap_mode="r"), y, workers=1, use_multiprocessing=True
    )
    with mapped:
        model().fit(mapped, verbose=0)
    try:
        os.waitpid(-1, os.WNOHANG)
        raise AssertionError("a worker is left")
    except ChildProcessError:
        pass

    for start_method in ("fork", "forkserver"):
        try:
            npb.ArrayDataset(x, y, start_method=start_method)
        except InvalidArgumentError as error:
            print(error)  # noqa: T201
    datasets = [npb.ArrayDataset(x, y, batch_size=16)]
    if platform == "darwin":  # on Windows, its worker would need the names that the parent gives
        datasets.append(Plain(workers=1))
    for dataset in datasets:
        if isinstance(dataset, Plain):  # its worker imports Keras, as that is on this system
            (Path(here) / "sitecustomize.py").unlink()
        report = check_dataset(dataset)
        assert report.ok, report
        assert not [name for name in report.skipped if "process" in name], report
    print("done")  # noqa: T201


class Plain(keras.utils.PyDataset):
    """One that Keras's users write, here and there."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        at = np.arange(4 * index, 4 * index + 4)
        return np.stack([at, at**2], 1).astype("float32"), at.astype("float32")


if __name__ == "__main__":
    main(sys.argv[1])
