"""Checks for datasets: `check_dataset` finds what is wrong with one.

    from keras_npbatch import testing

    testing.check_dataset(Slides(paths, labels)).raise_for_findings()

`testing.strategies` has hypothesis strategies for your own tests. It needs the extra `testing`; the
rest of this package does not. Keras and the framework are imported only when a dataset is checked.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_npbatch.testing.checking import Check, check_dataset, checks_for
from keras_npbatch.testing.findings import Finding, Report

if TYPE_CHECKING:
    from keras_npbatch.testing import strategies

__all__ = ["Check", "Finding", "Report", "check_dataset", "checks_for", "strategies"]


def __getattr__(name: str) -> Any:
    if name == "strategies":  # needs hypothesis
        return importlib.import_module("keras_npbatch.testing.strategies")
    raise AttributeError(f"module 'keras_npbatch.testing' has no attribute {name!r}")
