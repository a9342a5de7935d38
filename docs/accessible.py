"""A hook of MkDocs: what the theme draws gets a name, so that a screen reader can say it."""

from __future__ import annotations

from typing import Any

DIALOG = '<div class="md-search" data-md-component="search" role="dialog">'


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Name the search."""
    return output.replace(DIALOG, DIALOG.replace(">", ' aria-label="Search">'))
