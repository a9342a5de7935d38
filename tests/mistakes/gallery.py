"""The commonest mistakes of new users: what they write, what they are told, what is right.

    python -m tests.mistakes.gallery       # writes docs/mistakes.md

The page is made of this table, and a test holds that they agree.
"""

from __future__ import annotations

import doctest
import textwrap
import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
_WIDTH = 84  # what fits beside the button that copies a block

SETUP = """\
import os

import h5py
import keras
import numpy as np
import pandas as pd

import keras_npbatch as npb

images = np.zeros((100, 8, 8, 3), "uint8")
labels = np.arange(100) % 3
rows = [[1.0, 2.0]] * 100
names = [f"{number}.npy" for number in range(100)]
tokens = [np.arange(1, 2 + number % 5) for number in range(100)]
series = np.sin(np.arange(500.0))
data = npb.ArrayDataset(images, labels, seed=0)
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
"""


@dataclass(frozen=True)
class Mistake:
    """A mistake."""

    name: str
    """What it is, as a heading."""
    wrong: str
    """What was written; its last statement raises."""
    message: str
    """What is said: the name of the error, and its text."""
    do: str
    """What to do, in words."""
    right: str = ""
    """What to write, if code tells it better."""

    @property
    def trains(self) -> bool:
        """Whether it takes a backend that can train."""
        return "model.fit" in self.wrong


DATA = "Your data"
SETTINGS = "Settings"
KERAS = "Calls of Keras"
LOADERS = "Loaders and functions of your own"
PARTS = "Splits, samplers and several datasets"
SOURCES = "Images, sequences, tables"
STATE = "Epochs and states"

GALLERY: dict[str, list[Mistake]] = {
    DATA: [
        Mistake(
            "Arrays of different lengths",
            "npb.ArrayDataset(images, labels[:-1])",
            "InvalidDataError: y has 99 rows, but x has 100; expected the same number in every "
            "leaf. Check how they were selected.",
            "Select the same rows of each array. To read a part of the data, make the dataset of "
            "all of them and take `subset`.",
            "npb.ArrayDataset(images, labels).subset(np.flatnonzero(labels > 0))",
        ),
        Mistake(
            "A list of samples",
            "npb.ArrayDataset(rows, labels)",
            "InvalidDataError: x is a list of 100 items, which would be as many inputs of the "
            "model; expected arrays whose first dimension counts samples. Make one array of "
            "samples (`np.stack`), or `keras_npbatch.sources.Ragged(x)` if their lengths differ; "
            "if they are inputs, pass a tuple.",
            "As in `fit`, a list is a list of inputs. Make one array.",
            "npb.ArrayDataset(np.asarray(rows), labels)",
        ),
        Mistake(
            "A list of labels",
            "npb.ArrayDataset(images, labels.tolist())",
            "InvalidDataError: y is a list of 100 numbers, which would be as many inputs of the "
            "model; expected an array. Write `np.asarray(y)`.",
            "Make an array of it.",
            "npb.ArrayDataset(images, np.asarray(labels.tolist()))",
        ),
        Mistake(
            "Sequences of different lengths",
            "npb.ArrayDataset(tokens, labels)",
            "InvalidDataError: x is a list of 100 items, which would be as many inputs of the "
            "model; expected arrays whose first dimension counts samples. Make one array of "
            "samples (`np.stack`), or `keras_npbatch.sources.Ragged(x)` if their lengths differ; "
            "if they are inputs, pass a tuple.",
            "Put them into `Ragged`, which pads each batch to its longest sequence.",
            "npb.ArrayDataset(npb.sources.Ragged(tokens), labels)",
        ),
        Mistake(
            "Texts as targets",
            'model.fit(npb.ArrayDataset(images, np.array(["cat", "dog"] * 50), seed=0))',
            "InvalidBatchError: y of the ArrayDataset is text (<U3), but fit computes a loss; "
            "expected numbers. Number the classes: names, y = np.unique(labels, "
            "return_inverse=True).",
            "Number the classes.",
            'names_of_classes, y = np.unique(["cat", "dog"] * 50, return_inverse=True)\n'
            "npb.ArrayDataset(images, y)",
        ),
        Mistake(
            "A path for an array",
            'npb.ArrayDataset("images.npy", labels)',
            "InvalidDataError: x is 'images.npy' (str); expected an array: anything with `shape`, "
            "`dtype` and row indexing. It is a path: give what it leads to, "
            "`np.load('images.npy', mmap_mode='r')`.",
            "Open the file. A memory map is read by rows, and never as a whole.",
            'np.save("images.npy", images)\n'
            'npb.ArrayDataset(np.load("images.npy", mmap_mode="r"), labels)',
        ),
        Mistake(
            "An archive of arrays",
            'np.savez("arrays.npz", x=images, y=labels)\nnpb.ArrayDataset(np.load("arrays.npz"))',
            "InvalidDataError: x is NpzFile 'arrays.npz' with keys: x, y (NpzFile); expected an "
            "array: anything with `shape`, `dtype` and row indexing. It holds arrays by their "
            "names: give one of them, `x['x']`.",
            "Give the arrays in it. For an HDF5 file or a Zarr group the message is the same.",
            'np.savez("arrays.npz", x=images, y=labels)\n'
            'with np.load("arrays.npz") as arrays:\n'
            '    npb.ArrayDataset(arrays["x"], arrays["y"])',
        ),
        Mistake(
            "A list of paths",
            "npb.ArrayDataset(names, labels)",
            "InvalidDataError: x is a list of 100 paths or texts, which would be as many inputs of "
            "the model; expected an array. Texts: `np.asarray(x)`. Files, one a sample: "
            "`keras_npbatch.sources.Files(x, read)`, with a function that reads one.",
            "Say how a file is read; see [images and files](files.md).",
            "for name, image in zip(names, images, strict=True):\n"
            "    np.save(name, image)\n"
            "npb.ArrayDataset(npb.sources.Files(names, np.load), labels)",
        ),
        Mistake(
            "A generator",
            "npb.ArrayDataset(iter(images), labels)",
            "InvalidDataError: x is <iterator object at ...> (iterator); expected an array: "
            "anything with `shape`, `dtype` and row indexing. It can only be iterated over. Put "
            "its samples into an array, or read them by their rows: `SampleDataset(load_sample, "
            "num_samples=N)`.",
            "A generator has no rows: they can't be shuffled, split, or read again. Write a "
            "function that reads any row.",
            "npb.SampleDataset(lambda row: (images[row], labels[row]), num_samples=100)",
        ),
        Mistake(
            "A dataset of a dataset",
            "npb.ArrayDataset(data, labels)",
            "InvalidDataError: x is <ArrayDataset: 100 samples in 4 batches of 32 (remainder=... "
            "(ArrayDataset); expected an array: anything with `shape`, `dtype` and row indexing. "
            "It is a dataset already: give it to `fit` itself, or make another one of its arrays.",
            "Give the arrays to one dataset.",
            "npb.ArrayDataset(images, labels)",
        ),
        Mistake(
            "A table with missing values",
            'npb.ArrayDataset(pd.DataFrame({"age": pd.array([31, None, 25])}))',
            "InvalidDataError: column 'age' of x has no value in row 1, which would become NaN or "
            "an object; expected a value in every row. Fill them (`fillna(0)`) or leave these rows "
            "out, and tell the model which were missing by an input or a sample_weight.",
            "Say what to read in their place.",
            'ages = pd.DataFrame({"age": pd.array([31, None, 25])})\n'
            "npb.ArrayDataset(npb.sources.Filled(ages, 0))",
        ),
        Mistake(
            "A table with a column of texts",
            'table = pd.DataFrame({"size": [1.0, 2.0] * 50, "city": ["Rome", "Oslo"] * 50})\n'
            "model.fit(npb.ArrayDataset(table, labels, seed=0))",
            "InvalidBatchError: x is ndarray of shape (32, 2) and dtype object, which ... has no "
            "tensor for; expected ... Texts are in column 1 (the first is 0). Encode texts as "
            "numbers, with keras.layers.TextVectorization or StringLookup on all data before "
            "training, or in a transform.",
            "Make the column one of categories, and give the columns as a dict: categories are "
            "then read as their codes. See [tables](tables.md).",
            'table = pd.DataFrame({"size": [1.0, 2.0] * 50, "city": ["Rome", "Oslo"] * 50})\n'
            'columns = dict(table.astype({"city": "category"}))\n'
            'assert npb.ArrayDataset(columns, labels)[0][0]["city"].dtype == np.int8',
        ),
        Mistake(
            "A PyDataset for an array",
            "class Old(keras.utils.PyDataset):\n"
            "    def __len__(self):\n"
            "        return 10\n\n"
            "    def __getitem__(self, index):\n"
            "        return images[10 * index : 10 * index + 10]\n\n\n"
            "npb.ArrayDataset(Old(), labels)",
            "InvalidDataError: x is ... (Old); expected an array: anything with `shape`, `dtype` "
            "and row indexing. It makes batches of its own: fit takes it as it is. For more, "
            "derive its class from `keras_npbatch.BatchDataset`.",
            "Keep the class, and write `load(rows)` in it; see "
            "[coming from other loaders](coming_from.md#kerasutilspydataset-was-sequence).",
            "class New(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return images[rows], labels[rows]\n\n\n"
            "New(num_samples=100, batch_size=10)",
        ),
        Mistake(
            "A file that is closed too early",
            'with h5py.File("images.h5", "w") as file:\n'
            '    file["x"] = images\n'
            'with h5py.File("images.h5") as file:\n'
            '    train = npb.ArrayDataset(file["x"], labels, seed=0)\n'
            "train[0]",
            "InvalidDataError: x is in an HDF5 file that has been closed; expected an open one. "
            "Close it when the dataset is not used any more.",
            "Keep it open. What is small is best read at once.",
            'with h5py.File("images.h5", "w") as file:\n'
            '    file["x"] = images\n'
            'with h5py.File("images.h5") as file:\n'
            '    npb.ArrayDataset(file["x"], labels)[0]  # as long as it is open\n'
            '    train = npb.ArrayDataset(file["x"][:], labels)',
        ),
    ],
    SETTINGS: [
        Mistake(
            "The words of torch and tf.data",
            "npb.ArrayDataset(images, labels, num_workers=2, drop_last=True)",
            "UnknownSettingError: ArrayDataset has no settings num_workers, drop_last. Write "
            "workers=2. Write remainder='drop'.",
            "The message names our word for each. [Coming from other loaders](coming_from.md) has "
            "more.",
            'npb.ArrayDataset(images, labels, workers=2, remainder="drop")',
        ),
        Mistake(
            "A misspelt setting",
            "npb.ArrayDataset(images, labels, batchsize=16)",
            "UnknownSettingError: ArrayDataset has no setting batchsize. Did you mean batch_size?",
            "Write it as the message says.",
            "npb.ArrayDataset(images, labels, batch_size=16)",
        ),
        Mistake(
            "A setting by position",
            "npb.ArrayDataset(images, labels, 16)",
            "InvalidArgumentError: sample_weight, the third argument, is 16 (int); expected an "
            "array of weights. Settings are given by name: batch_size=16.",
            "Give settings by name.",
            "npb.ArrayDataset(images, labels, batch_size=16)",
        ),
        Mistake(
            "A buffer size for shuffle",
            "npb.ArrayDataset(images, labels, shuffle=1000)",
            "InvalidArgumentError: shuffle is 1000 (int); expected True (a new permutation each "
            "epoch) or False (the order of the data).",
            "There is no buffer: each epoch is a permutation of all samples. Leave it out.",
            "npb.ArrayDataset(images, labels)",
        ),
        Mistake(
            "Weights that scikit-learn would compute",
            'npb.ArrayDataset(images, labels, class_weight="balanced")',
            "InvalidArgumentError: class_weight is 'balanced' (str); expected a dict from class "
            "number to weight, such as {0: 1.0, 1: 5.0}, or for several outputs a dict from the "
            "name of an output to such a dict.",
            "Give the weights, or let each batch have equally many samples of each class.",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Balanced(labels))",
        ),
        Mistake(
            "Names of classes",
            'npb.ArrayDataset(images, labels, class_weight={"cat": 5.0})',
            "InvalidArgumentError: class_weight has the key 'cat' (str); expected class numbers as "
            "they are in y, whole numbers. Number the classes: names, y = np.unique(labels, "
            "return_inverse=True).",
            "Name a class by its number in the targets.",
            "npb.ArrayDataset(images, labels, class_weight={0: 5.0})",
        ),
        Mistake(
            "Two weights",
            "npb.ArrayDataset(images, labels, np.ones(100), class_weight={0: 2.0})",
            "InvalidArgumentError: sample_weight and class_weight were both given; expected one of "
            "them. Multiply the class weights into sample_weight.",
            "Multiply them.",
            "npb.ArrayDataset(images, labels, np.ones(100) * np.where(labels == 0, 2.0, 1.0))",
        ),
        Mistake(
            "Two orders",
            "npb.ArrayDataset(images, labels, shuffle=True, sampler=npb.samplers.Balanced(labels))",
            "InvalidArgumentError: sampler and shuffle=True were both given; expected one of them. "
            "The sampler decides the order: shuffle=True is Shuffle(), shuffle=False is InOrder().",
            "A sampler shuffles by itself. Leave `shuffle` out.",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Balanced(labels))",
        ),
        Mistake(
            "shuffle and map as methods",
            "data.map(lambda x, y: (x / 255, y))",
            "AttributeError: 'ArrayDataset' object has no attribute 'map'. Give it "
            "transform=function as it is made, for one sample keras_npbatch.each(function); for "
            "tf.data: dataset.to_tf_dataset().map(f).",
            "A dataset is made with all its settings at once. A function gets the whole batch.",
            "npb.ArrayDataset(images, labels, transform=lambda batch: (batch[0] / 255, batch[1]))",
        ),
        Mistake(
            "A setting that is changed later",
            "data.seed = 3",
            "AttributeError: ArrayDataset.seed can't be set. For another setting make a new "
            "dataset, for another epoch call set_epoch(); an attribute of your own needs another "
            "name.",
            "Make another dataset: it costs nothing, since no data are copied.",
            "npb.ArrayDataset(images, labels, seed=3)",
        ),
        Mistake(
            "A fraction for a whole number",
            "npb.ArrayDataset(images, labels, batch_size=len(images) / 4)",
            "InvalidArgumentError: batch_size is 25.0 (float); expected a whole number from 1 to "
            "4611686018427387904. Write 25; to divide whole numbers, a // b.",
            "Divide with `//`.",
            "npb.ArrayDataset(images, labels, batch_size=len(images) // 4)",
        ),
        Mistake(
            "Batches larger than the data",
            'npb.ArrayDataset(images, labels, batch_size=128, remainder="drop")',
            "InvalidArgumentError: remainder='drop' leaves no batch: num_samples=100 is less than "
            "batch_size=128. Use a smaller batch_size, or remainder='keep'.",
            "Keep the short batch, or make it a full one.",
            'npb.ArrayDataset(images, labels, batch_size=128, remainder="pad")',
        ),
        Mistake(
            "The shape of a dataset",
            "data.shape",
            "AttributeError: 'ArrayDataset' object has no attribute 'shape'. Read a batch, "
            "dataset[0]: its arrays have shapes. The data: print(dataset).",
            "Batches have shapes.",
            "x, y = data[0]\nx.shape, y.shape",
        ),
    ],
    KERAS: [
        Mistake(
            "Targets beside the dataset",
            "model.fit(data, labels)",
            "UnsupportedArgumentError: fit(y=...) was given with the dataset (ArrayDataset), and "
            "Keras would ignore it; expected None. Put the targets into the dataset.",
            "The dataset has the targets.",
            "model.fit(data, verbose=0)",
        ),
        Mistake(
            "batch_size twice",
            "model.fit(data, batch_size=64)",
            "UnsupportedArgumentError: fit(batch_size=...) was given 64 (int) with the dataset "
            "(ArrayDataset) of batch_size=32, and Keras would ignore it. Give batch_size to the "
            "dataset.",
            "Give it to the dataset.",
            "model.fit(npb.ArrayDataset(images, labels, batch_size=64), verbose=0)",
        ),
        Mistake(
            "validation_split",
            "model.fit(data, validation_split=0.2)",
            "UnsupportedArgumentError: fit(validation_split=0.2) was given with the dataset "
            "(ArrayDataset), and Keras splits arrays alone; expected none. Write train, validation "
            "= dataset.split(0.8), then fit(train, validation_data=validation).",
            "Split the dataset.",
            "train, validation = data.split(0.8)\n"
            "model.fit(train, validation_data=validation, verbose=0)",
        ),
        Mistake(
            "Both parts of a split as validation data",
            "model.fit(data, validation_data=data.split(0.8))",
            "UnsupportedArgumentError: fit(validation_data=...) was given 2 datasets "
            "(ArrayDataset, ...), and Keras would ignore all but the first; expected one. Take "
            "the parts of a split apart: train, validation = dataset.split(0.8).",
            "Take the two parts apart.",
        ),
        Mistake(
            "An endless dataset without an end",
            "model.fit(data.repeat())",
            "UnsupportedArgumentError: fit with an endless dataset (ArrayDataset.repeat()) would "
            "never end; expected steps_per_epoch. One pass over the data is steps_per_epoch=4.",
            "`repeat` is for epochs of a length of your own. Give this length, or leave `repeat` "
            "out.",
            "model.fit(data.repeat(), steps_per_epoch=10, verbose=0)",
        ),
        Mistake(
            "fit(shuffle=False) with datasets side by side",
            "model.fit(npb.zip(data, data), shuffle=False)",
            "UnsupportedArgumentError: fit(shuffle=False) was given with the dataset "
            "(ZippedDataset), whose datasets are each read in their own order; expected no "
            "shuffle. Leave it out, or make these datasets with shuffle=False.",
            "Give it to the datasets.",
            "ordered = npb.ArrayDataset(images, labels, shuffle=False)\nnpb.zip(ordered, ordered)",
        ),
        Mistake(
            "A callback of another dataset",
            "train, validation = data.split(0.8)\n"
            "model.fit(train, callbacks=[npb.callbacks.CoverageAudit(data)])",
            "InvalidArgumentError: CoverageAudit watches <ArrayDataset: 100 samples in 4 batches "
            "of 32 (remainder='keep'), x uint8 (100, 8, 8, 3), y int64 (100,), shuffle=True, "
            "seed=0, workers=1, next epoch ...>, which fit was not given; expected the very "
            "dataset. One that repeat() returned is another: give that to both. The batches of a "
            "to_tf_dataset() are not watched.",
            "Give the callback the very dataset that `fit` gets.",
            "train, validation = data.split(0.8)\n"
            "model.fit(train, callbacks=[npb.callbacks.CoverageAudit(train)], verbose=0)",
        ),
        Mistake(
            "x and y in one tuple",
            "model.fit(npb.ArrayDataset((images, labels), seed=0))",
            "InvalidBatchError: the batches of the ArrayDataset have no targets, but fit computes "
            "a loss; expected (x, y). ArrayDataset((x, y)) has two inputs and no targets: write "
            "ArrayDataset(x, y). If they are inputs, give the targets too: ArrayDataset((x1, x2), "
            "y).",
            "Give them as two arguments. A tuple is several inputs.",
            "npb.ArrayDataset(images, labels)",
        ),
    ],
    LOADERS: [
        Mistake(
            "A forgotten super().__init__",
            "class Slides(npb.BatchDataset):\n"
            "    def __init__(self, images):\n"
            "        self.images = images\n\n"
            "    def load(self, rows):\n"
            "        return self.images[rows]\n\n\n"
            "Slides(images)[0]",
            "InvalidArgumentError: Slides was not initialised; call "
            "super().__init__(num_samples=..., **kwargs) first in its __init__.",
            "Call it first, and hand the settings on.",
            "class Slides(npb.BatchDataset):\n"
            "    def __init__(self, images, **settings):\n"
            "        super().__init__(num_samples=len(images), **settings)\n"
            "        self.images = images\n\n"
            "    def load(self, rows):\n"
            "        return self.images[rows]\n\n\n"
            "Slides(images, batch_size=16)[0]",
        ),
        Mistake(
            "A load that returns a list of samples",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return [images[row] for row in rows]\n\n\n"
            "Slides(100, seed=0)[0]",
            "InvalidBatchError: load(rows) returned a list of 32; expected x, (x,), (x, y) or (x, "
            "y, sample_weight), each an array or a nesting of arrays. Samples are put together "
            "with np.stack, each part by itself; a SampleDataset does that, of samples that its "
            "load_sample(row) returns. Several inputs are one part: ((x1, x2), y).",
            "Return arrays of the whole batch, or read sample by sample.",
            "npb.SampleDataset(lambda row: (images[row], labels[row]), num_samples=100)[0]",
        ),
        Mistake(
            "A load that returns all samples",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return images, labels\n\n\n"
            "Slides(100, seed=0)[0]",
            "InvalidBatchError: load(rows) returned ndarray of shape (100, 8, 8, 3) and dtype "
            "uint8 for x; expected 32 samples, one for each row of the batch.",
            "Return the samples of `rows`, in their order.",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return images[rows], labels[rows]\n\n\n"
            "Slides(100)[0]",
        ),
        Mistake(
            "A load without return",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        images[rows], labels[rows]\n\n\n"
            "Slides(100, seed=0)[0]",
            "InvalidBatchError: load(rows) returned None; expected x, (x,), (x, y) or (x, y, "
            "sample_weight), each an array or a nesting of arrays. Is there a `return` at its end?",
            "Write `return`.",
        ),
        Mistake(
            "A list of labels in a batch",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return images[rows], [int(labels[row]) for row in rows]\n\n\n"
            "Slides(100, seed=0)[0]",
            "InvalidBatchError: load(rows) returned 0 (int) for y[0]; expected an array whose "
            "first dimension counts the 32 samples of the batch. Stack single samples "
            "(`np.stack`), turn lists into arrays (`np.asarray`), pad lists of different lengths "
            "(`keras.utils.pad_sequences`).",
            "Make an array of it: `np.asarray([...])`.",
        ),
        Mistake(
            "An attribute that a dataset has already",
            "class Slides(npb.BatchDataset):\n"
            "    def __init__(self, rows, **settings):\n"
            "        super().__init__(num_samples=len(rows), **settings)\n"
            "        self.rows = rows\n\n\n"
            "Slides(rows)",
            "AttributeError: Slides.rows can't be set. For another setting make a new dataset, for "
            "another epoch call set_epoch(); an attribute of your own needs another name.",
            "Choose another name: `self.samples = rows`.",
        ),
        Mistake(
            "A transform of x and y",
            "def scaled(x, y):\n    return x / 255, y\n\n\n"
            "npb.ArrayDataset(images, labels, transform=scaled)",
            "InvalidArgumentError: transform takes the parameters (x, y); expected "
            "transform(batch) or transform(batch, rng): the second argument is a random generator. "
            "Take the batch apart in it: x, y = batch.",
            "The batch comes as one argument.",
            "def scaled(batch):\n    x, y = batch\n    return x / 255, y\n\n\n"
            "npb.ArrayDataset(images, labels, transform=scaled)[0]",
        ),
        Mistake(
            "A function with too many arguments",
            "npb.ArrayDataset(images, labels, augment=npb.each(lambda image, label, rng: image))",
            "InvalidArgumentError: <lambda> takes the parameters (image, label, rng); expected "
            "<lambda>(sample) or <lambda>(sample, rng): the second argument is a random generator. "
            "Take the sample apart in it: image, label = sample.",
            "The sample comes as one argument, and a random generator if you want one.",
            "def flipped(sample, rng):\n"
            "    image, label = sample\n"
            "    return (image[:, ::-1] if rng.random() < 0.5 else image), label\n\n\n"
            "npb.ArrayDataset(images, labels, augment=npb.each(flipped))[0]",
        ),
        Mistake(
            "A Keras layer as augmentation",
            "npb.ArrayDataset(images, labels, augment=keras.layers.RandomFlip())",
            "InvalidArgumentError: augment is a Keras layer (RandomFlip), which would be given the "
            "whole batch and draws random numbers of its own; expected augment(batch) or "
            "augment(batch, rng). Put the layer into the model, or write the augmentation with "
            "rng.",
            "Put the layer into the model.",
        ),
        Mistake(
            "Samples of different shapes",
            "npb.SampleDataset(lambda row: tokens[row], num_samples=100, seed=0)[0]",
            "InvalidBatchError: load_sample(row) returned ndarray of shape (3,) and dtype int64 "
            "for x of row 72, but for row 3 one of shape (4,); expected one shape for all samples "
            "of a batch. Pad, crop or resize them to one.",
            "Bring them to one shape in `load_sample`, or put the sequences into `sources.Ragged`.",
            "npb.ArrayDataset(npb.sources.Ragged(tokens, pad_to=8))[0]",
        ),
        Mistake(
            "The data for their number",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return images[rows], labels[rows]\n\n\n"
            "Slides(images)",
            "InvalidArgumentError: num_samples is ndarray of shape (100, 8, 8, 3) and dtype uint8; "
            "expected how many samples there are. Write its length: num_samples=len(...).",
            "Say how many samples there are.",
            "class Slides(npb.BatchDataset):\n"
            "    def load(self, rows):\n"
            "        return images[rows], labels[rows]\n\n\n"
            "Slides(num_samples=len(images))",
        ),
        Mistake(
            "A load without self",
            "class Slides(npb.BatchDataset):\n"
            "    def load(rows):\n"
            "        return images[rows], labels[rows]\n\n\n"
            "Slides(100)[0]",
            "InvalidArgumentError: Slides.load takes the parameters (); expected Slides.load(rows) "
            "or Slides.load(rows, rng). Write self before rows: def load(self, rows).",
            "Write `def load(self, rows)`.",
        ),
    ],
    PARTS: [
        Mistake(
            "Percentages",
            "data.split(80, 20)",
            "InvalidArgumentError: split was given 80 (int); expected the fraction of the samples "
            "in each part, above 0 and below 1, each an argument of its own: split(0.8, 0.1, 0.1).",
            "Give fractions. The last one may be left out.",
            "train, test = data.split(0.8)",
        ),
        Mistake(
            "The words of scikit-learn",
            "data.split(test_size=0.2)",
            "UnknownSettingError: split has no argument test_size. Write train, test = "
            "dataset.split(0.8).",
            "`split` takes the fraction of each part, and `folds` takes `k`.",
            "train, test = data.split(0.8, stratify=labels)\nfolds = data.folds(5)",
        ),
        Mistake(
            "Labels of a part",
            "train, test = data.split(0.8)\ntrain.split(0.5, stratify=labels[:80])",
            "InvalidArgumentError: labels (stratify=) of split are 80 values, and the data have "
            "100 rows; expected one for each row of the whole data, also for a part of a split.",
            "Row numbers are those of the whole data, in each part. Give all labels.",
            "train, test = data.split(0.8)\ntrain.split(0.5, stratify=labels)",
        ),
        Mistake(
            "Labels of other data",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Stratified(labels[:50]))",
            "InvalidArgumentError: labels of Stratified are 50 values, and the data have 100 rows; "
            "expected one for each row of the whole data, also for a part of a split.",
            "Give a label for each row.",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Stratified(labels))",
        ),
        Mistake(
            "Sequences for lengths",
            "npb.samplers.LengthBuckets(tokens)",
            "InvalidArgumentError: lengths of LengthBuckets are a list of 100 items, the sequences "
            "themselves; expected the length of each: LengthBuckets([len(row) for row in tokens]).",
            "Give their lengths.",
            "npb.samplers.LengthBuckets([len(row) for row in tokens])",
        ),
        Mistake(
            "Datasets one by one",
            "npb.mix(data, data)",
            "InvalidArgumentError: mix was given datasets one by one; expected a list of datasets: "
            "mix([a, b], weights=[0.7, 0.3]).",
            "Give a list, and the share of each.",
            "npb.mix([data, data], weights=[0.7, 0.3])",
        ),
        Mistake(
            "A mixture without shares",
            "npb.mix([data, data])",
            "InvalidArgumentError: weights is None; expected the share of each dataset. Where each "
            "sample should come once, write concat.",
            "Give the share of each, or join them.",
            "npb.concat([data, data])",
        ),
        Mistake(
            "A fraction of folds",
            "data.folds(0.2)",
            "InvalidArgumentError: k is 0.2 (float); expected how many folds. Each of them has 1 / "
            "k of the rows to validate on: for 0.2 write folds(5).",
            "Give the number of folds.",
            "folds = data.folds(5)",
        ),
        Mistake(
            "Weights of classes for weights of rows",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Weighted({0: 1, 1: 5, 2: 5}))",
            "InvalidArgumentError: weights of Weighted are {0: 1, 1: 5, 2: 5} (dict); expected one "
            "number for each row. Of weights of classes make those of rows: "
            "Weighted([weights[label] for label in labels]).",
            "Give a weight for each row.",
            "weights = {0: 1, 1: 5, 2: 5}\n"
            "sampler = npb.samplers.Weighted([weights[label] for label in labels])\n"
            "npb.ArrayDataset(images, labels, sampler=sampler)",
        ),
        Mistake(
            "A sampler's class",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Shuffle)",
            "InvalidArgumentError: sampler is the class Shuffle; expected an object: Shuffle(...).",
            "Write the parentheses.",
            "npb.ArrayDataset(images, labels, sampler=npb.samplers.Shuffle())",
        ),
        Mistake(
            "Part of a mask",
            "data.subset(labels[:50] > 0)",
            "InvalidArgumentError: rows is ndarray of shape (50,) and dtype bool; expected row "
            "numbers, integers of shape (n,), or a boolean for each of the 100 rows of the data.",
            "Give a boolean for each row, or the numbers of rows.",
            "data.subset(np.flatnonzero(labels[:50] > 0))",
        ),
    ],
    SOURCES: [
        Mistake(
            "The words of image_dataset_from_directory",
            'npb.sources.ImageFolder("photos", image_size=(64, 64))',
            "UnknownSettingError: ImageFolder has no argument image_size. Write size=(64, 64).",
            "Write it as the message says: `ImageFolder(path, size=(64, 64))`.",
        ),
        Mistake(
            "The words of pad_sequences",
            "npb.sources.Ragged(tokens, maxlen=8)",
            "UnknownSettingError: Ragged has no argument maxlen. Write pad_to=8, and "
            "truncate='right' if longer rows are to be cut.",
            "Say how long rows are padded.",
            "npb.sources.Ragged(tokens, pad_to=8)",
        ),
        Mistake(
            "Words for numbers",
            'npb.sources.Ragged([["the", "cat"], ["sat"]])',
            "InvalidArgumentError: the time steps of Ragged are words (dtype <U3), and pad_value "
            "is 0 (int); expected numbers, or a word to pad with. Turn words into numbers first, "
            "for example with keras.layers.StringLookup; to keep them, write pad_value=''.",
            "Number the words; see [sequences and text](text.md).",
        ),
        Mistake(
            "The words of timeseries_dataset_from_array",
            "npb.sources.Windows(series, sequence_length=48)",
            "UnknownSettingError: Windows has no argument sequence_length. Write length=48.",
            "Write it as the message says.",
            "npb.sources.Windows(series, length=48)",
        ),
        Mistake(
            "Windows, and a target for each time step",
            "npb.ArrayDataset(npb.sources.Windows(series, length=48), series)",
            "InvalidDataError: y has 500 rows, but x has 453; expected the same number in every "
            "leaf. The rows of x are windows, not time steps. For the value right after each "
            "window, write keras_npbatch.sources.Windows(y, length=1, offset=48); for a value that "
            "belongs to a window, give an array with a row for each window.",
            "Targets are windows too.",
            "npb.ArrayDataset(\n"
            "    npb.sources.Windows(series, length=48),\n"
            "    npb.sources.Windows(series, length=1, offset=48),\n"
            ")",
        ),
        Mistake(
            "Filled around an array",
            "npb.sources.Filled(np.array([31, np.nan, 25]), 0)",
            "InvalidDataError: Filled was given ndarray of shape (3,) and dtype float64; expected "
            "a table or column of pandas, polars, Arrow, Parquet or `datasets`. In an array "
            "nothing can be missing, but numbers may be NaN: np.nan_to_num(data, nan=0).",
            "Replace NaN in the array.",
            "np.nan_to_num(np.array([31, np.nan, 25]), nan=0)",
        ),
        Mistake(
            "Categories filled with a number",
            'cities = pd.Series(["Rome", None, "Oslo"], dtype="category")\n'
            "npb.ArrayDataset(npb.sources.Filled(cities, 0))",
            "InvalidDataError: x is to be filled with 0 (int), and is a column of categories "
            "('Oslo', 'Rome'); expected one of them, or a new one: a str. It is read as its code.",
            "Name a category; a new one gets the last code.",
            'cities = pd.Series(["Rome", None, "Oslo"], dtype="category")\n'
            'npb.ArrayDataset(npb.sources.Filled(cities, "elsewhere"))',
        ),
        Mistake(
            "An empty folder",
            'os.makedirs("tables")\nnpb.sources.Parquet("tables")',
            "InvalidDataError: 'tables' (str) has no Parquet file; expected the path of one, or of "
            "a folder of them. Check the path, or what was written to it.",
            "Look into the folder.",
        ),
    ],
    STATE: [
        Mistake(
            "A state of another dataset",
            "state = npb.ArrayDataset(images[:50], labels[:50], seed=0).state_dict()\n"
            "data.load_state_dict(state)",
            "InvalidStateError: the state is of another dataset: num_samples was 50 and is 100; x "
            "was [[50, 8, 8, 3], 'uint8'] and is [[100, 8, 8, 3], 'uint8']; y was [[50], 'int64'] "
            "and is [[100], 'int64']. Expected a dataset with the same data and settings as the "
            "one that wrote it: with others its batches would not go on where they ended. Make "
            "it so, the seed too, or start again.",
            "Resume with the same data and settings, or begin anew.",
            "data.load_state_dict(data.state_dict())",
        ),
        Mistake(
            "Several batches by a slice",
            "data[0:2]",
            "TypeError: index is slice(0, 2, None) (slice); expected the number of a batch. "
            "Several batches: [dataset[i] for i in range(0, 2)]; samples of your choice: "
            "dataset.load(np.arange(0, 2))",
            "A dataset is a sequence of batches, each by its number.",
            "[data[i] for i in range(0, 2)]",
        ),
    ],
}

MISTAKES = [mistake for mistakes in GALLERY.values() for mistake in mistakes]

_INTRO = """\
# Common mistakes

The commonest mistakes of new users: what they wrote, the error they got, and what to write instead.
Most mistakes are found when the dataset is made, the others with its first batch. If a message does
not help you, that is a fault of ours: please report it. The page on [errors](errors.md) explains
each class of error.

The examples use these data. Their values do not matter, only their shapes and types:
"""


@cache
def names() -> dict[str, Any]:
    """The names that the examples use."""
    found: dict[str, Any] = {}
    exec(SETUP, found)
    return found


def told(mistake: Mistake, known: dict[str, Any]) -> str:
    """What is said about a mistake; its message itself if that has `...` where they differ."""
    module = types.ModuleType("written")
    vars(module).update(known)
    try:
        exec(compile(mistake.wrong, "written", "exec"), vars(module))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the user is told
        said = f"{type(error).__name__}: {error}"
    else:
        return "nothing"
    same = doctest.OutputChecker().check_output(mistake.message, said, doctest.ELLIPSIS)
    return mistake.message if same else said


def page() -> str:
    """The page, made of the table."""
    parts = [_INTRO, f"```python\n{SETUP}```\n"]
    for section, mistakes in GALLERY.items():
        parts.append(f"## {section}\n")
        for mistake in mistakes:
            parts.append(f"### {mistake.name}\n")
            parts.append(f"<!-- mistake -->\n```python\n{mistake.wrong}\n```\n")
            told = textwrap.fill(
                mistake.message, _WIDTH, break_long_words=False, break_on_hyphens=False
            )
            parts.append(f"```text\n{told}\n```\n")
            parts.append(f"{textwrap.fill(mistake.do, 120, break_on_hyphens=False)}\n")
            if mistake.right:
                parts.append(f"```python\n{mistake.right}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
