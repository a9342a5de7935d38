"""Exactly-once, reshuffled, fast batches from NumPy data for Keras 3.

    import keras_npbatch as npb

    train = npb.ArrayDataset(x, y, batch_size=256, seed=0)
    model.fit(train, epochs=10)

Importing this package imports neither Keras nor a framework: each name is loaded on first use.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ArrayDataset",
    "BatchDataset",
    "SampleDataset",
    "Shard",
    "callbacks",
    "concat",
    "each",
    "errors",
    "mix",
    "pad",
    "samplers",
    "show",
    "sources",
    "testing",
    "to_tf_dataset",
]
# Not `zip`, which `from keras_npbatch import *` would put in the place of the builtin.

if TYPE_CHECKING:
    from keras_npbatch import callbacks, errors, samplers, sources, testing
    from keras_npbatch.batches.each import each
    from keras_npbatch.batches.pad import pad
    from keras_npbatch.dataset.array_dataset import ArrayDataset
    from keras_npbatch.dataset.batch_dataset import BatchDataset
    from keras_npbatch.dataset.joined_dataset import concat, mix
    from keras_npbatch.dataset.sample_dataset import SampleDataset
    from keras_npbatch.dataset.show import show
    from keras_npbatch.dataset.zipped_dataset import zip_datasets as zip  # noqa: A004, F401  # its public name
    from keras_npbatch.plan.shard import Shard
    from keras_npbatch.tf_data.dataset import to_tf_dataset

_MODULE_OF = {
    "ArrayDataset": "keras_npbatch.dataset.array_dataset",
    "BatchDataset": "keras_npbatch.dataset.batch_dataset",
    "SampleDataset": "keras_npbatch.dataset.sample_dataset",
    "Shard": "keras_npbatch.plan.shard",
    "each": "keras_npbatch.batches.each",
    "concat": "keras_npbatch.dataset.joined_dataset",
    "mix": "keras_npbatch.dataset.joined_dataset",
    "show": "keras_npbatch.dataset.show",
    "pad": "keras_npbatch.batches.pad",
    "to_tf_dataset": "keras_npbatch.tf_data.dataset",
}


_BACKENDS = ("tensorflow", "jax", "torch")


def __getattr__(name: str) -> Any:
    try:
        if name in ("callbacks", "errors", "samplers", "sources", "testing"):
            return importlib.import_module(f"keras_npbatch.{name}")
        if name == "zip":  # the package alone hides the builtin
            module = importlib.import_module("keras_npbatch.dataset.zipped_dataset")
            return module.zip_datasets
        if name in _MODULE_OF:
            return getattr(importlib.import_module(_MODULE_OF[name]), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _BACKENDS:
            error.add_note(_explained(missing))
        raise
    raise AttributeError(
        f"module 'keras_npbatch' has no attribute {name!r}{_where(name)}",
        name=name,
        obj=sys.modules[__name__],
    )


def _where(name: str) -> str:
    """The module that has a public name, if it is one that needs no import of Keras now."""
    # `from keras_npbatch import rng` asks here first: then nothing may be imported.
    if not name[:1].isupper() and name != "check_dataset":
        return ""
    for module_name in ("sources", "samplers", "errors", "callbacks", "testing"):
        full = f"keras_npbatch.{module_name}"
        is_light = module_name not in ("callbacks", "testing")
        if (is_light or "keras" in sys.modules) and name in importlib.import_module(full).__all__:
            return f". Write {full}.{name}"
    return ""


def _explained(backend: str) -> str:
    installed = [name for name in _BACKENDS if name != backend and importlib.util.find_spec(name)]
    return (
        f"keras_npbatch: Keras was to use {backend}, its backend by KERAS_BACKEND, by keras.json, "
        "or by default, and it is not installed; installed are: "
        f"{', '.join(installed) or 'none'}. Set KERAS_BACKEND={[*installed, '...'][0]} "
        "in the environment, before Keras is imported, or install the backend: pip install "
        "'keras_npbatch[tensorflow]', '[jax]' or '[torch]'."
    )


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "zip"])
