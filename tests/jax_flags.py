"""Variables with which JAX compiles in half the time, for tests that start processes with it.

    environment |= quick_to_compile() | compiled_once(folder)

Most of these tests compile many models that compute next to nothing, and most of those are equal.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["compiled_once", "quick_to_compile"]

_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"


@functools.cache
def quick_to_compile(more: str = "") -> dict[str, str]:
    """The variable of the environment that sets the flags, and others too.

    Each version of JAX has other flags, and ends the process for those that it doesn't know: tried
    once. A variable that is set already stays as it is.
    """
    if "XLA_FLAGS" in os.environ:
        return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {more}".strip()}
    flags = {"XLA_FLAGS": f"{more} {_FLAGS}".strip()}
    tried = subprocess.run(
        [sys.executable, "-c", "import jax; jax.jit(lambda x: x + 1)(1)"],
        env={**os.environ, **flags},
        capture_output=True,
        timeout=60,
        check=False,
    )
    if tried.returncode == 0:
        return flags
    return {"XLA_FLAGS": more} if more else {}


def compiled_once(folder: Path | str) -> dict[str, str]:
    """Variables with which equal programs are compiled once, also by several processes.

    Args:
        folder: where they are kept.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
