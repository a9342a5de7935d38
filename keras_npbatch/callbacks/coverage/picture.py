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
        figure = figure_class(figsize=(10, 1.9 + 0.42 * len(shown)), layout="constrained")
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
        axes.barh(lines, widths, left=ends, color=color, label=kind)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    totals = [max(receipt.total, end) for receipt, end in zip(receipts, ends, strict=True)]
    axes.barh(lines, totals, fill=False, edgecolor=FAINT, linewidth=0.8)
    for line, (receipt, end) in enumerate(zip(receipts, totals, strict=True)):
        axes.text(end + 0.015 * most, line, _text(receipt), va="center", fontsize="small")
    axes.set_xlim(0, 1.45 * max(totals, default=1))  # room for the texts
    axes.set_ylim(len(receipts) - 0.4, -0.6)
    axes.set_yticks(lines, [_name(receipt) for receipt in receipts])
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


def _name(receipt: Receipt) -> str:
    """The epoch, and which part of it."""
    name = str(receipt.epoch)
    if receipt.expected != receipt.total:
        name += f", steps {receipt.steps[0]} to {receipt.steps[1] - 1}"
    if receipt.shard[1] > 1:
        name += f", shard {receipt.shard[0]} of {receipt.shard[1]}"
    return name


def _text(receipt: Receipt) -> str:
    """What was seen of the epoch, and what is wrong with it."""
    wrong = [f"{n} {kind}" for kind, n in _counts(receipt).items() if n and kind != "as expected"]
    return ", ".join([f"{receipt.seen} of {receipt.total} seen", *wrong])
