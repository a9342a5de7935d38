"""A pytest plugin: what a test of Keras's gives to Keras is fed through our datasets.

    pytest -p tests.peers.substitution --fed-by ours --outcomes FILE .../keras/src/trainers

In this process alone, `fit`, `evaluate`, `predict`, `EpochIterator` and `PyDatasetAdapter` replace
arrays by an `ArrayDataset`, and a `PyDataset`, or a generator that ends, by a `BatchDataset` of the
same batches, in the same order. Other input (endless generators, `tf.data`, `DataLoader`) is left
alone. The outcome of each test is written to FILE, with what was replaced.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import os
import types
from pathlib import Path

import keras
import pytest
from keras.src.trainers import epoch_iterator
from keras.src.trainers.data_adapters import (
    array_data_adapter,
    array_slicing,
    py_dataset_adapter,
)

from keras_npbatch import ArrayDataset, BatchDataset

_ENDLESS = 2**40
_MOST_LISTED = 500
_KERAS_BATCH_SIZE = 32

fed: list[str] = []
"""The datasets that the running test was given in place of its own data."""
refused: list[str] = []
"""Why data were left as they were, though they are arrays."""


class FromPyDataset(BatchDataset):
    """The batches of `inner`: with `shuffle` the full ones in another order each epoch."""

    def __init__(self, inner, shuffle):
        num_batches = inner.num_batches
        batch_size = _length(inner, 0)
        if num_batches is None:
            num_samples = batch_size * _ENDLESS
        else:
            last = min(batch_size, _length(inner, num_batches - 1, if_unknown=batch_size))
            num_samples = batch_size * (num_batches - 1) + last
        super().__init__(
            num_samples=num_samples,
            batch_size=batch_size,
            shuffle=bool(shuffle) and num_batches is not None,
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=max(1, inner.max_queue_size),
        )
        self.inner = inner

    def __getitem__(self, index):
        if "KERAS_NPBATCH_REVERSED" in os.environ:  # a fault, for the test of this plugin
            return self.inner[self.plan.num_batches - 1 - index]
        full = self.num_samples // self.batch_size
        first = int(self.rows(index)[0])
        if index >= full or full == _ENDLESS or not self.plan.shuffle:
            return self.inner[first // self.batch_size]
        # The order of the batches is that of their first rows, of which each has another.
        return self.inner[sum(int(self.rows(i)[0]) < first for i in range(full))]

    def on_epoch_begin(self):
        super().on_epoch_begin()
        self.inner.on_epoch_begin()

    def on_epoch_end(self):
        super().on_epoch_end()
        self.inner.on_epoch_end()


def _length(inner, index, if_unknown=1):
    try:
        return int(keras.tree.flatten(inner[index])[0].shape[0])
    except ValueError:  # of a test that wants it to be raised by the adapter
        return if_unknown


class Listed(keras.utils.PyDataset):
    """The batches that a generator gives."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def from_generator(generator):
    """Its batches as a dataset; the generator as it was if it does not end."""
    batches = list(itertools.islice(generator, _MOST_LISTED))
    if not 0 < len(batches) < _MOST_LISTED:
        return (batch for batch in itertools.chain(batches, generator))
    return from_py_dataset(Listed(batches), shuffle=False)


def from_py_dataset(inner, shuffle):
    fed.append(type(inner).__name__)
    dataset = FromPyDataset(inner, shuffle)
    return dataset if inner.num_batches is not None else dataset.repeat()


def replaced(x, y=None, sample_weight=None, *, batch_size, shuffle):
    """The dataset in place of `x`, `y` and `sample_weight`, or None to leave them."""
    if isinstance(x, BatchDataset):
        return None
    if isinstance(x, keras.utils.PyDataset):
        return from_py_dataset(x, shuffle)
    if isinstance(x, types.GeneratorType):
        return from_generator(x)
    if x is None or not isinstance(shuffle, bool):
        return None
    if not array_data_adapter.can_convert_arrays((x, y, sample_weight)):
        return None
    if any(type(leaf).__name__ == "RaggedTensor" for leaf in keras.tree.flatten((x, y))):
        return None  # no array
    x, y, sample_weight = keras.tree.map_structure(_as_array, (x, y, sample_weight))
    try:
        dataset = ArrayDataset(
            x, y, sample_weight, batch_size=batch_size or _KERAS_BATCH_SIZE, shuffle=shuffle
        )
    except (TypeError, ValueError) as error:
        refused.append(f"{type(error).__name__}: {error}")
        return None
    fed.append("arrays")
    return dataset


def _as_array(leaf):
    if hasattr(leaf, "__dlpack__") or type(leaf).__module__.startswith(("tensorflow", "torch")):
        return keras.ops.convert_to_numpy(leaf)
    return leaf


def feed(arguments, shuffle=False):
    """Replace what `arguments`, those of a call by name, has of data."""
    x, y, sample_weight = (arguments.get(name) for name in ("x", "y", "sample_weight"))
    batch_size = arguments.get("batch_size")
    dataset = replaced(x, y, sample_weight, batch_size=batch_size, shuffle=shuffle)
    if dataset is None:
        return
    arguments["x"] = dataset
    if isinstance(dataset, ArrayDataset):  # a PyDataset has all of these in it, and refuses others
        for name in ("y", "sample_weight", "batch_size"):
            arguments.pop(name, None)


def feed_fit(arguments):
    """As `feed`; the validation data too."""
    batch_size = arguments.get("batch_size")
    names = "x", "y", "sample_weight"
    data = tuple(arguments.get(name) for name in names)
    part, validation = arguments.get("validation_split"), arguments.get("validation_data")
    are_arrays = data[0] is not None and array_data_adapter.can_convert_arrays(data)
    if part and validation is None and are_arrays:
        data, validation = array_slicing.train_validation_split(data, validation_split=part)
        arguments.update(zip(names, data, strict=True))
        arguments["validation_split"] = 0.0
    if validation is not None:
        batch_size = arguments.get("validation_batch_size") or batch_size
        parts = validation if isinstance(validation, tuple | list) else (validation,)
        dataset = replaced(*parts, batch_size=batch_size, shuffle=False)
        arguments["validation_data"] = validation if dataset is None else dataset
        if isinstance(dataset, ArrayDataset):
            arguments.pop("validation_batch_size", None)
    feed(arguments, shuffle=arguments.get("shuffle", True))


def install():
    """Replace the data of every later call in this process."""
    trainer = next(each for each in keras.Model.__mro__ if "fit" in vars(each))
    for name, feeding in (("fit", feed_fit), ("evaluate", feed), ("predict", feed)):
        setattr(trainer, name, _feeding(getattr(trainer, name), feeding))

    class EpochIterator(epoch_iterator.EpochIterator):
        __init__ = _feeding(
            epoch_iterator.EpochIterator.__init__,
            lambda arguments: feed(arguments, shuffle=arguments.get("shuffle", False)),
        )

    epoch_iterator.EpochIterator = EpochIterator
    make_adapter = py_dataset_adapter.PyDatasetAdapter

    def py_dataset_adapter_of(x, class_weight=None, shuffle=False):
        if class_weight is not None:  # ours takes it from `fit`, or for a dataset with `load`
            return make_adapter(x, class_weight=class_weight, shuffle=shuffle)
        return from_py_dataset(x, shuffle)

    py_dataset_adapter.PyDatasetAdapter = py_dataset_adapter_of


def _feeding(method, feeding):
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        feeding(bound.arguments)
        # By keyword: what was taken away before others must not move them.
        arguments = {k: v for k, v in bound.arguments.items() if k not in ("self", "kwargs")}
        return method(self, **arguments, **bound.arguments.get("kwargs", {}))

    return call


def pytest_addoption(parser):
    parser.addoption("--fed-by", choices=("keras", "ours"), default="keras")
    parser.addoption("--outcomes", type=Path)


def pytest_configure(config):
    config.outcomes = {}
    if config.getoption("--fed-by") == "ours":
        install()


def pytest_collection_modifyitems(items):
    """Let the tests be no part of Keras, as the programs of its users are not."""
    for module in {item.module for item in items}:
        module.__name__ = module.__name__.replace("keras.src.", "keras_tests.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "setup":
        fed.clear(), refused.clear()
    known = item.config.outcomes.setdefault(item.nodeid, {})
    if report.when == "call" or report.outcome != "passed":
        told = str(call.excinfo.value).strip() if call.excinfo is not None else ""
        known["outcome"], known["message"] = report.outcome, told[:400]
        known["error"] = call.excinfo.typename if call.excinfo is not None else ""
    known["fed"], known["refused"] = list(fed), list(refused)
    return report


def pytest_sessionfinish(session):
    path = session.config.getoption("--outcomes")
    if path is not None:
        path.write_text(json.dumps(session.config.outcomes, indent=1))
