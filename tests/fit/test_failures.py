"""An exception in the user's code reaches the caller of `fit` as itself and leaves nothing."""

from __future__ import annotations

import threading
import time
import traceback

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset
from tests.disturbed import whatever_else_runs

N, BATCH = 50, 8


class BrokenSampleError(Exception):
    """An exception of the user's own, which no framework knows."""

    def __init__(self, path, code):
        super().__init__(f"{path} is broken ({code})")
        self.code = code


class Broken(BatchDataset):
    raised_at = None

    def load(self, rows):
        if 13 in rows:
            self.raised_at = time.monotonic()
            raise BrokenSampleError("sample-13.png", 42)
        return rows.astype("float32")[:, np.newaxis], rows.astype("int32")


class LastStep(keras.callbacks.Callback):
    """When the last step ended: the first ones compile the model."""

    ended_at = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.ended_at = time.monotonic()

    on_test_batch_end = on_predict_batch_end = on_train_batch_end


def worker_threads():
    return [t for t in threading.enumerate() if t.name.startswith("keras_npbatch")]


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("built", [False, True], ids=["fresh", "built"])
@whatever_else_runs
def test_exception_in_load_arrives_as_itself(make_model, call, workers, built):
    dataset = Broken(N, batch_size=BATCH, seed=0, workers=workers)
    model = make_model(built=built)
    with pytest.raises(BrokenSampleError) as caught:
        getattr(model, call)(dataset, verbose=0, callbacks=[last := LastStep()])
    assert time.monotonic() - max(dataset.raised_at, last.ended_at) < 1.0
    assert str(caught.value) == "sample-13.png is broken (42)"
    assert caught.value.code == 42
    if call == "fit":
        step, _ = dataset.locate(13, epoch=0)
    else:
        step = 1
    (note,) = caught.value.__notes__
    assert note.startswith(f"keras_npbatch: raised by load(rows) at epoch 0, step {step}, rows [")
    functions = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "load" in functions
    deadline = time.monotonic() + 1.0
    while worker_threads() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert not worker_threads()
    assert dataset.epoch == 0


@pytest.mark.parametrize("error", [ValueError, IndexError, StopIteration, KeyError, MemoryError])
def test_types_that_frameworks_translate_arrive_as_themselves(make_model, data, error):
    """tf.data makes InvalidArgumentError, UnknownError or an early end of these."""

    def fail(batch):
        raise error("in transform")

    dataset = ArrayDataset(*data(N), batch_size=BATCH, transform=fail, workers=2)
    expected = RuntimeError if error is StopIteration else error
    with pytest.raises(expected) as caught:
        make_model().fit(dataset, verbose=0)
    assert any("raised by transform at epoch 0, step 0" in note for note in caught.value.__notes__)


def test_an_end_of_tensorflows_own_data_is_not_taken_for_the_end_of_ours(make_model, data, backend):
    if backend != "tensorflow":
        pytest.skip("tf.errors")
    import tensorflow as tf

    def fail(batch):
        raise tf.errors.OutOfRangeError(None, None, "end of the file")

    dataset = ArrayDataset(*data(N), batch_size=BATCH, transform=fail)
    with pytest.raises(RuntimeError, match="end of the file") as caught:
        make_model().fit(dataset, verbose=0)
    assert any("raised by transform at epoch 0, step 0" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_exception_the_same_dataset_trains(make_model, fit, workers):
    class Once(Broken):
        broken = True

        def load(self, rows):
            if self.broken:
                return super().load(rows)
            return rows.astype("float32")[:, np.newaxis], rows.astype("int32")

    dataset = Once(N, batch_size=BATCH, seed=0, workers=workers)
    with pytest.raises(BrokenSampleError):
        fit(make_model(built=True), dataset)
    dataset.broken = False
    seen = fit(make_model(built=True), dataset)
    assert seen.epochs == [np.concatenate([dataset.rows(step, 0) for step in range(7)]).tolist()]
