"""The interpreter that becomes a worker process: its options, its environment, its path.

    command = [sys.executable, *options(), "-c", program(worker.__name__, "main", "7")]
    subprocess.Popen(command, env=environment())

The options are those of this interpreter, as `multiprocessing` passes them on: -E, -s, -W, -X, ...
"""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["ENVIRONMENT", "environment", "options", "program"]

ENVIRONMENT = {
    # A worker makes batches; the accelerators belong to the process that trains the model.
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}
_ENVIRONMENT_UNLESS_SET = {
    # The workers themselves are the parallelism; BLAS threads in each would compete with them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",  # macOS
    # Makes the order of a set of strings the same in all of them.
    "PYTHONHASHSEED": "0",
}


def options() -> list[str]:
    """The options of this interpreter."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]


def environment() -> dict[str, str]:
    """The environment of a worker."""
    return _ENVIRONMENT_UNLESS_SET | os.environ | ENVIRONMENT


def program(module: str, function: str, arguments: str) -> str:
    """A program that sets the path of this interpreter, and calls a function of a module.

    It may be long, as `sys.path` may be: longer than a command line.

    Args:
        module: of the function.
        function: its name.
        arguments: those of the call, as code.
    """
    path = [entry for entry in sys.path if isinstance(entry, str)]  # Python ignores others
    return (
        f"import sys; sys.path[:] = {path!a}; from {module} import {function}; "
        f"{function}({arguments})"
    )
