"""The house style: colours that can be told apart, text that can be read, nothing left behind."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from keras_npbatch.dataset import drawing
from keras_npbatch.errors import MissingExtraError

matplotlib = pytest.importorskip("matplotlib")


BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""What linear RGB looks like to the colour-blind, by Machado, Oliveira and Fernandes (2009)."""
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(color: str) -> np.ndarray:
    parts = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def light(color: str) -> float:
    """The relative luminance, as the Web Content Accessibility Guidelines define it."""
    return float(linear(color) @ (0.2126, 0.7152, 0.0722))


def lab(color: str, blindness: str) -> np.ndarray:
    """The colour as seen, in CIELAB, where distances are differences to the eye."""
    seen = np.clip(BLINDNESS[blindness] @ linear(color), 0, 1)
    x, y, z = np.cbrt(TO_XYZ @ seen / (0.95047, 1.0, 1.08883))  # none is nearly black
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    lower, higher = sorted((light(one), light(other)))
    return (higher + 0.05) / (lower + 0.05)


def test_text_reads_on_the_card() -> None:
    assert contrast(drawing.INK, drawing.PAPER) > 7
    assert contrast(drawing.FAINT, drawing.PAPER) > 4.5


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_no_two_colours_are_alike_to_anyone(blindness: str) -> None:
    """Two that one can just tell apart side by side are 2.3 apart."""
    for one, other in itertools.combinations([*drawing.COLORS, drawing.PAPER], 2):
        difference = np.linalg.norm(lab(one, blindness) - lab(other, blindness))
        assert difference > 15, (one, other)


def test_what_is_drawn_has_the_style_and_other_pictures_do_not() -> None:
    before = dict(matplotlib.rcParams)
    with drawing.house_style("a picture") as figure_class:
        figure = figure_class()
        axes = figure.subplots()
        (line,) = axes.plot([1, 2])
        axes.set_xlabel("epoch")
    assert dict(matplotlib.rcParams) == before
    from matplotlib.colors import to_hex

    assert to_hex(figure.get_facecolor()) == drawing.PAPER
    assert to_hex(line.get_color()) == drawing.COLORS[0]
    assert axes.xaxis.label.get_fontsize() == 12


def test_a_missing_matplotlib_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with (
        pytest.raises(MissingExtraError) as caught,
        drawing.house_style("a picture"),
    ):
        pass
    assert str(caught.value) == (
        "a picture needs matplotlib, which is not installed; install it with pip install "
        "'keras_npbatch[plot]'."
    )
