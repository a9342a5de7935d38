"""Every example runs on every backend, and says what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_EXAMPLES = Path(__file__).parent.parent / "examples"
_LIMIT_S = 300

_SAYS = {
    "01_digits.py": [
        r"test accuracy: 0\.[5-9]",
        r"epoch 0: 1437 rows, 1437 different",
        r"sample 7 was in batch \d+ of epoch 2",
    ],
    "02_augmentation.py": [
        r"4 workers and 0 workers give the same weights, bit for bit",
        r"batch 5 of epoch 3: labels \[3, 1, 1, 6, 5, 2, 1, 4\]",
    ],
    "03_files.py": [
        r"test accuracy: 0\.[3-9]",
        r"keras_npbatch: raised by load\(rows\) at epoch 3, step \d+, rows \[",
    ],
}


def test_every_example_is_tested():
    assert sorted(_SAYS) == sorted(path.name for path in _EXAMPLES.glob("*.py"))


@pytest.mark.timeout(_LIMIT_S + 30)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("example", sorted(_SAYS))
def test_example_runs(example, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, str(_EXAMPLES / example), "--epochs", "3"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for pattern in _SAYS[example]:
        assert re.search(pattern, result.stdout), f"{pattern} is not in:\n{result.stdout}"
