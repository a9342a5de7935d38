"""A small job with what the extra in sys.argv[1] brings: `.ci/extras` runs it."""

import sys
from pathlib import Path

import numpy as np

import keras_npbatch as npb

if "site-packages" not in npb.__file__:
    sys.exit(f"{npb.__file__} is not the wheel's")

x = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
y = (x.sum(axis=1) > 0).astype("int32")


def none() -> None:
    from keras_npbatch import testing

    train, test = npb.ArrayDataset(x, y, batch_size=8, seed=0, workers=2).split(0.8, stratify=y)
    rows = np.concatenate([train.rows(step, epoch=0) for step in range(len(train))])
    assert len(set(rows.tolist())) == len(rows) == 80
    assert sum(len(labels) for _, labels in train) + sum(len(labels) for _, labels in test) == 100
    testing.check_dataset(train).raise_for_findings()


def fit() -> None:
    import keras

    train, test = npb.ArrayDataset(x, y, batch_size=8, seed=0, workers=2).split(0.8)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    backup = npb.callbacks.BackupAndRestore(train, "backup", save_freq=2)
    history = model.fit(
        train, validation_data=test, epochs=2, verbose=0, callbacks=[backup]
    ).history
    assert np.isfinite([history["loss"], history["val_loss"]]).all()
    assert model.predict(test, verbose=0).shape == (20, 2)


def tensorflow() -> None:
    fit()
    assert sum(len(labels) for _, labels in npb.ArrayDataset(x, y).to_tf_dataset()) == 100


def ray() -> None:
    from ray.train import ScalingConfig

    assert ScalingConfig(num_workers=2).num_workers == 2
    assert npb.ArrayDataset(x, y, shard="auto").plan.shard.count == 1


def testing() -> None:
    from hypothesis import given, settings

    from keras_npbatch.testing import strategies

    @settings(max_examples=20, database=None)
    @given(strategies.datasets())
    def each_row_comes_once(dataset: npb.BatchDataset) -> None:
        assert len(dataset) == len(list(dataset))

    each_row_comes_once()


def arrow() -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"a": x[:, 0], "b": x[:, 1], "y": y})
    pyarrow.parquet.write_table(table, "table.parquet", row_group_size=20)
    data = npb.sources.Parquet("table.parquet")
    sampler = npb.samplers.BlockShuffle(blocks=2)
    train = npb.ArrayDataset(data[["a", "b"]], data["y"], batch_size=16, sampler=sampler)
    assert sorted(np.concatenate([labels for _, labels in train])) == sorted(y)


def images() -> None:
    from PIL import Image

    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        Path("photos", name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 30), colour).save(f"photos/{name}/{number}.jpg")
    folder = npb.sources.ImageFolder("photos", size=(16, 16))
    pictures, labels = npb.ArrayDataset(folder.images, folder.labels, shuffle=False)[0]
    assert pictures.shape == (6, 16, 16, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def examples() -> None:
    import sklearn.datasets

    images()
    digits = sklearn.datasets.load_digits()
    assert npb.ArrayDataset(digits.images, digits.target).num_samples == 1797


def remote() -> None:
    import fsspec

    addresses = [f"memory://rows/{number}" for number in range(10)]
    for address, row in zip(addresses, x, strict=False):
        with fsspec.open(address, "wb") as file:
            file.write(row.tobytes())

    def read(address: str) -> np.ndarray:
        with fsspec.open(address) as file:
            return np.frombuffer(file.read(), "float32")

    files = npb.sources.Files(addresses, read=read)
    assert np.array_equal(npb.ArrayDataset(files, shuffle=False, workers=2)[0], x[:10])


def zarr() -> None:
    import zarr

    stored = zarr.create_array("rows.zarr", shape=x.shape, chunks=(20, 4), dtype="float32")
    stored[:] = x
    sampler = npb.samplers.BlockShuffle(blocks=2)
    train = npb.ArrayDataset(stored, y, batch_size=16, sampler=sampler)
    assert sorted(np.concatenate([rows[:, 0] for rows, _ in train])) == sorted(x[:, 0])


def plot() -> None:
    npb.show(npb.ArrayDataset(x.reshape(25, 4, 4)[:, :4], y[:25])).savefig("batch.png")
    assert Path("batch.png").stat().st_size > 0


def docs() -> None:
    assert Path("site/reference/datasets/index.html").exists()


JOBS = {"jax": fit, "torch": fit}
(JOBS.get(sys.argv[1]) or globals()[sys.argv[1]])()
