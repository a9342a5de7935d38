"""The picture of receipts has a line for each, with all that its receipt counts."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_npbatch import ArrayDataset
from keras_npbatch.callbacks import CoverageAudit
from keras_npbatch.callbacks.coverage.picture import draw
from keras_npbatch.callbacks.coverage.receipt import Tally
from keras_npbatch.errors import MissingExtraError

pytest.importorskip("matplotlib")


N = 50
PLAN = ArrayDataset(np.zeros(N), batch_size=10, seed=1).plan


def a_receipt(batches, epoch=0, stop=5):
    """Of a pass in which these rows came, batch by batch."""
    tally = Tally(PLAN, epoch, 0)
    for step, rows in enumerate(batches):
        tally.count(step, rows)
    return tally.receipt(stop)


def right(epoch=0, stop=5):
    return a_receipt([PLAN.rows(epoch, step) for step in range(stop)], epoch, stop)


def widths(axes):
    return {
        bars.get_label(): [round(bar.get_width(), 6) for bar in bars]
        for bars in axes.containers
        if not bars.get_label().startswith("_")
    }


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_right_receipts_are_full_bars(tmp_path):
    figure = draw([right(epoch) for epoch in range(3)])
    (axes,) = figure.axes
    assert widths(axes) == {"as expected": [N] * 3}
    assert texts(axes) == ["50 of 50 seen"] * 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("samples", "epoch")
    figure.savefig(tmp_path / "receipts.png")
    assert (tmp_path / "receipts.png").stat().st_size > 3_000


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, N - 1), min_size=10, max_size=10), max_size=5))
def test_every_sample_that_was_due_is_in_the_bar(batches):
    receipt = a_receipt([np.array(rows) for rows in batches])
    (axes,) = draw([receipt]).axes
    found = {kind: width for kind, (width,) in widths(axes).items()}
    assert found["as expected"] + found.get("missing", 0) == N
    assert found.get("repeated", 0) == receipt.repeated
    assert texts(axes)[0].startswith(f"{receipt.seen} of {N} seen")
    assert (f", {receipt.missing} missing" in texts(axes)[0]) == (receipt.missing > 0)


def test_a_part_of_an_epoch_and_one_lost_sample_can_be_seen(tmp_path):
    lost = dataclasses.replace(
        right(1), expected=10**6, total=10**6, seen=10**6 - 1, missing=1, set_aside=0
    )
    of_shard = dataclasses.replace(right(2), shard=(1, 4))
    figure = draw([right(3, stop=2), lost, of_shard])
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["3, steps 0 to 1", "1", "2, shard 1 of 4"]
    assert texts(axes) == ["20 of 50 seen", "999999 of 1000000 seen, 1 missing", "50 of 50 seen"]
    drawn = widths(axes)
    assert drawn["as expected"] == [20, 999_999, 50]
    assert drawn["missing"] == [0, 8000, 0]  # wide enough to be seen
    figure.savefig(tmp_path / "receipts.png")


def test_only_the_last_are_drawn_and_none_can_be():
    receipts = [dataclasses.replace(right(), epoch=epoch) for epoch in range(23)]
    (axes,) = draw(receipts).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*map(str, range(3, 23))]
    assert axes.get_title() == "the last 20 of 23 receipts"
    (axes,) = CoverageAudit(ArrayDataset(np.zeros(N), seed=1)).plot().axes
    assert texts(axes) == []


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as caught:
        CoverageAudit(ArrayDataset(np.zeros(N), seed=1)).plot()
    assert str(caught.value) == (
        "CoverageAudit.plot() needs matplotlib, which is not installed; install it with pip "
        "install 'keras_npbatch[plot]'."
    )
