"""Callbacks for `fit` that know the dataset: the first argument is the dataset to watch.

    backup = keras_npbatch.callbacks.BackupAndRestore(train, "backup")
    model.fit(train, epochs=10, callbacks=[backup])

They work on every backend, except `TorchDataParallel`, which also takes no dataset. Put callbacks
that write out the `logs` (`CSVLogger`, `TensorBoard`) after them in the list.
"""

from __future__ import annotations

from keras_npbatch.callbacks.backup.callback import BackupAndRestore
from keras_npbatch.callbacks.coverage.callback import CoverageAudit
from keras_npbatch.callbacks.coverage.receipt import Receipt
from keras_npbatch.callbacks.dataset_callback import DatasetCallback
from keras_npbatch.callbacks.input_monitor.callback import InputMonitor
from keras_npbatch.callbacks.nan_report.callback import NaNReport, replay
from keras_npbatch.callbacks.statistics.callback import BatchStatistics
from keras_npbatch.callbacks.torch_data_parallel import TorchDataParallel

__all__ = [
    "CALLBACKS",
    "BackupAndRestore",
    "BatchStatistics",
    "CoverageAudit",
    "DatasetCallback",
    "InputMonitor",
    "NaNReport",
    "Receipt",
    "TorchDataParallel",
    "replay",
]

CALLBACKS = (BackupAndRestore, BatchStatistics, CoverageAudit, InputMonitor, NaNReport)
"""Every callback of this library that watches a dataset."""
