"""What rows are read from: sources that are given to a dataset in place of an array.

tokens = keras_npbatch.sources.Ragged(texts, pad_to=(64, 128, 256))
train = keras_npbatch.ArrayDataset(tokens, y)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Ragged", "Windows", "aligned"]

if TYPE_CHECKING:
    from keras_npbatch.sources.ragged import Ragged
    from keras_npbatch.sources.windows import Windows, aligned

_MODULE_OF = {
    "Ragged": "keras_npbatch.sources.ragged",
    "Windows": "keras_npbatch.sources.windows",
    "aligned": "keras_npbatch.sources.windows",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'keras_npbatch.sources' has no attribute {name!r}")
