"""Every Python block of every page runs, in the order of the page, on real data."""

from __future__ import annotations

import contextlib
import doctest
import io
import sys
import types

import pytest

from tests.installed import needs
from tests.pages import PAGES, blocks, name_of

NEEDS = {
    "docs/coming_from.md": ["tensorflow", "torch"],
    "docs/tf_data.md": ["tensorflow"],
}


def _pages():
    for page in PAGES:
        if any(not (block.excerpt_of or block.not_run) for block in blocks(page)):
            marks = [needs(package) for package in NEEDS.get(name_of(page), ())]
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", list(_pages()))
def test_the_blocks_run_in_order_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page_as_script = types.ModuleType("__main__")  # what is defined there can be pickled
    monkeypatch.setitem(sys.modules, "__main__", page_as_script)
    for block in blocks(page):
        if block.excerpt_of or block.not_run:
            continue
        path = tmp_path / f"line_{block.line}.py"
        path.write_text(block.code)  # TensorFlow and worker processes read the source of functions
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, str(path), "exec"), vars(page_as_script))
        if block.output is not None:
            same = doctest.OutputChecker().check_output(
                block.output, printed.getvalue(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            )
            assert same, f"{block.page}:{block.line} printed:\n{printed.getvalue()}"
