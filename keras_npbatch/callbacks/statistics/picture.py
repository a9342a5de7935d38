"""Draws the figures of `BatchStatistics`: classes, ranges, throughput and waiting.

draw(statistics.history, statistics.epochs).savefig("data.png")    # needs matplotlib
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_npbatch.dataset.drawing import COLORS, INK, house_style

__all__ = ["draw"]

_MOST_NAMED = 30
"""There is no room to label more classes than this."""
_MOST_EPOCHS = 20
"""Ranges are drawn for this many last epochs, so that the lines can be distinguished."""
_MOST_LEAVES = 12
"""There is no room for more leaves than this."""
_VALIDATION = 0.45
"""The opacity of validation figures; their colour is that of the same leaf in training."""


def draw(history: Mapping[str, list[float]], epochs: Sequence[int]) -> Any:
    """A matplotlib `Figure` with classes, throughput, waiting, and a panel for each leaf.

    Args:
        history: a number for each epoch, by name, as in `BatchStatistics.history`.
        epochs: the numbers of these epochs.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    with house_style("BatchStatistics.plot()") as figure_class:
        return _drawn(figure_class, history, epochs)


def _drawn(figure_class: Any, history: Mapping[str, list[float]], epochs: Sequence[int]) -> Any:
    roots = [name.removesuffix("/mean") for name in history if name.endswith("/mean")]
    roots.sort(key=lambda root: (_leaf(root), root))
    leaves = list(dict.fromkeys(_leaf(root) for root in roots))
    colors = {leaf: COLORS[number % len(COLORS)] for number, leaf in enumerate(leaves)}
    shown = roots[:_MOST_LEAVES]
    figure = figure_class(figsize=(11, max(8, 0.9 * len(shown) + 1)), layout="constrained")
    halves: Any = figure.subfigures(1, 2)
    left, right = halves
    classes, speed, waiting = left.subplots(3, 1)
    _draw_classes(classes, history, colors)
    _draw_epochs(
        speed, history.get("data/samples_per_second", []), epochs, "throughput", "samples / s"
    )
    shares = [100 * share for share in history.get("data/wait_share", [])]
    _draw_epochs(waiting, shares, epochs, "training waits for data", "% of the time")
    if shown:
        panels = right.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, root in zip(panels, shown, strict=True):
            _draw_range(axes, history, epochs, root, colors[_leaf(root)])
        panels[-1].set_xlabel("value")
        _draw_key(right, len(roots) - len(shown))
    return figure


def _leaf(root: str) -> str:
    return root.removeprefix("val_").removeprefix("data/")


def _opacity(name: str) -> float:
    return _VALIDATION if name.startswith("val_") else 1.0


def _draw_classes(axes: Any, history: Mapping[str, list[float]], colors: Mapping[str, str]) -> None:
    """A bar for each class, its share in the last epoch, and a line from the least to the most."""
    counts: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for name, values in history.items():
        match = re.fullmatch(r"(val_)?data/(.*)/class_(-?\d+)", name)
        if match:
            counts[f"{match[1] or ''}{match[2]}"][int(match[3])] = values
    numbers = sorted({number for of_leaf in counts.values() for number in of_leaf})
    width = 0.8 / max(len(counts), 1)
    of_leaves = sorted(counts.items(), key=lambda item: (_leaf(item[0]), len(item[0])))
    for place, (leaf, of_leaf) in enumerate(of_leaves):
        rows = np.nan_to_num(np.array([of_leaf[number] for number in sorted(of_leaf)]))
        shares = 100 * rows / np.maximum(rows.sum(axis=0), 1)
        left = np.array([numbers.index(number) for number in sorted(of_leaf)]) + place * width
        last = shares[:, -1]
        span = [last - shares.min(axis=1), shares.max(axis=1) - last]
        look = {"color": colors.get(_leaf(leaf), COLORS[0]), "alpha": _opacity(leaf)}
        axes.bar(left, last, width, align="edge", label=leaf, yerr=span, ecolor=INK, **look)
    if len(numbers) <= _MOST_NAMED:
        axes.set_xticks(np.arange(len(numbers)) + 0.4, numbers)
    axes.set_title("classes in the last epoch; lines: in all epochs", fontsize="medium")
    axes.set_xlabel("class")
    axes.set_ylabel("% of the samples")
    if counts:
        axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend
        axes.legend(loc="upper center", ncols=min(len(counts), 4), fontsize="small")


def _draw_range(
    axes: Any, history: Mapping[str, list[float]], epochs: Sequence[int], root: str, color: str
) -> None:
    """The range, mean and spread of a leaf in each epoch, with the last epoch at the bottom."""
    mean, std, low, high = (
        np.array(history[f"{root}/{figure}"][-_MOST_EPOCHS:])
        for figure in ("mean", "std", "min", "max")
    )
    heights = np.array(epochs[-_MOST_EPOCHS:])
    alpha = _opacity(root)
    axes.hlines(heights, low, high, color=color, alpha=alpha, linewidth=1)
    axes.hlines(heights, mean - std, mean + std, color=color, alpha=alpha, linewidth=3)
    axes.plot(mean, heights, ".", color=INK, markersize=4, label=root)
    axes.set_ylim(heights[-1] + 0.7, heights[0] - 0.7)
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    name = root.replace("data/", "")
    axes.set_ylabel(name, rotation="horizontal", ha="right", va="center")
    axes.tick_params(labelsize="small")


def _draw_key(figure: Any, left_out: int) -> None:
    """The legend of the panels of leaves."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color="gray", linewidth=1, label="smallest to largest"),
        Line2D([], [], color="gray", linewidth=3, label="mean ± spread (std)"),
        Line2D([], [], color=INK, marker=".", linestyle="", label="mean"),
    ]
    more = f"; {left_out} more leaves in history" if left_out else ""
    figure.suptitle(f"values of each leaf in each epoch{more}", fontsize="medium")
    figure.supylabel("epoch", fontsize="medium")
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize="small")


def _draw_epochs(
    axes: Any, values: list[float], epochs: Sequence[int], title: str, unit: str
) -> None:
    """A value for each epoch; the first, in which Keras compiles, is separate and sets no scale."""
    axes.plot(epochs, values, "o", color=COLORS[0], fillstyle="none", label="first epoch: compiles")
    later = values[1:]
    axes.plot(epochs[1:], later, "-o", color=COLORS[0])
    scale = max((value for value in later or values if value > 0), default=0)  # ignores NaN
    axes.set_ylim(0, 1.15 * scale if scale > 0 else 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.legend(loc="best", fontsize="small")
