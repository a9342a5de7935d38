"""The global generators of Python, NumPy and Torch: set for a reading, and given back as found.

    with untouched():
        seed_all(0)
        dataset[3]

TensorFlow and JAX have none that Python code of a dataset would draw from: TensorFlow's can't be
read, so it could not be given back.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["seed_all", "untouched"]


@contextmanager
def untouched() -> Iterator[None]:
    """Within it, the global generators may be used; after it they are as before."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # it is what is saved
    torch = sys.modules.get("torch")
    of_torch = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(of_torch)


def seed_all(seed: int) -> None:
    """Set the global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(seed)  # that of the CPU alone: it is what is given back
