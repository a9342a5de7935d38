"""Draws the figures of `InputMonitor`: what a step waits, and where the time of a batch goes.

draw(monitor.history, monitor.epochs).savefig("waiting.png")    # needs matplotlib
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_npbatch.callbacks.input_monitor.costs import Costs
from keras_npbatch.dataset.drawing import COLORS, INK, house_style

__all__ = ["draw"]

_TRAINS, _WAITS = COLORS[:2]
_ROOM = 1.3
"""Above the bars, for the legend."""


def draw(
    history: Mapping[str, list[float]],
    epochs: Sequence[int],
    costs: Costs | None = None,
    advice: tuple[str, Any] | None = None,
) -> Any:
    """A matplotlib `Figure`: the time of a step in each epoch, and of a batch, if it was measured.

    Args:
        history: a number for each epoch, by name, as in `InputMonitor.history`.
        epochs: the numbers of these epochs.
        costs: what a batch takes.
        advice: the setting to change, and its new value.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    with house_style("InputMonitor.plot()") as figure_class:
        figure = figure_class(figsize=(8.5, 3.8), layout="constrained")
        if costs is None:
            _draw_steps(figure.subplots(), history, epochs)
            return figure
        steps, batch = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_steps(steps, history, epochs)
        _draw_costs(batch, costs)
        if advice is not None:
            setting, value = advice
            figure.suptitle(f"To wait less: {setting}={value}", fontweight="bold")
        return figure


def _draw_steps(axes: Any, history: Mapping[str, list[float]], epochs: Sequence[int]) -> None:
    """A bar for each epoch, of two parts; the first epoch, in which Keras compiles, sets no scale.

    The first is cut off if it is much longer than the others, and its length is written next to it.
    """
    steps = np.array(history.get("data_step_time_ms", []))
    waits = np.minimum(history.get("data_wait_time_ms", []), steps)
    axes.bar(epochs, waits, color=_WAITS, label="waits for data")
    axes.bar(epochs, steps - waits, bottom=waits, color=_TRAINS, label="trains")
    top = _ROOM * max(steps[1:] if len(steps) > 1 else steps, default=1.0)
    axes.set_ylim(0, top)
    if len(steps) and steps[0] > top:
        axes.annotate(
            f"{steps[0]:.0f} ms: it compiles",
            (epochs[0], top),
            xytext=(0, 4),
            textcoords="offset points",
            ha="left",
            fontsize="small",
        )
    axes.set_xlim(min(epochs, default=0) - 0.6, max(epochs, default=0) + 0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean time of a step (ms)")
    axes.legend(loc="upper right", ncols=2, fontsize="small")


def _draw_costs(axes: Any, costs: Costs) -> None:
    """A bar for each part of the making of a batch, with its time written beside it."""
    parts = {
        "reading": costs.reading_s,
        "transform": costs.transform_s,
        "transport": costs.transport_s,
    }
    names, times = list(parts), [1000 * seconds for seconds in parts.values()]
    bars = axes.barh(names, times, color=_WAITS)
    axes.bar_label(bars, [f"{time:.3g} ms" for time in times], padding=4, color=INK)
    axes.set_xlim(0, 1.4 * max(max(times), 1e-9))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("time of one batch (ms)")
