"""`show`: a batch as a picture: images in a grid, tables and sequences as rows.

show(train)                          # in a notebook, the picture is the output of the cell
show(train).savefig("batch.png")
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_npbatch.arguments import whole_number
from keras_npbatch.batches.loader import Batches
from keras_npbatch.dataset.drawing import FAINT, house_style
from keras_npbatch.dataset.looking import Look, look_at, text_of
from keras_npbatch.errors import InvalidArgumentError, describe

__all__ = ["show"]

_MOST_SAMPLES = 100
_COLUMNS = 8
_CELL_INCHES = 1.5
_LINE_INCHES = 0.3
_LEAST_PIXELS = 8
"""Matrices with fewer rows or columns are not pictures."""
_CHANNELS = (1, 3, 4)
_CHARACTERS = 44
_CHARACTER_INCHES = 0.11


def show(dataset: Batches, samples: int = 16) -> Any:
    """Draw the first samples of the next batch, as training will get them.

    Images (`(height, width)`, or with 1, 3 or 4 channels last) come in a grid, under their labels;
    everything else in a table, with a line for each sample. This changes nothing: not the epoch,
    not the cache, and no worker starts.

    Example:

    ```python
    keras_npbatch.show(train).savefig("batch.png")
    ```

    Args:
        dataset: a dataset of this library.
        samples: how many samples at most, from 1 to 100.

    Returns:
        A matplotlib `Figure`, which a notebook shows if it is the last line of a cell.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        InvalidArgumentError: for anything but a dataset, or another number of samples.
    """
    samples = whole_number("samples", samples, least=1, most=_MOST_SAMPLES)
    if not isinstance(dataset, Batches):
        raise InvalidArgumentError(
            f"dataset is {describe(dataset)}; expected a dataset of keras_npbatch, such as "
            "ArrayDataset(x, y)."
        )
    with house_style("keras_npbatch.show") as figure_class:
        return _drawn(figure_class, look_at(dataset), samples)


def _drawn(figure_class: Any, seen: Look, samples: int) -> Any:
    class Shown(figure_class):  # type: ignore[misc]
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            self.savefig(stream, format="png")
            return stream.getvalue()

    count = min(samples, seen.num_samples)
    pictures = {path: leaf for path, leaf in seen.leaves.items() if _is_picture(path, leaf)}
    others = {path: leaf for path, leaf in seen.leaves.items() if path not in pictures}
    columns = min(count, _COLUMNS)
    lines = -(-count // columns)
    # Labels stand above the pictures. All else is in the table, labels too if there is no picture.
    table = {path: leaf for path, leaf in others.items() if not pictures or not _is_label(path)}
    cells = _cells(seen, table, count)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    heights = [lines * _CELL_INCHES + _LINE_INCHES for _ in pictures]
    if table or not heights:
        heights.append(len(cells) * _LINE_INCHES)
    of_table = sum(width + 2 for width in widths) * _CHARACTER_INCHES if table else 0
    wide = max(columns * _CELL_INCHES if pictures else 0, of_table, 4)
    figure = Shown(figsize=(wide, sum(heights)), layout="constrained")
    rooms: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    labels = {path: leaf for path, leaf in others.items() if _is_label(path)}
    for room, (path, leaf) in zip(rooms, pictures.items(), strict=False):
        _draw_pictures(room, path, leaf, labels, (lines, columns), count)
    if table or not pictures:
        _draw_table(rooms[-1], cells, widths)
    return figure


def _is_label(path: str) -> bool:
    return path.startswith("y")


def _is_picture(path: str, leaf: Any) -> bool:
    if not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in "buif" or _is_label(path):
        return False
    shape = leaf.shape[1:]
    if len(shape) == 3 and shape[2] not in _CHANNELS:
        return False
    return len(shape) in (2, 3) and min(shape[:2]) >= _LEAST_PIXELS


def _draw_pictures(
    room: Any,
    path: str,
    leaf: npt.NDArray[Any],
    labels: dict[str, Any],
    grid: tuple[int, int],
    count: int,
) -> None:
    _written(room.suptitle(path, fontsize="medium"))
    values = _as_colours(leaf)
    axes: Any = room.subplots(*grid, squeeze=False)
    for number, one in enumerate(axes.flat):
        one.set_axis_off()
        if number < count:
            one.imshow(values[number], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            told = ", ".join(_label_of(of_all[number]) for of_all in labels.values())
            _written(one.set_title(_short(told), fontsize="small"))


def _as_colours(leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values from 0 to 1: bytes by 255, values from 0 to 1 as they are, others by their range."""
    values = np.nan_to_num(leaf.astype(np.float64))
    least, most = float(values.min()), float(values.max())
    are_bytes = leaf.dtype == np.uint8 or (least >= 0 and 128 <= most <= 255)
    if are_bytes:  # or were bytes, and are floats now
        values = values / 255
    elif least < 0 or most > 1:
        values = (values - least) / max(most - least, 1e-12)
    return values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values


def _label_of(value: Any) -> str:
    """A label: the class of a one-hot row, or what it is."""
    array = np.asarray(value)
    is_one_hot = array.ndim == 1 and len(array) > 1 and array.dtype.kind in "biuf"
    if is_one_hot and np.count_nonzero(array) == 1 and array.max() == 1:
        return str(int(array.argmax()))
    return text_of(value)


def _cells(seen: Look, leaves: dict[str, Any], count: int) -> list[list[str]]:
    """The table: a line of names, and one for each sample."""
    numbers = [] if seen.rows is None else ["row"]
    lines = [
        [
            *([] if seen.rows is None else [str(seen.rows[number])]),
            *(_short(text_of(leaf[number])) for leaf in leaves.values()),
        ]
        for number in range(count)
    ]
    return [[*numbers, *map(_short, leaves)], *lines]


def _draw_table(room: Any, cells: list[list[str]], widths: list[int]) -> None:
    axes = room.subplots()
    axes.set_axis_off()
    shares = [(width + 2) / sum(each + 2 for each in widths) for width in widths]
    table = axes.table(
        cells, cellLoc="left", colWidths=shares, bbox=(0, 0, 1, 1), edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize("small")
    for (line, _), cell in table.get_celld().items():
        cell.set_edgecolor(FAINT)
        cell.PAD = 0.05
        _written(cell.get_text())
        if line == 0:
            cell.get_text().set_fontweight("bold")


def _short(text: str) -> str:
    return f"{text[: _CHARACTERS - 3]}..." if len(text) > _CHARACTERS else text


def _written(text: Any) -> None:
    """Show a user's `$` as it is: it does not begin a formula."""
    text.set_parse_math(False)
