"""Code that worker processes run: a change of what it reads is noticed, and reaches them."""

from __future__ import annotations

import threading
import types
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.workers.processes.code import Code
from tests import globals_of_a_module
from tests.inside import pool_of
from tests.workers.processes.test_pool import only_linux

SCALE: Any = 1.0
TABLE: Any = {"scale": [1.0]}
ARRAY: Any = np.ones(3)
SETTINGS: Any = types.SimpleNamespace(scale=1.0)
GENERATOR = np.random.default_rng(0)
LARGE = np.zeros(1 << 20)


def by_global() -> tuple[Any, Any]:
    def change(value: float) -> None:
        global SCALE
        SCALE = value

    return (lambda batch: batch * SCALE), change


def by_item() -> tuple[Any, Any]:
    def change(value: float) -> None:
        TABLE["scale"][0] = value

    return (lambda batch: batch * TABLE["scale"][0]), change


def by_element() -> tuple[Any, Any]:
    def change(value: float) -> None:
        ARRAY[0] = value

    return (lambda batch: batch * ARRAY[0]), change


def by_attribute() -> tuple[Any, Any]:
    def change(value: float) -> None:
        SETTINGS.scale = value

    return (lambda batch: batch * SETTINGS.scale), change


def by_cell() -> tuple[Any, Any]:
    scale = 1.0

    def change(value: float) -> None:
        nonlocal scale
        scale = value

    return (lambda batch: batch * scale), change


def by_default() -> tuple[Any, Any]:
    def transform(batch: Any, *, scale: float = 1.0) -> Any:
        return batch * scale

    def change(value: float) -> None:
        transform.__kwdefaults__ = {"scale": value}

    return transform, change


def by_helper() -> tuple[Any, Any]:
    def helper(batch: Any) -> Any:
        return batch * SCALE

    return (lambda batch: helper(batch)), by_global()[1]


def by_object() -> tuple[Any, Any]:
    class Scaler:
        factor = 1.0

        def __call__(self, batch: Any) -> Any:
            return batch * self.factor

    scaler = Scaler()

    def change(value: float) -> None:
        scaler.factor = value

    return scaler, change


def by_partial() -> tuple[Any, Any]:
    keywords = {"scale": np.ones(1)}

    def transform(batch: Any, *, settings: Any) -> Any:
        return batch * settings["scale"]

    def change(value: float) -> None:
        keywords["scale"][0] = value

    return partial(transform, settings=keywords), change


WAYS = [
    by_global,
    by_item,
    by_element,
    by_attribute,
    by_cell,
    by_default,
    by_helper,
    by_object,
    by_partial,
]


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    by_global()[1](1.0)
    by_item()[1](1.0)
    by_element()[1](1.0)
    by_attribute()[1](1.0)
    globals_of_a_module.SCALE = 1.0


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_change_of_what_code_reads_is_noticed(way: Any) -> None:
    transform, change = way()
    before = Code.of({"transform": transform})
    assert Code.of({"transform": transform}) == before
    change(2.0)
    changed = Code.of({"transform": transform})
    assert changed != before
    assert Code.of({"transform": transform}) == changed


@pytest.mark.parametrize("way", [by_global, by_cell, by_default], ids=lambda way: way.__name__)
def test_a_change_of_what_code_reads_reaches_the_workers(way: Any) -> None:
    transform, change = way()
    x = np.ones((8, 1), "float32")
    dataset = ArrayDataset(
        x, batch_size=8, transform=transform, workers=1, use_multiprocessing=True
    )
    pids, seen = [], []
    with dataset:
        for scale in (1.0, 1.0, 2.0):
            change(scale)
            seen.append(float(next(iter(dataset))[0, 0]))
            pids.append(pool_of(dataset).pids)  # type: ignore[union-attr]
    assert seen == [1.0, 1.0, 2.0]
    assert pids[0] == pids[1] != pids[2]


def test_a_change_of_what_load_reads_reaches_the_workers() -> None:
    class Scaled(BatchDataset):
        def load(self, rows: Any) -> Any:
            return np.full((len(rows), 1), SCALE)

    change = by_global()[1]
    with Scaled(8, batch_size=8, workers=1, use_multiprocessing=True) as dataset:
        for scale in (1.0, 2.0):
            change(scale)
            assert next(iter(dataset))[0, 0] == scale


def test_a_generator_that_was_drawn_from_is_no_change() -> None:
    def transform(batch: Any) -> Any:
        return batch * GENERATOR.random()

    before = Code.of({"transform": transform})
    GENERATOR.random()
    assert Code.of({"transform": transform}) == before


def test_what_can_t_be_sent_is_compared_by_identity() -> None:
    lock = threading.Lock()
    before = Code.of({"lock": lock})
    assert Code.of({"lock": lock}) == before
    assert Code.of({"lock": threading.Lock()}) != before
    assert Code.of({}) != before


def test_large_data_is_not_read() -> None:
    texts = ["text"] * 2000
    parts = {"array": LARGE, "texts": texts, "bytes": bytes(1 << 21)}
    before = Code.of(parts)
    LARGE[0] = texts[0] = 1  # type: ignore[call-overload]
    assert Code.of(parts) == before
    LARGE[0] = 0
    assert Code.of(parts | {"array": LARGE.copy()}) != before
    assert Code.of(parts | {"texts": texts.copy()}) != before


def test_a_method_does_not_bring_its_dataset_along() -> None:
    class Augmented(ArrayDataset):
        def augment(self, batch: Any) -> Any:
            return batch

    dataset = Augmented(np.ones((8, 1)), batch_size=4)
    before = Code.of({"transform": dataset.augment})
    list(dataset)
    assert Code.of({"transform": dataset.augment}) == before


# --- globals of modules that workers import ------------------------------------------------------


def test_globals_that_functions_of_a_module_read_are_noted() -> None:
    before = Code.of({"transform": globals_of_a_module.scaled})
    assert sorted(before.imported) == [
        "tests.globals_of_a_module.OFFSET",
        "tests.globals_of_a_module.SCALE",
    ]
    globals_of_a_module.SCALE = 2.0
    now = Code.of({"transform": globals_of_a_module.scaled})
    assert now == before  # workers import it: nothing else would be sent
    assert now.changed_globals(before) == ["tests.globals_of_a_module.SCALE"]


def test_a_global_of_a_module_that_changes_can_t_reach_workers_that_import_it() -> None:
    x = np.ones((8, 1), "float32")
    settings: Any = {"batch_size": 8, "workers": 1, "use_multiprocessing": True}
    dataset = ArrayDataset(x, transform=globals_of_a_module.scaled, **settings)
    list(dataset)
    dataset.close()
    globals_of_a_module.SCALE = 2.0
    with pytest.warns(
        UserWarning,
        match=r"^tests\.globals_of_a_module\.SCALE changed after worker processes of this "
        r"ArrayDataset were started, and they don't see the change: they import the module again\. "
        r"Make it an attribute of the dataset or an argument of the function, or use threads: "
        r"use_multiprocessing=False\.$",
    ):
        list(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(dataset)  # it was told once
    dataset.close()


@only_linux("it forks no worker")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_global_of_a_module_that_changes_reaches_forks() -> None:
    x = np.ones((8, 1), "float32")
    settings: Any = {"batch_size": 8, "workers": 1, "start_method": "fork"}
    dataset = ArrayDataset(
        x, transform=globals_of_a_module.scaled, use_multiprocessing=True, **settings
    )
    with dataset:
        for scale in (1.0, 2.0):
            globals_of_a_module.SCALE = scale
            assert next(iter(dataset))[0, 0] == scale
