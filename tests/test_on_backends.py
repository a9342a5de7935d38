"""The tests of `fit`, `tf_data` and the callbacks, run for each backend in a process of its own.

Keras chooses its backend once a process, from `KERAS_BACKEND`. By default all of them run on Torch,
which is ready soonest, and what the model saw in `fit` on the other two; with `-m more` everything
runs on all three. (See tests/on_a_backend.py for what is the same on every backend.)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import needs
from tests.jax_flags import compiled_once, quick_to_compile

_TESTS = Path(__file__).parent
_FIT, _TF_DATA, _CALLBACKS = (str(_TESTS / name) for name in ("fit", "tf_data", "callbacks"))
_MAIN = str(_TESTS / "fit" / "test_fit.py")
"""What the model saw, in every call of Keras: tested on each backend by default."""
_NOT_MAIN = f"--ignore={_MAIN}"
_LIMIT_S = 1200


@pytest.mark.timeout(_LIMIT_S + 30)
@pytest.mark.parametrize(
    ("backend", "folders", "chosen"),
    [
        pytest.param("torch", [_FIT, _TF_DATA, _CALLBACKS], "not more", marks=needs("torch")),
        ("tensorflow", [_MAIN, _TF_DATA], "not more"),
        ("jax", [_MAIN, _TF_DATA], "not more"),
        pytest.param("tensorflow", [_FIT, _TF_DATA, _CALLBACKS], "more", marks=pytest.mark.more),
        pytest.param("jax", [_FIT, _TF_DATA, _CALLBACKS], "more", marks=pytest.mark.more),
        pytest.param("tensorflow", [_FIT, _NOT_MAIN], "not more", marks=pytest.mark.more),
        pytest.param("jax", [_FIT, _NOT_MAIN], "not more", marks=pytest.mark.more),
        pytest.param("torch", [_FIT, _CALLBACKS], "more", marks=[pytest.mark.more, needs("torch")]),
        pytest.param("tensorflow", [_CALLBACKS], "not more", marks=pytest.mark.more),
        pytest.param("jax", [_CALLBACKS], "not more", marks=pytest.mark.more),
    ],
)
def test_the_suite_passes_on(backend, folders, chosen, capsys, pytestconfig, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": backend, "KERAS_NPBATCH_BACKEND": backend}
    environment.setdefault("OMP_NUM_THREADS", "1")  # of tiny models: more threads wait, spinning
    if backend != "torch":  # the same properties with few examples
        environment.setdefault("HYPOTHESIS_PROFILE", "quick")
    if backend == "jax":
        environment |= quick_to_compile() | compiled_once(tmp_path)
    for name in [name for name in environment if name.startswith("PYTEST")]:
        del environment[name]
    # Warnings that these tests let pass are let pass there too.
    warnings = "filterwarnings=" + "\n".join(pytestconfig.getini("filterwarnings"))
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *folders, "-m", chosen, *plugins, "-o", warnings],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{backend}: {result.stdout.strip().splitlines()[-1]}\n")
    assert result.returncode == 0, result.stdout + result.stderr
