"""A folder of JPEGs with a folder for each class: decoded, resized and augmented by workers.

    KERAS_BACKEND=jax python examples/11_image_folder.py        # or tensorflow, or torch

Cuts two photographs of scikit-learn into small ones, saves them as `photos/china/000.jpg` and so
on, and trains a model to tell which of the two one is from. (They overlap, so the test is easy.)
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_npbatch as npb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--workers", type=int, default=2)
arguments = parser.parse_args()


def cut_up(folder):
    """Save 150 pieces of each photograph, of 60 to 120 pixels."""
    rng = np.random.default_rng(0)
    for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(150):
            height, width = rng.integers(60, 121, 2)
            top, left = rng.integers(0, 427 - height), rng.integers(0, 640 - width)
            piece = Image.fromarray(photograph[top : top + height, left : left + width])
            piece.save(folder / name / f"{number:03}.jpg")


def flip_and_fade(batch, rng):
    """Mirror half of the images, and make each darker or lighter, in training alone."""
    images, labels = batch
    mirrored = rng.random(len(images)) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    fade = rng.uniform(0.7, 1.0, size=(len(images), 1, 1, 1))
    return (images * fade).astype("uint8"), labels


with tempfile.TemporaryDirectory() as temporary:
    photos = Path(temporary) / "photos"
    cut_up(photos)

    folder = npb.sources.ImageFolder(photos, size=(48, 48))
    print(folder)

    data = npb.ArrayDataset(
        folder.images,
        folder.labels,
        batch_size=30,
        seed=0,
        augment=flip_and_fade,
        workers=arguments.workers,
    )
    train, test = data.split(0.8, stratify=folder.labels)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((48, 48, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)
    print(f"test accuracy: {model.evaluate(test, verbose=0)[1]:.3f}")

    # Which images is the model wrong about? `predict` keeps the order of the data.
    rows = test.rows_in_order()
    wrong = rows[model.predict(test, verbose=0).argmax(axis=1) != folder.labels[rows]]
    names = [Path(folder.paths[row]).name for row in wrong[:3]]
    print(f"wrong about {len(wrong)} of {len(rows)} images, first of all {names}")

    # A file that can't be decoded is named.
    Path(folder.paths[7]).write_bytes(b"no image")
    try:
        list(data.subset([5, 6, 7]))
    except OSError as error:
        print(f"a broken file is told: {error.__notes__[0].replace(temporary, '')}")
