"""The public names: exactly these, and each leads somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import keras_npbatch
from tests.installed import needs
from tests.test_layers import CORE, FRAMEWORKS, NAMES, outside_imports, own_imports

ROOT = Path(__file__).parents[1]
PUBLIC = [
    "ArrayDataset",
    "BatchDataset",
    "SampleDataset",
    "Shard",
    "callbacks",
    "concat",
    "each",
    "errors",
    "mix",
    "pad",
    "samplers",
    "show",
    "sources",
    "testing",
    "to_tf_dataset",
]


def test_the_public_names_are_these() -> None:
    assert keras_npbatch.__all__ == PUBLIC == sorted(PUBLIC)


def test_dir_tells_the_public_names() -> None:
    assert dir(keras_npbatch) == sorted([*PUBLIC, "__version__", "zip"])


def test_errors_are_at_hand_without_keras() -> None:
    assert keras_npbatch.errors is importlib.import_module("keras_npbatch.errors")


@pytest.mark.parametrize("name", ["ArrayDatasets", "Dataset", "npb", "__wrapped__", "keras"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(keras_npbatch, name)
    assert str(caught.value) == f"module 'keras_npbatch' has no attribute {name!r}"
    assert not hasattr(keras_npbatch, name)


@needs("jax")
def test_a_backend_that_is_not_installed_is_explained() -> None:
    """Keras says only that there is no module, even where another backend is installed."""
    script = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "torch" else found(name)
import keras_npbatch
try:
    keras_npbatch.ArrayDataset
except ModuleNotFoundError as error:
    print(*error.__notes__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout == (
        "keras_npbatch: Keras was to use tensorflow, its backend by KERAS_BACKEND, by keras.json, "
        "or by default, and it is not installed; installed are: jax. Set KERAS_BACKEND=jax in the "
        "environment, before Keras is imported, or install the backend: pip install "
        "'keras_npbatch[tensorflow]', '[jax]' or '[torch]'.\n"
    )


def as_ruff_sorts(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions (rule RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def check(module_name: str) -> None:
    module = importlib.import_module(f"keras_npbatch.{module_name}")
    if not hasattr(module, "__all__"):
        assert Path(module.__file__).name == "__init__.py"
        return
    assert module.__all__ == sorted(module.__all__, key=as_ruff_sorts)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert not name.startswith("_")
        assert hasattr(module, name)


@pytest.mark.parametrize("name", CORE)
def test_the_list_of_a_module_is_sorted_and_leads_somewhere(name: str) -> None:
    check(name)


def importable_with(backend: str) -> list[str]:
    """The modules that need no other framework to be imported."""
    others = {"jax", "tensorflow", "torch"} - {backend}
    return [name for name in NAMES if not others & needed_by(name)]


@cache
def needed_by(name: str) -> frozenset[str]:
    """The frameworks that are imported with a module."""
    needed = FRAMEWORKS & outside_imports(name, as_it_is_imported=True)
    for other in own_imports(name, as_it_is_imported=True):
        needed |= needed_by(other)
    return frozenset(needed)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_names_that_need_keras_lead_somewhere_too() -> None:
    """In an interpreter of its own, so that the other tests stay without Keras."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import keras_npbatch
from keras_npbatch.dataset.array_dataset import ArrayDataset
from keras_npbatch.dataset.batch_dataset import BatchDataset
assert keras_npbatch.ArrayDataset is ArrayDataset
assert keras_npbatch.BatchDataset is BatchDataset
from keras_npbatch.dataset.sample_dataset import SampleDataset
assert keras_npbatch.SampleDataset is SampleDataset
from keras_npbatch.tf_data.dataset import to_tf_dataset
assert keras_npbatch.to_tf_dataset is to_tf_dataset
from tests.test_public_api import check, importable_with
for name in importable_with("jax"):
    check(name)
from keras_npbatch import *
assert ArrayDataset and BatchDataset and callbacks and each and errors and samplers and sources
assert testing and mix and concat
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ImageFolder", "sources"),
        ("Balanced", "samplers"),
        ("InvalidDataError", "errors"),
        ("BackupAndRestore", "callbacks"),
        ("check_dataset", "testing"),
    ],
)
def test_a_name_of_another_module_tells_where_it_is(name: str, place: str) -> None:
    importlib.import_module("keras")  # callbacks and testing are looked into only with Keras
    with pytest.raises(AttributeError) as caught:
        getattr(keras_npbatch, name)
    told = f"module 'keras_npbatch' has no attribute {name!r}. Write keras_npbatch.{place}.{name}"
    assert str(caught.value) == told
    assert hasattr(importlib.import_module(f"keras_npbatch.{place}"), name)


def test_a_module_that_is_asked_for_imports_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from keras_npbatch import rng` asks for an attribute, before it imports the module."""
    monkeypatch.setattr(importlib, "import_module", None)
    with pytest.raises(AttributeError, match=r"no attribute 'rng'$"):
        keras_npbatch.__getattr__("rng")
