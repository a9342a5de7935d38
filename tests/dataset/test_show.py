"""The picture of a batch: images in a grid under their labels, everything else in a table."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import keras_npbatch as npb
from keras_npbatch.errors import InvalidArgumentError, MissingExtraError

pytest.importorskip("matplotlib")

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 9, 10, 3), dtype=np.uint8)
LABELS = np.arange(40) % 3


@pytest.fixture(scope="module", autouse=True)
def fonts():
    """Matplotlib keeps its files of fonts open, once it has drawn a text."""
    npb.show(npb.ArrayDataset(LABELS))._repr_png_()


def axes_of(figure):
    return [axes for room in figure.subfigs for axes in room.axes]


def texts_of(figure):
    (table,) = [table for axes in axes_of(figure) for table in axes.tables]
    cells = table.get_celld()
    lines, columns = (1 + max(place) for place in zip(*cells, strict=True))
    return [
        [cells[line, column].get_text().get_text() for column in range(columns)]
        for line in range(lines)
    ]


@pytest.mark.parametrize("form", ["bytes", "floats", "grey", "matrix", "signed", "sixteen"])
def test_images_come_in_a_grid_with_their_labels(form):
    images = {
        "bytes": IMAGES,
        "floats": (IMAGES / 255).astype("float32"),
        "grey": IMAGES[..., :1],
        "matrix": IMAGES[..., 0],
        "signed": IMAGES.astype(int) * 4 - 300,
        "sixteen": IMAGES / 16,
    }[form]
    data = npb.ArrayDataset(images, LABELS, batch_size=20, seed=0)
    axes = axes_of(npb.show(data, 10))
    rows = data.rows(0)
    drawn = [each for each in axes if each.images]
    assert [each.get_title() for each in drawn] == [str(LABELS[row]) for row in rows[:10]]
    for each, row in zip(drawn, rows, strict=False):
        seen = np.asarray(each.images[0].get_array(), float)
        expected = images[row].astype(float)
        expected = expected[..., 0] if form == "grey" else expected
        if form in ("signed", "sixteen"):
            expected = (expected - images[rows].min()) / np.ptp(images[rows])
        elif form != "floats":
            expected = expected / 255
        np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_the_class_of_a_one_hot_row_is_its_label():
    data = npb.ArrayDataset(IMAGES, np.eye(3)[LABELS], batch_size=4, shuffle=False)
    assert [each.get_title() for each in axes_of(npb.show(data)) if each.images] == list("0120")


def test_tables_and_sequences_are_lines_of_text():
    tokens = [np.arange(1, 2 + number % 3) for number in range(40)]
    names = np.array([f"$no_formula${number}" for number in range(40)], object)
    x = {"tokens": npb.sources.Ragged(tokens), "name": names}
    data = npb.ArrayDataset(x, LABELS, batch_size=3, shuffle=False)
    figure = npb.show(data)
    assert texts_of(figure) == [
        ["row", "x['name']", "x['tokens']", "y"],
        ["0", "$no_formula$0", "1 0 0", "0"],
        ["1", "$no_formula$1", "1 2 0", "1"],
        ["2", "$no_formula$2", "1 2 3", "2"],
    ]
    assert figure._repr_png_().startswith(b"\x89PNG")  # and no `$` is taken for a formula


def test_what_is_no_image_beside_images_is_in_a_table():
    data = npb.ArrayDataset({"i": IMAGES, "age": LABELS * 2.5}, LABELS, batch_size=2, shuffle=False)
    figure = npb.show(data)
    assert sum(bool(axes.images) for axes in axes_of(figure)) == 2
    assert texts_of(figure) == [["row", "x['age']"], ["0", "0"], ["1", "2.5"]]


def test_batches_side_by_side_are_shown():
    data = npb.ArrayDataset(LABELS, LABELS, batch_size=2, shuffle=False)
    assert texts_of(npb.show(npb.zip(a=data, b=data)))[1:] == [["0"] * 4, ["1"] * 4]


def test_it_is_written_to_a_file(tmp_path):
    data = npb.ArrayDataset(IMAGES, LABELS, batch_size=32)
    npb.show(data).savefig(tmp_path / "batch.png")
    assert (tmp_path / "batch.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (IMAGES,),
            "dataset is ndarray of shape (40, 9, 10, 3) and dtype uint8; expected a dataset of "
            "keras_npbatch, such as ArrayDataset(x, y).",
        ),
        (
            (npb.ArrayDataset(LABELS), 0),
            "samples is 0 (int); expected a whole number from 1 to 100.",
        ),
    ],
    ids=["array", "none"],
)
def test_other_arguments_are_refused(arguments, message):
    with pytest.raises(InvalidArgumentError) as caught:
        npb.show(*arguments)
    assert str(caught.value) == message


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as caught:
        npb.show(npb.ArrayDataset(LABELS))
    assert str(caught.value) == (
        "keras_npbatch.show needs matplotlib, which is not installed; install it with pip install "
        "'keras_npbatch[plot]'."
    )
