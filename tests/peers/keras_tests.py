"""Keras's own tests as a peer: the same tests, with and without our datasets between.

    KERAS_BACKEND=jax python -m tests.peers.keras_tests

Runs Keras's tests of the trainer, the iterator over epochs, the PyDataset adapter and the callbacks
on our datasets, and lists those that fail though they pass on what they give to Keras. Nothing of
Keras's is part of this repository: the tests are those of the installed Keras, or, where it ships
none, of the checkout or unpacked sdist of that version which `KERAS_NPBATCH_KERAS_TESTS` names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.jax_flags import quick_to_compile

ROOT = Path(__file__).parents[2]
FILES = (
    "trainers/trainer_test.py",
    "trainers/epoch_iterator_test.py",
    "trainers/data_adapters/py_dataset_adapter_test.py",
    "callbacks",
)
_SELECT = {"torch": "not _jit or non_jit"}
"""`torch.compile` takes minutes, and what is compiled sees nothing of where batches come from."""
_LIMIT_S = 1500
_SETTINGS = """\
[pytest]
python_files = *_test.py
markers =
    requires_trainable_backend: Keras's own
"""


@dataclass(frozen=True)
class Difference:
    """A test that fails with our datasets alone."""

    test: str
    message: str
    """The error that it ends with."""


@dataclass(frozen=True)
class Comparison:
    """What came of the tests."""

    same: int
    """Tests that pass on our datasets."""
    differences: tuple[Difference, ...]
    refused: tuple[str, ...]
    """Tests with arrays that an `ArrayDataset` does not take, so that Keras's adapter read them."""

    def __str__(self):
        lines = [f"{self.same} of {self.same + len(self.differences)} tests pass on our datasets"]
        lines += [f"{each.test}: {each.message}" for each in self.differences]
        lines += [f"not taken in {each}" for each in self.refused]
        return "\n".join(lines)


def find_tests() -> Path | None:
    """The folder `keras/src` that has tests in it: the copy that is given, or the installed one."""
    given = os.environ.get("KERAS_NPBATCH_KERAS_TESTS")
    root = Path(given).expanduser() if given else Path(find_spec("keras").origin).parents[1]
    for source in (root / "keras" / "src", root / "src", root):
        if (source / FILES[0]).exists():
            return source
    return None


def run(source: Path, fed_by: str, backend: str, tests: Sequence[str], select: str = "") -> dict:
    """The outcome of each test by its name."""
    with tempfile.TemporaryDirectory() as folder:
        settings, outcomes = Path(folder, "pytest.ini"), Path(folder, "outcomes.json")
        settings.write_text(_SETTINGS)
        command = [
            *(sys.executable, "-m", "pytest", "-c", str(settings), "--rootdir", str(source)),
            *("-p", "tests.peers.substitution", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("--fed-by", fed_by, "--outcomes", str(outcomes), "--import-mode", "importlib"),
            # A file may need a package that is not installed, such as orbax.
            *("-q", "--tb=no", "--timeout=300", "-k", select, "--continue-on-collection-errors"),
            *(str(source / test) for test in tests),
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        path = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
        environment |= {"KERAS_BACKEND": backend, "PYTHONPATH": path}
        if backend == "jax":
            environment |= quick_to_compile()
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode not in (0, 1):  # passed, or some tests failed
            raise RuntimeError(f"pytest ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(outcomes.read_text())


def compare(source: Path, backend: str, select: str | None = None) -> Comparison:
    """Run the tests with our datasets, and those that fail without them too."""
    ours = run(
        source, "ours", backend, FILES, _SELECT.get(backend, "") if select is None else select
    )
    failed = [test for test, found in ours.items() if found["outcome"] == "failed"]
    without = run(source, "keras", backend, failed) if failed else {}
    differences = tuple(
        Difference(test, f"{ours[test]['error']}: {' '.join(ours[test]['message'].split())}")
        for test in failed
        if without[test]["outcome"] == "passed"
    )
    same = [test for test, each in ours.items() if each["fed"] and each["outcome"] == "passed"]
    refused = [f"{test}: {reason}" for test, each in ours.items() for reason in each["refused"][:1]]
    return Comparison(len(same), differences, tuple(refused))


if __name__ == "__main__":
    source = find_tests()
    if source is None:
        raise SystemExit(
            "The installed Keras ships no tests. Set KERAS_NPBATCH_KERAS_TESTS to the folder of a "
            "checkout or an unpacked sdist of it."
        )
    sys.stdout.write(f"{compare(source, os.environ.get('KERAS_BACKEND', 'jax'))}\n")
