"""Names of settings and methods in other libraries, and what they are called here.

    ArrayDataset(x, y, num_workers=2)
    # UnknownSettingError: ArrayDataset has no setting num_workers. Write workers=2.

A name from torch, `tf.data`, grain or Keras leads to ours, a misspelt setting to the closest one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from keras_npbatch.arguments import advice_on, told_of_unknown
from keras_npbatch.errors import InvalidArgumentError, UnknownSettingError, describe

__all__ = ["FOLDS", "METHODS", "SETTINGS", "SPLIT", "refuses_unknown_settings"]

_Init = TypeVar("_Init", bound=Callable[..., None])

_WORKERS = "Write workers={value}."
_DROP = "Write remainder='drop'."
_AHEAD = "Write max_queue_size=N: batches made ahead at most."
_SHARD = "Write shard=(index, count), or shard='auto'."
_SEED = "Write seed=N: it decides every order and every random transform."
_TRANSFORM = (
    "Write transform=function: it takes a batch, and an rng if it wants one; for a function of one "
    "sample, transform=keras_npbatch.each(function)."
)
_COLLATE = (
    "Samples are put together as they are, and load(rows) returns whole batches; write "
    "transform=function to change them, collate=keras_npbatch.pad(...) to pad sequences."
)
_START = "Write start_method='forkserver', 'spawn' or 'fork'."
_IN_ORDER = "Leave it out: batches come in order, whatever the workers."
_LOAD = "Leave it out: batches lie in memory that the framework reads in place."
_EPOCHS = "Write fit(epochs=N); repeat() is a dataset without an end, for steps_per_epoch."
_SAMPLER = "Write sampler=..., one of keras_npbatch.samplers; batches follow from batch_size."
_SPLIT = "Write train, validation = dataset.split(0.8)."
_ROWS = "Write num_samples=N."

SETTINGS = {
    # torch.utils.data.DataLoader
    "num_workers": _WORKERS,
    "drop_last": _DROP,
    "prefetch_factor": _AHEAD,
    "collate_fn": _COLLATE,
    "pin_memory": _LOAD,
    "pin_memory_device": _LOAD,
    "persistent_workers": "Leave it out: workers live as long as a fit; `with dataset:` keeps "
    "them longer.",
    "batch_sampler": _SAMPLER,
    "generator": _SEED,
    "worker_init_fn": "Leave it out: transform(batch, rng) gets a generator that is the same "
    "under any number of workers.",
    "multiprocessing_context": _START,
    "in_order": _IN_ORDER,
    "target_transform": _TRANSFORM,
    # tf.data, tfds
    "drop_remainder": _DROP,
    "prefetch": _AHEAD,
    "buffer_size": _AHEAD,
    "prefetch_buffer_size": _AHEAD,
    "num_parallel_calls": _WORKERS,
    "deterministic": _IN_ORDER,
    "reshuffle_each_iteration": "Leave it out: shuffle=True draws a new order each epoch.",
    "map_func": _TRANSFORM,
    "num_shards": _SHARD,
    # grain
    "worker_count": _WORKERS,
    "worker_buffer_size": _AHEAD,
    "shard_options": _SHARD,
    "shard_index": _SHARD,
    "shard_count": _SHARD,
    "num_epochs": _EPOCHS,
    "operations": _TRANSFORM,
    "transformations": _TRANSFORM,
    "read_options": _AHEAD,
    # Keras, scikit-learn and others
    "epochs": _EPOCHS,
    "steps_per_epoch": "Write fit(dataset.repeat(), steps_per_epoch=N).",
    "validation_split": _SPLIT,
    "subset": _SPLIT,
    "sample_weights": "Write sample_weight=weights, the third argument of an ArrayDataset.",
    "weights": "Write sample_weight=weights, the third argument of an ArrayDataset.",
    "class_weights": "Write class_weight={{0: 1.0, 1: 5.0}}.",
    "preprocessing_function": _TRANSFORM,
    "preprocess": _TRANSFORM,
    "transforms": _TRANSFORM,
    "rng": _SEED,
    "random_state": _SEED,
    "random_seed": _SEED,
    "rank": _SHARD,
    "world_size": _SHARD,
    "bs": "Write batch_size={value}.",
    "n": _ROWS,
    "length": _ROWS,
    "size": _ROWS,
    "labels": "Write y=labels, the second argument of an ArrayDataset.",
    "targets": "Write y=targets, the second argument of an ArrayDataset.",
}
"""Names of other libraries for a setting, with the advice; see `advice_on`."""

_SHUFFLE = "Leave it out: which part a row is in depends on seed= alone, and each part is shuffled."
_SPLIT_SEED = "Write seed={value}."
_STRATIFY = "Write stratify=labels."

_REST = "Write train, validation = dataset.split({rest})."

SPLIT = {
    # scikit-learn
    "test_size": "Write train, test = dataset.split({rest}).",
    "train_size": "Write train, test = dataset.split({value}).",
    "n_splits": "For a cross-validation, write dataset.folds({value}).",
    "shuffle": _SHUFFLE,
    "random_state": _SPLIT_SEED,
    # Keras, torch and others
    "validation_split": _REST,
    "validation_size": _REST,
    "validation": _REST,
    "val_split": _REST,
    "val_size": _REST,
    "val": _REST,
    "test": "Write train, test = dataset.split({rest}).",
    "train": "Write train, test = dataset.split({value}).",
    "subset": "Write train, validation = dataset.split(0.8).",
    "left_size": "Write train, test = dataset.split({value}).",
    "right_size": "Write train, test = dataset.split({rest}).",
    "lengths": "Write split(0.8, 0.1, 0.1): the fraction of each part, an argument of its own.",
    "fractions": "Write split(0.8, 0.1, 0.1): the fraction of each part, an argument of its own.",
    "generator": "Write seed=N.",
    "labels": _STRATIFY,
    "y": _STRATIFY,
    "stratify_by_column": _STRATIFY,
}
"""Names of other libraries for an argument of `split`, with the advice."""

FOLDS = {
    "n_splits": "Write k={value}.",
    "n_folds": "Write k={value}.",
    "num_folds": "Write k={value}.",
    "cv": "Write k=N, or by= with a splitter of scikit-learn.",
    "n_repeats": "Write folds(k, seed=N) with several seeds.",
    "test_size": "Write k=N: each fold has 1 / k of the rows to validate on.",
    "shuffle": _SHUFFLE,
    "random_state": _SPLIT_SEED,
    "labels": _STRATIFY,
    "y": _STRATIFY,
}
"""Names of other libraries for an argument of `folds`, with the advice."""

METHODS = {
    # tf.data.Dataset, grain
    "map": "Give it transform=function as it is made, for one sample keras_npbatch.each(function); "
    "for tf.data: dataset.to_tf_dataset().map(f).",
    "filter": "Select the rows beforehand: ArrayDataset(x[keep], y[keep]).",
    "take": "Write itertools.islice(dataset, n), or fit(dataset.repeat(), steps_per_epoch=n).",
    "skip": "Write dataset.load_state_dict(dataset.state_dict(epoch=0, step=n)).",
    "cache": "Give it cache='8 GB' as it is made.",
    "batch": "Give it batch_size=N as it is made: a dataset is one of batches.",
    "unbatch": "Read single samples with dataset.load(rows).",
    "rebatch": "Give it batch_size=N as it is made.",
    "padded_batch": "Give it collate=keras_npbatch.pad(...) as it is made; remainder='pad' fills "
    "up the last batch.",
    "prefetch": "Batches are made ahead by its workers: workers=N, max_queue_size=N.",
    "interleave": "Give it workers=N: so many batches are made at once.",
    "enumerate": "Write enumerate(dataset).",
    "zip": "Put the parts into one dataset: ArrayDataset((x1, x2), y).",
    "concatenate": "Put the rows into one dataset: np.concatenate, or load(rows) reading both.",
    "as_numpy_iterator": "Iterate over it: batches are NumPy arrays.",
    "element_spec": "Write dataset.to_tf_dataset().element_spec.",
    "cardinality": "Write len(dataset): the batches of an epoch; dataset.num_samples: the samples.",
    "from_tensor_slices": "Write ArrayDataset(x, y).",
    "from_generator": "Write SampleDataset(load_sample, num_samples=N), which reads any sample at "
    "any time, or a BatchDataset with load(rows).",
    "shape": "Read a batch, dataset[0]: its arrays have shapes. The data: print(dataset).",
    "with_options": "Write dataset.to_tf_dataset().with_options(options).",
    "window": "Make the windows in load(rows), each a row.",
    "to_iter_dataset": "Iterate over it: for batch in dataset.",
    "random_map": "Give it augment=function(batch, rng) as it is made.",
    # torch, Hugging Face
    "collate_fn": "load(rows) returns whole batches; give it transform=function to change them.",
    "num_workers": "Read dataset.workers.",
    "drop_last": "Read dataset.remainder.",
    "train_test_split": "Write train, test = dataset.split(0.8).",
    "random_split": "Write train, validation = dataset.split(0.8).",
    "select": "Write dataset.subset(rows).",
    "set_format": "Batches are NumPy arrays; fit gives them to the framework.",
    "with_format": "Batches are NumPy arrays; fit gives them to the framework.",
    "set_transform": "Give it transform=keras_npbatch.each(function) as it is made.",
    "with_transform": "Give it transform=keras_npbatch.each(function) as it is made.",
    # Keras
    "flow": "Give the dataset itself to fit.",
}
"""Names of other libraries for a method or an attribute that a dataset lacks, with the advice."""


def refuses_unknown_settings(init: _Init) -> _Init:
    """Make an `__init__` answer an unknown setting with the user's class and the right setting.

    The signature is kept, for `inspect`, `help` and type checkers.
    """
    parameters = inspect.signature(init).parameters
    by_position = [name for name, it in parameters.items() if it.kind is not it.KEYWORD_ONLY]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **settings: Any) -> None:
        name = type(self).__name__
        unknown = {key: value for key, value in settings.items() if key not in parameters}
        if unknown:
            known = [key for key in parameters if key != "self"]
            advice = [_advice_on(key, value, known) for key, value in unknown.items()]
            raise UnknownSettingError(told_of_unknown(name, "setting", unknown, known, advice))
        if len(args) >= len(by_position):
            raise InvalidArgumentError(
                f"{name} was given {describe(args[len(by_position) - 1])} after "
                f"{', '.join(by_position[1:])}; expected its settings by name, such as "
                "batch_size=32."
            )
        init(self, *args, **settings)

    return checked  # type: ignore[return-value]  # the same signature


def _advice_on(key: str, value: Any, known: Iterable[str]) -> str | None:
    if key == "num_samples":
        return "It counts the rows of its arrays: select the rows, or leave num_samples out."
    if SETTINGS.get(key) is _DROP and not value:
        return "Leave it out: remainder='keep' is the default."
    return advice_on(key, value, known, SETTINGS)
