"""Two real photographs, which scikit-learn brings along; found without importing it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["CHINA", "FLOWER"]

_spec = importlib.util.find_spec("sklearn")
assert _spec is not None
assert _spec.origin is not None
_FOLDER = Path(_spec.origin).parent / "datasets" / "images"
CHINA = _FOLDER / "china.jpg"
"""Of a palace: 640 pixels wide, 427 high."""
FLOWER = _FOLDER / "flower.jpg"
"""Of a flower, of the same size."""
