"""The house style: colours that can be told apart, text that can be read, nothing left behind."""

from __future__ import annotations

import itertools
import sys

import pytest

from keras_npbatch.dataset import drawing
from keras_npbatch.errors import MissingExtraError

matplotlib = pytest.importorskip("matplotlib")


def light(color: str) -> float:
    """The relative luminance, as the Web Content Accessibility Guidelines define it."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    lower, higher = sorted((light(one), light(other)))
    return (higher + 0.05) / (lower + 0.05)


def test_text_reads_on_the_card() -> None:
    assert contrast(drawing.INK, drawing.PAPER) > 7
    assert contrast(drawing.FAINT, drawing.PAPER) > 4.5


def test_no_two_colours_are_alike() -> None:
    for one, other in itertools.combinations(drawing.COLORS, 2):
        parts = [abs(int(one[at : at + 2], 16) - int(other[at : at + 2], 16)) for at in (1, 3, 5)]
        assert max(parts) > 60, (one, other)


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
