"""Layers: imports go down only, and the core needs neither Keras nor a framework."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_npbatch

PACKAGE = Path(keras_npbatch.__file__).parent

GROUND = ["arguments", "errors", "rng", "tree"]
ROOMS = [
    "samplers",
    "plan",
    "sources",
    "batches",
    "workers",
    "tensors",
    "distributed",
    "fit",
    "tf_data",
    "dataset",
    "callbacks",
    "testing",
]
"""The folders, the lowest first. What is at the top level lies below them all."""
WITHOUT_KERAS = ROOMS[: ROOMS.index("workers") + 1]
"""What a worker process imports: neither Keras nor a framework."""
FRAMEWORKS = {"jax", "jaxlib", "keras", "tensorflow", "torch"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(path: Path, *, as_it_is_imported: bool = False) -> Iterator[str]:
    """All that a module imports: as it is imported, in functions, for type checking alone."""
    module = ast.parse(path.read_text())
    for node in module.body if as_it_is_imported else ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            # `from keras_npbatch import errors` imports a module, `from ...tree import Tree` none.
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute | ast.Name)
            and getattr(node.func, "attr", getattr(node.func, "id", "")).endswith("import_module")
        ):
            (name,) = node.args
            if isinstance(name, ast.Constant):
                yield str(name.value)


@functools.cache
def own_imports(name: str, *, as_it_is_imported: bool = False) -> frozenset[str]:
    """The modules of this package that `name` imports."""
    found = set()
    for imported in imported_by(MODULES[name], as_it_is_imported=as_it_is_imported):
        if imported.split(".")[0] != "keras_npbatch":
            continue
        inside = imported.removeprefix("keras_npbatch").removeprefix(".")
        while inside not in MODULES:
            inside = inside.rpartition(".")[0]
        found.add(inside)
    return frozenset(found - {name})


def outside_imports(name: str, *, as_it_is_imported: bool = False) -> set[str]:
    found = imported_by(MODULES[name], as_it_is_imported=as_it_is_imported)
    return {imported.split(".")[0] for imported in found}


def floor_of(name: str) -> int:
    """0 for the ground, 1 for the lowest room; `__main__` is above them all."""
    room = name.partition(".")[0]
    if room in GROUND:
        return 0
    return len(ROOMS) + 1 if room == "__main__" else ROOMS.index(room) + 1


NAMES = sorted(set(MODULES) - {""})
CORE = [name for name in NAMES if floor_of(name) <= len(WITHOUT_KERAS)]


def test_the_rooms_are_the_folders() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(ROOMS) == sorted(folders)
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files == {*GROUND, "__init__", "__main__"}


def test_every_module_has_a_test_file_of_its_name_or_a_reason() -> None:
    tests = Path(__file__).parent
    elsewhere = {}
    for line in (tests / "tested_by.txt").read_text().splitlines():
        name, _, where = line.partition(": ")
        file, _, reason = where.partition(" | ")
        assert (tests / file).is_file(), line
        assert reason, line
        elsewhere[name] = file
    without = set()
    for name, path in MODULES.items():
        place = path.relative_to(PACKAGE)
        of_its_name = tests / place.parent / f"test_{place.stem.strip('_')}.py"
        if path.name != "__init__.py" and not of_its_name.is_file():
            without.add(name)
    assert elsewhere.keys() == without


def test_the_walk_finds_imports_wherever_they_stand(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import keras_npbatch.tree\n"
        "from keras_npbatch.errors import describe\n"
        "if TYPE_CHECKING:\n    from keras_npbatch import plan\n"
        "def f():\n    import torch.nn as nn\n    importlib.import_module('keras_npbatch.rng')\n"
        "try:\n    from jax import numpy\nexcept ImportError:\n    pass\n"
    )
    assert sorted(imported_by(module)) == [
        "jax.numpy",
        "keras_npbatch.errors.describe",
        "keras_npbatch.plan",
        "keras_npbatch.rng",
        "keras_npbatch.tree",
        "torch.nn",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_down_only(name: str) -> None:
    others = own_imports(name) - {""}
    upwards = [other for other in sorted(others) if floor_of(other) > floor_of(name)]
    assert not upwards, f"{name} imports from a higher room: {', '.join(upwards)}"


@pytest.mark.parametrize("name", NAMES)
def test_no_module_imports_the_package_itself(name: str) -> None:
    """It hands names on from the top."""
    assert "" not in own_imports(name)


def test_there_is_no_circle_of_imports() -> None:
    """Between rooms the floors exclude it; here, within a room."""
    waiting = {name: own_imports(name) - {""} for name in NAMES}
    while ready := [name for name, needs in waiting.items() if not needs]:
        waiting = {name: needs - set(ready) for name, needs in waiting.items() if name not in ready}
    assert not waiting


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_neither_keras_nor_a_framework(name: str) -> None:
    assert not outside_imports(name) & FRAMEWORKS


def test_only_the_package_itself_may_import_lazily_from_above() -> None:
    assert own_imports("") == {
        "batches.each",
        "batches.pad",
        "callbacks",
        "dataset.array_dataset",
        "dataset.batch_dataset",
        "dataset.joined_dataset",
        "dataset.sample_dataset",
        "dataset.show",
        "dataset.zipped_dataset",
        "errors",
        "plan.shard",
        "samplers",
        "sources",
        "testing",
        "tf_data.dataset",
    }


HEAVY = sorted(
    {
        *FRAMEWORKS,
        "fsspec",
        "h5py",
        "pandas",
        "scipy",
        "zarr",
        "sklearn",
        "matplotlib",
        "PIL",
        "simplejpeg",
    }
    | {"pyarrow", "polars", "datasets", "xarray", "dask"}
)


def loaded_by(program: str) -> list[str]:
    """The heavy packages that are loaded after `program`, in an interpreter of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{program}\nimport sys; print(*[n for n in {HEAVY!r} if n in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def test_importing_the_package_loads_no_heavy_one() -> None:
    assert loaded_by("import keras_npbatch") == []


def test_importing_what_checks_datasets_loads_no_heavy_one() -> None:
    assert loaded_by("import keras_npbatch.testing; import keras_npbatch.__main__") == []


def test_importing_the_core_loads_neither_keras_nor_a_framework() -> None:
    imports = "; ".join(f"import keras_npbatch.{name}" for name in CORE)
    assert loaded_by(imports) == []
    assert loaded_by("from keras_npbatch import errors; errors.InvalidDataError") == []


def test_reading_batches_loads_neither_keras_nor_a_framework() -> None:
    """Nor does work: what is imported inside functions is imported here."""
    program = """
import numpy as np
from keras_npbatch.batches.class_weight import ClassWeight
from keras_npbatch.batches.slots import PrivateMemory, Slots
from keras_npbatch.workers.threads import ThreadedStream
from keras_npbatch.plan.plan import Plan
from keras_npbatch.batches.recipe import Recipe
from keras_npbatch.sources.sources import as_source
from keras_npbatch.batches.transforms import Transform
x, y = as_source(np.zeros((100, 3)), "x"), as_source(np.arange(100), "y")
lease = Slots(PrivateMemory(kept=2)).lease
recipe = Recipe(
    Plan(100, 32, remainder="pad"),
    lambda rows: (x.read(rows, lease), y.read(rows, lease)),
    Transform(lambda batch, rng: batch),
    ClassWeight({0: 2.0}),
)
assert len(list(ThreadedStream(lambda step: recipe(0, step), range(4), workers=2, ahead=2))) == 4
"""
    assert loaded_by(program) == []
