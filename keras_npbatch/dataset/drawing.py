"""The one style of the pictures that matplotlib draws: legible at half their width, on any page.

    with house_style("keras_npbatch.show") as figure_class:
        figure = figure_class(figsize=(8, 4), layout="constrained")

Each picture is a card of its own colour, so it reads the same on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_npbatch.errors import MissingExtraError

__all__ = ["COLORS", "FAINT", "INK", "house_style"]

PAPER, INK, FAINT, LINE = "#fcfcf8", "#1d2b33", "#51626c", "#dde3e6"
"""The card, text and marks, what is less important, and lines to read values by."""
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#51626c")
"""Of the leaves of the data, in order: those of Okabe and Ito, safe for the colour-blind."""


@contextmanager
def house_style(what: str) -> Iterator[Any]:
    """The class of figures, and the style for all that is drawn within the `with`.

    Args:
        what: what draws, for the message.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.rcsetup import cycler
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs matplotlib, which is not installed; install it with pip install "
            "'keras_npbatch[plot]'."
        ) from error
    style: Any = {
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlesize": "medium",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.prop_cycle": cycler(color=COLORS),
        "figure.constrained_layout.h_pad": 0.1,
        "figure.constrained_layout.w_pad": 0.1,
        "legend.frameon": False,
        "font.size": 12.0,
    }
    with matplotlib.rc_context(style):
        yield Figure
