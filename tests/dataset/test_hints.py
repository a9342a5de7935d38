"""Settings by signature, and what those are told who write another library's words."""

from __future__ import annotations

import abc
import copy
import inspect
import pickle

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, errors, pad
from keras_npbatch.batches.core import core_of
from keras_npbatch.batches.row_cache import RowCache
from keras_npbatch.batches.set_aside import SetAside
from keras_npbatch.dataset import hints
from keras_npbatch.plan.plan import Plan
from keras_npbatch.samplers.block_shuffle import BlockShuffle

X = np.zeros((20, 3), "float32")
Y = np.arange(20) % 3


class Slides(BatchDataset):
    def __init__(self, paths=(), **settings):
        super().__init__(20, **settings)
        self.paths = paths

    def load(self, rows):
        return X[rows], Y[rows]


class Stored:
    """Not in memory, so that a cache is of use."""

    shape, dtype = X.shape, X.dtype

    def __getitem__(self, rows):
        return X[rows]


SETTINGS = {
    name: parameter
    for name, parameter in inspect.signature(BatchDataset).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}


def same(batch):
    return batch


# A value of each that is not its default.
OTHERS = {
    "batch_size": 7,
    "shuffle": False,
    "sampler": BlockShuffle(4),
    "seed": 5,
    "remainder": "pad",
    "collate": pad(7),
    "transform": same,
    "augment": same,
    "class_weight": {0: 2.0},
    "shard": (1, 2),
    "cache": "1 MB",
    "on_error": "set_aside",
    "max_set_aside": 0.5,
    "workers": 3,
    "use_multiprocessing": True,
    "max_queue_size": 4,
    "start_method": "spawn",
    "timeout": 30.0,
    "memory_limit": "1 MB",
}


@pytest.mark.parametrize("kind", [ArrayDataset, SampleDataset])
def test_every_class_has_the_settings_of_a_batch_dataset(kind):
    settings = {
        name: parameter
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "num_samples"
    }
    assert settings == SETTINGS
    assert list(settings) == list(SETTINGS)
    kinds = {parameter.kind for parameter in inspect.signature(kind).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds


OF_ARRAYS = (
    *("sources", "nesting", "_is_flat", "_has_own_load", "_heaviest", "_chunked"),
    *("_keeps_blocks", "_read_ahead", "_padded", "_more_width", "_is_padded", "_largest_row"),
    "varies",
)
OF_SAMPLES = ("load_sample",)


def made_of(dataset):
    """What a setting has become, other than what arrays or samples alone have."""
    state = {
        name: value
        for name, value in core_of(dataset).__getstate__().items()
        if name not in OF_ARRAYS + OF_SAMPLES
    }
    for name, value in state.items():
        if isinstance(value, RowCache):
            state[name] = value.most_bytes
            continue
        if isinstance(value, SetAside):
            state[name] = value.__getstate__()
            continue
        if isinstance(value, Plan):  # its settings, without what it keeps
            continue
        if type(value).__module__.startswith("keras_npbatch") and not hasattr(value, "count"):
            state[name] = repr(getattr(value, "__dict__", value))
    return repr(state)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_arrives_in_all_classes(name):
    seed = {} if name == "seed" else {"seed": 1}
    chosen = {**seed, name: OTHERS[name]}
    if name == "max_set_aside":
        chosen["on_error"] = "set_aside"
    if name == "memory_limit":
        chosen["workers"] = "auto"
    assert SETTINGS[name].default != OTHERS[name]
    data = {"cache": Stored(), "collate": X.astype(object)}.get(name, X)
    of_arrays = made_of(ArrayDataset(data, Y, **chosen))
    assert of_arrays == made_of(Slides(**chosen))
    assert of_arrays == made_of(SampleDataset.of(X, **chosen))
    assert of_arrays != made_of(ArrayDataset(X, Y, seed=2 if name == "seed" else 1))


EXPECTED = (
    "Expected num_samples, batch_size, shuffle, sampler, seed, remainder, collate, transform, "
    "augment, class_weight, shard, cache, on_error, max_set_aside, workers, use_multiprocessing, "
    "max_queue_size, start_method, timeout, memory_limit."
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batchsize": 3}, "setting batchsize. Did you mean batch_size?"),
        ({"Batch_Size": 3}, "setting Batch_Size. Did you mean batch_size?"),
        ({"suffle": True}, "setting suffle. Did you mean shuffle?"),
        ({"worker": 2}, "setting worker. Did you mean workers?"),
        ({"num_workers": 2}, "setting num_workers. Write workers=2."),
        ({"num_parallel_calls": len}, "setting num_parallel_calls. Write workers=N."),
        ({"drop_last": True}, "setting drop_last. Write remainder='drop'."),
        ({"drop_remainder": True}, "setting drop_remainder. Write remainder='drop'."),
        ({"drop_last": False}, "setting drop_last. Leave it out: remainder='keep' is the default."),
        (
            {"prefetch": 2},
            "setting prefetch. Write max_queue_size=N: batches made ahead at most.",
        ),
        (
            {"class_weights": "balanced"},
            "setting class_weights. Write class_weight={0: 1.0, 1: 5.0}.",
        ),
        (
            {"batch_sampler": None},
            "setting batch_sampler. Write sampler=..., one of keras_npbatch.samplers; batches "
            "follow from batch_size.",
        ),
        ({"zzz": 1}, f"setting zzz. {EXPECTED}"),
        (
            {"zzz": 1, "num_workers": 4},
            f"settings zzz, num_workers. {EXPECTED} Write workers=4.",
        ),
    ],
    ids=str,
)
def test_an_unknown_setting_names_the_class_and_the_right_word(given, message):
    with pytest.raises(errors.UnknownSettingError) as caught:
        Slides(**given)
    assert str(caught.value) == f"Slides has no {message}"


@pytest.mark.parametrize("word", hints.SETTINGS)
def test_every_word_of_another_library_leads_to_settings_there_are(word):
    assert word not in SETTINGS
    for make in (Slides, lambda **given: ArrayDataset(X, Y, **given)):
        with pytest.raises(TypeError) as caught:
            make(**{word: 2})
        text = str(caught.value)
        assert f" has no setting {word}. " in text
        assert text.endswith(".")
        assert "{" not in text or word == "class_weights"


def test_settings_by_position_are_refused_with_the_way_to_write_them():
    for make, message in (
        (
            lambda: ArrayDataset(X, Y, 32),
            "sample_weight, the third argument, is 32 (int); expected an array of weights. "
            "Settings are given by name: batch_size=32.",
        ),
        (
            lambda: ArrayDataset(X, Y, None, 32),
            "ArrayDataset was given 32 (int) after x, y, sample_weight; expected its settings by "
            "name, such as batch_size=32.",
        ),
        (
            lambda: BatchDataset(20, 32),
            "BatchDataset was given 32 (int) after num_samples; expected its settings by name, "
            "such as batch_size=32.",
        ),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            make()
        assert str(caught.value) == message


# -------------------------------------------------------------------- attributes and methods


@pytest.mark.parametrize("word", hints.METHODS)
def test_a_method_of_another_library_tells_what_to_do_here(word):
    dataset = Slides()
    assert not hasattr(BatchDataset, word), "there is one by now"
    with pytest.raises(AttributeError) as caught:
        getattr(dataset, word)
    assert str(caught.value) == f"'Slides' object has no attribute '{word}'. {hints.METHODS[word]}"
    assert not hasattr(dataset, word)
    assert word not in dir(dataset)


def test_other_missing_attributes_are_told_as_python_does():
    with pytest.raises(AttributeError) as caught:
        Slides().nope  # noqa: B018
    assert str(caught.value) == "'Slides' object has no attribute 'nope'"


def test_attributes_of_the_user_are_never_hidden():
    class Fallback:
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return f"the mixin's {name}"

    class Own(Slides, Fallback, abc.ABC):
        take = 3

        @property
        def filter(self):
            return self._missing_inside

    dataset = Own()
    dataset.map = 5
    assert (dataset.map, dataset.take, dataset.batch) == (5, 3, "the mixin's batch")
    assert dataset.filter == "the mixin's _missing_inside"
    for twin in (copy.copy(dataset), copy.deepcopy(dataset)):
        assert (twin.map, twin.cache) == (5, "the mixin's cache")


def test_a_property_that_fails_fails_as_itself():
    class Own(Slides):
        @property
        def map(self):
            return self.not_there

    with pytest.raises(AttributeError, match=r"^'Own' object has no attribute 'not_there'$"):
        Own().map  # noqa: B018


def test_a_dataset_that_was_not_initialised_says_what_is_missing():
    bare = Slides.__new__(Slides)
    with pytest.raises(AttributeError, match="has no attribute 'map'"):
        bare.map  # noqa: B018
    again = pickle.loads(pickle.dumps(ArrayDataset(X, seed=0)))
    assert again.seed == 0


def test_shuffle_is_no_method():
    for dataset in (Slides(), ArrayDataset(X, shuffle=False)):
        with pytest.raises(TypeError) as caught:
            dataset.shuffle(500)
        assert str(caught.value) == (
            f"{type(dataset).__name__}.shuffle is {dataset.shuffle}, no method; expected "
            "shuffle=True or False where the dataset is made. There is no buffer: each epoch is a "
            "permutation of all samples."
        )
    assert Slides().shuffle is True
    assert getattr(Slides(), "shuffle") is True  # noqa: B009
    assert [each.shuffle for each in (Slides(), Slides(shuffle=False))] == [True, False]


def test_several_batches_by_a_slice_are_refused_with_what_to_write():
    with pytest.raises(TypeError) as caught:
        ArrayDataset(X, Y)[0:2]
    assert str(caught.value) == (
        "index is slice(0, 2, None) (slice); expected the number of a batch. Several batches: "
        "[dataset[i] for i in range(0, 2)]; samples of your choice: dataset.load(np.arange(0, 2))"
    )


# -------------------------------------------------------------------- split and folds


@pytest.mark.parametrize(
    ("call", "word"),
    [("split", word) for word in hints.SPLIT] + [("folds", word) for word in hints.FOLDS],
)
def test_every_word_for_split_and_folds_leads_to_what_there_is(call, word):
    method = getattr(Slides(), call)
    assert word not in inspect.signature(method).parameters or word == "fractions"
    with pytest.raises(errors.UnknownSettingError) as caught:
        method(**{word: 2})
    start, _, advice = str(caught.value).partition(". ")
    assert start == f"{call} has no argument {word}"
    assert advice.endswith(".")
    assert "{" not in advice


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (
            "split",
            {"test_size": 0.25},
            "no argument test_size. Write train, test = dataset.split(0.75).",
        ),
        (
            "split",
            {"test_size": 30},
            "no argument test_size. Write train, test = dataset.split(0.8).",
        ),
        (
            "split",
            {"train_size": 0.7},
            "no argument train_size. Write train, test = dataset.split(0.7).",
        ),
        ("split", {"train": 0.7}, "no argument train. Write train, test = dataset.split(0.7)."),
        ("split", {"stratified": Y}, "no argument stratified. Did you mean stratify?"),
        ("folds", {"n_splits": 4}, "no argument n_splits. Write k=4."),
    ],
)
def test_the_words_of_scikit_learn_lead_to_ours(call, given, message):
    with pytest.raises(errors.UnknownSettingError) as caught:
        getattr(Slides(), call)(**given)
    assert str(caught.value) == f"{call} has {message}"
