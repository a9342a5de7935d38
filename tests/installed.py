"""What a test can run on here: which backends of Keras are installed, and what they can do.

@pytest.mark.parametrize("backend", [pytest.param("torch", marks=needs("torch"))])
"""

from __future__ import annotations

import importlib.util

import pytest

__all__ = ["needs", "needs_several_steps_at_once"]


def needs(backend: str) -> pytest.MarkDecorator:
    """Skips a test where the package of a backend is not installed, and says so."""
    is_missing = importlib.util.find_spec(backend) is None
    return pytest.mark.skipif(is_missing, reason=f"{backend} is not installed")


def needs_several_steps_at_once(backend: str) -> None:
    """Skips a test of `steps_per_execution` where Keras refuses all but 1: on Torch up to 3.15."""
    import keras

    version = tuple(int(part) for part in keras.__version__.split(".")[:2])
    if backend == "torch" and version < (3, 16):
        pytest.skip("Keras before 3.16: steps_per_execution must be 1 with the PyTorch backend")
