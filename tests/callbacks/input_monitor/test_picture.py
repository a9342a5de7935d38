"""The picture of `InputMonitor` has the figures that training wrote, in milliseconds."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_npbatch.callbacks import InputMonitor
from keras_npbatch.callbacks.input_monitor.costs import Costs
from keras_npbatch.callbacks.input_monitor.picture import draw
from keras_npbatch.errors import MissingExtraError
from tests.keras_loaders import Ids

pytest.importorskip("matplotlib")


def heights(axes):
    """Those of the bars of each kind."""
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}


def test_each_epoch_has_its_wait_and_its_work(make_model, tmp_path):
    dataset = Ids(64, batch_size=4, seed=0)
    monitor = InputMonitor(dataset, patience=1000)  # it never warns
    fit = {"epochs": 5, "initial_epoch": 2, "verbose": 0, "callbacks": [monitor]}
    history = make_model(built=True).fit(dataset, **fit).history
    assert monitor.epochs == [2, 3, 4]
    step_ms = monitor.history.pop("data_step_time_ms")
    assert monitor.history == {name: history[name] for name in monitor.history}
    monitor.history["data_step_time_ms"] = step_ms

    figure = monitor.plot()
    (axes,) = figure.axes
    waits = history["data_wait_time_ms"]
    drawn = heights(axes)
    assert drawn["waits for data"] == waits
    np.testing.assert_allclose(np.add(drawn["trains"], waits), step_ms)
    shares = np.array(waits) / step_ms
    np.testing.assert_allclose(shares, history["data_wait_share"])
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel() == "mean time of a step (ms)"
    figure.savefig(tmp_path / "waiting.png")
    assert (tmp_path / "waiting.png").stat().st_size > 5_000

    make_model(built=True).fit(dataset, **fit | {"epochs": 3})
    assert monitor.epochs == [2]  # of the last fit alone
    assert {len(values) for values in monitor.history.values()} == {1}


def test_a_warning_adds_where_the_time_of_a_batch_goes(tmp_path):
    costs = Costs(reading_s=0.05, transform_s=0.0025, transport_s=0.0, busy=0.1)
    history = {"data_step_time_ms": [900.0, 40.0, 30.0], "data_wait_time_ms": [20.0, 30.0, 15.0]}
    figure = draw(history, [0, 1, 2], costs, ("workers", 7))
    steps, batch = figure.axes
    assert [bar.get_width() for bar in batch.patches] == [50, 2.5, 0]
    assert [label.get_text() for label in batch.texts] == ["50 ms", "2.5 ms", "0 ms"]
    assert [label.get_text() for label in batch.get_yticklabels()] == [
        "reading",
        "transform",
        "transport",
    ]
    assert batch.get_xlabel() == "time of one batch (ms)"
    assert figure.get_suptitle() == "To wait less: workers=7"
    assert steps.get_ylim()[1] < 60  # the first epoch, which compiles, does not make it small
    assert [label.get_text() for label in steps.texts] == ["900 ms: it compiles"]
    figure.savefig(tmp_path / "waiting.png")


@pytest.mark.parametrize("lengths", [[], [12.0]])
def test_few_epochs_can_be_drawn(lengths, tmp_path):
    history = {"data_step_time_ms": lengths, "data_wait_time_ms": lengths}
    figure = draw(history, list(range(len(lengths))))
    (axes,) = figure.axes
    assert heights(axes) == {"waits for data": lengths, "trains": [0.0] * len(lengths)}
    assert not axes.texts
    figure.savefig(tmp_path / "waiting.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as caught:
        InputMonitor(Ids(8)).plot()
    assert str(caught.value) == (
        "InputMonitor.plot() needs matplotlib, which is not installed; install it with pip install "
        "'keras_npbatch[plot]'."
    )
