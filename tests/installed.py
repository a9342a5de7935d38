"""Which backends of Keras a test can run on: `dev` installs Torch on Python 3.11 alone.

@pytest.mark.parametrize("backend", [pytest.param("torch", marks=needs("torch"))])
"""

from __future__ import annotations

import importlib.util

import pytest

__all__ = ["needs"]


def needs(backend: str) -> pytest.MarkDecorator:
    """Skips a test where the package of a backend is not installed, and says so."""
    is_missing = importlib.util.find_spec(backend) is None
    return pytest.mark.skipif(is_missing, reason=f"{backend} is not installed")
