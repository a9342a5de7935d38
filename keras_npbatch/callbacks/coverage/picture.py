"""Draws receipts: for each, how many samples were trained on as expected, and how many were not.

draw(audit.receipts).savefig("receipts.png")    # needs matplotlib
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_npbatch.callbacks.coverage.receipt import Receipt
from keras_npbatch.dataset.drawing import COLORS, FAINT, INK, house_style

__all__ = ["draw"]

_MOST = 20
"""The last receipts, so that the lines can be read."""
_LEAST_WIDTH = 0.008
"""Of the widest bar: a single sample of a million can be seen, too."""
_HEIGHT = 0.45
"""Of a bar, where lines are 1 apart: its text stands above it."""
_KINDS = {
    "as expected": COLORS[0],
    "missing": COLORS[1],
    "repeated": COLORS[4],
    "unexpected": COLORS[3],
    "set aside": COLORS[2],
}


def draw(receipts: Sequence[Receipt]) -> Any:
    """A matplotlib `Figure` with a line for each receipt.

    Args:
        receipts: the receipts, the first at the top.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    with house_style("CoverageAudit.plot()") as figure_class:
        shown = list(receipts)[-_MOST:]
        figure = figure_class(figsize=(8.5, 1.6 + 0.6 * len(shown)), layout="constrained")
        axes = figure.subplots()
        _draw_lines(axes, shown)
        if len(shown) < len(receipts):
            axes.set_title(f"the last {len(shown)} of {len(receipts)} receipts")
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=len(_KINDS), fontsize="small")
        return figure


def _draw_lines(axes: Any, receipts: list[Receipt]) -> None:
    lines = range(len(receipts))
    most = max((max(receipt.total, receipt.seen) for receipt in receipts), default=1)
    ends = [0.0] * len(receipts)
    counts = [_counts(receipt) for receipt in receipts]
    for kind, color in _KINDS.items():
        is_right = kind == "as expected"
        least = 0 if is_right else _LEAST_WIDTH * most
        widths = [max(each[kind], least) if each[kind] else 0 for each in counts]
        if not any(widths) and not is_right:
            continue
        axes.barh(lines, widths, _HEIGHT, left=ends, color=color, label=kind)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    totals = [max(receipt.total, end) for receipt, end in zip(receipts, ends, strict=True)]
    axes.barh(lines, totals, _HEIGHT, fill=False, edgecolor=FAINT, linewidth=0.8)
    for line, receipt in enumerate(receipts):
        place = (0, line - 0.55 * _HEIGHT)
        # Not in the layout: a long one must not squeeze the bars.
        axes.text(*place, _text(receipt), va="bottom", fontsize="small", in_layout=False)
    axes.set_xlim(0, 1.02 * max(totals, default=1))
    axes.set_ylim(len(receipts) - 0.6, -0.8)
    axes.set_yticks(lines, [str(receipt.epoch) for receipt in receipts])
    axes.xaxis.get_major_locator().set_params(nbins=6, integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xlabel("samples")
    axes.set_ylabel("epoch")


def _counts(receipt: Receipt) -> dict[str, int]:
    return {
        "as expected": receipt.expected - receipt.missing - receipt.set_aside,
        "missing": receipt.missing,
        "repeated": receipt.repeated,
        "unexpected": receipt.unexpected,
        "set aside": receipt.set_aside,
    }


def _text(receipt: Receipt) -> str:
    """Which part of the epoch it is, what was seen of it, and what is wrong with it."""
    part = []
    if receipt.expected != receipt.total:
        part.append(f"steps {receipt.steps[0]} to {receipt.steps[1] - 1}")
    if receipt.shard[1] > 1:
        part.append(f"shard {receipt.shard[0]} of {receipt.shard[1]}")
    wrong = [
        f"{count:,} {kind}"
        for kind, count in _counts(receipt).items()
        if count and kind != "as expected"
    ]
    seen = f"{receipt.seen:,} of {receipt.total:,} seen"
    return f"{', '.join(part)}{': ' if part else ''}{', '.join([seen, *wrong])}"
