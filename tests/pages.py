"""The pages of the site, and the README: their Python blocks, what these print, and their links.

- A `text` block right after a Python block is what it prints; `...` in it stands for anything.
- `<!-- excerpt of examples/jax_fit.py -->` before a Python block: its lines are in that program, in
  this order, and the tests of that program run them.
- `<!-- mistake -->` before a Python block: it raises what the `text` block after it says; see
  tests/mistakes/gallery.py.
- `<!-- needs Keras 3.12 -->` before a Python block: the tests leave it out on earlier versions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_MARK = r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?"
_BLOCK = re.compile(
    _MARK + r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#[^)\s]*)?\)")


class Block(NamedTuple):
    """A Python block of a page."""

    page: str
    line: int
    code: str
    output: str | None
    """What it prints, where the page shows it."""
    excerpt_of: str | None
    needs_keras: tuple[int, ...]
    is_mistake: bool


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The Python blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        mark = match["mark"] or ""
        found.append(
            Block(
                page=name_of(page),
                line=text.count("\n", 0, match.start("code")) + 1,
                code=match["code"],
                output=match["output"],
                excerpt_of=after("excerpt of ", mark),
                needs_keras=version(after("needs Keras ", mark) or "3"),
                is_mistake=mark == "mistake",
            )
        )
    return found


def after(start: str, mark: str) -> str | None:
    return mark.removeprefix(start) if mark.startswith(start) else None


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def prose(page: Path) -> str:
    """A page without its fenced blocks; their lines are left empty."""
    return _FENCED.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())


def links(page: Path) -> list[str]:
    """What a page links to in the repository."""
    return [link for link in _LINK.findall(prose(page)) if link]
