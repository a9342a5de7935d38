"""Layers: imports go down only, and the core needs neither Keras nor a framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_npbatch

PACKAGE = Path(keras_npbatch.__file__).parent

LAYERS = {
    0: ["arguments", "errors", "hints", "rng", "tree"],
    1: ["clock", "explanation", "order", "plan", "position", "shard", "split"],
    2: ["execution.slots", "sources", "tables"],
    3: ["assemble", "making", "moments", "owned", "recipe", "summary", "transforms"],
    4: [
        "array_batches",
        "batches",
        "execution",
        "execution.code",
        "execution.failures",
        "execution.fork_server",
        "execution.inline",
        "execution.interrupts",
        "execution.launch",
        "execution.lifeline",
        "execution.members",
        "execution.packing",
        "execution.process_stream",
        "execution.patience",
        "execution.process",
        "execution.processes",
        "execution.randomness",
        "execution.refusals",
        "execution.sending",
        "execution.shared",
        "execution.stand_ins",
        "execution.threads",
        "execution.worker",
        "planned",
    ],
    5: [
        "agreement",
        "backends",
        "backends.conversion",
        "backends.jax",
        "backends.jax_processes",
        "backends.tensorflow",
        "backends.tf_data",
        "backends.tf_spec",
        "backends.tf_strategy",
        "backends.torch",
        "backends.torch_trainer",
        "compiled",
        "engines",
        "first_batch",
        "keras_calls",
        "model_weights",
        "ranks",
        "requests",
        "service",
        "serving",
        "watching",
        "weighing",
        "worked",
    ],
    6: ["adapter", "array_dataset", "call_batches", "dataset", "tf_dataset"],
    7: [
        "__main__",
        "callbacks",
        "callbacks.backup",
        "callbacks.backup_facts",
        "callbacks.backup_folder",
        "callbacks.batch_report",
        "callbacks.classes",
        "callbacks.companions",
        "callbacks.coverage",
        "callbacks.costs",
        "callbacks.epoch_figures",
        "callbacks.files",
        "callbacks.folder_lock",
        "callbacks.images",
        "callbacks.input_monitor",
        "callbacks.last_in_list",
        "callbacks.nan_report",
        "callbacks.picture",
        "callbacks.process_states",
        "callbacks.receipt",
        "callbacks.snapshot",
        "callbacks.statistics",
        "callbacks.torch_data_parallel",
        "callbacks.training_state",
        "callbacks.watcher",
        "testing",
        "testing.all_rules",
        "testing.checking",
        "testing.copies",
        "testing.digests",
        "testing.examples",
        "testing.findings",
        "testing.keras_rules",
        "testing.memory",
        "testing.order_rules",
        "testing.printing",
        "testing.purity_rules",
        "testing.randomness",
        "testing.repetition_rules",
        "testing.rules",
        "testing.seen",
        "testing.shard_rules",
        "testing.side_effect_rules",
        "testing.strategies",
        "testing.structure_rules",
        "testing.subject",
        "testing.value_rules",
        "testing.weight_rules",
        "testing.worker_rules",
    ],
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
FRAMEWORKS = {"jax", "jaxlib", "keras", "tensorflow", "torch"}
WITHOUT_FRAMEWORKS = [name for name, layer in LAYER_OF.items() if layer <= 4]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(path: Path) -> Iterator[str]:
    """All that a module imports: at its top, in functions, for type checking alone."""
    for node in ast.walk(ast.parse(path.read_text())):
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


def own_imports(name: str) -> set[str]:
    """The modules of this package that `name` imports."""
    found = set()
    for imported in imported_by(MODULES[name]):
        if imported.split(".")[0] != "keras_npbatch":
            continue
        inside = imported.removeprefix("keras_npbatch").removeprefix(".")
        while inside not in MODULES:
            inside = inside.rpartition(".")[0]
        found.add(inside)
    return found - {name}


def outside_imports(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in imported_by(MODULES[name])}


def test_every_module_has_its_layer() -> None:
    assert sorted(LAYER_OF) == sorted(set(MODULES) - {""})


def test_the_walk_finds_imports_wherever_they_stand(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import keras_npbatch.tree\n"
        "from keras_npbatch.errors import told\n"
        "if TYPE_CHECKING:\n    from keras_npbatch import plan\n"
        "def f():\n    import torch.nn as nn\n    importlib.import_module('keras_npbatch.rng')\n"
        "try:\n    from jax import numpy\nexcept ImportError:\n    pass\n"
    )
    assert sorted(imported_by(module)) == [
        "jax.numpy",
        "keras_npbatch.errors.told",
        "keras_npbatch.plan",
        "keras_npbatch.rng",
        "keras_npbatch.tree",
        "torch.nn",
    ]


@pytest.mark.parametrize("name", sorted(LAYER_OF))
def test_imports_go_down_only(name: str) -> None:
    upwards = {
        other: LAYER_OF[other]
        for other in own_imports(name)
        if other and LAYER_OF[other] > LAYER_OF[name]
    }
    assert not upwards, f"{name} (layer {LAYER_OF[name]}) imports from above: {upwards}"


@pytest.mark.parametrize("name", sorted(LAYER_OF))
def test_no_module_imports_the_package_itself(name: str) -> None:
    """It hands names on from the top layer."""
    assert "" not in own_imports(name)


def test_there_is_no_circle_of_imports() -> None:
    waiting = {name: own_imports(name) - {""} for name in LAYER_OF}
    while ready := [name for name, needs in waiting.items() if not needs]:
        waiting = {name: needs - set(ready) for name, needs in waiting.items() if name not in ready}
    assert not waiting


@pytest.mark.parametrize("name", WITHOUT_FRAMEWORKS)
def test_the_core_imports_neither_keras_nor_a_framework(name: str) -> None:
    assert not outside_imports(name) & FRAMEWORKS


def test_only_the_package_itself_may_import_lazily_from_above() -> None:
    lazy = {"array_dataset", "callbacks", "dataset", "errors", "shard", "testing", "tf_dataset"}
    assert own_imports("") == lazy


HEAVY = sorted({*FRAMEWORKS, "h5py", "pandas", "scipy", "zarr", "sklearn", "matplotlib"})


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
    imports = "; ".join(f"import keras_npbatch.{name}" for name in WITHOUT_FRAMEWORKS)
    assert loaded_by(imports) == []
    assert loaded_by("from keras_npbatch import errors; errors.InvalidDataError") == []


def test_reading_batches_loads_neither_keras_nor_a_framework() -> None:
    """Nor does work: what is imported inside functions is imported here."""
    program = """
import numpy as np
from keras_npbatch.assemble import ClassWeight
from keras_npbatch.execution.slots import PrivateMemory, Slots
from keras_npbatch.execution.threads import ThreadedStream
from keras_npbatch.plan import Plan
from keras_npbatch.recipe import Recipe
from keras_npbatch.sources import as_source
from keras_npbatch.transforms import Transform
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
