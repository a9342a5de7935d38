"""Chunks on disk: HDF5, Zarr and Parquet, shuffled in blocks, give the same training.

    KERAS_BACKEND=jax python examples/13_storage.py             # or tensorflow, or torch

Cuts three textures of scikit-image (brick, grass, gravel) into patches, saves them in three ways,
each in compressed chunks of 64 patches, and trains on each file a model that tells the textures
apart. `BlockShuffle` reads each chunk once an epoch, and mixes the patches of 16 chunks.
"""

import argparse
import tempfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage
import zarr

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--workers", type=int, default=2)
arguments = parser.parse_args()

SIZE, STRIDE, CHUNK = 32, 12, 64
TEXTURES = [skimage.data.brick(), skimage.data.grass(), skimage.data.gravel()]


def patches(rows):
    """The patches whose upper edge is at one of `rows`, each as one row of pixels; the textures."""
    pixels, labels = [], []
    for label, texture in enumerate(TEXTURES):
        for row in rows:
            for column in range(0, texture.shape[1] - SIZE, STRIDE):
                pixels.append(texture[row : row + SIZE, column : column + SIZE].reshape(-1))
                labels.append(label)
    return np.stack(pixels).astype("uint8"), np.array(labels, "int32")


def trained_on(x, y):
    """A model that was trained on patches and their textures."""
    data = npb.ArrayDataset(
        x,
        y,
        batch_size=32,
        seed=0,
        sampler=npb.samplers.BlockShuffle(),  # along the chunks of x
        workers=arguments.workers,
    )
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIZE * SIZE,)),
            keras.layers.Rescaling(1 / 64, offset=-2),
            keras.layers.Reshape((SIZE, SIZE, 1)),
            keras.layers.Conv2D(8, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(TEXTURES), activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(data, epochs=arguments.epochs, verbose=0)
    return model


train_pixels, train_labels = patches(range(0, 360, STRIDE))
order = np.random.default_rng(0).permutation(len(train_labels))  # blocks mix what is near
train_pixels, train_labels = train_pixels[order], train_labels[order]
test_pixels, test_labels = patches(range(400, 512 - SIZE, STRIDE))
print(f"{len(train_labels)} patches of {SIZE} x {SIZE} to train on")

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)

    with h5py.File(folder / "textures.h5", "w") as file:
        chunks = (CHUNK, SIZE * SIZE)
        file.create_dataset("pixels", data=train_pixels, chunks=chunks, compression="gzip")
    zarr.create_array(folder / "textures.zarr", data=train_pixels, chunks=(CHUNK, SIZE * SIZE))
    flat = pa.array(train_pixels.reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, SIZE * SIZE)
    table = pa.table({"pixels": column, "texture": train_labels})
    pq.write_table(table, folder / "textures.parquet", row_group_size=CHUNK)

    models = {}
    with h5py.File(folder / "textures.h5") as file:
        models["HDF5"] = trained_on(file["pixels"], train_labels)
    stored = zarr.open_array(folder / "textures.zarr", mode="r")
    models["Zarr"] = trained_on(stored, train_labels)
    parquet = npb.sources.Parquet(folder / "textures.parquet")
    models["Parquet"] = trained_on(parquet["pixels"], parquet["texture"])

for name, model in models.items():
    accuracy = model.evaluate(test_pixels, test_labels, verbose=0)[1]
    print(f"{name}: test accuracy {accuracy:.2f}")
weights = [np.concatenate([w.ravel() for w in model.get_weights()]) for model in models.values()]
if all(np.array_equal(each, weights[0]) for each in weights):
    print("all three storages: the same weights, bit for bit")
