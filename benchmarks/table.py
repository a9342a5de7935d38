"""Rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.cases import Row

__all__ = ["as_markdown"]


def as_markdown(rows: list[Row], columns: Mapping[str, str]) -> str:
    """The table.

    Args:
        rows: what was measured; a value that is not there leaves an empty cell.
        columns: the keys to show, in order, each with the format of its values; text ("s") is
            aligned to the left, numbers to the right.
    """
    head = [list(columns), ["---" if form == "s" else "--:" for form in columns.values()]]
    body = [
        [
            format(row[key], form) if row.get(key) is not None else ""
            for key, form in columns.items()
        ]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*head, *body])
