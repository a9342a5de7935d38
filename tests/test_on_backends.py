"""The tests in tests/keras, run for each backend in a process of its own.

Keras chooses its backend once a process, from `KERAS_BACKEND`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SUITE = Path(__file__).parent / "keras"
_LIMIT_S = 1200


@pytest.mark.timeout(_LIMIT_S + 30)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_the_suite_passes_on(backend, capsys):
    environment = {**os.environ, "KERAS_BACKEND": backend, "KERAS_NPBATCH_BACKEND": backend}
    for name in [name for name in environment if name.startswith("PYTEST")]:
        del environment[name]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", str(_SUITE), "-p", "no:cacheprovider", "-p", "no:xdist"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{backend}: {result.stdout.strip().splitlines()[-1]}\n")
    assert result.returncode == 0, result.stdout + result.stderr
