"""A dataset in a notebook: its settings, the spec of a batch, the first rows, and the classes.

    html_of(train)      # what `train` shows as the last line of a cell

All that comes from the user (names, texts, messages of exceptions) is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from keras_npbatch.batches.as_array import as_array
from keras_npbatch.batches.class_counts import classes_of
from keras_npbatch.batches.core import Core, core_of
from keras_npbatch.batches.summary import Counts, classes_in, name_of
from keras_npbatch.dataset.looking import Look, look_at, text_of
from keras_npbatch.dataset.settings import settings_told
from keras_npbatch.errors import describe_error

__all__ = ["html_of"]

_ROWS_TOLD = 5
_CLASSES_TOLD = 20
_MOST_ROWS_COUNTED = 2**20
"""Rows of arrays in memory in which classes are counted: that takes some milliseconds."""


def html_of(dataset: Any) -> str:
    """The dataset as HTML, without scripts and styles that reach beyond it."""
    core = core_of(dataset)
    parts = [_table(None, [(name, value) for name, value in settings_told(core).items()])]
    try:
        seen = look_at(dataset)
        parts += [_spec(seen), _first_rows(seen)]
    except Exception as error:  # noqa: BLE001  # of the user's code: a dataset shows itself anyway
        told = escape(describe_error(error))
        parts.append(f"<p>A batch can't be made: <code>{told}</code></p>")
    else:
        parts.append(_classes(core, dataset, seen))
    inner = "".join(part for part in parts if part)
    return f"<div><p><strong>{escape(core.name)}</strong></p>{inner}</div>"


def _spec(seen: Look) -> str:
    lines = []
    for path, leaf in seen.leaves.items():
        shape = getattr(leaf, "shape", None)
        told = type(leaf).__name__ if shape is None else str(tuple(shape))
        lines.append((path, str(getattr(leaf, "dtype", "")), told))
    return _table(("leaf of a batch", "dtype", "shape"), lines)


def _first_rows(seen: Look) -> str:
    count = min(_ROWS_TOLD, seen.num_samples)
    has_rows = seen.rows is not None
    lines = []
    for number in range(count):
        row = [str(seen.rows[number])] if seen.rows is not None else []
        lines.append([*row, *(text_of(leaf[number]) for leaf in seen.leaves.values())])
    title = f"first samples of epoch {seen.epoch}"
    return _table([*(["row"] if has_rows else []), *seen.leaves], lines, title)


def _classes(core: Core, dataset: Any, seen: Look) -> str:
    """The classes of the targets: in the whole data if that is cheap, else in the batch."""
    where = "in the data"
    found: dict[str, Counts] = {}
    is_cheap = all(leaf.is_in_memory for leaf in core.data.values())
    if core.plan.num_samples <= _MOST_ROWS_COUNTED and is_cheap:
        found = classes_of(dataset)
    if not found:
        where = "in this batch"
        for path, leaf in seen.leaves.items():
            array = as_array(leaf)
            is_target = name_of(path).partition("/")[0] == "y" and array.dtype.kind in "biu"
            counts = classes_in(array) if is_target else None
            if counts:
                found[name_of(path)] = counts
    lines = []
    for name, counts in found.items():
        told = [f"{number}: {count}" for number, count in sorted(counts.items())]
        more = f", ... ({len(told)} classes)" if len(told) > _CLASSES_TOLD else ""
        lines.append((name, ", ".join(told[:_CLASSES_TOLD]) + more))
    return _table(("target", f"samples of each class {where}"), lines) if lines else ""


def _table(
    head: Sequence[str] | None, lines: Iterable[Sequence[str]], title: str | None = None
) -> str:
    caption = "" if title is None else f"<caption>{escape(title)}</caption>"
    top = "" if head is None else f"<thead>{_line(head, 'th')}</thead>"
    body = "".join(_line(line, "td") for line in lines)
    return f"<table>{caption}{top}<tbody>{body}</tbody></table>"


def _line(cells: Sequence[str], kind: str) -> str:
    inner = "".join(f'<{kind} style="text-align: left">{escape(cell)}</{kind}>' for cell in cells)
    return f"<tr>{inner}</tr>"
