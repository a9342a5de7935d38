"""macOS and Windows: everything but worker processes works without what only Linux has."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_on_backends import quick_to_compile

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
@pytest.mark.parametrize("platform", ["win32", pytest.param("darwin", marks=pytest.mark.more)])
def test_all_but_processes_work_elsewhere(platform):
    done = subprocess.run(
        [sys.executable, "-m", "tests.elsewhere", platform],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", **quick_to_compile()},
    )
    assert done.returncode == 0, done.stderr
    refusal = (
        "worker processes were asked for (use_multiprocessing=True or start_method=...) on "
        f"{platform}; they need Linux. Use threads: workers=N, use_multiprocessing=False."
    )
    assert done.stdout.splitlines() == [
        *[refusal] * 3,
        "ArrayDataset it_can_be_sent_to_processes: worker processes need Linux",
        "ArrayDataset processes_read_the_same_batches: worker processes need Linux",
        "Plain processes_read_the_same_batches: worker processes need Linux",
    ]
