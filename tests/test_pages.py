"""Every Python block of a page in docs/ runs, one after the other, on real data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_DOCS = Path(__file__).parent.parent / "docs"
_PAGES = [
    "files.md",
    "mixing.md",
    "samplers.md",
    "samples.md",
    "sequences.md",
    "tables.md",
]


@pytest.mark.parametrize("page", _PAGES)
def test_the_blocks_of_a_page_run_in_order(page):
    text = (_DOCS / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    names = {"__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
