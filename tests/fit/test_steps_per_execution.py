"""Callbacks with `steps_per_execution`: each batch is counted once and named right."""

from __future__ import annotations

import json
import time

import keras
import numpy as np
import pytest

from keras_npbatch import ArrayDataset, BatchDataset
from keras_npbatch.callbacks import BatchStatistics, CoverageAudit, InputMonitor, NaNReport, replay
from keras_npbatch.errors import InvalidArgumentError, NonFiniteError

N, BATCH = 50, 8  # 7 steps an epoch

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() == "torch", reason="Keras: only steps_per_execution=1 on Torch"
    ),
    pytest.mark.skipif(
        keras.version().startswith("3.7."),
        reason="Keras 3.7: steps_per_execution; see docs/limits.md",
    ),
]


def make_dataset(*bad, **settings):
    """Row i is i / N; rows in `bad` are NaN."""
    x = np.arange(N, dtype="float32")[:, np.newaxis] / N
    x[list(bad)] = np.nan
    y = np.arange(N, dtype="float32")
    return ArrayDataset(x, y, **{"batch_size": BATCH, "seed": 1} | settings)


def first_row(step, epoch=0):
    return int(make_dataset().rows(step, epoch)[0])


def failed(dataset, folder, steps, loss="mse", **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss, steps_per_execution=steps)
    with pytest.raises(NonFiniteError) as caught:
        model.fit(dataset, verbose=0, callbacks=[NaNReport(dataset, folder)], **arguments)
    return str(caught.value), json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("bad", [0, 3, 6])
def test_the_step_with_the_nan_is_named_and_replayed(tmp_path, steps, bad):
    dataset = make_dataset(first_row(bad))
    text, report = failed(dataset, tmp_path, steps)
    rows = dataset.rows(bad, 0).tolist()
    assert text.startswith(
        f"after epoch 0, step {bad}, rows {rows}: x has 1 values that are NaN or infinite; the loss"
    )
    assert (report["epoch"], report["step"]) == (0, bad)
    assert report["batches"][report["number"]]["rows"] == rows
    x, y = replay(tmp_path, dataset)
    assert y.tolist() == rows
    assert np.isnan(x).any()


def test_of_several_steps_with_a_nan_the_first_is_named(tmp_path):
    dataset = make_dataset(first_row(4), first_row(5))
    text, report = failed(dataset, tmp_path, 3)
    assert text.startswith(f"after epoch 0, step 4, rows {dataset.rows(4, 0).tolist()}: ")
    assert report["step"] == 4
    assert report["reasons"] == [
        "x has 1 values that are NaN or infinite",
        "x of epoch 0, step 5 has 1 values that are NaN or infinite",
        "the loss of epoch 0, steps 3 to 5 is nan",
    ]


def test_an_execution_may_reach_over_the_end_of_an_epoch_of_the_data(tmp_path):
    """The second execution has steps 4, 5, 6 of epoch 1 and step 0 of epoch 2."""
    row = first_row(0, epoch=2)
    dataset = make_dataset(row).repeat()
    dataset.load_state_dict(dataset.state_dict(epoch=1, step=4))
    assert all(row not in dataset.rows(step, 1) for step in (4, 5, 6))
    text, report = failed(dataset, tmp_path, 4, steps_per_epoch=8)
    assert text.startswith(f"after epoch 2, step 0, rows {dataset.rows(0, 2).tolist()}: ")
    assert text.split("; ")[1].startswith("the loss of epoch 1, step 4 to epoch 2, step 0 is nan")
    assert np.isnan(replay(tmp_path, dataset)[0]).any()
    assert (report["epoch"], report["step"]) == (2, 0)


def of_targets_above(limit):
    def loss(y_true, y_pred):
        return keras.ops.sqrt(limit - y_true) + 0 * y_pred[:, 0]

    return loss


def test_a_loss_alone_does_not_tell_which_of_the_steps_it_was(tmp_path):
    dataset = make_dataset()
    text, report = failed(dataset, tmp_path, 3, loss=of_targets_above(-1.0))
    assert text == (
        "after epoch 0, steps 0 to 2: the loss of epoch 0, steps 0 to 2 is nan. All 3 batches are "
        "finite: which of these steps it was can only be told with steps_per_execution=1. The "
        f"batches are in {tmp_path}; make one again with keras_npbatch.callbacks.replay("
        f"{str(tmp_path)!r}, dataset, number), number from 0 to 2."
    )
    assert (report["step"], report["number"], len(report["batches"])) == (None, None, 3)
    with pytest.raises(InvalidArgumentError) as caught:
        replay(tmp_path, dataset)
    assert str(caught.value) == (
        f"the report in {tmp_path} is of 3 steps and can't tell which of them made the loss NaN or "
        "infinite; expected number, from 0 to 2."
    )
    for number in range(3):
        assert replay(tmp_path, dataset, number)[1].tolist() == dataset.rows(number, 0).tolist()


def test_a_last_execution_of_one_step_is_no_riddle(tmp_path):
    dataset = make_dataset()
    dataset.load_state_dict(dataset.state_dict(epoch=0, step=6))
    _, report = failed(dataset, tmp_path, 3, loss=of_targets_above(-1.0))
    assert (report["step"], report["number"]) == (6, 0)


@pytest.mark.parametrize("steps", [2, 3, 7, 10])
def test_each_batch_is_counted_once(make_model, steps):
    dataset, waited = make_dataset(), []
    audit, statistics = CoverageAudit(dataset), BatchStatistics(dataset, per_batch=True)
    monitor = InputMonitor(dataset)
    per_step = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: waited.append(logs["data_wait_time_ms"])
    )
    history = make_model(steps_per_execution=steps).fit(
        dataset, epochs=2, verbose=0, callbacks=[audit, statistics, monitor, per_step]
    )
    assert [receipt.is_whole for receipt in audit.receipts] == [True, True]
    assert history.history["coverage/seen"] == [N, N]
    assert statistics.history["data/samples"] == [N, N]
    assert statistics.history["data/batches"] == [7, 7]
    assert [(each["epoch"], each["step"]) for each in statistics.batches] == [
        (epoch, step) for epoch in range(2) for step in range(7)
    ]
    executions = -(-7 // steps)
    assert len(waited) == 2 * executions
    sizes = [min(steps, 7 - first) for first in range(0, 7, steps)]
    mean = np.average(waited[-executions:], weights=sizes)
    assert history.history["data_wait_time_ms"][-1] == pytest.approx(mean)


class Slow(BatchDataset):
    def load(self, rows):
        time.sleep(0.05)
        x = rows.astype("float32")[:, np.newaxis]
        return x, x  # of the rank that the built model was traced with


def test_patience_is_a_number_of_steps(make_model):
    """The first execution does not count; one of 4 steps follows."""
    dataset = Slow(8 * 4, batch_size=4, workers=0)
    monitor = InputMonitor(dataset, patience=4)
    with pytest.warns(UserWarning, match="over the last 4 steps"):
        make_model(built=True, steps_per_execution=4).fit(dataset, verbose=0, callbacks=[monitor])
