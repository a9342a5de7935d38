"""A user's attributes are the user's: whatever their names, nothing changes or an error tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_npbatch import ArrayDataset, BatchDataset, SampleDataset, errors
from keras_npbatch.batches.array_loader import ArrayCore
from keras_npbatch.batches.core import ATTRIBUTE, Core
from keras_npbatch.batches.sample_loader import SampleCore
from keras_npbatch.fit.adapter import Calls
from keras_npbatch.fit.session import Session
from keras_npbatch.workers.executor import Executor

N, BATCH = 10, 4

OURS = {name for kind in (ArrayDataset, BatchDataset, SampleDataset) for name in dir(kind)}
KERAS_S = {name for kind in (DataAdapter, keras.utils.PyDataset) for name in dir(kind)}
OF_PARTS = {
    f"{underscore}{name.lstrip('_')}"
    for kind in (ArrayCore, Calls, Core, Executor, SampleCore, Session)
    for name in [*dir(kind), *kind.__init__.__code__.co_names]
    for underscore in ("", "_")
}
SET_BY_KERAS = {"_workers", "_use_multiprocessing", "_max_queue_size"}
USUAL = {"_cache", "_data", "_epoch", "_files", "_lock", "_paths", "_pool", "_rng", "_seed", "_x"}
NAMES = sorted(
    name
    for name in OURS | KERAS_S | OF_PARTS | SET_BY_KERAS | USUAL
    if not name.startswith("__") and name != ATTRIBUTE and name.isidentifier()
)
WRITTEN_BY_USERS = {"load", "on_epoch_begin", "on_epoch_end"}
SETTINGS = {"workers", "use_multiprocessing", "max_queue_size"}
"""Attributes that can be set."""

any_name = st.from_regex(r"_?[a-z]{1,6}(_[a-z]{1,5})?", fullmatch=True)
names = st.one_of(st.sampled_from(NAMES), any_name)


def make(**members: Any) -> type[BatchDataset]:
    def init(self: Any, before: dict[str, Any], after: dict[str, Any], **settings: Any) -> None:
        for name, value in before.items():
            setattr(self, name, value)
        BatchDataset.__init__(self, N, batch_size=BATCH, seed=1, **settings)
        for name, value in after.items():
            setattr(self, name, value)

    def load(self: Any, rows: Any) -> Any:
        return rows * 2

    return type("Loader", (BatchDataset,), {"load": load, "__init__": init, **members})


def epochs(dataset: BatchDataset) -> list[list[int]]:
    found = [np.concatenate(list(dataset)).tolist() for _ in range(2)]
    return [*found, np.concatenate(list(dataset.batches_for("predict"))).tolist()]


EXPECTED = epochs(make()({}, {}))


def made_or_refused(kind: Callable[[], BatchDataset]) -> BatchDataset | str:
    try:
        return kind()
    except (AttributeError, errors.InvalidArgumentError) as error:
        return str(error)


@given(name=names, when=st.sampled_from(["before", "after"]), workers=st.sampled_from([0, 2]))
def test_an_attribute_of_the_instance_is_the_users(name: str, when: str, workers: int) -> None:
    value = object()
    given_then = [{name: value} if when == moment else {} for moment in ("before", "after")]
    dataset = made_or_refused(lambda: make()(*given_then, workers=workers))
    if name in SETTINGS:
        assert name == "use_multiprocessing" or str(dataset).startswith(f"{name} is <object")
    elif isinstance(dataset, str):
        assert dataset.startswith(f"Loader.{name} can't be set.")
        assert not name.startswith("_")
    elif name not in WRITTEN_BY_USERS:
        assert getattr(dataset, name) is value
        assert epochs(dataset) == EXPECTED
        assert getattr(dataset, name) is value


@given(name=names)
def test_an_attribute_of_the_class_is_the_users(name: str) -> None:
    value = object()
    dataset = made_or_refused(lambda: make(**{name: value})({}, {}))
    if isinstance(dataset, str):
        assert dataset.startswith(f"the class Loader has an attribute {name}, which is ")
        assert hasattr(BatchDataset, name)
    elif name not in WRITTEN_BY_USERS:
        assert epochs(dataset) == EXPECTED
        assert getattr(dataset, name) is value


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WRITTEN_BY_USERS])
def test_each_name_by_itself(name: str) -> None:
    for when in ("before", "after"):
        test_an_attribute_of_the_instance_is_the_users.hypothesis.inner_test(name, when, 0)
    test_an_attribute_of_the_class_is_the_users.hypothesis.inner_test(name)


def test_a_dataset_has_one_attribute_of_ours() -> None:
    assert list(vars(BatchDataset.__new__(BatchDataset))) == []
    assert list(vars(ArrayDataset(np.zeros(4)))) == [ATTRIBUTE]
    assert list(vars(SampleDataset.of(np.zeros(4)))) == [ATTRIBUTE]


def test_few_classes_stand_above_a_dataset() -> None:
    above = [kind.__name__ for kind in ArrayDataset.__mro__[:-1]]
    assert above == ["ArrayDataset", "BatchDataset", "Batches", "DataAdapter", "PyDataset"]


def test_a_mixin_hides_nothing_either() -> None:
    class Mixin:
        epoch = 3

    with pytest.raises(errors.InvalidArgumentError, match="has an attribute epoch, which is a"):
        type("Loader", (Mixin, BatchDataset), {})
    with pytest.raises(errors.InvalidArgumentError, match="has an attribute epoch, which is a"):
        type("Loader", (Mixin, ArrayDataset), {})
    assert type("Loader", (ArrayDataset, Mixin), {}).epoch is ArrayDataset.epoch


def test_a_method_may_be_overridden_by_another() -> None:
    def rows(self: Any, *place: Any) -> str:
        return "mine"

    dataset = make(rows=rows, state_dict=rows)({}, {})
    assert dataset.rows(0) == "mine"
    assert epochs(dataset) == EXPECTED
