"""The figures of `BatchStatistics` as one picture: classes, ranges, throughput and waiting.

draw(statistics.history).savefig("data.png")    # needs matplotlib
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_npbatch.errors import MissingExtraError

__all__ = ["draw"]

_MOST_NAMED = 30
"""More classes than these have no room for their numbers."""
_MOST_EPOCHS = 20
"""Ranges are drawn of the last epochs, so that the lines can be told apart."""


def draw(history: Mapping[str, list[float]]) -> Any:
    """A matplotlib `Figure` of four panels.

    Args:
        history: by name, a number for each epoch, as `BatchStatistics.history`.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "BatchStatistics.plot() needs matplotlib, which is not installed; install it with "
            "pip install 'keras_npbatch[plot]'."
        ) from error
    figure = Figure(figsize=(11, 7), layout="constrained")
    classes, ranges, speed, waiting = figure.subplots(2, 2).flat
    _draw_classes(classes, history)
    _draw_ranges(ranges, history)
    _draw_epochs(speed, history.get("data/samples_per_second", []), "samples per second")
    _draw_epochs(
        waiting, history.get("data/wait_share", []), "share of the time that training waits"
    )
    return figure


def _draw_classes(axes: Any, history: Mapping[str, list[float]]) -> None:
    """A bar for each class: its share in the last epoch; a line from the least to the most."""
    counts: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for name, values in history.items():
        match = re.fullmatch(r"(val_)?data/(.*)/class_(-?\d+)", name)
        if match:
            counts[f"{match[1] or ''}{match[2]}"][int(match[3])] = values
    numbers = sorted({number for of_leaf in counts.values() for number in of_leaf})
    width = 0.8 / max(len(counts), 1)
    for place, (leaf, of_leaf) in enumerate(sorted(counts.items())):
        rows = np.nan_to_num(np.array([of_leaf[number] for number in sorted(of_leaf)]))
        shares = rows / np.maximum(rows.sum(axis=0), 1)
        left = np.array([numbers.index(number) for number in sorted(of_leaf)]) + place * width
        last = shares[:, -1]
        span = [last - shares.min(axis=1), shares.max(axis=1) - last]
        axes.bar(left, last, width, align="edge", label=leaf, yerr=span, ecolor="black")
    if len(numbers) <= _MOST_NAMED:
        axes.set_xticks(np.arange(len(numbers)) + 0.4, numbers)
    axes.set_title("share of each class in the last epoch, and over all")
    axes.set_xlabel("class")
    if counts:
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
        axes.legend(loc="upper center", ncols=min(len(counts), 4))


def _draw_ranges(axes: Any, history: Mapping[str, list[float]]) -> None:
    """For each leaf a row: its range, mean and spread in each epoch, the last one lowest."""
    roots = [name.removesuffix("/mean") for name in history if name.endswith("/mean")]
    for row, root in enumerate(roots):
        mean, std, low, high = (
            np.array(history[f"{root}/{figure}"][-_MOST_EPOCHS:])
            for figure in ("mean", "std", "min", "max")
        )
        heights = row + 0.7 * (np.arange(len(mean)) + 0.5) / len(mean) - 0.35
        axes.hlines(heights, low, high, color=f"C{row}", alpha=0.4)
        axes.hlines(heights, mean - std, mean + std, color=f"C{row}", linewidth=3)
        axes.plot(mean, heights, ".", color="black", markersize=4, label=root)
    axes.set_yticks(range(len(roots)), [root.replace("data/", "") for root in roots])
    axes.invert_yaxis()
    limits = [np.nanmax(np.abs(history[f"{root}/max"]), initial=0) for root in roots]
    if limits and max(limits) > 100 * max(min(limits), 1e-9):
        axes.set_xscale("symlog")
    axes.set_title("range, and mean with standard deviation, epoch by epoch")


def _draw_epochs(axes: Any, values: list[float], title: str) -> None:
    axes.plot(range(len(values)), values, marker="o")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.set_xlabel("epoch")
